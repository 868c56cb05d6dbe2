"""Whole rounds: what `decide` promises whatever it is told, in whatever order."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotrunner.core.caps import Bound, Caps
from spotrunner.core.model import (
    Attempt,
    CommandVerb,
    EndedBy,
    EndReason,
    InstanceState,
    Phase,
    PriceLimit,
    Refused,
    Snapshot,
    TakeOver,
    Verb,
)
from spotrunner.core.money import exposure
from spotrunner.core.purse import ROUNDED_USD_MICROS, days
from spotrunner.core.states import AttemptState, JobState
from spotrunner.core.windows import Window
from tests.build import (
    EXTRAS,
    JOB,
    OFFERS,
    T0,
    a_command,
    a_head,
    a_job,
    a_notice,
    a_refusal,
    a_report,
    a_running_snapshot,
    a_snapshot,
    an_attempt,
    an_instance,
    an_offer,
    applied,
    at,
    attempt_after,
    decided,
    job_after,
    kinds,
    pending,
)
from tests.core.rounds import Rounds

SERVING = ("pending", "requested", "starting", "running")
seeds = st.integers(0, 2**32 - 1)


# -- promises ----------------------------------------------------------------------------------


def promise_money(rounds: Rounds) -> None:
    """accrued + reserved <= cap, and what EC2 charges is no more than that."""
    budget = rounds.jobs[JOB].spec.budget_usd_micros
    assert budget is not None
    attempts = rounds.attempts.values()
    reserved = sum(exposure(attempt, rounds.limits) for attempt in attempts)
    assert rounds.bill() <= reserved <= budget


def promise_orders(before: dict[str, Attempt], rounds: Rounds) -> None:
    for attempt in rounds.attempts.values():
        old = before.get(attempt.id)
        if attempt.order is None:
            assert not attempt.state.live
            continue
        if attempt.state.live:
            assert attempt.order.paid_until == attempt.paid_until
            assert (attempt.order.verb is Verb.STOP) is (attempt.state is AttemptState.TERMINATING)
        if old is not None and old.order is not None:
            assert attempt.order.n - old.order.n == (attempt.order != old.order)
            assert attempt.paid_until >= old.paid_until


def promise_attempts(before: dict[str, Attempt], rounds: Rounds, *, may_move: bool = False) -> None:
    """Generations only rise, every launch has its intent on record, one attempt serves the job; in
    a move the new one waits for another's HEAD."""
    plan, snapshot = rounds.plan, rounds.snapshot
    highest = max([a.generation for a in before.values()], default=0)
    new = [a for a in plan.attempts if a.id not in before]
    assert [a.generation for a in new] == [highest + 1 + n for n in range(len(new))]
    written = {attempt.id: attempt for attempt in plan.attempts}
    for launch in plan.launches:
        assert written.get(launch.attempt.id, before.get(launch.attempt.id)) == launch.attempt
        assert launch.attempt.state is AttemptState.PENDING
    heard = [
        attempt
        for attempt in {**before, **written}.values()
        if attempt.state.value in SERVING and not was_silent(snapshot, attempt)
    ]
    assert len(new) <= 1
    if may_move and new and len(heard) == 2:
        assert new[0].replaces is not None
    else:
        assert not new or len(heard) == 1


def was_silent(snapshot: Snapshot, attempt: Attempt) -> bool:
    report = snapshot.reports.get(attempt.id)
    return report is not None and (snapshot.now - report.at).total_seconds() > 300


def promise_ends(before: dict[str, Attempt], rounds: Rounds) -> None:
    """Only the unwanted are terminated; what has ended has its bill, and keeps it."""
    for act in rounds.plan.terminations:
        owner = rounds.snapshot
        attempts = {f"i-{a.id}": a for a in (*owner.attempts, *rounds.plan.attempts)}
        assert attempts[act.instance_id].state is AttemptState.TERMINATING
    for attempt in rounds.plan.attempts:
        assert (attempt.state is AttemptState.ENDED) is (attempt.cost_usd_micros is not None)
        old = before.get(attempt.id)
        if old is not None and not old.state.live and not attempt.state.live:
            assert attempt.cost_usd_micros == old.cost_usd_micros


@settings(max_examples=60, deadline=None)
@given(seed=seeds, budget=st.sampled_from([100_000, 300_000, 700_000, 2_000_000, 9_000_000]))
def test_whatever_happens_the_promises_hold(seed: int, budget: int) -> None:
    rounds = Rounds(random.Random(seed), budget)
    for _ in range(60):
        before = dict(rounds.attempts)
        rounds.step()
        promise_attempts(before, rounds)
        promise_orders(before, rounds)
        promise_ends(before, rounds)
        promise_money(rounds)


def promise_days(rounds: Rounds) -> None:
    """The same on each day. A launch that nobody ever saw is booked on the day on which it was
    wanted, with all that it may have come to: where it was, says nobody any more."""
    unseen = [it for it in rounds.attempts.values() if it.estimated and it.launched_at is None]
    if any(attempt.cost_usd_micros for attempt in unseen):
        return
    books, job = rounds.books(), rounds.jobs[JOB]
    for cap in books.caps_of(job, rounds.now + dt.timedelta(days=1)):
        for day, begin, end in days(rounds.caps.tz, T0, rounds.now):
            each = books.balance(dataclasses.replace(cap, day=day, begin=begin, end=end))
            counted = each.accrued_usd_micros + each.reserved_usd_micros
            assert counted <= cap.usd_micros
            assert rounds.bill_between(begin, end) <= counted + ROUNDED_USD_MICROS * len(
                rounds.machines
            )


NIGHTS: tuple[dict[str, Any], ...] = (
    {},
    {"unattended_s": 2 * 3600},
    # It closes at 14:30 UTC and opens at 16:30.
    {"window": Window(start_min=30, stop_min=1350, tz="Asia/Shanghai", days=tuple(range(7)))},
    {"price_limit": PriceLimit(pause_usd_micros=300_000, resume_usd_micros=200_000, after_s=600)},
)


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    budget=st.sampled_from([300_000, 700_000, 2_000_000]),
    day=st.sampled_from([160_000, 250_000, 500_000, 1_000_000]),
    night=st.sampled_from(NIGHTS),
)
def test_whatever_a_night_brings_the_promises_hold(
    seed: int, budget: int, day: int, night: dict[str, Any]
) -> None:
    """From four hours before midnight in Shanghai on."""
    caps = Caps(tz="Asia/Shanghai", each_owner=Bound(day_usd_micros=day))
    rounds = Rounds(random.Random(seed), budget, caps, night)
    for _ in range(60):
        before = dict(rounds.attempts)
        rounds.step()
        # A price above its limit moves it, where another place is below.
        promise_attempts(before, rounds, may_move="price_limit" in night)
        promise_orders(before, rounds)
        promise_ends(before, rounds)
        promise_money(rounds)
        promise_days(rounds)


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_a_round_that_learns_nothing_decides_nothing(seed: int) -> None:
    """Deciding again on the same facts changes no state and tells no story."""
    rounds = Rounds(random.Random(seed), 2_000_000)
    for _ in range(30):
        rounds.step()
        first = applied(rounds.snapshot, decided(rounds.snapshot))
        second = applied(first, decided(first))
        again = decided(second)
        assert not again.events
        assert not again.refusals
        assert not again.orders
        assert not [launch for launch in again.launches if launch.attempt.id not in known(first)]


def known(snapshot: Snapshot) -> set[str]:
    return {attempt.id for attempt in snapshot.attempts}


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_the_same_facts_lead_to_the_same_plan(seed: int) -> None:
    rounds = Rounds(random.Random(seed), 2_000_000)
    for _ in range(20):
        rounds.step()
        assert decided(rounds.snapshot) == rounds.plan


# -- phases that see each other ----------------------------------------------------------------


def test_a_notice_starts_the_replacement_in_the_same_round_in_another_pool() -> None:
    snapshot = a_running_snapshot(reports=(a_report(notice=a_notice(700)),))
    plan = decided(snapshot)
    (launch,) = plan.launches
    assert (launch.attempt.generation, launch.attempt.replaces) == (2, f"{JOB}.1")
    assert launch.attempt.offer.pool != an_attempt().offer.pool
    assert launch.attempt.order is not None
    assert launch.attempt.order.take_over == TakeOver(attempt=f"{JOB}.1", by=at(715))
    assert not plan.terminations


def test_a_death_without_notice_too() -> None:
    dead = an_instance(state=InstanceState.ENDED, ended_s=595, ended_by=EndedBy.EC2)
    plan = decided(a_running_snapshot(instances=(dead,), quotes=()))
    assert kinds(plan)[:1] == ["ended"]
    (launch,) = plan.launches
    assert launch.attempt.offer.pool != an_attempt().offer.pool
    assert launch.attempt.replaces is None, "it may take HEAD at once"


def test_silence_starts_the_replacement_which_may_take_over_at_once() -> None:
    plan = decided(a_running_snapshot(reports=(a_report(at_s=299),)))
    (launch,) = plan.launches
    assert launch.attempt.order is not None
    assert launch.attempt.order.take_over == TakeOver(attempt=f"{JOB}.1", now=True)
    assert not plan.terminations, "the silent one may still be at work until HEAD is taken"


def test_cancel_orders_a_stop_and_terminates_only_after_the_grace() -> None:
    snapshot = a_running_snapshot(commands=(a_command(CommandVerb.CANCEL),))
    plan = decided(snapshot)
    assert job_after(plan, snapshot).state is JobState.CANCELLED
    assert [posted.order.verb for posted in plan.orders] == [Verb.STOP]
    assert not plan.terminations
    assert not plan.launches
    late = applied(snapshot, plan, now_s=900)
    assert [act.instance_id for act in decided(late).terminations] == [f"i-{JOB}.1"]


def test_success_ends_the_attempt() -> None:
    snapshot = a_running_snapshot(head=a_head(500, done="outputs"))
    plan = decided(snapshot)
    assert job_after(plan, snapshot).state is JobState.SUCCEEDED
    assert attempt_after(plan, snapshot).ending is EndReason.DONE
    assert not plan.launches


def test_a_failure_with_a_retry_left_starts_again_from_head() -> None:
    failed = (a_report(phase=Phase.FAILED, message="exit 1"),)
    snapshot = a_running_snapshot(jobs=[a_job(retries=1)], reports=failed)
    (launch,) = decided(snapshot).launches
    assert (launch.attempt.generation, launch.attempt.step_before) == (2, 100)
    without = a_running_snapshot(reports=failed)
    assert job_after(decided(without), without).state is JobState.FAILED
    assert not decided(without).launches


def test_the_money_of_an_ended_attempt_is_free_for_the_next_in_the_same_round() -> None:
    ended = an_instance(state=InstanceState.ENDED, ended_s=595, ended_by=EndedBy.FAULT)
    # Enough for one reservation, not for two.
    jobs = [a_job(budget=exposure(an_attempt(), a_snapshot().limits) + 90_000)]
    assert decided(a_running_snapshot(jobs=jobs, instances=(ended,))).launches


def test_one_that_works_is_paid_before_another_is_launched() -> None:
    """Two jobs, one round: the extension's order stands before the launch."""
    jobs = [a_job(), a_job(JobState.QUEUED, id="other-0000")]
    plan = decided(a_running_snapshot(900, jobs=jobs))
    boxes = [posted.order.box for posted in plan.orders]
    assert boxes == [f"{JOB}.1", "other-0000.1"]
    assert plan.orders[0].order.paid_until == at(2700)


def test_a_lost_answer_is_neither_a_refusal_nor_a_second_launch() -> None:
    """The next rounds find nothing in the listing, and send the same attempt again."""
    snapshot = a_snapshot(30, attempts=[pending()])
    plan = decided(snapshot)
    assert [launch.attempt.id for launch in plan.launches] == [f"{JOB}.1"]
    assert not plan.refusals
    assert attempt_after(plan, snapshot).state is AttemptState.PENDING


def test_a_launch_that_is_lost_makes_room_for_another_one() -> None:
    snapshot = a_snapshot(901, attempts=[pending(paid_until_s=1800)])
    plan = decided(snapshot)
    assert attempt_after(plan, snapshot).ending is EndReason.LOST
    assert [launch.attempt.generation for launch in plan.launches] == [2]


def test_an_adopted_orphan_counts_against_the_cap_of_its_job() -> None:
    orphan = an_instance(an_attempt(7), launched_s=100)
    jobs = [a_job(JobState.QUEUED, budget=400_000)]
    assert not decided(a_snapshot(jobs=jobs, instances=[orphan])).launches
    assert decided(a_snapshot(jobs=jobs)).launches


def test_a_region_that_refuses_permission_is_left_for_the_other() -> None:
    refusals = (a_refusal(meaning=Refused.PERMISSION, at_s=590),)
    (launch,) = decided(a_snapshot(refusals=refusals)).launches
    assert launch.attempt.offer.pool.region == "eu-west-1"


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_of_an_agent_is_understood_in_every_state(phase: Phase) -> None:
    for state in AttemptState:
        for job_state in JobState:
            attempt = an_attempt(1, state, ending=EndReason.DONE, ending_s=1, notice=None)
            report = a_report(phase=phase, first_step_s=100, notice=a_notice(700))
            for instance_state in InstanceState:
                snapshot = a_running_snapshot(
                    jobs=[a_job(job_state)],
                    attempt=attempt,
                    instances=(an_instance(attempt, instance_state),),
                    reports=(report,),
                )
                after = applied(snapshot, decided(snapshot))
                decided(dataclasses.replace(after, now=at(5000)))


def test_an_offer_below_every_price_is_still_bounded_by_its_dearest() -> None:
    offers = [*OFFERS, an_offer("us-east-1c", price=1)]
    (launch,) = decided(a_snapshot(offers=offers)).launches
    limits = a_snapshot().limits
    assert exposure(launch.attempt, limits) == sum(
        -(-usd_micros_hour * (1800 + 120) // 3600) for usd_micros_hour in (526_000, EXTRAS)
    )
