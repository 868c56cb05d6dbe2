"""Until when an agent is paid, and until when its machine's own timer lets it live."""

from __future__ import annotations

import datetime as dt

from spotrunner.agent.words import ArmTimer, Config


class Paid:
    def __init__(self, config: Config, started_at: dt.datetime) -> None:
        self._config = config
        self._started_at = started_at
        self._until = started_at + dt.timedelta(seconds=config.first_step_s)
        self._timer_at: dt.datetime | None = None

    def launched(self, launched_at: dt.datetime) -> None:
        """Before an order has said more. An agent that was started again has been paid on since,
        but has not read it yet: it gets a moment for that, and the timer bounds the rest."""
        first = launched_at + dt.timedelta(seconds=self._config.first_step_s)
        moment = self._started_at + dt.timedelta(seconds=self._config.first_order_s)
        self._until = max(first, moment)

    def extend(self, until: dt.datetime, now: dt.datetime) -> ArmTimer | None:
        """The timer to arm for it, where it is news and a minute is left."""
        if until == self._until:
            return None
        self._until = until
        minutes = int((until - now).total_seconds() // 60)
        if minutes < 1:
            return None
        self._timer_at = now + dt.timedelta(minutes=minutes)
        return ArmTimer(minutes=minutes)

    @property
    def deadline(self) -> dt.datetime:
        """When the power goes off, whatever is under way. The timer counts whole minutes, so it may
        be up to one ahead."""
        ends = min(self._until, self._timer_at or self._until)
        return ends - dt.timedelta(seconds=self._config.off_margin_s)
