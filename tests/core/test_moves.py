"""A policy wants a training job elsewhere: the new place first, then the handover, then the end."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from spotrunner.core.decide import decide
from spotrunner.core.draft import Draft
from spotrunner.core.model import (
    EndedBy,
    EndReason,
    Instance,
    InstanceState,
    Market,
    Offer,
    Phase,
    Snapshot,
    TakeOver,
)
from spotrunner.core.orders import orders
from spotrunner.core.place import place
from spotrunner.core.plan import Plan
from spotrunner.core.policy import Choice
from spotrunner.core.retire import retire
from spotrunner.core.settle import settle
from spotrunner.core.situation import Situation
from spotrunner.core.states import AttemptState
from spotrunner.core.windows import Window
from tests.build import (
    JOB,
    OFFERS,
    a_head,
    a_job,
    a_notice,
    a_report,
    a_running_snapshot,
    a_spec,
    after,
    an_attempt,
    an_instance,
    an_offer,
    an_order,
    at,
)

OLD, NEW = f"{JOB}.1", f"{JOB}.2"
ELSEWHERE = OFFERS[2]
ON_DEMAND = an_offer(market=Market.ON_DEMAND, price=526_000)


class Wants:
    """A policy with one wish: an offer, or None to wait."""

    name = "wants"
    needs_deadline = False

    def __init__(self, offer: Offer | None) -> None:
        self._offer = offer
        self.told: Situation | None = None

    def choose(self, situation: Situation) -> Choice:
        self.told = situation
        free = [it for it in situation.candidates if it.left_out is None]
        take = next((it for it in free if it.offer == self._offer), None)
        return Choice(take=take, why="it is better there")


def running(**changes: Any) -> Snapshot:
    job = a_job(spec=a_spec(policy="wants", **changes.pop("spec", {})))
    fields: dict[str, Any] = {"jobs": [job], "offers": (*OFFERS, ON_DEMAND)}
    return a_running_snapshot(**{**fields, **changes})


def moved(snapshot: Snapshot, wish: Offer | None = ELSEWHERE) -> Plan:
    draft = Draft(snapshot)
    place(draft, {"wants": Wants(wish)})
    return draft.plan()


# -- the launch --------------------------------------------------------------------------------


def test_the_new_place_is_launched_while_the_old_one_trains() -> None:
    plan = moved(running())
    (launch,) = plan.launches
    assert (launch.attempt.id, launch.attempt.replaces) == (NEW, OLD)
    assert (launch.attempt.offer, launch.why) == (ELSEWHERE, "it is better there")
    assert [event.kind for event in plan.events] == ["placed"]
    assert {attempt.id for attempt in plan.attempts} == {NEW}


def test_where_it_is_already_is_no_move_at_whatever_price() -> None:
    cheaper = dataclasses.replace(OFFERS[0], price_usd_micros_hour=100_000)
    assert not moved(running(offers=(cheaper,)), cheaper).launches


def test_on_demand_in_the_same_zone_is_another_place() -> None:
    (launch,) = moved(running(), ON_DEMAND).launches
    assert launch.attempt.offer == ON_DEMAND


def test_to_want_nothing_stops_it_with_a_checkpoint() -> None:
    (attempt,) = moved(running(), None).attempts
    assert (attempt.state, attempt.ending) == (AttemptState.TERMINATING, EndReason.MOVED)


@pytest.mark.parametrize(
    "why",
    [
        {"attempt": an_attempt(1, AttemptState.STARTING)},
        {"reports": (a_report(at_s=590, phase=Phase.HANDOVER),)},
        {"reports": ()},
        {"head_unread": True},
        {"mail_s": 500},
    ],
)
def test_only_what_trains_and_is_known_moves(why: dict[str, Any]) -> None:
    plan = moved(running(**why))
    assert not plan.launches
    assert not plan.attempts


@pytest.mark.parametrize(("stop_min", "moves"), [(14 * 60, True), (12 * 60 + 12, False)])
def test_nobody_moves_for_the_last_minutes_of_a_window(stop_min: int, moves: bool) -> None:
    """T0 is noon, it is ten past, and a changeover took two minutes: two of them have to fit in."""
    window = Window(start_min=480, stop_min=stop_min, tz="UTC", days=tuple(range(7)))
    night = running(spec={"window": window})
    assert bool(moved(night).launches) is moves
    slow = running(
        spec={"window": window}, attempt=an_attempt(1, AttemptState.STARTING, sent_s=550)
    )
    assert bool(moved(slow, ON_DEMAND).launches) is moves


def test_one_move_at_a_time() -> None:
    attempts = (an_attempt(), an_attempt(2, AttemptState.STARTING, replaces=OLD))
    assert not moved(running(attempts=attempts)).launches


def test_the_policy_is_told_where_the_job_is() -> None:
    policy = Wants(ELSEWHERE)
    place(Draft(running()), {"wants": policy})
    assert policy.told is not None
    assert policy.told.is_on_spot
    assert policy.told.pending_s == 0


def test_a_policy_that_this_version_does_not_have_waits_and_says_so() -> None:
    snapshot = dataclasses.replace(running(), attempts=())
    draft = Draft(snapshot)
    place(draft, {})
    assert "has no policy wants" in draft.jobs[JOB].reason
    assert not moved(running(), OFFERS[0]).launches


def test_the_budget_holds_for_both() -> None:
    """What the old one may still come to is reserved: the new one has the rest."""
    plan = moved(running(spec={"budget_usd_micros": 300_000}))
    assert not plan.launches


# -- a start that is late ----------------------------------------------------------------------


@pytest.mark.parametrize("state", ["pending", "requested", "starting"])
def test_on_demand_starts_beside_spot_that_is_slow_to_start(state: str) -> None:
    slow = an_attempt(1, AttemptState(state), sent_s=590)
    snapshot = running(attempt=slow, reports=())
    launches = {it.attempt.id: it.attempt for it in moved(snapshot, ON_DEMAND).launches}
    assert launches[NEW].offer == ON_DEMAND
    assert launches[NEW].replaces == OLD


def test_nothing_else_is_moved_before_its_first_step() -> None:
    slow = an_attempt(1, AttemptState.STARTING)
    assert not moved(running(attempt=slow, reports=()), ELSEWHERE).launches
    assert not moved(running(attempt=slow, reports=()), None).attempts
    dear = an_attempt(1, AttemptState.STARTING, offer=ON_DEMAND)
    other = an_offer("eu-west-1a", market=Market.ON_DEMAND, price=580_000, dearest=580_000)
    offers = (*OFFERS, ON_DEMAND, other)
    assert not moved(running(attempt=dear, reports=(), offers=offers), other).launches


# -- the handover ------------------------------------------------------------------------------


def both(old: dict[str, Any] | None = None, new: Phase = Phase.FETCH, **changes: Any) -> Snapshot:
    attempts = (
        an_attempt(1, **(old or {})),
        an_attempt(2, AttemptState.STARTING, replaces=OLD, offer=ELSEWHERE, sent_s=400),
    )
    fields: dict[str, Any] = {
        "attempts": attempts,
        "instances": tuple(an_instance(it) for it in attempts),
        "reports": (a_report(OLD), a_report(NEW, phase=new)),
        "head": a_head(),
    }
    return running(**{**fields, **changes})


def take_over(snapshot: Snapshot) -> TakeOver | None:
    order = after(orders, snapshot).attempts[NEW].order
    assert order is not None
    return order.take_over


def test_nobody_takes_head_from_one_that_trains_but_by_its_final_commit() -> None:
    assert take_over(both()) == TakeOver(attempt=OLD)


@pytest.mark.parametrize(("phase", "ready"), [(Phase.FETCH, False), (Phase.READY, True)])
def test_the_old_one_is_told_when_the_new_one_is_ready(phase: Phase, ready: bool) -> None:
    order = after(orders, both(new=phase)).attempts[OLD].order
    assert order is not None
    assert order.replacement_ready is ready


def test_an_interruption_in_the_middle_gives_head_a_time() -> None:
    noticed = {"state": AttemptState.INTERRUPTED, "notice": a_notice(700)}
    before = both()
    order = after(orders, before).attempts[NEW].order
    later = both(old=noticed)
    new = dataclasses.replace(later.attempts[1], order=order)
    later = dataclasses.replace(later, attempts=(later.attempts[0], new))
    assert take_over(later) == TakeOver(attempt=OLD, by=at(715))


def test_a_death_in_the_middle_frees_head() -> None:
    dead = {"state": AttemptState.ENDED}
    assert take_over(both(old=dead)) == TakeOver(attempt=OLD, now=True)


# -- the end -----------------------------------------------------------------------------------


def superseded(phase: Phase, **changes: Any) -> Snapshot:
    reports = (a_report(OLD, phase=phase), a_report(NEW))
    return both(reports=reports, head=a_head(200, attempt=NEW), **changes)


@pytest.mark.parametrize(
    ("phase", "reason"),
    [
        (Phase.IDLE, EndReason.MOVED),
        (Phase.HANDOVER, EndReason.MOVED),
        (Phase.TRAIN, EndReason.SUPERSEDED),
    ],
)
def test_what_handed_over_has_moved(phase: Phase, reason: EndReason) -> None:
    assert after(retire, superseded(phase)).attempts[OLD].ending is reason


def test_one_that_powered_itself_off_before_anybody_saw_it_hand_over_has_moved() -> None:
    old = an_attempt(1)
    off: Instance = an_instance(old, InstanceState.ENDED, ended_s=580, ended_by=EndedBy.ITSELF)
    snapshot = superseded(Phase.IDLE, instances=(off,))
    assert after(settle, snapshot).attempts[OLD].end_reason is EndReason.MOVED


@pytest.mark.parametrize("state", [InstanceState.ENDING, InstanceState.ENDED])
def test_it_is_enough_that_it_was_told(state: InstanceState) -> None:
    """Its last report may never be read."""
    snapshot = both()
    old, new = snapshot.attempts
    told = an_order(old, replacement_ready=True)
    off = an_instance(old, state, ended_s=580, ended_by=EndedBy.ITSELF)
    snapshot = dataclasses.replace(
        snapshot,
        attempts=(dataclasses.replace(old, order=told, order_posted_n=1), new),
        instances={"us-east-1": (off,), "eu-west-1": None},
    )
    ended = after(settle, snapshot).attempts[OLD]
    assert EndReason.MOVED in (ended.ending, ended.end_reason)


def test_one_that_died_of_a_fault_has_not() -> None:
    off = an_instance(an_attempt(1), InstanceState.ENDED, ended_s=580, ended_by=EndedBy.FAULT)
    snapshot = superseded(Phase.IDLE, instances=(off,))
    assert after(settle, snapshot).attempts[OLD].end_reason is EndReason.FAULT


def test_a_stop_for_a_wish_has_the_time_of_a_cancelled_one() -> None:
    stopping = an_attempt(
        1, AttemptState.TERMINATING, ending=EndReason.MOVED, ending_s=400, paid_until_s=1800
    )
    for now_s, ends in ((699, False), (700, True)):
        draft = after(retire, running(now_s=now_s, attempt=stopping))
        assert bool(draft.plan().terminations) is ends


def test_the_whole_round_agrees() -> None:
    plan = decide(running(), {"wants": Wants(ELSEWHERE)})
    (launch,) = plan.launches
    assert launch.attempt.order is not None
    assert launch.attempt.order.take_over == TakeOver(attempt=OLD)
