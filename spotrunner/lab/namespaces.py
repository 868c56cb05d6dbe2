"""Network namespaces without names: they live as long as a process or a socket in them.

A namespace belongs to a thread, and what a thread opens or starts stays in the namespace that it
had then. So a short-lived thread makes the namespaces, and the sockets that it made there can be
served by any other thread.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

_CLONE_NEWNET = 0x40000000
_T = TypeVar("_T")


def in_own_thread(make: Callable[[], _T]) -> _T:
    """What `make` returns or raises, from a thread that ends with it: so the caller's own network
    is never changed."""
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(make())
        except BaseException as error:  # noqa: BLE001 -- handed to the caller as it is
            errors.append(error)

    thread = threading.Thread(target=run, name="lab-namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def enter_new() -> int:
    """Move this thread into a network of its own, with nothing in it; a descriptor of it."""
    _check(_libc().unshare(_CLONE_NEWNET))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def enter(network: int) -> None:
    """Move this thread into the network of a descriptor."""
    # Not os.setns: it came with Python 3.12.
    _check(_libc().setns(network, _CLONE_NEWNET))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    """Raises OSError."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
