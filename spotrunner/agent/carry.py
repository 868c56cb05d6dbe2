"""What everything has in common that carries files between the bucket and the disk."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TypeVar

# Files at once; how many of their parts are under way, and in memory, is bounded below.
FILES_AT_ONCE = 8
_BLOCK_BYTES = 1 << 20

T = TypeVar("T")


class Carried:
    """Bytes between this disk and the home bucket so far: they are paid for where it lies in
    another region."""

    def __init__(self) -> None:
        self.bytes = 0
        self._lock = threading.Lock()

    def add(self, some_bytes: int) -> None:
        with self._lock:
            self.bytes += some_bytes


def side_by_side(carry: Callable[[T], object], items: Iterable[T]) -> None:
    """Raises the first error, once all that were begun have ended: what arrives meanwhile need not
    be sent again."""
    with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
        carrying = [threads.submit(carry, item) for item in items]
        try:
            for each in carrying:
                each.result()
        finally:
            for each in carrying:
                each.cancel()


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def inside(folder: Path, name: str) -> Path | None:
    """The path of `name` below `folder`; None for a name that would lead out of it."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        return None
    return folder.joinpath(*parts)
