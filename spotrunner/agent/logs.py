"""Ships what the trainer writes, in compressed chunks that are written once."""

from __future__ import annotations

import gzip
from collections import deque
from pathlib import Path

from spotrunner.agent.folders import Keys
from spotrunner.agent.mask import Mask
from spotrunner.ports import Objects, PreconditionFailed

# Of plain text, before compression; also what makes a chunk worth shipping before its time.
CHUNK_BYTES = 1 << 20
TAIL_LINES = 50
_TAIL_BYTES = 64 * 1024


class LogShipper:
    """Remembers how much of one file is in the bucket. Not to be used from two threads at once.

    Secrets are taken out on the way, so that a chunk's size says nothing of the file's.
    """

    def __init__(self, objects: Objects, keys: Keys, path: Path, mask: Mask | None = None) -> None:
        self._objects = objects
        self._keys = keys
        self._path = path
        self._mask = mask or Mask()
        self._offset = 0
        self._n = 1

    @property
    def waiting_bytes(self) -> int:
        """How much was written since the last chunk."""
        return max(0, self._path.stat().st_size - self._offset) if self._path.exists() else 0

    def ship(self, *, last: bool = False) -> None:
        """Upload all that is new; but what may be the beginning of a secret waits for its rest,
        unless the trainer is gone (`last`). Raises Unavailable; then the same is new next time."""
        while self.waiting_bytes:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read(CHUNK_BYTES)
            is_end = last and len(text) < CHUNK_BYTES
            taken = len(text) if is_end else self._mask.taken(text)
            if not taken:
                return
            shown = self._mask.last(text) if is_end else self._mask(text[:taken])
            self._put(gzip.compress(shown, mtime=0))
            self._offset += taken

    def tail(self) -> tuple[str, ...]:
        """The last lines, as they may be shown."""
        return tail(self._path, self._mask)

    def _put(self, body: bytes) -> None:
        """Write the chunk under the next free number; one that holds just this is ours, from a
        try whose answer was lost."""
        while True:
            key = self._keys.log(self._n)
            try:
                self._objects.put(key, body, if_absent=True)
            except PreconditionFailed:
                if self._objects.get(key).body != body:
                    self._n += 1
                    continue
            self._n += 1
            return


def tail(path: Path, mask: Mask | None = None) -> tuple[str, ...]:
    """The last lines of a text file; none where there is no file."""
    if not path.exists():
        return ()
    with path.open("rb") as file:
        start = file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        text = file.read()
    if start:  # the rest of a secret is not found
        text = text.partition(b"\n")[2]
    lines = (mask.last(text) if mask else text).decode(errors="replace").splitlines()
    return tuple(deque(lines, TAIL_LINES))
