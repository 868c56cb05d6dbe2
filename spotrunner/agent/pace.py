"""The rhythm of what an agent does again and again: reports, polls and log shipping."""

from __future__ import annotations

import datetime as dt


class Pace:
    """Something that is due at once, and then every so often. It may be hurried, and rests
    (is never due) while its interval is None."""

    def __init__(self) -> None:
        self._last: dt.datetime | None = None
        self._interval: dt.timedelta | None = None
        self._hurried = False

    def set(self, interval_s: float | None) -> None:
        self._interval = None if interval_s is None else dt.timedelta(seconds=interval_s)

    def hurry(self) -> None:
        self._hurried = True

    def due_at(self, now: dt.datetime) -> dt.datetime | None:
        """The moment from which it is due; None while it rests."""
        if self._interval is None:
            return None
        if self._hurried or self._last is None:
            return now
        return self._last + self._interval

    def take(self, now: dt.datetime) -> bool:
        """True when it is due; then it counts as done."""
        due_at = self.due_at(now)
        if due_at is None or now < due_at:
            return False
        self._last = now
        self._hurried = False
        return True
