"""A gate that can hold back the control host's calls while lab time is moved."""

from __future__ import annotations

import threading

CONTROL_KEY = "LABCONTROL"  # the access key of the daemon and of the lab's users
_LONGEST_WAIT_S = 20.0  # below the read time-outs of clients


class Gate:
    """Open at first. Safe to use from several threads."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def pass_through(self, access_key: str) -> None:
        """Wait, bounded, if the gate holds this key's calls."""
        if access_key == CONTROL_KEY:
            self._open.wait(_LONGEST_WAIT_S)
