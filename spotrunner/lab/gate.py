"""A gate that holds back the control host's calls while lab time is moved.

Between the moment that time moves and the moment that agents have said so, every agent would look
silent to a daemon that listened.
"""

from __future__ import annotations

import threading

CONTROL_KEY = "LABCONTROL"  # the access key of the daemon and of the lab's users
_LONGEST_WAIT_S = 8.0  # below the read time-outs of clients


class Gate:
    """Open at first. Safe to use from several threads."""

    def __init__(self, longest_wait_s: float = _LONGEST_WAIT_S) -> None:
        self._longest_wait_s = longest_wait_s
        self._open = threading.Event()
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def lets_through(self, access_key: str) -> bool:
        """Waits, bounded, while the gate holds this key's calls; False if it still does."""
        return access_key != CONTROL_KEY or self._open.wait(self._longest_wait_s)
