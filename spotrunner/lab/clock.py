"""Lab time: the wall clock plus an offset that only rises."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable


def _wall() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)  # noqa: TID251 - this is the clock that others take


class LabClock:
    """What every timestamp of the lab is read from. Safe to use from several threads."""

    def __init__(self, wall: Callable[[], dt.datetime] = _wall) -> None:
        self._wall = wall
        self._offset = dt.timedelta(0)
        self._lock = threading.Lock()

    @property
    def offset(self) -> dt.timedelta:
        return self._offset

    def now(self) -> dt.datetime:
        """Aware UTC."""
        return self._wall() + self._offset

    def skip(self, ahead: dt.timedelta) -> dt.datetime:
        """Move lab time ahead and return the new time. Time never goes back: agents and daemon
        carry deadlines."""
        if ahead < dt.timedelta(0):
            raise ValueError("lab time cannot be moved back")
        with self._lock:
            self._offset += ahead
        return self.now()
