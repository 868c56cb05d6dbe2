"""Ships what the trainer writes, in compressed chunks that are written once."""

from __future__ import annotations

import gzip
from collections import deque
from pathlib import Path

from spotrunner.agent.folders import Keys
from spotrunner.ports import Objects, PreconditionFailed

# Of plain text, before compression; also what makes a chunk worth shipping before its time.
CHUNK_BYTES = 1 << 20
TAIL_LINES = 50
_TAIL_BYTES = 64 * 1024


class LogShipper:
    """Remembers how much of one file is in the bucket. Not to be used from two threads at once."""

    def __init__(self, objects: Objects, keys: Keys, path: Path) -> None:
        self._objects = objects
        self._keys = keys
        self._path = path
        self._offset = 0
        self._n = 1

    @property
    def waiting_bytes(self) -> int:
        """How much was written since the last chunk."""
        return max(0, self._path.stat().st_size - self._offset) if self._path.exists() else 0

    def ship(self) -> None:
        """Upload all that is new. Raises Unavailable; then the same is new next time."""
        while self.waiting_bytes:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read(CHUNK_BYTES)
            self._put(gzip.compress(text, mtime=0))
            self._offset += len(text)

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


def tail(path: Path) -> tuple[str, ...]:
    """The last lines of a text file; none where there is no file."""
    if not path.exists():
        return ()
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return tuple(deque(lines, TAIL_LINES))
