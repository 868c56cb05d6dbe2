from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from spotrunner.core.charges import extras_usd_micros_hour
from spotrunner.core.look import ON_DEMAND_ONLY, Outlook, Progress, changeover, look
from spotrunner.core.market import TOO_LONG_ON_DEMAND
from spotrunner.core.model import Attempt, Limits, Market, Offer
from spotrunner.core.policy.on_demand import OnDemand
from spotrunner.core.purse import Balance, Cap, Purse, Scope
from spotrunner.core.sight import Sight
from spotrunner.core.situation import Situation
from spotrunner.core.states import AttemptState
from spotrunner.core.windows import Window
from tests.build import (
    JOB,
    a_job,
    a_pool,
    a_purse,
    a_refusal,
    a_report,
    a_spec,
    an_attempt,
    an_offer,
    at,
)

LIMITS = Limits()
G4, G5 = "g4dn.xlarge", "g5.xlarge"


def on_demand(zone: str = "us-east-1a", kind: str = G4, price: int = 526_000) -> Offer:
    return an_offer(zone, kind, market=Market.ON_DEMAND, price=price, dearest=price)


OFFERS = (
    an_offer(),
    on_demand(),
    an_offer(instance_type=G5, price=300_000, dearest=1_006_000),
    on_demand(kind=G5, price=1_006_000),
)


def seen(
    *,
    now_s: float = 600,
    offers: tuple[Offer, ...] = OFFERS,
    attempts: tuple[Attempt, ...] = (),
    on: Attempt | None = None,
    step: int = 0,
    reports: Any = (),
    left: int | None = None,
    outlook: dict[str, Any] | None = None,
    **spec: Any,
) -> Situation:
    job = a_job(spec=a_spec(**{"instance_types": (G4, G5), **spec}))
    progress = Progress(
        attempts=attempts,
        reports={it.attempt: it for it in reports},
        step=step,
        purse=a_purse(left),
    )
    market = Outlook(now=at(now_s), limits=LIMITS, offers=offers, **(outlook or {}))
    return look(job, progress, market, on)


# -- time --------------------------------------------------------------------------------------


def test_without_a_deadline_the_slack_is_endless() -> None:
    situation = seen(work_s=3600)
    assert situation.left_s is None
    assert situation.slack_s == float("inf")
    assert situation.elapsed_s == 600


def test_slack_is_what_is_left_less_the_work_less_a_changeover() -> None:
    situation = seen(work_s=3600, deadline_at=at(600 + 7200), instance_types=(G4,))
    assert situation.slack_s == 7200 - 3600 - LIMITS.changeover_s


@pytest.mark.parametrize(
    ("first_steps", "seconds"),
    [((), 900), ((121,), 120), ((121, 301), 300), ((901, 61, 61, 61, 61, 61), 60)],
)
def test_the_changeover_is_the_longest_of_the_last_five(
    first_steps: tuple[float, ...], seconds: float
) -> None:
    attempts = [an_attempt(n, first_step_s=s) for n, s in enumerate(first_steps, 1)]
    assert changeover(attempts, LIMITS, at(10**4)) == seconds


def test_an_attempt_that_never_stepped_measures_nothing() -> None:
    failed = an_attempt(1, AttemptState.ENDED, first_step_s=None)
    assert changeover([failed], LIMITS, at(10**4)) == LIMITS.changeover_s


@pytest.mark.parametrize("state", ["pending", "requested", "starting"])
def test_a_start_takes_at_least_as_long_as_it_has_taken(state: str) -> None:
    slow = an_attempt(2, AttemptState(state), sent_s=1000)
    known = an_attempt(1, first_step_s=121)
    assert changeover([known, slow], LIMITS, at(1060)) == 120
    assert changeover([known, slow], LIMITS, at(2000)) == 1000


def test_what_is_pending_of_a_start_is_the_rest_of_its_changeover() -> None:
    starting = an_attempt(1, AttemptState.STARTING, sent_s=500)
    assert seen(attempts=(starting,), on=starting).pending_s == LIMITS.changeover_s - 100
    # overdue: no step until the next look, as far as anybody would bet
    assert seen(now_s=5000, attempts=(starting,), on=starting).pending_s == LIMITS.look_s
    assert seen(attempts=(an_attempt(),), on=an_attempt()).pending_s == 0


# -- work --------------------------------------------------------------------------------------


def test_nobody_knows_the_work_of_a_job_that_says_nothing() -> None:
    situation = seen()
    assert (situation.work_s, situation.work_left_s) == (None, None)


def test_the_users_estimate_is_for_the_first_type() -> None:
    """The fallback is g4dn on-demand, the cheapest work: .526 at speed 320 beats 1.006 at 600."""
    assert seen(work_s=3600).work_s == 3600
    assert seen(work_s=3600, instance_types=(G5, G4)).work_s == pytest.approx(3600 * 600 / 320)


def test_measured_progress_is_believed_before_the_estimate() -> None:
    report = a_report(steps_per_s=10.0, total_steps=36_000, step=20_000)
    situation = seen(
        work_s=99, attempts=(an_attempt(),), reports=(report,), step=18_000, instance_types=(G4,)
    )
    # what lies after HEAD's step may still be lost
    assert (situation.work_s, situation.work_left_s) == (3600, 1800)


def test_it_is_remembered_when_the_attempt_is_over() -> None:
    over = an_attempt(1, AttemptState.ENDED, steps_per_s=10.0, total_steps=36_000)
    assert seen(attempts=(over,), step=18_000, instance_types=(G4,)).work_left_s == 1800


def test_a_trainer_without_a_total_is_measured_against_the_estimate() -> None:
    report = a_report(steps_per_s=10.0)
    situation = seen(
        work_s=3600, attempts=(an_attempt(),), reports=(report,), step=6000, instance_types=(G4,)
    )
    assert situation.work_left_s == 3600 - 600


# -- the fallback ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deadline_s", "speed_of_g5"),
    [
        (7200 + 901, 600 / 320),  # g4dn is in time: the cheaper work
        (7200 + 899, 1.0),  # only g5 is
        (60, 1.0),  # nothing is: the fastest
    ],
)
def test_work_counts_in_seconds_of_the_type_that_meets_the_deadline(
    deadline_s: float, speed_of_g5: float
) -> None:
    situation = seen(work_s=7200, deadline_at=at(600 + deadline_s))
    speeds = {it.offer.pool.instance_type: it.speed for it in situation.candidates}
    assert speeds[G5] == pytest.approx(speed_of_g5)


def test_where_it_runs_on_demand_already_no_changeover_is_due() -> None:
    running = an_attempt(offer=on_demand())
    situation = seen(work_s=7200, deadline_at=at(600 + 7200 + 10), attempts=(running,), on=running)
    assert {it.offer.pool.instance_type: it.speed for it in situation.candidates}[G4] == 1.0


def test_on_demand_that_is_refused_now_is_not_rested_on() -> None:
    refused = a_refusal(market=Market.ON_DEMAND, at_s=590)
    situation = seen(work_s=7200, outlook={"refusals": (refused,)})
    assert {it.offer.pool.instance_type: it.speed for it in situation.candidates}[G5] == 1.0


# -- candidates --------------------------------------------------------------------------------


def test_they_are_ranked_by_expected_work_and_not_by_price() -> None:
    """g5 costs twice as much and does 1.9 times the work, in a pool that stays."""
    old = Sight(up=None, was_up=True, age_s=10**6, share=0.95)
    young = Sight(up=None, was_up=True, age_s=300, share=0.1)
    sights = {a_pool(instance_type=G5): old, a_pool(): young}
    first = seen(outlook={"sights": sights}).candidates[0]
    assert first.offer.pool.instance_type == G5
    assert first.sight == old


def test_of_equals_the_better_placement_score_comes_first() -> None:
    offers = (an_offer("us-east-1a"), an_offer("us-east-1b"))
    scores = {a_pool("us-east-1b"): 9, a_pool("us-east-1a"): 3}
    found = seen(offers=offers, outlook={"scores": scores}).candidates
    assert [it.score for it in found] == [9, 3]


def test_the_place_where_it_runs_is_there_whatever_keeps_others_out() -> None:
    running = an_attempt(offer=dataclasses.replace(an_offer(), price_usd_micros_hour=150_000))
    refused = (a_refusal(at_s=590),)
    situation = seen(attempts=(running,), on=running, outlook={"refusals": refused})
    assert situation.on is not None
    assert situation.on.left_out is None
    assert situation.on.sight.up is True
    assert situation.on.offer.price_usd_micros_hour == 160_000  # today's
    assert situation.is_on_spot


def test_a_place_that_is_not_offered_any_more_is_still_where_it_runs() -> None:
    running = an_attempt(offer=an_offer("us-east-1f"))
    situation = seen(attempts=(running,), on=running)
    assert situation.on is not None
    assert situation.on.offer == running.offer


def test_what_the_budget_does_not_pay_is_left_out() -> None:
    assert {it.left_out for it in seen(left=0).candidates} == {
        "the budget does not pay a first step of it"
    }


def test_the_reports_of_other_jobs_say_nothing() -> None:
    other = a_report("other-0000.1", steps_per_s=10.0, total_steps=10)
    assert seen(attempts=(an_attempt(),), reports=(other,)).work_s is None
    assert JOB != "other-0000"


# -- on-demand under a cap ---------------------------------------------------------------------

HOUR = 3600
# One hour of on-demand with its disk and address, and its bytes of rounding.
NEED = 526_000 + extras_usd_micros_hour("us-east-1", 100)


def left_out(**changes: Any) -> str | None:
    """Why on-demand cannot be taken by a job with an hour of work and a deadline."""
    fields: dict[str, Any] = {"work_s": HOUR, "deadline_at": at(9 * HOUR), "policy": "deadline"}
    situation = seen(instance_types=(G4,), **{**fields, **changes})
    return next(each.left_out for each in situation.candidates if not each.is_spot)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"left": NEED}, None),
        ({"left": NEED - 1}, TOO_LONG_ON_DEMAND),
        ({"left": None}, None),
        # without a deadline it is nobody's way out
        ({"left": NEED - 1, "deadline_at": None, "policy": "cheapest"}, None),
        # whoever wants nothing else has no other place
        ({"left": NEED - 1, "policy": ON_DEMAND_ONLY}, None),
        ({"left": NEED - 1, "market": Market.ON_DEMAND}, None),
        # there already, the next steps are reserved
        ({"left": NEED - 1, "on": an_attempt(offer=on_demand())}, None),
    ],
)
def test_on_demand_that_the_cap_does_not_pay_to_the_end_is_left_out(
    changes: dict[str, Any], why: str | None
) -> None:
    assert left_out(**changes) == why


def test_what_a_days_cap_does_not_pay_the_next_day_does() -> None:
    today = Cap(
        scope=Scope.INSTALLATION,
        name="",
        usd_micros=NEED // 2,
        day=at(0).date(),
        begin=at(-HOUR),
        end=at(HOUR * 12),
    )
    balance = Balance(cap=today, accrued_usd_micros=0, reserved_usd_micros=0)
    spec = a_spec(instance_types=(G4,), work_s=HOUR, deadline_at=at(30 * HOUR), policy="deadline")
    progress = Progress(purse=Purse(balances=(balance,)))
    market = Outlook(now=at(0), limits=LIMITS, offers=OFFERS)
    situation = look(a_job(spec=spec), progress, market)
    assert [each.left_out for each in situation.candidates if not each.is_spot] == [None]


def test_the_policy_that_takes_nothing_else_is_named_so() -> None:
    assert OnDemand.name == ON_DEMAND_ONLY


@pytest.mark.parametrize(
    ("deadline_h", "left_h", "starts"),
    [
        (6, 6, 0),  # tonight: open from noon to 20:00 in UTC, and T0 is noon
        (20, 8, 0),  # before it opens again
        (25, 9, 1),
        (49, 17, 2),
    ],
)
def test_each_later_night_begins_with_a_start(deadline_h: int, left_h: int, starts: int) -> None:
    window = Window(start_min=12 * 60, stop_min=20 * 60, tz="UTC", days=tuple(range(7)))
    situation = seen(now_s=0, deadline_at=at(deadline_h * HOUR), work_s=HOUR, window=window)
    assert situation.left_s == left_h * HOUR - starts * LIMITS.changeover_s


def test_an_endless_window_has_no_later_nights() -> None:
    window = Window(start_min=0, stop_min=1440, tz="UTC", days=tuple(range(7)))
    situation = seen(now_s=0, deadline_at=at(99 * HOUR), work_s=HOUR, window=window)
    assert situation.left_s == 99 * HOUR
