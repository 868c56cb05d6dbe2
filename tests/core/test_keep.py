from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core.draft import Draft
from spotrunner.core.keep import keep
from spotrunner.core.model import Attempt, Limits, Phase, Snapshot
from spotrunner.core.money import billed, exposure
from spotrunner.core.purse import ROUNDED_USD_MICROS
from spotrunner.core.states import AttemptState
from tests.build import (
    JOB,
    ON_DEMAND,
    T0,
    a_head,
    a_job,
    a_notice,
    a_report,
    a_running_snapshot,
    after,
    an_attempt,
    at,
)

ID = f"{JOB}.1"
LIMITS = Limits()
# Half of the first step of 1800 s is used up.
HALF = 900


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
