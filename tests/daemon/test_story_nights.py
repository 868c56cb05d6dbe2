"""Nights: windows, prices, deadlines and the user's word, and nothing trained is ever lost by them.

Every second of every story `Tale.step` holds each cap against the store and against EC2's bill.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from spotrunner.core.model import Attempt, CommandVerb, EndReason, Market, Pause, PriceLimit
from spotrunner.core.states import JobState
from spotrunner.core.windows import Window, is_open
from spotrunner.sim.agents import Durations
from spotrunner.sim.faults import Lose
from spotrunner.sim.setups import G4DN
from spotrunner.sim.trainer import Training
from spotrunner.sim.values import Manners
from tests.daemon.tale import JOB, T0, Tale

ENDLESS = Training(total_steps=10**6)
EVERY_DAY = tuple(range(7))


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.timezone.utc)


def a_window(start: str, stop: str, tz: str = "UTC") -> Window:
    def minute(clock: str) -> int:
        hours, minutes = clock.split(":")
        return int(hours) * 60 + int(minutes)

    return Window(start_min=minute(start), stop_min=minute(stop), tz=tz, days=EVERY_DAY)


def nothing_is_lost(tale: Tale) -> bool:
    """Each attempt went on from the very step at which the one before it had stopped."""
    return not any(tale.lost_steps())


def all_was_saved(tale: Tale) -> bool:
    return tale.head_step() == max(agent.steps_done for agent in tale.agents())


# -- windows -----------------------------------------------------------------------------------

AUTUMN = (
    a_window("02:30", "03:30", "Europe/Berlin"),
    # 02:30 is there twice, and the first one opens: an hour more
    ("2026-10-25T00:30", "2026-10-25T02:30"),
    ("2026-10-26T01:30", "2026-10-26T02:30"),
)
SPRING = (
    a_window("23:30", "03:30", "Europe/Berlin"),
    # from 02:00 to 03:00 there is nothing
    ("2027-03-27T22:30", "2027-03-28T01:30"),
    ("2027-03-28T21:30", "2027-03-29T01:30"),
)
NO_CHANGE = (
    a_window("23:15", "01:15", "Asia/Shanghai"),
    ("2026-10-25T15:15", "2026-10-25T17:15"),
    ("2026-10-26T15:15", "2026-10-26T17:15"),
)


@pytest.mark.parametrize("nights", [AUTUMN, SPRING, NO_CHANGE], ids=["autumn", "spring", "none"])
def test_a_window_over_two_nights(nights: tuple[Window, tuple[str, str], tuple[str, str]]) -> None:
    window, (opens, closes), (reopens, _) = nights
    length_s = (utc(closes) - utc(opens)).total_seconds()
    training = Training(total_steps=int(length_s * 10) + 10_000)
    tale = Tale(
        start=utc(opens) - dt.timedelta(minutes=20),
        training=training,
        window=window,
        budget_usd_micros=3_000_000,
    )
    tale.until_at(utc(opens) - dt.timedelta(seconds=1))
    assert tale.attempts() == ()
    assert tale.job().pause is Pause.WINDOW
    tale.until_trains(1)
    assert tale.clock.now() < utc(opens) + dt.timedelta(minutes=3)

    tale.until_at(utc(closes))
    assert tale.alive() == [f"{JOB}.1"], "it uses the night to its end"
    tale.until_paused(Pause.WINDOW, tale.limits.stop_s)
    assert tale.attempt(1).end_reason is EndReason.PAUSED
    assert all_was_saved(tale)

    tale.idle(utc(reopens) - dt.timedelta(minutes=1))
    assert tale.alive() == []
    tale.until_trains(2)
    assert utc(reopens) <= tale.attempt(2).intent_at < utc(reopens) + dt.timedelta(minutes=6)
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert nothing_is_lost(tale)


def test_without_its_daemon_it_stops_about_when_its_window_closes() -> None:
    """What is paid reaches little further than the window."""
    closes = T0 + dt.timedelta(hours=3)
    tale = Tale(training=ENDLESS, window=a_window("11:00", "15:00"))
    tale.until_at(closes - dt.timedelta(minutes=10))
    tale.kill_daemon()
    tale.until(lambda: tale.alive() == [], 3600)
    assert tale.clock.now() <= closes + dt.timedelta(seconds=tale.limits.stop_s)
    assert all_was_saved(tale)


def test_the_window_closes_while_it_boots() -> None:
    window = a_window("11:00", "12:40")
    tale = Tale(training=ENDLESS, window=window, durations=Durations(fetch_s=3000))
    tale.until_at(T0 + dt.timedelta(minutes=40))
    assert tale.alive() == [f"{JOB}.1"]
    tale.until_paused(Pause.WINDOW, tale.limits.stop_s + 60)
    tale.fleet.durations = Durations()
    tale.idle(T0 + dt.timedelta(hours=23) - dt.timedelta(minutes=1))
    tale.until_trains(2)
    assert tale.attempt(1).end_reason is EndReason.PAUSED
    assert tale.job().state is JobState.ACTIVE


def test_shortly_before_its_window_closes_nothing_is_started() -> None:
    tale = Tale(training=ENDLESS, window=a_window("11:00", "12:20"))
    tale.until_paused(Pause.WINDOW)
    assert tale.attempts() == ()


@pytest.mark.parametrize("before_s", [100, 60, 20, 5, 0, -10])
def test_the_window_closes_during_a_notice(before_s: int) -> None:
    closes = T0 + dt.timedelta(hours=1, minutes=20)
    tale = Tale(training=ENDLESS, window=a_window("11:00", "13:20"))
    tale.until_at(closes - dt.timedelta(seconds=before_s))
    tale.interrupt(1)
    tale.until_paused(Pause.WINDOW, 600)
    assert len(tale.attempts()) == 1, "nobody starts a replacement now"
    assert all_was_saved(tale)


@pytest.mark.parametrize("after_s", [0, 10, 25, 45])
def test_the_window_closes_during_a_save(after_s: int) -> None:
    """Saves take most of the time here."""
    training = Training(total_steps=10**6, save_every_steps=600, save_s=40)
    start = T0 + dt.timedelta(seconds=after_s)
    tale = Tale(training=training, window=a_window("11:00", "13:00"), start=start)
    tale.until_paused(Pause.WINDOW)
    assert all_was_saved(tale)
    assert tale.clock.now() <= T0 + dt.timedelta(hours=1, seconds=tale.limits.stop_s)


# -- the price ---------------------------------------------------------------------------------

LIMIT = PriceLimit(after_s=600, pause_usd_micros=200_000, resume_usd_micros=190_000)
SHARE = PriceLimit(after_s=600, pause_share=0.38, resume_share=0.36)  # of 0.526 USD


@pytest.mark.parametrize("limit", [LIMIT, SHARE], ids=["usd", "share"])
def test_it_pauses_on_the_price_and_goes_on_below_a_lower_one(limit: PriceLimit) -> None:
    tale = Tale(
        training=Training(total_steps=50_000),
        price_limit=limit,
        regions=("us-east-1",),  # elsewhere it is a share of another price
    )
    tale.until_trains(1, steps=5000)
    dear_from = tale.clock.now()
    tale.price(300_000)
    tale.until_at(dear_from + dt.timedelta(seconds=590))
    assert tale.job().pause is None, "it may be over soon"
    tale.until_paused(Pause.PRICE, 1500)
    assert tale.attempt(1).end_reason is EndReason.PAUSED
    assert all_was_saved(tale)

    tale.price(195_000)  # neither above the one nor below the other
    tale.run(3600)
    assert tale.alive() == []
    tale.price(185_000)
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert len(tale.attempts()) == 2
    assert nothing_is_lost(tale)


def test_another_pool_below_the_price_is_taken_first() -> None:
    tale = Tale(training=Training(total_steps=40_000), price_limit=LIMIT)
    tale.until_trains(1, steps=5000)
    tale.price(300_000, ["us-east-1a"])
    tale.until_trains(2, steps=5000)
    assert tale.attempt(2).offer.pool.zone == "us-east-1b"
    tale.until_over()
    assert tale.events("paused") == []
    assert nothing_is_lost(tale)
    assert [it.end_reason for it in tale.attempts()] == [EndReason.MOVED, EndReason.DONE]


def test_a_price_that_jumps_up_and_down_makes_it_neither_stop_nor_go() -> None:
    tale = Tale(training=ENDLESS, price_limit=LIMIT)
    tale.until_trains(1, steps=1000)
    for _ in range(12):
        for usd_micros in (205_000, 195_000):
            tale.price(usd_micros)
            tale.run(300)
    assert tale.events("paused") == [], "it was never above for long enough"
    tale.price(300_000)
    tale.until_paused(Pause.PRICE)
    for _ in range(12):
        for usd_micros in (205_000, 195_000):
            tale.price(usd_micros)
            tale.run(300)
    assert tale.events("resumed") == [], "it was never below resume_below"
    assert len(tale.events("paused")) == 1


def test_a_dear_price_and_a_notice_at_once() -> None:
    tale = Tale(training=Training(total_steps=40_000), price_limit=LIMIT)
    tale.until_trains(1, steps=5000)
    tale.price(300_000)
    tale.run(620)
    tale.interrupt(1)
    tale.until_paused(Pause.PRICE)
    assert all_was_saved(tale)
    tale.price(150_000)
    tale.until_over()
    assert nothing_is_lost(tale)


# -- the user ----------------------------------------------------------------------------------


def queued(tale: Tale) -> None:
    """Nothing has been done for it yet."""


def launched(tale: Tale) -> None:
    tale.lose("RunInstances", Lose.AFTER)
    tale.until(lambda: bool(tale.events("launch-unknown")))


def boots(tale: Tale) -> None:
    tale.until(lambda: bool(tale.fleet.agents))


def fetches(tale: Tale) -> None:
    tale.until(lambda: f"{JOB}.1" in tale.reports())


def trains(tale: Tale) -> None:
    tale.until_trains(1, steps=4000)


def noticed(tale: Tale) -> None:
    trains(tale)
    tale.interrupt(1)
    tale.run(5)


def hands_over(tale: Tale) -> None:
    trains(tale)
    tale.interrupt(1)
    tale.until(lambda: f"{JOB}.2" in tale.alive())
    tale.run(30)


def has_handed_over(tale: Tale) -> None:
    trains(tale)
    tale.interrupt(1)
    tale.until_trains(2)


def stops(tale: Tale) -> None:
    trains(tale)
    tale.command(JOB, CommandVerb.PAUSE)
    tale.run(tale.tick_s + 2)


PHASES = (queued, launched, boots, fetches, trains, noticed, hands_over, has_handed_over, stops)
in_every_phase = pytest.mark.parametrize("phase", PHASES, ids=[it.__name__ for it in PHASES])
Reach = Callable[[Tale], None]


def in_phase(phase: Reach, **spec: Any) -> Tale:
    manners = Manners(filtered_s=(30.0, 40.0), listed_s=(20.0, 30.0), unannounced_share=0)
    tale = Tale(manners=manners, training=Training(total_steps=20_000), **spec)
    phase(tale)
    return tale


@in_every_phase
def test_pause_and_resume(phase: Reach) -> None:
    tale = in_phase(phase)
    tale.command(JOB, CommandVerb.PAUSE)
    tale.until_paused(Pause.USER, 3600)
    assert tale.alive() == []
    assert tale.head_step() == max((a.steps_done for a in tale.agents()), default=0)
    launches = len(tale.attempts())
    tale.run(1800)
    assert len(tale.attempts()) == launches
    tale.command(JOB, CommandVerb.RESUME)
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert nothing_is_lost(tale)


@in_every_phase
def test_pause_and_resume_at_once(phase: Reach) -> None:
    tale = in_phase(phase)
    for verb in (CommandVerb.PAUSE, CommandVerb.RESUME, CommandVerb.PAUSE, CommandVerb.RESUME):
        tale.command(JOB, verb)
        tale.run(20)
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert nothing_is_lost(tale)


@in_every_phase
def test_extend_disturbs_nothing(phase: Reach) -> None:
    tale = in_phase(phase, budget_usd_micros=2_000_000)
    tale.command(
        JOB,
        CommandVerb.EXTEND,
        budget_usd_micros=4_000_000,
        deadline_at=T0 + dt.timedelta(days=1),
    )
    tale.run(tale.tick_s)
    spec = tale.job().spec
    assert (spec.budget_usd_micros, spec.deadline_at) == (4_000_000, T0 + dt.timedelta(days=1))
    tale.command(JOB, CommandVerb.RESUME)
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert nothing_is_lost(tale)


@in_every_phase
def test_cancel(phase: Reach) -> None:
    tale = in_phase(phase)
    tale.command(JOB, CommandVerb.CANCEL)
    tale.until_over(3600)
    assert tale.job().state is JobState.CANCELLED
    assert tale.head_step() == max((a.steps_done for a in tale.agents()), default=0)


def test_a_budget_stops_it_an_extension_lets_it_finish() -> None:
    tale = Tale(training=Training(total_steps=60_000), budget_usd_micros=400_000)
    tale.until_paused(Pause.BUDGET)
    assert all_was_saved(tale)
    before = len(tale.attempts())
    tale.command(JOB, CommandVerb.RESUME)
    tale.run(600)
    assert tale.job().pause is Pause.BUDGET, "only money helps"
    tale.command(JOB, CommandVerb.EXTEND, budget_usd_micros=2_000_000)
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert len(tale.attempts()) == before + 1
    assert nothing_is_lost(tale)


# -- deadlines ---------------------------------------------------------------------------------


def set_spot(tale: Tale, up: bool | None) -> None:
    for region in tale.regions:
        for pool in tale.world.pools.offered(region):
            if pool.instance_type == G4DN:
                tale.world.set_capacity(tale.clock.now(), pool, up)


def test_a_deadline_counts_only_the_time_in_which_its_window_is_open() -> None:
    """Two hours of work, a deadline at the end of the second night, an hour and a half each: it
    may not wait for spot through the first one."""
    window = a_window("12:00", "13:30")
    tale = Tale(
        policy="deadline",
        training=Training(total_steps=72_000),
        window=window,
        work_s=7200,
        deadline_at=T0 + dt.timedelta(days=1, minutes=90),
        budget_usd_micros=5_000_000,
    )
    set_spot(tale, False)
    tale.until_paused(Pause.WINDOW)
    assert any(_is_on_demand(it) for it in tale.attempts())
    tale.idle(T0 + dt.timedelta(days=1, seconds=-30))
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert tale.clock.now() < T0 + dt.timedelta(days=1, minutes=95)
    assert nothing_is_lost(tale)
    for attempt in tale.attempts():
        assert is_open(window, attempt.intent_at)


def test_on_demand_is_not_taken_where_the_cap_would_not_pay_it_to_the_end() -> None:
    """It would be late all the same, and dearer: the cap goes further on spot."""
    tale = Tale(
        policy="deadline",
        training=Training(total_steps=72_000),
        work_s=7200,
        deadline_at=T0 + dt.timedelta(hours=2, minutes=20),
        budget_usd_micros=800_000,
    )
    set_spot(tale, False)
    tale.run(3 * 3600)
    assert not [it for it in tale.attempts() if it.offer.market is Market.ON_DEMAND]
    assert tale.alive() == []
    set_spot(tale, None)
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED


def test_a_longer_deadline_waits_for_spot_again() -> None:
    tale = Tale(
        policy="deadline",
        training=Training(total_steps=72_000),
        work_s=7200,
        deadline_at=T0 + dt.timedelta(hours=2, minutes=40),
        budget_usd_micros=5_000_000,
    )
    set_spot(tale, False)
    tale.until(lambda: any(_is_on_demand(it) for it in tale.attempts()))
    tale.command(JOB, CommandVerb.EXTEND, deadline_at=T0 + dt.timedelta(days=2))
    set_spot(tale, None)
    tale.until_over()
    assert tale.attempts()[-1].offer.market is Market.SPOT
    assert nothing_is_lost(tale)


def _is_on_demand(attempt: Attempt) -> bool:
    return attempt.offer.market is Market.ON_DEMAND
