"""ports.Notifier without a world: what was sent lies in a list."""

from __future__ import annotations

from collections.abc import Iterable

from spotrunner.core.alert import Alert
from spotrunner.ports import Undeliverable


class MemoryNotifier:
    """`sent` has what was taken, in that order; a channel in `down` takes nothing."""

    def __init__(self, channels: Iterable[str]) -> None:
        self._channels = frozenset(channels)
        self.down: set[str] = set()
        self.sent: list[tuple[str, Alert]] = []

    @property
    def channels(self) -> frozenset[str]:
        return self._channels

    def send(self, channel: str, alert: Alert) -> None:
        if channel not in self._channels:
            raise Undeliverable(f"{channel}: the settings have no such channel")
        if channel in self.down:
            raise Undeliverable(f"{channel}: it is down")
        self.sent.append((channel, alert))
