"""The rhythm of what an agent does again and again: reports, polls and log shipping."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from spotrunner.agent.words import Config, Instruction, PollOrder, ReadHead, ShipLogs


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


class Paces:
    """Those of the reports, the orders, the looks at HEAD and the logs."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.reports, self._orders, self._heads, self.logs = Pace(), Pace(), Pace(), Pace()

    def set(self, *, watched: bool, urgent: bool, heads: bool, logs: bool) -> None:
        """`watched` by somebody; an order is `urgent`; whether there are `heads` and `logs`."""
        config = self._config
        urgent = urgent or watched
        self.reports.set(config.watched_report_s if watched else config.report_s)
        self._orders.set(config.urgent_order_s if urgent else config.order_s)
        self._heads.set(config.head_s if heads else None)
        self.logs.set((config.watched_logs_s if watched else config.logs_s) if logs else None)

    def due(self, now: dt.datetime) -> Iterator[dt.datetime]:
        """When each of them is due that does not rest."""
        for pace in (self.reports, self._orders, self._heads, self.logs):
            due_at = pace.due_at(now)
            if due_at is not None:
                yield due_at

    def take(self, now: dt.datetime) -> Iterator[Instruction]:
        """What is due, but for the report, which only the machine can write."""
        if self._orders.take(now):
            yield PollOrder()
        if self._heads.take(now):
            yield ReadHead()
        if self.logs.take(now):
            yield ShipLogs()
