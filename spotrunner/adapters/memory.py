"""Buckets in memory, with S3's rules and scripted faults: for stories in virtual time and tests."""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spotrunner.ports import (
    Blob,
    Clock,
    Content,
    GaveWay,
    Misconfigured,
    NotFound,
    ObjectInfo,
    PortError,
    PreconditionFailed,
    Unavailable,
    always,
)


class MemoryObjects:
    """ports.Objects. An etag is the digest of the content, as in S3: equal bytes, equal etags."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._stored: dict[str, _Stored] = {}
        self._faults: list[_Fault] = []
        # what was put encrypted, and with which key
        self.encrypted: dict[str, str | None] = {}

    # -- the script of faults ------------------------------------------------------------------

    def fail_next(self, operation: str, error: PortError, *, prefix: str = "") -> None:
        """The next call of this method for a key (or prefix) with `prefix` has no effect and
        raises `error`. Uploads are puts, downloads are gets."""
        assert operation in ("get", "put", "list", "delete"), operation
        self._faults.append(_Fault(operation=operation, prefix=prefix, error=error))

    def drop_answer_of_next_put(self, prefix: str = "", *, retried: bool = False) -> None:
        """The next put below `prefix` is stored and its answer is lost: Unavailable. With
        `retried` the client below us sends it once more, as boto3 does, so that a conditional put
        is refused by its own success."""
        self._faults.append(_Fault(operation="put", prefix=prefix, retried=retried))

    # -- ports.Objects -------------------------------------------------------------------------

    def get(self, key: str) -> Blob:
        with self._lock:
            self._meet("get", key)
            stored = self._find(key)
            return Blob(body=stored.body, etag=stored.etag)

    def get_if_changed(self, key: str, etag: str | None) -> Blob | None:
        blob = self.get(key)
        return None if blob.etag == etag else blob

    def put(
        self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False
    ) -> str:
        assert not (if_match and if_absent), "at most one condition"
        with self._lock:
            fault = self._meet("put", key)
            self._check(key, if_match, if_absent)
            etag = self._write(key, body)
            if fault is not None and fault.retried:
                self._check(key, if_match, if_absent)
            elif fault is not None:
                raise Unavailable(f"no answer to the put of {key}")
            return etag

    def put_encrypted(self, key: str, body: bytes, kms_key: str | None = None) -> None:
        self.put(key, body)
        with self._lock:
            self.encrypted[key] = kms_key

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._lock:
            self._meet("list", prefix)
            # S3 orders by the bytes of the key.
            keys = sorted((key for key in self._stored if key.startswith(prefix)), key=str.encode)
            found = [self._stored[key].info(key) for key in keys]
        return iter(found)

    def delete(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._meet("delete", key)
                self._stored.pop(key, None)

    def upload(
        self,
        path: Path,
        key: str,
        *,
        if_absent: bool = False,
        may_go_on: Callable[[], bool] = always,
    ) -> Content:
        body = path.read_bytes()
        if not may_go_on():
            raise GaveWay("the upload gave way to what is urgent")
        self.put(key, body, if_absent=if_absent)
        return _content(body)

    def download(self, key: str, path: Path) -> Content:
        body = self.get(key).body
        path.write_bytes(body)
        return _content(body)

    def presigned(self, key: str, lifetime_s: int) -> str:
        """A URL that says what it would open; nothing serves it."""
        until = self._clock.now() + dt.timedelta(seconds=lifetime_s)
        return f"memory:///{key}?until={until:%Y%m%dT%H%M%SZ}"

    # -- inside the lock -----------------------------------------------------------------------

    def _find(self, key: str) -> _Stored:
        stored = self._stored.get(key)
        if stored is None:
            raise NotFound(f"no object {key}")
        return stored

    def _check(self, key: str, if_match: str | None, if_absent: bool) -> None:
        stored = self._stored.get(key)
        if if_absent and stored is not None:
            raise PreconditionFailed(f"{key} exists")
        if if_match is not None and (stored is None or stored.etag != if_match):
            raise PreconditionFailed(f"{key} has changed")

    def _write(self, key: str, body: bytes) -> str:
        # S3 tells the time of a write in whole seconds.
        stored = _Stored(body=body, modified_at=self._clock.now().replace(microsecond=0))
        self._stored[key] = stored
        return stored.etag

    def _meet(self, operation: str, key: str) -> _Fault | None:
        """The first scripted fault that fits, spent; raises it if it keeps the call from acting."""
        for fault in self._faults:
            if fault.operation == operation and key.startswith(fault.prefix):
                self._faults.remove(fault)
                if fault.error is not None:
                    raise fault.error
                return fault
        return None


class MemoryBuckets:
    """ports.Buckets over buckets that exist from the start, all in `region` but those that are
    `moved`."""

    def __init__(self, clock: Clock, names: Sequence[str] = (), region: str = "us-east-1") -> None:
        self._buckets = {name: MemoryObjects(clock) for name in names}
        self._regions = dict.fromkeys(names, region)

    def objects(self, bucket: str) -> MemoryObjects:
        self._check(bucket)
        return self._buckets[bucket]

    def region(self, bucket: str) -> str:
        self._check(bucket)
        return self._regions[bucket]

    def moved(self, bucket: str, region: str) -> None:
        self._regions[bucket] = region

    def _check(self, bucket: str) -> None:
        if bucket not in self._buckets:
            raise Misconfigured(f"there is no bucket {bucket}")


@dataclass(frozen=True, kw_only=True)
class _Stored:
    body: bytes
    modified_at: dt.datetime

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"'

    def info(self, key: str) -> ObjectInfo:
        return ObjectInfo(
            key=key, bytes=len(self.body), etag=self.etag, modified_at=self.modified_at
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fault:
    """With an error the call has no effect; without one it has, and its answer is lost."""

    operation: str
    prefix: str
    error: PortError | None = None
    retried: bool = False


def _content(body: bytes) -> Content:
    return Content(bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
