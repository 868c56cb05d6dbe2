"""Ctrl-C, SIGTERM and a terminal that hangs up: each ends the demo in its order, once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def stops() -> Iterator[None]:
    """Inside, the first of them raises KeyboardInterrupt, and those that follow do nothing, so
    that the cleaning up comes to its end. What is ignored already (nohup) stays ignored."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heard = [number for number, was in before.items() if was is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def ignore_stops() -> None:
    """From here to the end of `stops`, since only cleaning up is left."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _stop:
            signal.signal(number, _ignore)


def _stop(number: int, frame: FrameType | None) -> None:
    ignore_stops()
    raise KeyboardInterrupt


def _ignore(number: int, frame: FrameType | None) -> None:
    """A function, since a child would inherit SIG_IGN."""
