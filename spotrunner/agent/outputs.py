"""What a job makes beside its checkpoints: outputs and logs, carried while it trains and at last.

All of it lies under the generation that made it. An attempt that ends early leaves what it had so
far; the one that finishes writes a manifest over all that is on its disk then.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from spotrunner.agent.carry import Carried, sha256_of, side_by_side
from spotrunner.agent.folders import MANIFEST, Folders, Keys, files_below
from spotrunner.core.model import Manifest, ManifestFile
from spotrunner.ports import (
    Heads,
    NotFound,
    Objects,
    PreconditionFailed,
    Unavailable,
    always,
)

# Of so many small files each costs boto3 a request's worth of CPU; rclone takes a fifth of it, and
# a tenth of a second to start.
MANY = 200
SMALL_BYTES = 4 << 20


class Bulk(Protocol):
    """Many small files at once."""

    def __call__(
        self, folder: Path, names: Sequence[str], prefix: str, may_go_on: Callable[[], bool]
    ) -> None:
        """Upload these files of `folder` below `prefix`. Raises GaveWay when `may_go_on` says no,
        Unavailable, Misconfigured."""
        ...


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """A file that still bears it has not changed."""

    modified_ns: int
    bytes: int
    inode: int

    @staticmethod
    def of(path: Path) -> Stamp:
        stat = path.stat()
        return Stamp(modified_ns=stat.st_mtime_ns, bytes=stat.st_size, inode=stat.st_ino)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What lies in the bucket under a name: of which file it was made, and what it is."""

    stamp: Stamp
    file: ManifestFile


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """All methods block; they raise what the ports raise, and OSError for the disk. One at a time
    is at work; the others wait for it."""

    objects: Objects
    heads: Heads
    folders: Folders
    keys: Keys
    nonce: Callable[[], str]
    carried: Carried
    bulk: Bulk
    _place: _Place = field(default_factory=lambda: _Place())
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def clear(self) -> None:
        """Before a start: no outputs of an earlier one. Their copies stay until others come."""
        with self._lock:
            shutil.rmtree(self.folders.outputs, ignore_errors=True)
            self.folders.make()

    def send_changed(self, may_go_on: Callable[[], bool] = always) -> None:
        """Upload what has changed since it was last sent, logs first. Raises GaveWay in the middle
        of it when `may_go_on` says no."""
        with self._lock:
            if not may_go_on():
                return
            self._open()
            self._send(self._paths(), may_go_on)

    def finish(self, step: int) -> str:
        """Upload what has changed, then the manifest of all; returns its key."""
        with self._lock:
            self._open()
            paths, done = self._paths(), self._place.manifest
            if done is not None and (self._changed(paths) or done != self._manifest(paths, step)):
                # It names what lies there now, and nothing of that is written over.
                self._open_another()
            self._send(paths, always)
            manifest = self._manifest(paths, step)
            try:
                self.heads.write_manifest(self._place.folder, manifest)
            except PreconditionFailed as error:
                self._open_another()
                raise Unavailable(f"other outputs of this attempt lie there: {error}") from error
            self._place.manifest = manifest
            return self._place.folder + MANIFEST

    # -- under the lock ------------------------------------------------------------------------

    def _open(self) -> None:
        """The attempt's own folder, unless an earlier agent has completed one there."""
        if self._place.folder:
            return
        try:
            self.heads.read_manifest(self.keys.outputs)
        except NotFound:
            self._place.folder = self.keys.outputs
        else:
            self._open_another()

    def _open_another(self) -> None:
        self._place.folder = f"{self.keys.outputs.rstrip('/')}-{self.nonce()}/"
        self._place.manifest = None
        self._place.sent.clear()

    def _paths(self) -> dict[str, Path]:
        """By name in the bucket. The trainer's printed lines are there in chunks (agent/logs), and
        their file has holes where those were cut out of it."""
        logs = {
            f"logs/{_spelt(name)}": path
            for name, path in files_below(self.folders.logs)
            if path != self.folders.trainer_log
        }
        outputs = {_spelt(name): path for name, path in files_below(self.folders.outputs)}
        # The one name that is ours.
        outputs.pop(MANIFEST, None)
        return logs | {name: path for name, path in outputs.items() if name not in logs}

    def _send(self, paths: Mapping[str, Path], may_go_on: Callable[[], bool]) -> None:
        def send(name: str) -> None:
            try:
                stamp = Stamp.of(paths[name])
                key = self._place.folder + name
                content = self.objects.upload(paths[name], key, may_go_on=may_go_on)
            except FileNotFoundError:
                # The trainer has replaced or removed it meanwhile: the next time shows what is.
                return
            self.carried.add(content.bytes)
            file = ManifestFile(name=name, bytes=content.bytes, sha256=content.sha256)
            self._place.sent[name] = Sent(stamp=stamp, file=file)

        changed = self._changed(paths)
        small = self._small(paths, changed)
        if len(small) < MANY:
            side_by_side(send, changed)
            return
        side_by_side(send, [name for name in changed if name not in small])
        self._send_small(small, may_go_on)

    def _small(self, paths: Mapping[str, Path], names: Sequence[str]) -> Mapping[str, Stamp]:
        """Of the outputs alone: logs grow, and are few. rclone has a line a name, and the same name
        here and there."""
        stamps = {
            name: _stamp(paths[name])
            for name in names
            if paths[name] == self.folders.outputs / name and "\n" not in name
        }
        return {name: it for name, it in stamps.items() if it and it.bytes <= SMALL_BYTES}

    def _send_small(self, stamps: Mapping[str, Stamp], may_go_on: Callable[[], bool]) -> None:
        """One that changes meanwhile counts as not sent, so that the next time sends it again."""
        folder = self.folders.outputs
        digests = {name: digest for name in stamps if (digest := _digest(folder / name))}
        self.bulk(folder, list(digests), self._place.folder, may_go_on)
        for name, digest in digests.items():
            stamp = stamps[name]
            self.carried.add(stamp.bytes)
            if stamp == _stamp(folder / name):
                file = ManifestFile(name=name, bytes=stamp.bytes, sha256=digest)
                self._place.sent[name] = Sent(stamp=stamp, file=file)

    def _changed(self, paths: Mapping[str, Path]) -> list[str]:
        """What does not lie in the bucket as it is here."""
        sent = self._place.sent
        return [
            name
            for name, path in paths.items()
            if name not in sent or sent[name].stamp != _stamp(path)
        ]

    def _manifest(self, paths: Mapping[str, Path], step: int) -> Manifest:
        """Of what lies in the bucket under these names."""
        sent = self._place.sent
        files = tuple(sent[name].file for name in paths if name in sent)
        return Manifest(step=step, attempt=self.keys.attempt, files=files)


@dataclass(kw_only=True)
class _Place:
    """Where things go in the bucket, and what lies there; the manifest once it is written."""

    folder: str = ""
    sent: dict[str, Sent] = field(default_factory=dict)
    manifest: Manifest | None = None


def _spelt(name: str) -> str:
    """As a key can be: bytes of a file's name that are no UTF-8 are spelt out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _stamp(path: Path) -> Stamp | None:
    try:
        return Stamp.of(path)
    except FileNotFoundError:
        return None


def _digest(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except FileNotFoundError:
        return None
