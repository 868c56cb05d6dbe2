"""Ships what the trainer writes, in compressed chunks that are written once.

The trainer appends to one file as long as it lives. What is shipped of it is freed but for the
last MiB, and what nobody takes for too long is dropped, so that no log fills the disk.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import threading
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import structlog

from spotrunner.agent import holes, shipped
from spotrunner.agent.folders import Keys
from spotrunner.agent.mask import Mask
from spotrunner.ports import Objects, PreconditionFailed

# Of plain text, before compression; also what makes a chunk worth shipping before its time.
CHUNK_BYTES = 1 << 20
# When more than this waits the oldest is dropped, and some more, so that it is not done each time.
MOST_WAITING_BYTES = 256 << 20
_DROPPED_AT_ONCE_BYTES = 16 << 20
# What stays on the disk after it was shipped: for the tail of a report, and whoever looks there.
KEPT_BYTES = 1 << 20
TAIL_LINES = 50
_TAIL_BYTES = 64 * 1024
_LINE_BYTES = 64 * 1024

_log = structlog.get_logger(__name__)


class LogShipper:
    """Remembers in the file `kept` how much of one log is in the bucket. Safe from several threads.

    Secrets are taken out on the way, so that a chunk's size says nothing of the file's.
    """

    def __init__(
        self, objects: Objects, keys: Keys, path: Path, kept: Path, mask: Mask | None = None
    ) -> None:
        self._objects = objects
        self._keys = keys
        self._path = path
        self._kept = kept
        self._mask = mask or Mask(())
        self._at = shipped.read(kept)
        self._frees = True
        self._lock = threading.Lock()

    @property
    def waiting_bytes(self) -> int:
        """How much was written since the last chunk."""
        return max(0, self._path.stat().st_size - self._at.offset) if self._path.exists() else 0

    def ship(self, *, last: bool = False) -> None:
        """Upload all that is new; but what may be the beginning of a secret waits for its rest,
        unless the trainer is gone (`last`). Nothing before the secrets are known. Raises
        Unavailable; then the same is new next time."""
        with self._lock:
            self._drop()
            while self.waiting_bytes and not self._mask.is_blind:
                if not self._ship_chunk(last=last):
                    return
                self._free()

    def bound(self) -> None:
        """Drop what waits for too long, where nobody ships at this moment."""
        if self.waiting_bytes > MOST_WAITING_BYTES and self._lock.acquire(blocking=False):
            try:
                self._drop()
                self._free()
            finally:
                self._lock.release()

    def tail(self) -> tuple[str, ...]:
        """The last lines, as they may be shown."""
        return tail(self._path, self._mask)

    # -- parts ---------------------------------------------------------------------------------

    def _ship_chunk(self, *, last: bool) -> bool:
        """False where all that is there has to wait for its rest."""
        at = self._at
        with _open(self._path) as file:
            file.seek(at.offset)
            text = file.read(at.taking or CHUNK_BYTES)
        is_end = last and len(text) < CHUNK_BYTES
        taken = len(text) if is_end or at.taking else self._mask.taken(text)
        if not taken:
            return False
        shown = self._mask.last(text) if is_end else self._mask(text[:taken])
        # Before it is written: should its answer be lost, and we with it, it is written again as
        # it is, and found to be there.
        self._keep(replace(at, taking=taken))
        self._put(gzip.compress(_told(at.dropped) + shown, mtime=0))
        self._keep(replace(self._at, offset=at.offset + taken, taking=0, dropped=0))
        return True

    def _put(self, body: bytes) -> None:
        """Write the chunk under the next free number; one that holds just this is ours, from a
        try whose answer was lost."""
        while True:
            key = self._keys.log(self._at.n)
            try:
                self._objects.put(key, body, if_absent=True)
            except PreconditionFailed:
                if self._objects.get(key).body != body:
                    self._keep(replace(self._at, n=self._at.n + 1))
                    continue
            self._at = replace(self._at, n=self._at.n + 1)
            return

    def _drop(self) -> None:
        """The oldest, at the end of a line, where more waits than may."""
        if self.waiting_bytes <= MOST_WAITING_BYTES:
            return
        left = MOST_WAITING_BYTES - _DROPPED_AT_ONCE_BYTES
        offset = self._path.stat().st_size - left
        with _open(self._path) as file:
            file.seek(offset)
            offset += len(file.readline(_LINE_BYTES))
        at = self._at
        dropped = at.dropped + offset - at.offset
        self._keep(replace(at, offset=offset, taking=0, dropped=dropped))

    def _free(self) -> None:
        end = self._at.offset - KEPT_BYTES
        if not self._frees or end - self._at.freed < KEPT_BYTES:
            return
        try:
            self._keep(replace(self._at, freed=holes.punch(self._path, self._at.freed, end)))
        except (holes.CannotFree, OSError) as error:
            self._frees = False
            _log.warning("what is shipped of the log stays on the disk", why=str(error))

    def _keep(self, at: shipped.Shipped) -> None:
        """On a full disk only we know: the next agent ships a little twice."""
        self._at = at
        with contextlib.suppress(OSError):
            shipped.write(self._kept, at)


def _told(dropped: int) -> bytes:
    if not dropped:
        return b""
    return (
        f"[spotrunner: {dropped:,} bytes of the log were dropped here, since the bucket took none"
        " for too long]\n"
    ).encode()


def _open(path: Path) -> BinaryIO:
    """The trainer owns the folder: a link in the log's place would show a file of the machine."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def tail(path: Path, mask: Mask | None = None) -> tuple[str, ...]:
    """The last lines of a text file; none where there is no file, or nobody knows what may be
    shown of it."""
    if (mask is not None and mask.is_blind) or not path.is_file() or path.is_symlink():
        return ()
    with _open(path) as file:
        start = file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        text = file.read()
    if start:  # the rest of a secret is not found
        text = text.partition(b"\n")[2]
    lines = (mask.last(text) if mask else text).decode(errors="replace").splitlines()
    return tuple(deque(lines, TAIL_LINES))
