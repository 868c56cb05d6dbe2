"""What lies in the home bucket and other buckets: objects, mail, receipts, HEAD; and secrets."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spotrunner.core.model import Attempt, Head, Manifest, Order, Report
from spotrunner.core.secret_place import SecretPlace

# -- objects -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    key: str
    bytes: int
    etag: str
    modified_at: dt.datetime


@dataclass(frozen=True, kw_only=True)
class Blob:
    body: bytes
    etag: str


@dataclass(frozen=True, kw_only=True)
class Content:
    """What went over the wire, measured on its way."""

    bytes: int
    sha256: str


def always() -> bool:
    """Nothing is more urgent."""
    return True


class Objects(Protocol):
    """One bucket. Keys have no leading slash. Writes are atomic, reads are strongly consistent.

    A conditional write that raises PreconditionFailed or Unavailable says nothing of who won:
    read the object. All raise Unavailable, NotAuthorized and (wrong bucket) Misconfigured.
    """

    def get(self, key: str) -> Blob:
        """Raises NotFound."""
        ...

    def get_if_changed(self, key: str, etag: str | None) -> Blob | None:
        """None when the object still has this etag. Raises NotFound."""
        ...

    def put(
        self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False
    ) -> str:
        """Write and return the new etag. At most one condition. Raises PreconditionFailed."""
        ...

    def put_encrypted(self, key: str, body: bytes, kms_key: str | None = None) -> None:
        """Write what only those can read who may use this key of KMS; None: AWS's own for S3. With
        a key of its own, readers and writers without a right to it get NotAuthorized."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """In the order of the keys, over all pages."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Missing keys are no error."""
        ...

    def upload(
        self,
        path: Path,
        key: str,
        *,
        if_absent: bool = False,
        may_go_on: Callable[[], bool] = always,
    ) -> Content:
        """A file, in parts where it is large; `may_go_on` is asked before each. The bytes are read
        once, and what comes back is of what was sent. Raises PreconditionFailed, GaveWay,
        FileNotFoundError and other OSErrors."""
        ...

    def download(self, key: str, path: Path) -> Content:
        """Into a new file; nothing is left at `path` on an error. Raises NotFound, OSError."""
        ...

    def presigned(self, key: str, lifetime_s: int) -> str:
        """A URL that anybody may GET for that long."""
        ...


class Buckets(Protocol):
    """The other buckets that a job may read (its `data`)."""

    def objects(self, bucket: str) -> Objects: ...

    def region(self, bucket: str) -> str:
        """Where it is. Raises Unavailable, NotAuthorized, Misconfigured (no such bucket)."""
        ...


# -- secrets -----------------------------------------------------------------------------------


class Secrets(Protocol):
    """Secrets where AWS keeps them. No error has a value in its text, and each names the place."""

    def read(self, place: SecretPlace) -> str:
        """Raises NotFound, NotAuthorized (with what to allow), Misconfigured (it is no text, or has
        no such key), Throttled, Unavailable."""
        ...


# -- mailbox -----------------------------------------------------------------------------------


class Mailbox(Protocol):
    """Letters between the daemon and its agents, as objects under `mail/` (DESIGN.md, Objects).

    A letter that cannot be read as its type is reported by the log and treated as absent: an agent
    of another version must not stop the daemon.
    """

    def boxes(self) -> frozenset[str]:
        """The boxes that have an order or a report now, from one listing of `mail/`; refreshes
        what `reports` returns. Raises Unavailable."""
        ...

    def reports(self) -> Mapping[str, Report]:
        """The latest report of rank 0 by attempt, as of the last `boxes()`; only letters that
        changed since are read. Raises Unavailable."""
        ...

    def brake(self) -> str | None:
        """Why nothing may be launched (`spotrunner panic` leaves word beside the boxes), as of the
        last `boxes()`; None: nobody says so."""
        ...

    def release_brake(self) -> None:
        """None there is no error. Raises Unavailable."""
        ...

    def highest_epoch(self) -> int:
        """Of all orders that lie in the boxes; 0 without any. Reads each. Raises Unavailable."""
        ...

    def post_order(self, order: Order) -> None:
        """Replace the box's order unless a higher `(epoch, n)` lies there already.
        Raises Unavailable, StaleEpoch (a higher epoch lies there)."""
        ...

    def order(self, box: str, last: Order | None) -> Order | None:
        """For an agent: the order if it is newer than `last`, by `(epoch, n)`, else None."""
        ...

    def post_report(self, report: Report) -> None: ...

    def archive(self, box: str, job_id: str) -> None:
        """Move the letters of an ended box to `jobs/<job>/mail/`. Again is no error."""
        ...


# -- receipts ----------------------------------------------------------------------------------


class Receipts(Protocol):
    """What was paid for, beside the store: each attempt's record under `ledger/` in the home
    bucket, written before it is launched or paid on and when it has ended. A store that was lost,
    or restored from a backup, learns from them what it has spent. All raise Unavailable."""

    def put(self, attempt: Attempt) -> None:
        """Replaces the attempt's receipt."""
        ...

    def names(self) -> frozenset[str]:
        """The attempts that have one."""
        ...

    def read(self, attempt: str) -> Attempt | None:
        """None where there is none, or it cannot be read as one (the log says so)."""
        ...


# -- head --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StoredHead:
    head: Head | None  # None: there is none yet
    etag: str | None


class Heads(Protocol):
    """jobs/<job>/checkpoints/HEAD.json, and the manifests that it names."""

    def read(self, job_id: str) -> StoredHead:
        """Raises Unavailable."""
        ...

    def swap(self, job_id: str, head: Head, etag: str | None) -> None:
        """Compare-and-swap (etag None: only if there is none). Raises PreconditionFailed or
        Unavailable: in both cases read, and judge by what lies there (core/head.judge)."""
        ...

    def write_manifest(self, folder: str, manifest: Manifest) -> str:
        """Write `<folder>/MANIFEST.json` once and return its sha256."""
        ...

    def read_manifest(self, folder: str) -> tuple[Manifest, str]:
        """The manifest and its sha256. Raises NotFound, Unavailable."""
        ...
