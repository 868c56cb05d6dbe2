"""What a store remembers of money: the ledger of ended attempts, its sums, and the zone of its
days; what a user asks about money and time."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from spotrunner.adapters.store import ledger
from spotrunner.adapters.store.memory import MemoryStore
from spotrunner.adapters.store.sqlite import open_store
from spotrunner.core.caps import Spent
from spotrunner.core.ledger import Entry, entries
from spotrunner.core.model import Attempt, CommandVerb, EndReason, Job, Market
from spotrunner.core.states import AttemptState
from spotrunner.ports import Changes, Misconfigured, StaleEpoch, Store
from tests.contracts.values import a_job, a_spec, an_attempt, an_event, at, led

JOB = "digits-aaaa"
HOUR_S = 3600
DAY_S = 24 * HOUR_S
# T0 is noon of it in UTC, and eight in the evening in Shanghai.
TODAY = dt.date(2026, 11, 1)
TOMORROW, YESTERDAY = TODAY + dt.timedelta(days=1), TODAY - dt.timedelta(days=1)


def an_ended(
    job_id: str = JOB, generation: int = 1, *, begin_s: float = 0, lived_s: float = 60, **more: Any
) -> Attempt:
    """On demand at 0.526 USD an hour, so that its cost follows from its time."""
    attempt = an_attempt(
        job_id,
        generation,
        state=AttemptState.ENDED,
        launched_at=at(begin_s),
        ended_at=at(begin_s + lived_s),
        running_price_usd_micros=526_000,
    )
    return dataclasses.replace(attempt, **more)


def costing(usd_micros: int, job_id: str = JOB, generation: int = 1, **more: Any) -> Attempt:
    return an_ended(job_id, generation, cost_usd_micros=usd_micros, **more)


def owned(job_id: str, owner: str, sweep: str = "") -> Job:
    return a_job(job_id, spec=a_spec(owner=owner, sweep=sweep))


def booked_entries(store: Store, since: dt.date | None = None) -> list[Entry]:
    return [line.entry for line in store.booked(since)]


def costs(store: Store) -> list[tuple[str, dt.date, int]]:
    return [(it.attempt, it.day, it.cost_usd_micros) for it in booked_entries(store)]


# -- what is booked ----------------------------------------------------------------------------


def test_an_attempt_is_booked_when_it_has_ended(store: Store) -> None:
    epoch = led(store, owned(JOB, "alice", "night"))
    running = an_attempt(state=AttemptState.RUNNING, launched_at=at(0))
    store.write(epoch, Changes(attempts=(running,)))
    assert store.booked() == ()
    assert store.spent(YESTERDAY) == Spent()
    # From noon to two in the morning.
    ended = an_ended(
        lived_s=14 * HOUR_S,
        extras_usd_micros_hour=10_000,
        transfer_usd_micros=50,
        traffic_usd_micros=7,
        estimated=True,
    )
    store.write(epoch, Changes(attempts=(ended,)))
    first = Entry(
        attempt=f"{JOB}.1",
        job_id=JOB,
        region="us-east-1",
        market=Market.SPOT,
        day=TODAY,
        lived_s=12 * HOUR_S,
        instance_usd_micros=12 * 526_000,
        extras_usd_micros=12 * 10_000,
        transfer_usd_micros=57,
        on_demand_usd_micros=12 * 536_000 + 57,
        estimated=True,
    )
    second = dataclasses.replace(
        first,
        day=TOMORROW,
        lived_s=2 * HOUR_S,
        instance_usd_micros=2 * 526_000,
        extras_usd_micros=2 * 10_000,
        transfer_usd_micros=0,
        on_demand_usd_micros=2 * 536_000,
    )
    assert booked_entries(store) == [first, second]
    assert booked_entries(store, TOMORROW) == [second]
    assert store.booked(TOMORROW + dt.timedelta(days=1)) == ()
    assert {(line.owner, line.sweep) for line in store.booked()} == {("alice", "night")}


def test_an_attempt_that_is_open_again_is_taken_out(store: Store) -> None:
    """An instance of it turned up after it was given up."""
    epoch = led(store, a_job())
    ended = an_ended(lived_s=14 * HOUR_S)
    store.write(epoch, Changes(attempts=(ended, costing(5, generation=2))))
    again = dataclasses.replace(ended, state=AttemptState.TERMINATING)
    store.write(epoch, Changes(attempts=(again,)))
    assert costs(store) == [(f"{JOB}.2", TODAY, 5)]
    # It has lived for fewer days than was thought: nothing of the first booking is left.
    store.write(epoch, Changes(attempts=(costing(9),)))
    assert costs(store) == [(f"{JOB}.1", TODAY, 9), (f"{JOB}.2", TODAY, 5)]


def test_what_nobody_saw_is_booked_on_the_day_it_was_wanted(store: Store) -> None:
    epoch = led(store, a_job())
    lost = an_attempt(state=AttemptState.ENDED, end_reason=EndReason.LOST)
    paid = dataclasses.replace(lost, id=f"{JOB}.2", generation=2, cost_usd_micros=263_000)
    store.write(epoch, Changes(attempts=(lost, paid)))
    assert costs(store) == [(f"{JOB}.2", TODAY, 263_000)]


def test_the_lines_come_by_day_job_and_attempt(store: Store) -> None:
    epoch = led(store, a_job("a"), a_job("b"))
    attempts = [
        costing(1, job, generation, begin_s=begin_s)
        for begin_s, generation in ((DAY_S, 3), (0, 2), (0, 1))
        for job in ("b", "a")
    ]
    store.write(epoch, Changes(attempts=tuple(attempts)))
    assert [name for name, _, _ in costs(store)] == ["a.1", "a.2", "b.1", "b.2", "a.3", "b.3"]


def test_of_two_values_in_one_write_the_last_is_booked(store: Store) -> None:
    epoch = led(store, a_job())
    store.write(epoch, Changes(attempts=(costing(5), costing(7))))
    assert costs(store) == [(f"{JOB}.1", TODAY, 7)]
    running = an_attempt(state=AttemptState.RUNNING)
    store.write(epoch, Changes(attempts=(costing(9), running)))
    assert store.booked() == ()


def test_of_a_write_that_is_refused_nothing_is_booked(store: Store) -> None:
    epoch = led(store, a_job())
    store.write(epoch, Changes(attempts=(costing(5),)))
    with pytest.raises(Misconfigured):
        store.write(epoch, Changes(attempts=(costing(7), costing(1, "nobody"))))
    with pytest.raises(StaleEpoch):
        store.write(epoch + 1, Changes(attempts=(costing(7),)))
    assert costs(store) == [(f"{JOB}.1", TODAY, 5)]


# -- sums --------------------------------------------------------------------------------------


def test_what_was_spent_is_summed_by_whose_it_was_and_when(store: Store) -> None:
    jobs = (owned("a", "alice", "night"), owned("b", "alice"), owned("c", "bob", "night"))
    epoch = led(store, *jobs, owned("d", ""))
    attempts = (
        costing(1, "a"),
        costing(10, "a", 2, begin_s=DAY_S),
        costing(100, "b", begin_s=-DAY_S),
        costing(1_000, "c", begin_s=DAY_S),
        costing(10_000, "d"),
    )
    store.write(epoch, Changes(attempts=attempts))
    # A minute of each, on demand.
    minute = -(-526_000 // 60)
    assert store.spent(TODAY) == Spent(
        total_usd_micros=11_111,
        by_owner={"alice": 111, "bob": 1_000, "": 10_000},
        by_sweep={"night": 1_011},
        by_day={TODAY: 10_001, TOMORROW: 1_010},
        by_owner_and_day={
            ("alice", TODAY): 1,
            ("alice", TOMORROW): 10,
            ("bob", TOMORROW): 1_000,
            ("", TODAY): 10_000,
        },
        on_demand_by_day={TODAY: 2 * minute, TOMORROW: 2 * minute},
    )
    assert store.spent(YESTERDAY).by_day == {YESTERDAY: 100, TODAY: 10_001, TOMORROW: 1_010}
    later = store.spent(TOMORROW + dt.timedelta(days=1))
    assert (later.total_usd_micros, later.by_day, later.by_owner_and_day) == (11_111, {}, {})


def test_a_job_is_summed_with_whom_it_belongs_to_now(store: Store) -> None:
    epoch = led(store, owned(JOB, "alice"))
    store.write(epoch, Changes(attempts=(costing(5),)))
    store.write(epoch, Changes(jobs=(owned(JOB, "bob", "night"),)))
    spent = store.spent(TODAY)
    assert (spent.by_owner, spent.by_sweep) == ({"bob": 5}, {"night": 5})


# -- the zone of the days ----------------------------------------------------------------------


def test_another_zone_books_everything_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "ATTEMPTS_A_TIME", 2)
    epoch = led(store, a_job())
    # From one to seven: midnight in Shanghai is at four in the afternoon, UTC.
    ended = [an_ended(generation=n, begin_s=HOUR_S, lived_s=6 * HOUR_S) for n in range(1, 6)]
    running = an_attempt(generation=9, state=AttemptState.RUNNING, launched_at=at(0))
    store.write(epoch, Changes(attempts=(*ended, running)))
    in_utc = store.booked()
    assert [line.entry.day for line in in_utc] == [TODAY] * 5
    store.cut_days_in("Asia/Shanghai")
    late = at(DAY_S)
    wanted = [entry for attempt in ended for entry in entries(attempt, "Asia/Shanghai", late)]
    assert sorted(booked_entries(store), key=lambda it: (it.attempt, it.day)) == wanted
    assert [entry.lived_s for entry in wanted] == [3 * HOUR_S] * 10
    assert store.spent(TODAY).by_day == {TODAY: 5 * 3 * 526_000, TOMORROW: 5 * 3 * 526_000}
    # What ends from now on is cut there, too.
    store.write(epoch, Changes(attempts=(costing(7, generation=9, begin_s=HOUR_S * 5),)))
    assert costs(store)[-1] == (f"{JOB}.9", TOMORROW, 7)
    store.write(epoch, Changes(attempts=(running,)))
    store.cut_days_in("Asia/Shanghai")
    store.cut_days_in("UTC")
    assert store.booked() == in_utc


def test_what_is_no_zone_changes_nothing(store: Store) -> None:
    epoch = led(store, a_job())
    store.write(epoch, Changes(attempts=(costing(5),)))
    with pytest.raises(ValueError, match=r'"Europe/Berlim" is no time zone.*Europe/Berlin'):
        store.cut_days_in("Europe/Berlim")
    assert costs(store) == [(f"{JOB}.1", TODAY, 5)]


def test_the_zone_outlives_the_process(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite")
    store.cut_days_in("Asia/Shanghai")
    epoch = led(store, a_job())
    store.close()
    store = open_store(tmp_path / "store.sqlite")
    store.write(epoch, Changes(attempts=(costing(5, begin_s=5 * HOUR_S),)))
    assert costs(store) == [(f"{JOB}.1", TOMORROW, 5)]
    store.close()


def test_a_write_books_in_the_zone_that_another_process_has_set(tmp_path: Path) -> None:
    store, other = (open_store(tmp_path / "store.sqlite") for _ in range(2))
    epoch = led(store, a_job())
    other.cut_days_in("Asia/Shanghai")
    for generation in (1, 2):
        ended = costing(5, generation=generation, begin_s=5 * HOUR_S)
        store.write(epoch, Changes(attempts=(ended,)))
    assert [day for _, day, _ in costs(store)] == [TOMORROW, TOMORROW]
    # It is asked of the database, and not of what this process has seen last.
    other.cut_days_in("UTC")
    store.cut_days_in("Asia/Shanghai")
    assert [day for _, day, _ in costs(other)] == [TOMORROW, TOMORROW]
    store.close()
    other.close()


def test_a_zone_that_changes_beside_the_writes_cuts_all_of_them(store: Store) -> None:
    epoch = led(store, a_job())
    many = [an_ended(generation=n, begin_s=HOUR_S, lived_s=6 * HOUR_S) for n in range(40)]

    def write() -> None:
        for attempt in many:
            store.write(epoch, Changes(attempts=(attempt,)))

    thread = threading.Thread(target=write)
    thread.start()
    for tz in ("Asia/Shanghai", "UTC") * 5 + ("Asia/Shanghai",):
        store.cut_days_in(tz)
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert [day for _, day, _ in costs(store)] == [TODAY] * 40 + [TOMORROW] * 40


# -- the rule, over any story ------------------------------------------------------------------

JOBS = (owned("a", "alice", "night"), owned("b", "alice"), owned("c", "bob", "night"))

an_amount = st.integers(0, 10**12)
a_moment = st.floats(-3 * DAY_S, 3 * DAY_S).map(at)


@st.composite
def any_attempt(draw: st.DrawFn) -> Attempt:
    """One of a few, in any state: so a story ends some, opens them again and ends them anew. As
    the core has it, what has ended has a cost."""
    state = draw(st.sampled_from([AttemptState.RUNNING, AttemptState.ENDED]))
    launched_at, ended_at = draw(st.none() | a_moment), draw(st.none() | a_moment)
    return an_attempt(
        draw(st.sampled_from([job.id for job in JOBS])),
        draw(st.integers(1, 3)),
        state=state,
        launched_at=launched_at,
        ended_at=ended_at,
        hour_prices_usd_micros=tuple(draw(st.lists(st.integers(0, 10**6), max_size=3))),
        extras_usd_micros_hour=draw(st.integers(0, 10**5)),
        transfer_usd_micros=draw(st.integers(0, 10**6)),
        free=draw(st.booleans()),
        cost_usd_micros=draw(an_amount) if state is AttemptState.ENDED else None,
    )


a_zone = st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York"])
a_story = st.lists(a_zone | st.lists(any_attempt(), min_size=1, max_size=4), max_size=8)


def follow(store: Store, epoch: int, story: Sequence[str | list[Attempt]]) -> None:
    for step in story:
        if isinstance(step, str):
            store.cut_days_in(step)
        else:
            store.write(epoch, Changes(attempts=tuple(step)))


@settings(max_examples=60, deadline=None)
@given(story=a_story, since=st.integers(-3, 3))
def test_the_ledger_is_what_the_ended_attempts_cost(
    tmp_path_factory: pytest.TempPathFactory, story: list[str | list[Attempt]], since: int
) -> None:
    in_memory, in_sql = MemoryStore(), open_store(tmp_path_factory.mktemp("any") / "store.sqlite")
    stores: tuple[Store, Store] = (in_memory, in_sql)
    for store in stores:
        follow(store, led(store, *JOBS), story)
        attempts = store.attempts([job.id for job in JOBS])
        ended = [it.cost_usd_micros or 0 for it in attempts if it.state is AttemptState.ENDED]
        assert sum(cost for _, _, cost in costs(store)) == sum(ended)
        assert store.spent(TODAY).total_usd_micros == sum(ended)
    assert in_memory.booked() == in_sql.booked()
    day = TODAY + dt.timedelta(days=since)
    assert in_memory.spent(day) == in_sql.spent(day)
    in_sql.close()


# -- what users ask ----------------------------------------------------------------------------


def test_a_command_keeps_what_it_carries(store: Store) -> None:
    led(store, a_job())
    asked = [
        store.add_command(JOB, CommandVerb.EXTEND, at(1), budget_usd_micros=5_000_000),
        store.add_command(JOB, CommandVerb.EXTEND, at(2), deadline_at=at(9.25)),
        store.add_command(JOB, CommandVerb.EXTEND, at(3), budget_usd_micros=0, deadline_at=at(9)),
        store.add_command(JOB, CommandVerb.PAUSE, at(4)),
    ]
    assert [(it.budget_usd_micros, it.deadline_at) for it in asked] == [
        (5_000_000, None),
        (None, at(9.25)),
        (0, at(9)),
        (None, None),
    ]
    assert list(store.commands()) == asked


def test_a_hold_stays_as_it_was_last_told(store: Store) -> None:
    assert store.held_until() is None
    for until in (at(60), at(30), None, at(90)):
        store.hold(until)
        assert store.held_until() == until


def test_the_round_and_a_new_leader_leave_the_hold_alone(store: Store) -> None:
    store.hold(at(60))
    epoch = led(store, a_job())
    store.write(epoch, Changes(events=(an_event(),)))
    assert store.held_until() == at(60)
