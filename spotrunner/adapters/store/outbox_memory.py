"""ports.Outbox in memory: for stories in virtual time and tests of what delivers alerts."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from spotrunner.core.alert import Alert
from spotrunner.ports import Delivery

# As many as the contract allows.
_DUE_MOST = 50


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    delivery: Delivery
    next_at: dt.datetime


class MemoryOutbox:
    """Forgets everything with its process; else as the contract says."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alerts: dict[str, Alert] = {}
        # By alert and channel; what was delivered is gone.
        self._waiting: dict[tuple[str, str], _Waiting] = {}

    def due(self, now: dt.datetime) -> tuple[Delivery, ...]:
        with self._lock:
            found = [it.delivery for it in self._waiting.values() if it.next_at <= now]
        found.sort(key=lambda it: (it.alert.at, it.alert.key, it.channel))
        return tuple(found[:_DUE_MOST])

    def delivered(self, alert_key: str, channel: str, at: dt.datetime) -> None:
        with self._lock:
            self._waiting.pop((alert_key, channel), None)

    def failed(
        self, alert_key: str, channel: str, at: dt.datetime, next_at: dt.datetime, error: str
    ) -> None:
        with self._lock:
            known = self._waiting.get((alert_key, channel))
            if known is not None:
                delivery = dataclasses.replace(known.delivery, tries=known.delivery.tries + 1)
                waiting = _Waiting(delivery=delivery, next_at=next_at)
                self._waiting[alert_key, channel] = waiting

    # -- inside the lock -----------------------------------------------------------------------

    def _raise(self, alert: Alert, channels: Sequence[str]) -> None:
        """Only if its key is new."""
        if alert.key in self._alerts:
            return
        self._alerts[alert.key] = alert
        for channel in channels:
            delivery = Delivery(alert=alert, channel=channel, tries=0)
            self._waiting[alert.key, channel] = _Waiting(delivery=delivery, next_at=alert.at)
