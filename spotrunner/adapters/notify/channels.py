"""ports.Notifier over all channels of the settings, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.notify.topics import TopicChannel
from spotrunner.core.alert import Alert
from spotrunner.ports import Undeliverable


class Channel(Protocol):
    def send(self, alert: Alert) -> None:
        """Raises Undeliverable."""
        ...


class Channels:
    """ports.Notifier. Safe to use from several threads."""

    def __init__(self, by_name: Mapping[str, Channel]) -> None:
        self._by_name = dict(by_name)

    @property
    def channels(self) -> frozenset[str]:
        return frozenset(self._by_name)

    def send(self, channel: str, alert: Alert) -> None:
        chosen = self._by_name.get(channel)
        if chosen is None:
            raise Undeliverable(f"{channel}: the settings have no such channel")
        try:
            chosen.send(alert)
        except Undeliverable as error:
            raise Undeliverable(f"{channel}: {error}") from error


def channels(urls: Mapping[str, str], topics: Mapping[str, str], aws: Aws) -> Channels:
    """`urls` are addresses for Apprise, `topics` ARNs of SNS, both by the channel's name. Raises
    Misconfigured."""
    return Channels(
        {**_services(urls), **{name: TopicChannel(aws, arn) for name, arn in topics.items()}}
    )


def _services(urls: Mapping[str, str]) -> Mapping[str, Channel]:
    if not urls:
        return {}
    # Of an extra: whoever has topics only need not install it.
    from spotrunner.adapters.notify.services import ServiceChannel

    return {name: ServiceChannel(url) for name, url in urls.items()}
