"""Signals by name, and waiting for a container's end."""

from __future__ import annotations

import signal
import threading
import time

from spotrunner.lab.shims.containers import Container
from spotrunner.lab.shims.errors import WrongUse

_LOOK_S = 0.02


def number_of(name: str) -> int:
    """`TERM`, `SIGTERM` or `15`. Raises WrongUse."""
    if name.isdigit():
        return int(name)
    try:
        return signal.Signals[f"SIG{name.upper().removeprefix('SIG')}"]
    except KeyError:
        raise WrongUse(f"Error response from daemon: Invalid signal: {name}") from None


def wait_for_exit(container: Container, longest_s: float) -> bool:
    until = time.monotonic() + longest_s
    pause = threading.Event()
    while container.running:
        if time.monotonic() > until:
            return False
        pause.wait(_LOOK_S)
    return True
