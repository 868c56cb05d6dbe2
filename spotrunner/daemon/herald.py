"""Brings alerts to their channels, beside the rounds and never in their way.

Each channel has a lane: one thread at a time, which takes the channel's due alerts one after the
other. A channel that hangs holds up its own lane and no other. What was sent is written down after
it was sent, so an alert is delivered at least once, and twice only when the daemon ends, or the
store fails, between the two.
"""

from __future__ import annotations

import datetime as dt
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import structlog

from spotrunner.core.alert import Alert
from spotrunner.ports import NEVER, Clock, Delivery, Notifier, Outbox, PortError, Undeliverable

log = structlog.get_logger(__name__)

# -- limits
AGAIN_AFTER = dt.timedelta(seconds=30)  # and twice as long each time
AGAIN_AT_MOST = dt.timedelta(hours=1)
GIVEN_UP_AFTER = dt.timedelta(days=3)
LANE_MOST = 10  # alerts that a lane takes at a time
PAGE = 50  # what ports.Outbox.due gives at most
TEST_S = 30.0
STOP_S = 12.0  # what is being sent may end: a little more than a channel waits for an answer

Begin = Callable[[str, Callable[[], None]], None]


def next_try(at: dt.datetime, tries: int) -> dt.datetime:
    """When a delivery that failed at `at`, and `tries` times before, is tried again."""
    # Doubling is cut off before it can grow past what a timedelta holds.
    return at + min(AGAIN_AFTER * 2.0 ** min(tries, 10), AGAIN_AT_MOST)


def in_background(name: str, work: Callable[[], None]) -> None:
    """In a thread that does not keep the process from ending."""
    threading.Thread(target=work, name=name, daemon=True).start()


class Herald:
    """Safe to use from several threads. `begin` starts a piece of work under a name; a story that
    wants everything done at once passes one that calls it."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        notifier: Notifier,
        clock: Clock,
        begin: Begin = in_background,
    ) -> None:
        self._outbox = outbox
        self._notifier = notifier
        self._clock = clock
        self._begin = begin
        self._changed = threading.Condition(threading.RLock())
        self._looking = False
        self._busy: set[str] = set()
        self._stopping = False

    def look(self, now: dt.datetime) -> None:
        """Begin to deliver what is due, unless that is under way. Returns at once."""
        with self._changed:
            if self._looking or self._stopping:
                return
            self._looking = True
        self._begin("alerts", partial(self._look, now))

    def test(
        self, channels: Iterable[str], alert: Alert, timeout_s: float = TEST_S
    ) -> Mapping[str, str]:
        """Send it now and to all at once, past the outbox. By channel: empty, or what is wrong."""
        answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        found = dict.fromkeys(channels, f"no answer within {timeout_s:g} s")
        for channel in found:
            self._begin(f"alert test {channel}", partial(self._try, channel, alert, answers))
        give_up_at = time.monotonic() + timeout_s
        for _ in range(len(found)):
            try:
                channel, error = answers.get(timeout=max(0.0, give_up_at - time.monotonic()))
            except queue.Empty:
                break
            found[channel] = error
        return found

    def stop(self) -> None:
        """Begin nothing more and let what is being sent end, for a bounded time: afterwards the
        store may be closed. What is still due goes out after the next start."""
        with self._changed:
            self._stopping = True
            self._changed.wait_for(lambda: not self._looking and not self._busy, STOP_S)

    # -- what is due ---------------------------------------------------------------------------

    def _look(self, now: dt.datetime) -> None:
        try:
            self._fill_lanes(now)
        except PortError as error:
            log.warning("alerts not read", error=str(error))
        except Exception:  # the outermost catch of this thread: it records
            log.exception("alerts not read")
        finally:
            with self._changed:
                self._looking = False
                self._changed.notify_all()

    def _fill_lanes(self, now: dt.datetime) -> None:
        # Before the reading: a lane that ends after it has sent what the reading still shows.
        with self._changed:
            busy = frozenset(self._busy)
        due = self._outbox.due(now)
        lanes: dict[str, list[Delivery]] = {}
        left = []
        for delivery in due:
            lane = lanes.setdefault(delivery.channel, [])
            if delivery.channel in busy or len(lane) == LANE_MOST:
                left.append(delivery)
            else:
                lane.append(delivery)
        if len(due) >= PAGE:
            self._make_room(left)
        for channel, deliveries in lanes.items():
            if deliveries:
                self._open_lane(channel, deliveries)

    def _make_room(self, left: Sequence[Delivery]) -> None:
        """A full page may hide other channels' alerts: what cannot go now is put off."""
        at = self._clock.now()
        for each in left:
            why = "more is due to this channel than it takes at a time"
            self._outbox.failed(each.alert.key, each.channel, at, at + AGAIN_AFTER, why)

    # -- lanes ---------------------------------------------------------------------------------

    def _open_lane(self, channel: str, deliveries: Sequence[Delivery]) -> None:
        with self._changed:
            self._busy.add(channel)
        self._begin(f"alerts to {channel}", partial(self._run_lane, channel, deliveries))

    def _run_lane(self, channel: str, deliveries: Sequence[Delivery]) -> None:
        try:
            for delivery in deliveries:
                if self._stopping:
                    break
                self._deliver(delivery)
        except PortError as error:
            log.warning("outcome of an alert not written", channel=channel, error=str(error))
        except Exception:  # the outermost catch of this thread: it records
            log.exception("alerts not sent", channel=channel)
        finally:
            with self._changed:
                self._busy.discard(channel)
                self._changed.notify_all()

    def _deliver(self, delivery: Delivery) -> None:
        alert, channel = delivery.alert, delivery.channel
        error = self._send(channel, alert)
        at = self._clock.now()
        if not error:
            self._outbox.delivered(alert.key, channel, at)
            log.info("alert sent", alert=alert.key, channel=channel)
            return
        given_up = at >= alert.at + GIVEN_UP_AFTER
        next_at = NEVER if given_up else next_try(at, delivery.tries)
        self._outbox.failed(alert.key, channel, at, next_at, error)
        about = {"alert": alert.key, "channel": channel, "error": error}
        if given_up:
            log.error("alert given up", title=alert.title, tries=delivery.tries + 1, **about)
        else:
            log.warning("alert not sent", again_at=next_at.isoformat(), **about)

    def _try(self, channel: str, alert: Alert, answers: queue.SimpleQueue[tuple[str, str]]) -> None:
        answers.put((channel, self._send(channel, alert)))

    def _send(self, channel: str, alert: Alert) -> str:
        """Empty when it was taken, else why not. A bug in a channel is that channel's trouble: its
        alerts wait as if it were down."""
        try:
            self._notifier.send(channel, alert)
        except Undeliverable as error:
            return str(error)
        except Exception as error:
            log.exception("alert not sent", alert=alert.key, channel=channel)
            return f"{channel}: an error of spotrunner's own ({type(error).__name__}); see the log"
        return ""
