"""The time of S3, as the `Date` headers of its answers tell it.

A `Date` is cut to whole seconds, and it was written at some moment between the sending of the
request and the receipt of the answer. So each answer gives an interval for the server's time, and
the clock keeps what all answers have in common. It is off by a second and a round trip at the most
and moves only when an answer shows that it must: less each time, and not at all where answers
agree. What contradicts everything before is a jump, and is followed.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

# The worst that a machine's monotonic clock goes wrong: quartz, uncorrected.
DRIFT = 1e-4

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


class ServerClock:
    """ports.Clock. Safe to use from several threads. Times here are seconds; `monotonic` starts
    anywhere, `wall` is POSIX time and counts only until the first answer."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - this is the Clock to take
    ) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._in_flight = threading.local()
        at = monotonic()
        # Server time minus monotonic: our estimate, and the bounds that were true at `_bounds_at`.
        self._offset = wall() - at
        self._bounds: tuple[float, float] | None = None
        self._bounds_at = at

    def now(self) -> dt.datetime:
        with self._lock:
            return _EPOCH + dt.timedelta(seconds=self._offset + self._monotonic())

    @property
    def heard(self) -> bool:
        """Whether an answer has told the time; before that it is the machine's own."""
        with self._lock:
            return self._bounds is not None

    def learn(self, date: str, sent_at: float, received_at: float) -> None:
        """An answer with this `Date` header came between these monotonic times. What is no date
        is ignored."""
        try:
            parsed = email.utils.parsedate_to_datetime(date)
        except ValueError:
            return
        if parsed.tzinfo is None:
            return
        server = (parsed - _EPOCH).total_seconds()
        with self._lock:
            self._narrow(server - received_at, server + 1.0 - sent_at, received_at)

    # -- as a listener of a boto3 client -------------------------------------------------------

    def watch(self, client: _Client) -> None:
        """Learn from every answer that this S3 client gets, also from refusals."""
        client.meta.events.register("before-send.s3", self._sent)
        client.meta.events.register("response-received.s3", self._received)

    def _sent(self, **_: object) -> None:
        # Each attempt of a call is sent and answered in one thread.
        self._in_flight.at = self._monotonic()

    def _received(self, response_dict: Mapping[str, Any] | None = None, **_: object) -> None:
        sent_at: float | None = getattr(self._in_flight, "at", None)
        if response_dict is None or sent_at is None:
            return
        headers = {str(name).lower(): value for name, value in response_dict["headers"].items()}
        if "date" in headers:
            self.learn(str(headers["date"]), sent_at, self._monotonic())

    # ------------------------------------------------------------------------------------------

    def _narrow(self, low: float, high: float, at: float) -> None:
        if self._bounds is not None:
            drifted = DRIFT * max(0.0, at - self._bounds_at)
            narrowed = (
                max(low, self._bounds[0] - drifted),
                min(high, self._bounds[1] + drifted),
            )
            if narrowed[0] <= narrowed[1]:
                low, high = narrowed
        self._bounds, self._bounds_at = (low, high), at
        # No further than it must: an estimate that still fits stays.
        self._offset = min(max(self._offset, low), high)


class _Events(Protocol):
    def register(self, event_name: str, handler: Callable[..., object]) -> object: ...


class _Meta(Protocol):
    @property
    def events(self) -> _Events: ...


class _Client(Protocol):
    """What `watch` needs of a botocore client."""

    @property
    def meta(self) -> _Meta: ...
