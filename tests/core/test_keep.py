from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core.caps import Bound, Caps, Spent
from spotrunner.core.charges import transfer_usd_micros
from spotrunner.core.draft import Draft
from spotrunner.core.keep import keep
from spotrunner.core.model import Attempt, CommandVerb, EndReason, Job, Limits, Phase, Snapshot
from spotrunner.core.money import billed, exposure, usd
from spotrunner.core.purse import ROUNDED_USD_MICROS
from spotrunner.core.states import AttemptState
from spotrunner.core.windows import Window, clock_min
from tests.build import (
    EXTRAS,
    JOB,
    ON_DEMAND,
    T0,
    a_command,
    a_head,
    a_job,
    a_notice,
    a_report,
    a_running_snapshot,
    a_spec,
    after,
    an_attempt,
    at,
    at_or_none,
    attempt_after,
    decided,
    job_after,
    kinds,
)

ID = f"{JOB}.1"
LIMITS = Limits()
# Half of the first step of 1800 s is used up.
HALF = 900
# Midnight in Shanghai is 16:00 UTC.
MIDNIGHT_S = 4 * 3600


def kept(snapshot: Snapshot) -> Attempt:
    return after(keep, snapshot).attempts[ID]


def paid_s(snapshot: Snapshot) -> float:
    return (kept(snapshot).paid_until - T0).total_seconds()


def with_left(left: int, now_s: float = HALF, **changes: Any) -> Snapshot:
    """A budget that leaves so much beside what the attempt itself has reserved."""
    budget = exposure(an_attempt(), LIMITS) + left
    return a_running_snapshot(now_s, jobs=[a_job(budget=budget)], **changes)


def cost(seconds: int) -> int:
    """With what the roundings of its two bills may come to."""
    return billed(seconds, (), ON_DEMAND) + ROUNDED_USD_MICROS


# -- when --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("now_s", "paid"), [(899, 1800), (900, 2700), (1000, 2800), (1799, 3599)])
def test_at_half_time_it_is_paid_a_step_ahead(now_s: float, paid: float) -> None:
    assert paid_s(a_running_snapshot(now_s)) == paid


def test_what_is_over_is_not_revived() -> None:
    assert paid_s(a_running_snapshot(1800)) == 1800


@pytest.mark.parametrize(("silence_s", "paid"), [(119, True), (120, False), (900, False)])
def test_no_evidence_no_money(silence_s: float, paid: bool) -> None:
    reports = (a_report(at_s=HALF - silence_s),)
    assert (paid_s(a_running_snapshot(HALF, reports=reports)) > 1800) is paid


def test_an_instance_that_never_reported_is_not_paid_on() -> None:
    assert paid_s(a_running_snapshot(HALF, reports=())) == 1800


@pytest.mark.parametrize("phase", list(Phase))
def test_only_who_is_at_work_is_paid_on(phase: Phase) -> None:
    working = phase.value in ("boot", "fetch", "ready", "restore", "train")
    snapshot = a_running_snapshot(HALF, reports=(a_report(at_s=HALF - 1, phase=phase),))
    assert (paid_s(snapshot) > 1800) is working


@pytest.mark.parametrize(
    ("alive_s", "paid"), [(None, False), (300, False), (HALF - 20, False), (HALF - 5, True)]
)
def test_a_trainer_that_stalls_is_paid_on_when_it_lives_again(
    alive_s: float | None, paid: bool
) -> None:
    report = a_report(at_s=HALF - 1, stalled_at=at(HALF - 20), alive_at=at_or_none(alive_s))
    assert (paid_s(a_running_snapshot(HALF, reports=(report,))) > 1800) is paid


@pytest.mark.parametrize("state", list(AttemptState))
def test_only_who_should_go_on_is_paid_on(state: AttemptState) -> None:
    attempt = an_attempt(1, state, notice=a_notice(1000))
    snapshot = a_running_snapshot(HALF, attempt=attempt)
    assert (paid_s(snapshot) > 1800) is (state.value in ("starting", "running"))


def test_the_superseded_are_not_paid_on() -> None:
    head = a_head(attempt=f"{JOB}.2")
    assert paid_s(a_running_snapshot(HALF, head=head)) == 1800


# -- how much ----------------------------------------------------------------------------------


def test_without_a_budget_it_is_always_a_step_ahead() -> None:
    assert paid_s(a_running_snapshot(HALF, jobs=[a_job(budget=None)])) == 2700


def test_near_the_cap_the_step_is_smaller() -> None:
    """At a third of the step's time left, a whole extension would be 1200 s."""
    assert paid_s(with_left(cost(1200), now_s=1200)) == 3000
    assert paid_s(with_left(cost(1000), now_s=1200)) == 2800


def test_but_never_shorter_than_the_boot_allowance() -> None:
    assert paid_s(with_left(cost(900))) == 2700
    assert paid_s(with_left(cost(900) - 1)) == 1800
    assert paid_s(with_left(cost(900) - 1, now_s=1200)) == 1800


def test_the_cap_is_checked_with_the_dearest_price() -> None:
    """The spot price would pay three times the time."""
    assert paid_s(with_left(cost(900) // 2)) == 1800


def test_two_attempts_of_a_job_share_its_cap() -> None:
    first = an_attempt(1)
    second = an_attempt(2)
    budget = exposure(first, LIMITS) + exposure(second, LIMITS) + cost(900)
    draft = after(
        keep,
        a_running_snapshot(
            HALF,
            jobs=[a_job(budget=budget)],
            attempts=(first, second),
            reports=(a_report(first.id, HALF), a_report(second.id, HALF)),
        ),
    )
    assert [a.paid_until for a in draft.attempts.values()] == [at(2700), at(1800)]


def test_the_last_step_is_said_once() -> None:
    draft = after(keep, with_left(0))
    (event,) = draft.plan().events
    assert event.kind == "last-step"
    assert "it stops with a checkpoint before 12:30:00" in event.why
    told = draft.attempts[ID]
    again = after(keep, with_left(0, attempt=told))
    assert not again.plan().events


def test_when_money_comes_free_it_is_the_last_step_no_longer() -> None:
    told = after(keep, with_left(0)).attempts[ID]
    extended = kept(with_left(cost(900), attempt=told))
    assert (extended.paid_until, extended.end_detail) == (at(2700), "")


@given(
    budget=st.integers(0, 2_000_000),
    now_s=st.integers(0, 7200),
    launched_s=st.integers(0, 60),
    hours=st.lists(st.integers(1, ON_DEMAND), max_size=2),
)
def test_no_extension_breaks_the_cap(
    budget: int, now_s: int, launched_s: int, hours: list[int]
) -> None:
    attempt = an_attempt(
        launched_s=launched_s, paid_until_s=now_s + 600, hour_prices_usd_micros=tuple(hours)
    )
    jobs = [a_job(budget=budget)]
    draft: Draft = after(keep, a_running_snapshot(now_s, attempt=attempt, jobs=jobs))
    extended = draft.attempts[ID]
    if extended.paid_until > attempt.paid_until:
        assert exposure(extended, LIMITS) <= budget
        assert (extended.paid_until - attempt.paid_until).total_seconds() >= 900


@given(
    left=st.integers(0, 400_000),
    moved=st.integers(0, 300_000),
    reserved=st.integers(0, 300_000),
    now_s=st.integers(900, 1799),
    lump=st.integers(0, 3_000_000_000),
    day=st.booleans(),
)
def test_no_extension_breaks_the_cap_by_the_bytes_that_it_reserves(
    left: int, moved: int, reserved: int, now_s: int, lump: int, day: bool
) -> None:
    """Checkpoints to another region: half as much again as so far is reserved for the next, and two
    as large as the largest; where these are not to be had, it stops."""
    attempt = an_attempt(
        launched_s=0,
        extras_usd_micros_hour=EXTRAS,
        traffic_usd_micros=moved,
        traffic_reserved_usd_micros=reserved,
    )
    bound = exposure(attempt, LIMITS) + left
    caps = Caps(each_owner=Bound(day_usd_micros=bound) if day else Bound(total_usd_micros=bound))
    spec = a_spec(budget_usd_micros=None, home_region="eu-west-1", lump_bytes=lump)
    jobs = [a_job(spec=spec)]
    lumps = transfer_usd_micros(2 * lump, "eu-west-1", "us-east-1") if moved else 0
    extended = kept(a_running_snapshot(now_s, attempt=attempt, jobs=jobs, caps=caps))
    if extended.paid_until > attempt.paid_until:
        assert exposure(extended, LIMITS) <= bound
        ahead_s = (extended.paid_until - at(now_s)).total_seconds()
        so_much = moved + lumps + moved * 1.5 * ahead_s / now_s
        assert extended.traffic_reserved_usd_micros >= so_much - 2
    elif extended.ending is EndReason.BUDGET:
        assert moved + lumps - reserved > bound - exposure(attempt, LIMITS)
        assert extended.traffic_reserved_usd_micros == reserved
    else:
        assert extended.traffic_reserved_usd_micros == max(reserved, moved + lumps if moved else 0)
    assert exposure(extended, LIMITS) <= bound


# -- under shared caps -------------------------------------------------------------------------


def test_a_cap_of_the_owner_stops_it_though_its_own_would_pay() -> None:
    bound = exposure(an_attempt(), LIMITS) + cost(899)
    spec = a_spec(owner="alice", budget_usd_micros=5_000_000)
    caps = Caps(owners={"alice": Bound(total_usd_micros=bound)})
    draft = after(keep, a_running_snapshot(HALF, jobs=[a_job(spec=spec)], caps=caps))
    assert draft.attempts[ID].paid_until == at(1800)
    (event,) = draft.plan().events
    left = f"alice's budget of {usd(bound)} leaves {usd(cost(899))}, which pays no further step"
    assert event.why.startswith(left)
    assert event.data["scope"] == "owner"


def test_the_next_days_cap_stops_it_at_midnight_and_is_named() -> None:
    """At 23:45 in Shanghai it is paid up to 23:55; today has plenty, tomorrow a minute."""
    now_s, paid_s = MIDNIGHT_S - 900, MIDNIGHT_S - 300
    attempt = an_attempt(launched_s=now_s - 600, paid_until_s=paid_s, first_paid_s=900)
    caps = Caps(tz="Asia/Shanghai", each_owner=Bound(day_usd_micros=10_000_000))
    spent = Spent(by_owner_and_day={("", dt.date(2026, 11, 2)): 10_000_000 - cost(60)})
    snapshot = a_running_snapshot(
        now_s, attempt=attempt, jobs=[a_job(budget=None)], caps=caps, spent=spent
    )
    draft = after(keep, snapshot)
    (event,) = draft.plan().events
    assert event.kind == "last-step"
    assert "'s budget of 10.00 USD on 2026-11-02 leaves 0.0088 USD" in event.why


@pytest.mark.parametrize("lowered", [1, 100_000])
def test_a_cap_that_is_lowered_below_what_is_reserved_stops_extensions_at_once(
    lowered: int,
) -> None:
    """What was reserved is paid for: it runs to the end of that, and says why it stops."""
    attempt = an_attempt()
    extend = a_command(CommandVerb.EXTEND, budget_usd_micros=lowered)
    snapshot = a_running_snapshot(HALF, attempt=attempt, commands=(extend,))
    plan = decided(snapshot)
    assert "last-step" in kinds(plan)
    assert attempt_after(plan, snapshot).paid_until == attempt.paid_until
    assert job_after(plan, snapshot).spec.budget_usd_micros == lowered
    assert not plan.terminations


# -- a control host that sleeps ----------------------------------------------------------------


@pytest.mark.parametrize(("now_s", "paid"), [(HALF, HALF + 4 * 3600), (0, 4 * 3600)])
def test_an_unattended_job_is_paid_hours_ahead(now_s: float, paid: float) -> None:
    jobs = [a_job(spec=a_spec(unattended_s=4 * 3600))]
    assert paid_s(a_running_snapshot(now_s, jobs=jobs)) == paid


def test_and_again_when_half_of_that_is_used_up() -> None:
    jobs = [a_job(spec=a_spec(unattended_s=4 * 3600))]
    attempt = an_attempt(paid_until_s=4 * 3600)
    for now_s, paid in ((7199, 4 * 3600), (7200, 6 * 3600)):
        assert paid_s(a_running_snapshot(now_s, attempt=attempt, jobs=jobs)) == paid


def test_the_cap_bounds_what_is_paid_ahead() -> None:
    spec = a_spec(
        unattended_s=4 * 3600, budget_usd_micros=exposure(an_attempt(), LIMITS) + cost(5000)
    )
    assert paid_s(a_running_snapshot(HALF, jobs=[a_job(spec=spec)])) == 1800 + 5000


# -- windows -----------------------------------------------------------------------------------


def in_window(stop: str, **changes: Any) -> Job:
    """Open in UTC since 08:00; T0 is noon."""
    window = Window(
        start_min=480, stop_min=clock_min(stop, stop=True), tz="UTC", days=tuple(range(7))
    )
    return a_job(spec=a_spec(window=window, **changes))


@pytest.mark.parametrize(
    ("stop", "paid"),
    [
        ("14:00", HALF + 1800),  # far away
        ("12:35", 2100 + 300),  # to its end, and the time that a stop takes
        ("12:20", 1800),  # it is paid for longer already
        ("08:00", HALF + 1800),  # from 08:00 to 08:00: it is always open
    ],
)
def test_the_end_of_the_window_bounds_what_is_paid(stop: str, paid: float) -> None:
    assert paid_s(a_running_snapshot(HALF, jobs=[in_window(stop)])) == paid


def test_near_the_end_of_the_window_a_step_may_be_short() -> None:
    """Shorter than a boot: it is no last step of a cap, and nobody is told so."""
    draft = after(keep, a_running_snapshot(HALF, jobs=[in_window("12:26")]))
    assert draft.attempts[ID].paid_until == at(1560 + 300)
    assert [event.kind for event in draft.plan().events] == ["extended"]
    again = after(
        keep, a_running_snapshot(HALF, jobs=[in_window("12:26")], attempt=draft.attempts[ID])
    )
    assert not again.plan().events


def test_an_unattended_job_is_paid_to_the_end_of_its_window_only() -> None:
    jobs = [in_window("13:00", unattended_s=4 * 3600)]
    assert paid_s(a_running_snapshot(HALF, jobs=jobs)) == 3600 + 300


# -- held --------------------------------------------------------------------------------------


def test_what_is_held_is_paid_on_at_once_and_beyond_the_hold() -> None:
    """An hour without us, and a step after it for us to come back."""
    snapshot = a_running_snapshot(60, held_until=at(60 + 3600))
    assert paid_s(snapshot) == 60 + 3600 + 1800
    again = a_running_snapshot(75, held_until=at(60 + 3600), attempt=kept(snapshot))
    assert paid_s(again) == 60 + 3600 + 1800
    far = an_attempt(paid_until_s=5000)
    assert paid_s(a_running_snapshot(60, held_until=at(7260), attempt=far)) == 7260 + 1800


def test_a_hold_pays_within_the_caps_and_the_window() -> None:
    assert paid_s(with_left(cost(2000), now_s=60, held_until=at(3660))) == 1800 + 2000
    window = [in_window("13:00")]
    assert paid_s(a_running_snapshot(60, jobs=window, held_until=at(9000))) == 3600 + 300


def test_a_hold_is_no_evidence() -> None:
    silent = a_running_snapshot(600, reports=(a_report(at_s=400),), held_until=at(4000))
    assert paid_s(silent) == 1800


def test_the_brake_pays_on_as_ever() -> None:
    """It keeps new ones from starting; `panic` itself ends what runs."""
    assert paid_s(a_running_snapshot(HALF, brake="pulled by ops")) == 2700
