"""Alerts on their way: in lanes of their own, again and again with longer pauses, once each."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import threading
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from spotrunner.adapters.notify.channels import Channels
from spotrunner.adapters.notify.memory import MemoryNotifier
from spotrunner.adapters.notify.services import ServiceChannel
from spotrunner.core.alert import Alert, AlertKind
from spotrunner.daemon.herald import GIVEN_UP_AFTER, LANE_MOST, PAGE, Herald, next_try
from spotrunner.ports import NEVER, Delivery, Notifier, Unavailable, Undeliverable
from spotrunner.sim.cloud import VirtualClock
from tests.build import T0
from tests.sinks import TOKEN, HookSink

WAIT_S = 20.0  # for what happens at once, in another thread


def an_alert(key: str, at: dt.datetime = T0) -> Alert:
    return Alert(
        key=key,
        at=at,
        kind=AlertKind.PAUSED,
        job_id="digits-7f3a",
        owner="alice",
        channels=(),
        title=f"{key} is paused",
        why="the price is above 0.60 USD/h",
        cost="0.40 USD so far",
        command="spotrunner resume digits-7f3a",
    )


@dataclasses.dataclass
class Row:
    """A delivery and what has become of it."""

    delivery: Delivery
    next_at: dt.datetime
    delivered_at: dt.datetime | None = None
    errors: list[str] = dataclasses.field(default_factory=list)


class ListOutbox:
    """ports.Outbox in a list, with a store that can be down."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self.down = False
        self._lock = threading.Lock()

    def add(self, alert: Alert, *channels: str) -> None:
        for channel in channels:
            delivery = Delivery(alert=alert, channel=channel, tries=0)
            self.rows[alert.key, channel] = Row(delivery=delivery, next_at=alert.at)

    def due(self, now: dt.datetime) -> tuple[Delivery, ...]:
        self._check()
        with self._lock:
            due = [
                row.delivery
                for row in self.rows.values()
                if row.delivered_at is None and row.next_at <= now
            ]
        return tuple(sorted(due, key=lambda it: it.alert.at)[:PAGE])

    def delivered(self, alert_key: str, channel: str, at: dt.datetime) -> None:
        self._check()
        with self._lock:
            row = self.rows[alert_key, channel]
            assert row.delivered_at is None, "delivered twice"
            row.delivered_at = at

    def failed(
        self, alert_key: str, channel: str, at: dt.datetime, next_at: dt.datetime, error: str
    ) -> None:
        self._check()
        with self._lock:
            row = self.rows[alert_key, channel]
            row.delivery = dataclasses.replace(row.delivery, tries=row.delivery.tries + 1)
            row.next_at = next_at
            row.errors.append(error)

    def _check(self) -> None:
        if self.down:
            raise Unavailable("the store is closed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """A herald whose every pass is done when `look` returns, in virtual time."""

    outbox: ListOutbox
    notifier: MemoryNotifier
    clock: VirtualClock
    herald: Herald

    def look(self, after_s: float = 0) -> list[tuple[str, str]]:
        """What is sent by a pass so much later: (channel, key of the alert)."""
        self.clock.advance(after_s)
        before = len(self.notifier.sent)
        self.herald.look(self.clock.now())
        return [(channel, alert.key) for channel, alert in self.notifier.sent[before:]]


def at_once(name: str, work: Callable[[], None]) -> None:
    work()


@pytest.fixture
def scene() -> Scene:
    outbox, notifier = ListOutbox(), MemoryNotifier(["me", "ops"])
    clock = VirtualClock(T0)
    herald = Herald(outbox=outbox, notifier=notifier, clock=clock, begin=at_once)
    return Scene(outbox=outbox, notifier=notifier, clock=clock, herald=herald)


# -- delivery ----------------------------------------------------------------------------------


def test_each_alert_goes_once_to_each_of_its_channels(scene: Scene) -> None:
    scene.outbox.add(an_alert("a"), "me", "ops")
    scene.outbox.add(an_alert("b", T0 + dt.timedelta(seconds=1)), "me")
    assert scene.look(after_s=5) == [("me", "a"), ("me", "b"), ("ops", "a")]
    assert scene.look(after_s=15) == []
    row = scene.outbox.rows["a", "ops"]
    assert row.delivered_at == T0 + dt.timedelta(seconds=5)


def test_a_channel_that_is_down_delays_nobody_and_gets_it_later(scene: Scene) -> None:
    scene.notifier.down.add("me")
    scene.outbox.add(an_alert("a"), "me", "ops")
    with capture_logs() as logged:
        assert scene.look() == [("ops", "a")]
    (line,) = [each for each in logged if each["log_level"] == "warning"]
    assert line["error"] == "me: it is down"
    scene.notifier.down.clear()
    assert scene.look(after_s=29) == []
    assert scene.look(after_s=1) == [("me", "a")]


def test_the_pauses_double_up_to_an_hour(scene: Scene) -> None:
    tried_at = T0
    pauses = []
    for tries in range(10):
        pauses.append((next_try(tried_at, tries) - tried_at).total_seconds())
    assert pauses == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert next_try(T0, 10_000) == T0 + dt.timedelta(hours=1)


def test_after_three_days_it_is_given_up_and_the_log_says_so(scene: Scene) -> None:
    scene.notifier.down.add("me")
    scene.outbox.add(an_alert("a"), "me")
    row = scene.outbox.rows["a", "me"]
    with capture_logs() as logged:
        while row.next_at != NEVER:
            assert scene.clock.now() <= T0 + GIVEN_UP_AFTER + dt.timedelta(hours=1)
            scene.look(after_s=(row.next_at - scene.clock.now()).total_seconds())
    (line,) = [each for each in logged if each["log_level"] == "error"]
    assert (line["event"], line["alert"], line["channel"]) == ("alert given up", "a", "me")
    # An hour apart for three days, and the shorter pauses before that.
    assert 75 <= line["tries"] == row.delivery.tries <= 85
    assert scene.clock.now() >= T0 + GIVEN_UP_AFTER
    scene.notifier.down.clear()
    assert scene.look(after_s=7200) == []


def test_what_is_older_than_three_days_at_its_first_try_is_tried(scene: Scene) -> None:
    scene.outbox.add(an_alert("a"), "me")
    assert scene.look(after_s=10 * 86400) == [("me", "a")]


def test_a_name_that_no_channel_has_waits_as_if_it_were_down(scene: Scene) -> None:
    scene.outbox.add(an_alert("a"), "gone", "me")
    assert scene.look() == [("me", "a")]
    assert scene.outbox.rows["a", "gone"].errors == ["gone: the settings have no such channel"]


def test_a_flood_to_one_channel_hides_no_alert_of_another(scene: Scene) -> None:
    scene.notifier.down.add("me")
    for number in range(3 * PAGE):
        scene.outbox.add(an_alert(f"flood {number}"), "me")
    scene.outbox.add(an_alert("late", T0 + dt.timedelta(seconds=1)), "ops")
    looks = (scene.look(after_s=1) for _ in range(4))
    assert list(itertools.chain.from_iterable(looks)) == [("ops", "late")]
    scene.notifier.down.clear()
    for _ in range(200):
        scene.look(after_s=15)
    assert len(scene.notifier.sent) == 3 * PAGE + 1


def test_a_lane_takes_so_many_at_a_time(scene: Scene) -> None:
    for number in range(LANE_MOST + 3):
        scene.outbox.add(an_alert(f"alert {number}"), "me")
    assert [len(scene.look(after_s=15)) for _ in range(3)] == [LANE_MOST, 3, 0]


# -- when things break -------------------------------------------------------------------------


def test_a_store_that_is_down_ends_nothing(scene: Scene) -> None:
    scene.outbox.add(an_alert("a"), "me")
    scene.outbox.down = True
    with capture_logs() as logged:
        assert scene.look() == []
    assert [each["event"] for each in logged] == ["alerts not read"]
    scene.outbox.down = False
    assert scene.look(after_s=15) == [("me", "a")]


def test_an_outcome_that_is_not_written_is_sent_again(scene: Scene) -> None:
    class Breaking(MemoryNotifier):
        def send(self, channel: str, alert: Alert) -> None:
            super().send(channel, alert)
            scene.outbox.down = True

    breaking = Breaking(["me"])
    herald = Herald(outbox=scene.outbox, notifier=breaking, clock=scene.clock, begin=at_once)
    scene.outbox.add(an_alert("a"), "me")
    for _ in range(2):
        scene.outbox.down = False
        with capture_logs() as logged:
            herald.look(scene.clock.now())
        assert [each["event"] for each in logged] == ["outcome of an alert not written"]
    assert [alert.key for _, alert in breaking.sent] == ["a", "a"]


def test_a_bug_in_a_channel_is_that_channels_trouble(scene: Scene) -> None:
    class Buggy(MemoryNotifier):
        def send(self, channel: str, alert: Alert) -> None:
            if channel == "me":
                raise ZeroDivisionError(f"secret {TOKEN}")
            super().send(channel, alert)

    buggy = Buggy(["me", "ops"])
    herald = Herald(outbox=scene.outbox, notifier=buggy, clock=scene.clock, begin=at_once)
    scene.outbox.add(an_alert("a"), "me", "ops")
    with capture_logs() as logged:
        herald.look(scene.clock.now())
    assert [channel for channel, _ in buggy.sent] == ["ops"]
    row = scene.outbox.rows["a", "me"]
    assert row.errors == ["me: an error of spotrunner's own (ZeroDivisionError); see the log"]
    assert row.next_at == T0 + dt.timedelta(seconds=30)
    assert any(each.get("exc_info") for each in logged)


# -- threads -----------------------------------------------------------------------------------


class Hanging(MemoryNotifier):
    """`me` takes an alert and does not come back before it is let go."""

    def __init__(self) -> None:
        super().__init__(["me", "ops"])
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Event()

    def send(self, channel: str, alert: Alert) -> None:
        if channel == "me":
            self.entered.release()
            self.let_go.wait(60)
        super().send(channel, alert)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.let_go.set()


class Late(ListOutbox):
    """Its answers take so long that what they say is no longer so: `meanwhile` happens first."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] = bool
        self.reads = 0

    def due(self, now: dt.datetime) -> tuple[Delivery, ...]:
        self.reads += 1
        found = super().due(now)
        self.meanwhile()
        return found


def a_herald(outbox: ListOutbox, notifier: Notifier) -> Herald:
    return Herald(outbox=outbox, notifier=notifier, clock=VirtualClock(T0))


def look_until(
    herald: Herald, done: Callable[[], bool], now: Callable[[], dt.datetime] = lambda: T0
) -> None:
    """As rounds do, every now and then."""
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.01)):
        herald.look(now())
        if done():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen in time")


def test_a_channel_that_hangs_holds_up_neither_the_round_nor_the_others(hanging: Hanging) -> None:
    outbox = Late()
    outbox.add(an_alert("a"), "me")
    herald = a_herald(outbox, hanging)
    herald.look(T0)
    assert hanging.entered.acquire(timeout=WAIT_S)
    # Its lane is taken; others go their way, and nothing is begun twice.
    outbox.add(an_alert("b"), "ops", "me")
    look_until(herald, lambda: outbox.rows["b", "ops"].delivered_at is not None)
    assert not hanging.entered.acquire(timeout=0)
    hanging.let_go.set()
    look_until(herald, lambda: outbox.rows["b", "me"].delivered_at is not None)
    herald.stop()
    assert sorted((channel, alert.key) for channel, alert in hanging.sent) == [
        ("me", "a"),
        ("me", "b"),
        ("ops", "b"),
    ]


def test_what_was_delivered_while_the_outbox_was_read_is_not_sent_again(hanging: Hanging) -> None:
    outbox = Late()
    outbox.add(an_alert("a"), "me")
    herald = a_herald(outbox, hanging)
    herald.look(T0)
    assert hanging.entered.acquire(timeout=WAIT_S)

    def lane_ends() -> None:
        hanging.let_go.set()
        lanes = [it for it in threading.enumerate() if it.name == "alerts to me"]
        for lane in lanes:
            lane.join(WAIT_S)

    outbox.meanwhile = lane_ends
    look_until(herald, lambda: outbox.reads == 2)
    outbox.meanwhile = bool
    look_until(herald, lambda: outbox.reads == 4)
    herald.stop()
    assert [alert.key for _, alert in hanging.sent] == ["a"]


def test_under_many_looks_each_alert_is_sent_once() -> None:
    outbox, notifier = ListOutbox(), MemoryNotifier(["me", "ops"])
    for number in range(150):
        outbox.add(an_alert(f"alert {number}"), "me", "ops")
    herald = a_herald(outbox, notifier)
    clock = itertools.count()
    look_until(
        herald,
        lambda: all(row.delivered_at is not None for row in outbox.rows.values()),
        lambda: T0 + dt.timedelta(seconds=next(clock)),
    )
    herald.stop()
    sent = [(channel, alert.key) for channel, alert in notifier.sent]
    assert len(sent) == len(set(sent)) == 300


def test_a_stop_waits_for_what_is_being_sent_and_begins_nothing_more(hanging: Hanging) -> None:
    outbox = Late()
    for key in ("a", "b"):
        outbox.add(an_alert(key), "me")
    herald = a_herald(outbox, hanging)
    herald.look(T0)
    assert hanging.entered.acquire(timeout=WAIT_S)
    stopping = threading.Thread(target=herald.stop)
    stopping.start()
    stopping.join(0.05)
    assert stopping.is_alive()
    hanging.let_go.set()
    stopping.join(WAIT_S)
    assert [alert.key for _, alert in hanging.sent] == ["a"]
    assert outbox.rows["a", "me"].delivered_at == T0
    read = outbox.reads
    herald.look(T0)
    assert (outbox.reads, outbox.rows["b", "me"].delivered_at) == (read, None)


# -- by hand -----------------------------------------------------------------------------------


def test_a_test_asks_all_at_once_and_waits_a_bounded_time(hanging: Hanging) -> None:
    herald = a_herald(ListOutbox(), hanging)
    hanging.down.add("ops")
    found = herald.test(["me", "ops", "oops"], an_alert("test"), timeout_s=0.3)
    assert found == {
        "me": "no answer within 0.3 s",
        "ops": "ops: it is down",
        "oops": "oops: the settings have no such channel",
    }
    hanging.let_go.set()
    hanging.down.clear()
    assert herald.test(["ops", "me", "ops"], an_alert("test")) == {"ops": "", "me": ""}


def test_a_real_hook_that_refuses_at_first_is_told_in_the_end(scene: Scene) -> None:
    with HookSink() as sink, capture_logs() as logged:
        notifier = Channels({"me": ServiceChannel(sink.url)})
        herald = Herald(outbox=scene.outbox, notifier=notifier, clock=scene.clock, begin=at_once)
        scene.outbox.add(an_alert("a"), "me")
        sink.status = 503
        herald.look(scene.clock.now())
        assert sink.received == []
        sink.status = 200
        scene.clock.advance(30)
        herald.look(scene.clock.now())
        assert [message.title for message in sink.received] == ["a is paused"]
    assert [each["event"] for each in logged] == ["alert not sent", "alert sent"]
    assert TOKEN not in repr(logged)
    assert TOKEN not in repr(scene.outbox.rows)
    with pytest.raises(Undeliverable):
        notifier.send("me", an_alert("b"))  # the sink is gone
