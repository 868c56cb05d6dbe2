from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest

from spotrunner.core.caps import Bound, Caps, Spent
from spotrunner.core.draft import Draft
from spotrunner.core.model import (
    Attempt,
    DataSource,
    EndReason,
    Job,
    Limits,
    Market,
    Pause,
    PriceLimit,
    Refused,
    Snapshot,
)
from spotrunner.core.money import billed, exposure
from spotrunner.core.place import place
from spotrunner.core.policy.named import policies
from spotrunner.core.states import AttemptState, JobState
from spotrunner.core.windows import Window, clock_min
from tests.build import (
    EXTRAS,
    JOB,
    OFFERS,
    ON_DEMAND,
    SPOT,
    a_head,
    a_job,
    a_notice,
    a_quote,
    a_refusal,
    a_report,
    a_running_snapshot,
    a_snapshot,
    a_spec,
    an_attempt,
    an_instance,
    an_offer,
    at,
    pending,
)

LIMITS = Limits()


def needs(seconds: int) -> int:
    """To run so long at the dearest price with disk and address, and for the roundings of both."""
    return -(-(ON_DEMAND + EXTRAS) * seconds // 3600) + 2


NEED = needs(900 + 120)


def placed(snapshot: Snapshot) -> Draft:
    draft = Draft(snapshot)
    place(draft, policies())
    return draft


def launched(snapshot: Snapshot) -> list[Attempt]:
    """What is sent in this round."""
    return [launch.attempt for launch in placed(snapshot).plan().launches]


def job_of(snapshot: Snapshot) -> Job:
    return placed(snapshot).jobs[JOB]


# -- a first place -----------------------------------------------------------------------------


def test_a_waiting_job_gets_the_cheapest_offer_and_its_first_step() -> None:
    draft = placed(a_snapshot(jobs=[a_job(JobState.QUEUED)]))
    (launch,) = draft.plan().launches
    attempt = launch.attempt
    assert (attempt.id, attempt.generation) == (f"{JOB}.1", 1)
    assert attempt.offer == OFFERS[0]
    assert attempt.state is AttemptState.PENDING
    assert (attempt.intent_at, attempt.paid_until) == (at(600), at(2400))
    assert (attempt.first_paid_s, attempt.step_before, attempt.replaces) == (1800, 0, None)
    assert draft.jobs[JOB].state is JobState.ACTIVE


def test_the_intent_of_every_launch_is_in_the_plan() -> None:
    plan = placed(a_snapshot()).plan()
    assert [launch.attempt for launch in plan.launches] == list(plan.attempts)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_what_is_over_is_not_placed(state: JobState) -> None:
    assert not launched(a_snapshot(jobs=[a_job(state)]))
    assert not launched(a_snapshot(jobs=[a_job(state)], attempts=[pending()]))


@pytest.mark.parametrize("state", list(AttemptState))
def test_one_attempt_serves_a_job(state: AttemptState) -> None:
    """Nothing is placed beside one that works; beside one that ends a replacement is."""
    attempt = an_attempt(1, state, notice=a_notice(700))
    fresh = [a.generation for a in launched(a_running_snapshot(attempt=attempt))]
    serving = state.value in ("pending", "requested", "starting", "running")
    assert (2 in fresh) is not serving


def test_beside_a_silent_one_a_replacement_is_placed() -> None:
    silent = a_running_snapshot(reports=(a_report(at_s=299),))
    (replacement,) = launched(silent)
    assert (replacement.generation, replacement.replaces) == (2, f"{JOB}.1")
    assert not launched(a_running_snapshot(reports=(a_report(at_s=300),)))


def test_only_so_many_launches_a_round() -> None:
    jobs = [a_job(id=f"job-{n:04d}") for n in range(20)]
    snapshot = a_snapshot(jobs=jobs)
    assert len(launched(snapshot)) == LIMITS.launches_a_round


# -- what must be known first ------------------------------------------------------------------


def test_nothing_starts_while_head_cannot_be_read() -> None:
    assert not launched(a_snapshot(head_unread=True))
    assert "cannot be read" in job_of(a_snapshot(head_unread=True)).reason


def test_nothing_starts_while_the_mail_cannot_be_read() -> None:
    """It knows which generations were handed out, and the launch's order could not be posted."""
    assert not launched(a_snapshot(mail_s=599))
    assert launched(a_snapshot(mail_s=600))


def test_a_generation_is_one_more_than_any_that_was_handed_out() -> None:
    other = an_instance(an_attempt(3), job_id="other-0000", attempt_id="other-0000.99")
    cases = [
        (a_snapshot(attempts=[an_attempt(4, AttemptState.ENDED)]), 5),
        (a_snapshot(head=a_head(attempt=f"{JOB}.6")), 7),
        (a_snapshot(boxes=[f"{JOB}.8", "other-0000.99", "banana"]), 9),
        (a_snapshot(instances=[an_instance(an_attempt(9)), other]), 10),
    ]
    for snapshot, generation in cases:
        assert [a.generation for a in launched(snapshot)] == [generation]


def test_step_before_is_where_head_stands() -> None:
    (attempt,) = launched(a_snapshot(head=a_head(250)))
    assert attempt.step_before == 250


# -- whom it replaces --------------------------------------------------------------------------


def interrupted(generation: int) -> Attempt:
    return an_attempt(generation, AttemptState.INTERRUPTED, notice=a_notice(700))


def test_a_replacement_takes_head_from_its_holder() -> None:
    snapshot = a_snapshot(
        attempts=[interrupted(1), interrupted(2)], head=a_head(attempt=f"{JOB}.1")
    )
    assert [a.replaces for a in launched(snapshot)] == [f"{JOB}.1"]


def test_where_the_holder_is_gone_from_the_latest() -> None:
    attempts = [an_attempt(1, AttemptState.ENDED), interrupted(2), interrupted(3)]
    snapshot = a_snapshot(attempts=attempts, head=a_head(attempt=f"{JOB}.1"))
    assert [a.replaces for a in launched(snapshot)] == [f"{JOB}.3"]


def test_where_nobody_lives_from_nobody() -> None:
    snapshot = a_snapshot(attempts=[an_attempt(1, AttemptState.ENDED)], head=a_head())
    assert [a.replaces for a in launched(snapshot)] == [None]


# -- offers ------------------------------------------------------------------------------------


def test_a_refused_pool_is_left_for_the_next() -> None:
    (attempt,) = launched(a_snapshot(refusals=(a_refusal(at_s=590),)))
    assert str(attempt.offer.pool) == "us-east-1b/g4dn.xlarge"


def test_where_nothing_can_be_had_the_job_waits_and_says_why_once() -> None:
    refusals = (
        a_refusal(meaning=Refused.PERMISSION, at_s=590),
        a_refusal("eu-west-1a", at_s=590),
    )
    snapshot = a_snapshot(refusals=refusals)
    draft = placed(snapshot)
    assert not draft.plan().launches
    assert [event.kind for event in draft.plan().events] == ["waiting"]
    assert "none of 3 offers can be taken" in draft.jobs[JOB].reason
    again = dataclasses.replace(snapshot, jobs=(draft.jobs[JOB],))
    assert not placed(again).plan().events


def test_without_any_price_the_job_waits() -> None:
    assert "has a known price" in job_of(a_snapshot(offers=())).reason


# -- money -------------------------------------------------------------------------------------


def budget(micros: int, **changes: Any) -> Snapshot:
    offers = [an_offer()]
    return a_snapshot(jobs=[a_job(budget=micros)], **{"offers": offers, **changes})


def test_a_launch_the_cap_cannot_pay_the_boot_of_is_refused_with_the_number() -> None:
    draft = placed(budget(NEED - 1))
    assert not draft.plan().launches
    job = draft.jobs[JOB]
    assert (job.state, job.pause) == (JobState.PAUSED, Pause.BUDGET)
    assert "needs 0.1536 USD in reserve" in job.reason


def test_the_boot_allowance_is_enough_for_a_launch() -> None:
    (attempt,) = launched(budget(NEED))
    assert 900 <= attempt.first_paid_s <= 901
    assert exposure(attempt, LIMITS) <= NEED


def test_near_the_cap_the_first_step_is_what_the_rest_pays() -> None:
    (attempt,) = launched(budget(needs(1200 + 120)))
    assert attempt.first_paid_s == 1200
    assert attempt.paid_until == at(600 + 1200)


def test_what_others_spent_and_reserved_is_not_there_any_more() -> None:
    ended = an_attempt(1, AttemptState.ENDED, cost_usd_micros=100_000)
    ending = interrupted(2)
    reserved = 100_000 + exposure(ending, LIMITS)
    attempts = [ended, ending]
    assert launched(budget(reserved + NEED, attempts=attempts))
    assert not launched(budget(reserved + NEED - 1, attempts=attempts))


def test_a_budget_that_is_reserved_for_one_that_ends_is_waited_for() -> None:
    job = job_of(budget(NEED, attempts=[interrupted(1)]))
    assert job.state is JobState.ACTIVE
    assert "still ending" in job.reason


def test_a_pause_ends_when_the_money_is_there_for_more_than_another_boot() -> None:
    """A changeover and a whole step: what comes free by cents would be spent on boots alone."""
    enough = needs(900 + 1800 + 120)

    def of(budget: int) -> Draft:
        paused = a_job(JobState.PAUSED, pause=Pause.BUDGET, reason="too little", budget=budget)
        return placed(a_snapshot(jobs=[paused], offers=[an_offer()]))

    assert not of(enough - 1).plan().launches
    assert of(enough - 1).jobs[JOB].pause is Pause.BUDGET
    draft = of(enough)
    assert [launch.attempt.first_paid_s for launch in draft.plan().launches] == [1800]
    assert (draft.jobs[JOB].state, draft.jobs[JOB].pause) == (JobState.ACTIVE, None)


def test_a_pause_is_said_once_and_its_reason_kept_up() -> None:
    first = budget(NEED - 1)
    paused = placed(first).jobs[JOB]
    again = placed(dataclasses.replace(first, jobs=(paused,)))
    assert not again.plan().events
    waits = dataclasses.replace(paused, reason="none of 3 offers can be taken")
    assert placed(dataclasses.replace(first, jobs=(waits,))).jobs[JOB] == paused


def test_of_two_offers_the_one_that_the_budget_pays_is_taken() -> None:
    """g5 is cheaper on spot now, but it may come to twice as much."""
    offers = [
        an_offer(instance_type="g5.xlarge", price=150_000, dearest=1_006_000),
        an_offer(price=160_000),
    ]
    spec = a_spec(instance_types=("g4dn.xlarge", "g5.xlarge"), budget_usd_micros=200_000)
    (attempt,) = launched(a_snapshot(jobs=[a_job(spec=spec)], offers=offers))
    assert attempt.offer.pool.instance_type == "g4dn.xlarge"


def test_without_a_budget_every_step_is_a_whole_one() -> None:
    (attempt,) = launched(a_snapshot(jobs=[a_job(budget=None)]))
    assert attempt.first_paid_s == 1800


def test_on_demand_is_what_the_job_asks_for() -> None:
    spec = a_spec(market=Market.ON_DEMAND)
    offers = [an_offer(), an_offer(market=Market.ON_DEMAND, price=ON_DEMAND)]
    (attempt,) = launched(a_snapshot(jobs=[a_job(spec=spec)], offers=offers))
    assert attempt.offer.market is Market.ON_DEMAND


def test_a_launch_reserves_its_disk_its_address_and_the_bytes_it_brings() -> None:
    """50 GB from another region at 0.02 USD each."""
    far = DataSource(source="s3://d/x/", target="x", bytes=50 * 10**9, region="eu-west-1")
    jobs = [a_job(spec=a_spec(data=(far,)))]
    (attempt,) = launched(a_snapshot(jobs=jobs, offers=[an_offer()]))
    assert (attempt.extras_usd_micros_hour, attempt.transfer_usd_micros) == (EXTRAS, 1_000_000)
    seconds = 1800 + 120
    reserved = billed(seconds, (), ON_DEMAND) + billed(seconds, (), EXTRAS) + 1_000_000
    assert exposure(attempt, LIMITS) == reserved


def test_the_cap_that_stops_a_start_is_named_with_its_figures() -> None:
    caps = Caps(owners={"alice": Bound(total_usd_micros=2_000_000)})
    spent = Spent(by_owner={"alice": 1_900_000})
    jobs = [a_job(spec=a_spec(owner="alice"))]
    job = job_of(a_snapshot(jobs=jobs, caps=caps, spent=spent, offers=[an_offer()]))
    assert (job.state, job.pause) == (JobState.PAUSED, Pause.BUDGET)
    assert job.reason == (
        "alice's budget of 2.00 USD has 1.90 USD spent and 0.1000 USD left, and a first step on"
        " us-east-1a/g4dn.xlarge needs 0.1536 USD in reserve"
    )


def test_a_start_before_midnight_may_be_late_and_so_be_paid_for_by_the_next_day() -> None:
    """Ten minutes before midnight in Shanghai: of 1800 s and the slack 1320 are tomorrow's, or 120
    more if EC2 is late."""
    caps = Caps(tz="Asia/Shanghai", each_owner=Bound(day_usd_micros=10_000_000))
    for spare, paid_s in ((0, 1800), (-1, 1799)):
        left = -(-(ON_DEMAND + EXTRAS) * (1320 + 120) // 3600) + 4 + spare
        spent = Spent(by_owner_and_day={("", dt.date(2026, 11, 2)): 10_000_000 - left})
        snapshot = a_snapshot(
            4 * 3600 - 600, jobs=[a_job(budget=None)], offers=[an_offer()], caps=caps, spent=spent
        )
        assert [attempt.first_paid_s for attempt in launched(snapshot)] == [paid_s]


def test_the_next_day_is_asked_though_only_its_lateness_reaches_into_it() -> None:
    """2000 s before midnight: 1800 s, the slack of 120 and 120 of lateness are 40 s too many."""
    caps = Caps(tz="Asia/Shanghai", each_owner=Bound(day_usd_micros=10_000_000))
    spent = Spent(by_owner_and_day={("", dt.date(2026, 11, 2)): 10_000_000})
    snapshot = a_snapshot(
        4 * 3600 - 2000, jobs=[a_job(budget=None)], offers=[an_offer()], caps=caps, spent=spent
    )
    assert [attempt.first_paid_s for attempt in launched(snapshot)] == [1760]


@pytest.mark.parametrize(("after_midnight_s", "starts"), [(0, False), (4, False), (5, True)])
def test_seconds_after_midnight_a_launch_may_still_be_the_day_befores(
    after_midnight_s: int, starts: bool
) -> None:
    """EC2 may date it a little before we wanted it, and yesterday has nothing left."""
    caps = Caps(tz="Asia/Shanghai", each_owner=Bound(day_usd_micros=10_000_000))
    spent = Spent(by_owner_and_day={("", dt.date(2026, 11, 1)): 10_000_000})
    now_s, jobs = 4 * 3600 + after_midnight_s, [a_job(budget=None)]
    found = launched(a_snapshot(now_s, jobs=jobs, caps=caps, spent=spent))
    assert bool(found) is starts


def test_an_unattended_job_starts_with_a_usual_step() -> None:
    """Its agent has proven nothing yet."""
    (attempt,) = launched(a_snapshot(jobs=[a_job(spec=a_spec(unattended_s=4 * 3600))]))
    assert attempt.first_paid_s == 1800


# -- windows and holds -------------------------------------------------------------------------


def in_window(stop: str) -> Job:
    """Open in UTC since 08:00; T0 is noon."""
    window = Window(
        start_min=480, stop_min=clock_min(stop, stop=True), tz="UTC", days=tuple(range(7))
    )
    return a_job(spec=a_spec(window=window))


@pytest.mark.parametrize(
    ("stop", "paid_s"),
    [
        ("14:00", 1800),
        ("12:26", 960 + 300),  # to its end, and the time that a stop takes
        ("08:00", 1800),  # it is always open
    ],
)
def test_a_start_is_paid_for_no_longer_than_its_window(stop: str, paid_s: int) -> None:
    quick = an_attempt(1, AttemptState.ENDED, sent_s=0, first_step_s=300)
    (attempt,) = launched(a_snapshot(600, jobs=[in_window(stop)], attempts=[quick]))
    assert attempt.first_paid_s == paid_s


def test_a_start_that_the_windows_end_would_stop_in_its_boot_is_none() -> None:
    """Two changeovers of 900 s have to fit in."""
    for now_s, starts in ((600, True), (601, False)):
        assert bool(launched(a_snapshot(now_s, jobs=[in_window("12:40")]))) is starts
    job = job_of(a_snapshot(601, jobs=[in_window("12:40")]))
    assert job.reason == "its window closes at 12:40 UTC: too soon for another start"


@pytest.mark.parametrize(("deadline_s", "starts"), [(2400, True), (2401, False), (9000, False)])
def test_a_deadline_in_the_window_is_worth_a_short_start(deadline_s: int, starts: bool) -> None:
    job = in_window("12:40")
    spec = dataclasses.replace(job.spec, deadline_at=at(deadline_s), work_s=60)
    assert bool(launched(a_snapshot(700, jobs=[dataclasses.replace(job, spec=spec)]))) is starts


def test_a_hold_launches_nothing_and_says_until_when() -> None:
    held = a_snapshot(600, held_until=at(3600))
    assert not launched(held)
    assert job_of(held).reason == "nothing is launched until 13:00:00: spotrunner hold"
    assert launched(a_snapshot(3600, held_until=at(3600)))


def test_the_brake_launches_nothing_until_somebody_lets_it_go() -> None:
    braked = a_snapshot(600, brake="pulled by ops on 2026-11-01")
    assert not launched(braked)
    assert job_of(braked).reason == (
        "nothing is launched (pulled by ops on 2026-11-01); to go on: spotrunner hold --off"
    )


@pytest.mark.parametrize("held", [{"held_until": at(9000)}, {"brake": "pulled"}])
def test_a_hold_sends_nothing_again_and_moves_nobody(held: dict[str, Any]) -> None:
    assert not launched(a_snapshot(300, attempts=[pending()], **held))
    spec = a_spec(price_limit=PriceLimit(pause_usd_micros=150_000, after_s=600))
    dear = a_running_snapshot(3000, jobs=[a_job(spec=spec)], quotes=[a_quote(0, SPOT)], **held)
    assert not launched(dear)


# -- launches with an unknown outcome ----------------------------------------------------------


@pytest.mark.parametrize(("now_s", "sent"), [(30, True), (599, True), (600, False), (5000, False)])
def test_an_unconfirmed_launch_is_sent_again_for_ten_minutes(now_s: float, sent: bool) -> None:
    assert bool(launched(a_snapshot(now_s, attempts=[pending()]))) is sent


def test_it_is_sent_with_the_stored_bytes_and_fresh_money() -> None:
    stored = pending(paid_until_s=1800)
    (attempt,) = launched(a_snapshot(300, attempts=[stored]))
    assert attempt.request == stored.request
    assert (attempt.id, attempt.paid_until) == (stored.id, at(2100))


def test_it_is_not_sent_again_when_the_cap_does_not_pay_the_later_start() -> None:
    stored = pending(paid_until_s=1800)
    reserved = exposure(stored, LIMITS)
    more = billed(300, (), ON_DEMAND) + 2
    for spare, sent in ((more, True), (more - 1, False)):
        jobs = [a_job(budget=reserved + spare)]
        assert bool(launched(a_snapshot(300, jobs=jobs, attempts=[stored]))) is sent


def test_a_begun_second_of_the_later_start_is_paid_too() -> None:
    stored = pending(paid_until_s=1800)
    needed = -(-ON_DEMAND * 8 // 3600) + 2
    for spare, sent in ((needed, True), (needed - 1, False)):
        jobs = [a_job(budget=exposure(stored, LIMITS) + spare)]
        assert bool(launched(a_snapshot(7.5, jobs=jobs, attempts=[stored]))) is sent


def test_a_launch_that_is_not_wanted_any_more_is_not_sent_again() -> None:
    unwanted = dataclasses.replace(
        pending(), state=AttemptState.TERMINATING, ending=EndReason.CANCELLED, ending_at=at(20)
    )
    ids = [attempt.id for attempt in launched(a_snapshot(30, attempts=[unwanted]))]
    assert unwanted.id not in ids


def test_what_ec2_confirmed_is_never_sent_again() -> None:
    for state in (AttemptState.REQUESTED, AttemptState.STARTING, AttemptState.RUNNING):
        assert not launched(a_snapshot(30, attempts=[an_attempt(1, state)]))
