"""A channel over one of the services that Apprise knows, by its address (slack://..., mailto://...).

The address is the secret that opens the channel. Apprise tells its own logs about addresses, and
its answers are yes or no: so its logs go nowhere, and of what it noted while sending only its
warnings are told, without any piece of the address, and causes that are words of ours.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable, Iterator

import apprise

from spotrunner.core.alert import Alert, AlertKind, body, subject
from spotrunner.core.secret import masked
from spotrunner.ports import Misconfigured, Undeliverable

# -- limits: of each connection and of each wait for an answer, whatever the address asks for
TIMEOUT_S = 10.0
LONGEST_REASON = 300


class ServiceChannel:
    """One channel. Safe to use from several threads; sends one at a time, no faster than the
    service likes."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Raises Misconfigured, without the address."""
        _quiet()
        # In this thread and without a limit on the whole: past its limit Apprise leaves the call
        # alone in a pool that all channels share, where a few of them would stop the others.
        asset = apprise.AppriseAsset(
            app_id="spotrunner",
            app_desc="spotrunner",
            app_url="",
            async_mode=False,
            service_timeout=0,
        )
        service = apprise.Apprise.instantiate(url, asset=asset)
        if service is None:
            raise Misconfigured("this is no address that Apprise knows")
        service.socket_connect_timeout = service.socket_read_timeout = timeout_s
        # Whoever sends tries again, and has to know when: also where an address says `?retry=3` or,
        # which would make a success of every failure, `?optional=yes`.
        service.retry, service.optional = 0, False
        # What is longer than a service takes goes in several messages: refused, it would be lost.
        service.overflow_mode = apprise.OverflowMode.SPLIT
        self._apprise = apprise.Apprise(service, asset=asset, log_level=logging.DEBUG)
        self._masked = masked([url])
        self._lock = threading.Lock()

    def send(self, alert: Alert) -> None:
        """Raises Undeliverable, with the reason and without the address."""
        rest = body(alert)
        with self._lock:
            result = self._apprise.notify(
                title=subject(alert) if rest else "",
                body=rest or subject(alert),
                notify_type=_TYPES.get(alert.kind, apprise.NotifyType.WARNING),
                body_format=apprise.NotifyFormat.TEXT,
            )
        if not result:
            notes = [(entry.level, entry.message) for entry in result.logs()]
            raise Undeliverable(self._masked(_reason(notes)))


_TYPES = {
    AlertKind.FAILED: apprise.NotifyType.FAILURE,
    AlertKind.SUCCEEDED: apprise.NotifyType.SUCCESS,
    AlertKind.RESUMED: apprise.NotifyType.INFO,
    AlertKind.SUMMARY: apprise.NotifyType.INFO,
    AlertKind.TEST: apprise.NotifyType.INFO,
}


def _quiet() -> None:
    """Apprise's log goes nowhere but to whoever sends; without this it would go where logs go."""
    log = logging.getLogger("apprise")
    log.propagate = False
    log.setLevel(logging.DEBUG)
    if not any(isinstance(each, logging.NullHandler) for each in log.handlers):
        log.addHandler(logging.NullHandler())


# -- why not -----------------------------------------------------------------------------------

# What the details say that Apprise writes down for debugging, in our words: the details themselves
# are made of URLs and of the service's answers.
_CAUSES = (
    (r"refused", "the connection was refused"),
    (r"timed? ?out", "no answer in time"),
    (r"name or service|name resolution|nodename|getaddrinfo", "its host has no address"),
    (r"certificate|ssl", "its certificate was not accepted, or it speaks no TLS"),
    (r"unreachable|no route", "no way to its network"),
    (r"\b53[45]\b|authentication", "it refused the user or the password"),
    (r"reset|aborted|disconnected|closed", "it closed the connection"),
)


def _reason(notes: Iterable[tuple[str, str]]) -> str:
    said = list(dict.fromkeys(_said(notes)))
    return ("; ".join(said) or "it was not taken, without a reason")[:LONGEST_REASON]


def _said(notes: Iterable[tuple[str, str]]) -> Iterator[str]:
    for level, message in notes:
        if level in ("WARNING", "ERROR", "CRITICAL"):
            yield " ".join(message.split()).rstrip(".")
        elif "xception" in message:
            yield from (
                words for pattern, words in _CAUSES if re.search(pattern, message, re.IGNORECASE)
            )
