"""Waiting, bounded, for what real processes do in their own time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def until(condition: Callable[[], object], longest_s: float = 20.0) -> None:
    """Returns when the condition holds; fails the test when it does not in time."""
    give_up_at, pause, look_s = time.monotonic() + longest_s, threading.Event(), 0.02
    while not condition():
        assert time.monotonic() < give_up_at, f"not in {longest_s} s"
        pause.wait(look_s)
        look_s = min(look_s * 1.3, 0.25)
