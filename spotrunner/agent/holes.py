"""Gives the disk back what is read of a file that somebody still appends to."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
# Only whole blocks are freed; larger ones than this are rare.
BLOCK_BYTES = 1 << 16
_CANNOT = (errno.EOPNOTSUPP, errno.ENOSYS)


class CannotFree(Exception):
    """This file system makes no holes."""


def punch(path: Path, start: int, end: int) -> int:
    """Free the whole blocks between two offsets, and return where they end; from there on the file
    is as it was, and so is its size. Raises CannotFree, OSError."""
    end -= end % BLOCK_BYTES
    if end <= start:
        return start
    libc = ctypes.CDLL(None, use_errno=True)
    file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        offset, length = ctypes.c_int64(start), ctypes.c_int64(end - start)
        if libc.fallocate(file, _PUNCH_HOLE | _KEEP_SIZE, offset, length) != 0:
            number = ctypes.get_errno()
            if number in _CANNOT:
                raise CannotFree(os.strerror(number))
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(file)
    return end
