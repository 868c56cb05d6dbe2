from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from spotrunner.core.model import (
    Attempt,
    EndReason,
    Order,
    Phase,
    Snapshot,
    TakeOver,
    Verb,
)
from spotrunner.core.orders import orders
from spotrunner.core.states import AttemptState
from tests.build import (
    JOB,
    a_job,
    a_notice,
    a_report,
    a_running_snapshot,
    a_snapshot,
    after,
    an_attempt,
    an_order,
    at,
    pending,
)

OLD, NEW = f"{JOB}.1", f"{JOB}.2"


def ordered(snapshot: Snapshot, attempt: str = OLD) -> Order:
    """What the attempt's record says its agent should find."""
    order = after(orders, snapshot).attempts[attempt].order
    assert order is not None
    return order


def posted(snapshot: Snapshot) -> list[str]:
    return [act.order.box for act in after(orders, snapshot).plan().orders]


# -- numbers -----------------------------------------------------------------------------------


def test_a_launch_has_its_order_before_it_is_sent() -> None:
    snapshot = a_snapshot(attempts=[pending()])
    assert posted(snapshot) == [OLD]
    order = ordered(snapshot)
    assert (order.epoch, order.n, order.verb) == (1, 1, Verb.RUN)
    assert (order.generation, order.paid_until) == (1, at(1800))


def test_the_ended_get_no_orders() -> None:
    assert not posted(a_snapshot(attempts=[an_attempt(1, AttemptState.ENDED)]))


def test_what_says_nothing_new_is_not_posted_again() -> None:
    attempt = an_attempt()
    attempt = dataclasses.replace(attempt, order=an_order(attempt, n=4), order_posted_n=4)
    snapshot = a_running_snapshot(attempt=attempt)
    assert not posted(snapshot)
    assert ordered(snapshot).n == 4


def test_what_was_not_posted_is_posted_until_it_is() -> None:
    attempt = an_attempt()
    attempt = dataclasses.replace(attempt, order=an_order(attempt, n=4), order_posted_n=3)
    assert posted(a_running_snapshot(attempt=attempt)) == [OLD]
    assert ordered(a_running_snapshot(attempt=attempt)).n == 4


def test_each_change_raises_the_number() -> None:
    attempt = an_attempt(paid_until_s=2700)
    attempt = dataclasses.replace(attempt, order=an_order(an_attempt(), n=4), order_posted_n=4)
    order = ordered(a_running_snapshot(attempt=attempt))
    assert (order.n, order.paid_until) == (5, at(2700))


def test_a_new_epoch_orders_everything_anew() -> None:
    attempt = an_attempt()
    attempt = dataclasses.replace(attempt, order=an_order(attempt, n=4), order_posted_n=4)
    order = ordered(a_running_snapshot(attempt=attempt, epoch=2))
    assert (order.epoch, order.n) == (2, 5)


def test_payments_go_first_and_of_these_the_most_urgent() -> None:
    stopping = an_attempt(1, AttemptState.TERMINATING, ending=EndReason.DONE, ending_s=1)
    late, soon = an_attempt(2, paid_until_s=3000), an_attempt(3, paid_until_s=1000)
    assert posted(a_snapshot(attempts=[stopping, late, soon])) == [soon.id, late.id, stopping.id]


# -- what an order says ------------------------------------------------------------------------


def test_stop_says_why() -> None:
    attempt = an_attempt(1, AttemptState.TERMINATING, ending=EndReason.CANCELLED, ending_s=1)
    order = ordered(a_snapshot(attempts=[attempt]))
    assert (order.verb, order.why) == (Verb.STOP, "cancelled")


@pytest.mark.parametrize("state", list(AttemptState))
def test_stop_is_for_the_unwanted_only(state: AttemptState) -> None:
    if state.live:
        attempt = an_attempt(1, state, ending_s=1)
        stops = ordered(a_snapshot(attempts=[attempt])).verb is Verb.STOP
        assert stops is (state is AttemptState.TERMINATING)


def test_a_checkpoint_that_the_user_asked_for() -> None:
    assert ordered(a_running_snapshot(jobs=[a_job(checkpoints_asked=3)])).checkpoints_asked == 3


@pytest.mark.parametrize(("until_s", "watched"), [(601, True), (600, False)])
def test_somebody_watches(until_s: float, watched: bool) -> None:
    jobs = [a_job(watched_until=at(until_s))]
    assert ordered(a_running_snapshot(jobs=jobs)).watched is watched


# -- the replacement is ready ------------------------------------------------------------------


def a_pair(old: Attempt, new: Attempt | None = None, **changes: Any) -> Snapshot:
    new = new or an_attempt(2, AttemptState.STARTING, replaces=old.id, first_step_s=None)
    return a_snapshot(attempts=[old, new], **changes)


def interrupted(**changes: Any) -> Attempt:
    return an_attempt(1, AttemptState.INTERRUPTED, notice=a_notice(700), **changes)


@pytest.mark.parametrize("phase", list(Phase))
def test_the_old_one_hands_over_when_the_replacement_says_ready(phase: Phase) -> None:
    snapshot = a_pair(interrupted(), reports=[a_report(NEW, phase=phase)])
    assert ordered(snapshot).replacement_ready is (phase is Phase.READY)


def test_nobody_hands_over_to_one_that_cannot_be_counted_on() -> None:
    ready = [a_report(NEW, phase=Phase.READY)]
    for state in (AttemptState.INTERRUPTED, AttemptState.TERMINATING):
        new = an_attempt(2, state, replaces=OLD, notice=a_notice(700), ending_s=1)
        assert not ordered(a_pair(interrupted(), new, reports=ready)).replacement_ready
    silent = [a_report(NEW, 200, Phase.READY)]
    assert not ordered(a_pair(interrupted(), reports=silent)).replacement_ready


def test_any_of_two_replacements_will_do() -> None:
    slow = an_attempt(2, AttemptState.STARTING, replaces=OLD)
    quick = an_attempt(3, AttemptState.STARTING, replaces=OLD)
    reports = [a_report(slow.id, phase=Phase.FETCH), a_report(quick.id, phase=Phase.READY)]
    snapshot = a_snapshot(attempts=[interrupted(), slow, quick], reports=reports)
    assert ordered(snapshot).replacement_ready


def test_somebody_elses_replacement_is_not_ours() -> None:
    other = an_attempt(2, AttemptState.STARTING, replaces=f"{JOB}.0")
    snapshot = a_pair(interrupted(), other, reports=[a_report(NEW, phase=Phase.READY)])
    assert not ordered(snapshot).replacement_ready


# -- when HEAD may be taken over ---------------------------------------------------------------


def take_over(old: Attempt, **changes: Any) -> TakeOver | None:
    return ordered(a_pair(old, **changes), NEW).take_over


def test_who_replaces_nobody_waits_for_nobody() -> None:
    assert ordered(a_running_snapshot()).take_over is None


def test_from_an_interrupted_one_when_its_time_is_over() -> None:
    trains = [a_report(OLD)]
    assert take_over(interrupted(), reports=trains) == TakeOver(attempt=OLD, by=at(715))


def test_from_the_dead_at_once() -> None:
    dead = an_attempt(1, AttemptState.ENDED)
    assert take_over(dead) == TakeOver(attempt=OLD, now=True)


def test_from_the_silent_at_once() -> None:
    silent = [a_report(OLD, 299)]
    assert take_over(an_attempt(), reports=silent) == TakeOver(attempt=OLD, now=True)


@pytest.mark.parametrize("phase", list(Phase))
def test_from_the_spent_at_once_and_from_nobody_else(phase: Phase) -> None:
    spent = phase.value in ("idle", "failed", "fault", "stopped", "unpaid", "fenced")
    found = take_over(interrupted(), reports=[a_report(OLD, phase=phase)])
    assert found is not None
    assert found.now is spent


def test_from_one_that_never_spoke_at_once() -> None:
    lost = pending(ending_s=1, ending=EndReason.LOST)
    lost = dataclasses.replace(lost, state=AttemptState.TERMINATING)
    assert take_over(lost) == TakeOver(attempt=OLD, now=True)


def test_from_one_whose_report_cannot_be_read_only_when_its_time_is_over() -> None:
    """A daemon that has just started, in an outage of the mail, knows no reports at all."""
    assert take_over(interrupted(), mail_s=0) == TakeOver(attempt=OLD, by=at(715))
    stopping = an_attempt(1, AttemptState.TERMINATING, ending=EndReason.BUDGET, ending_s=590)
    assert take_over(stopping, mail_s=0) == TakeOver(attempt=OLD, by=at(890))


def test_from_one_that_was_told_to_stop_when_its_grace_is_over() -> None:
    stopping = an_attempt(1, AttemptState.TERMINATING, ending=EndReason.BUDGET, ending_s=590)
    reports = [a_report(OLD, phase=Phase.HANDOVER)]
    assert take_over(stopping, reports=reports) == TakeOver(attempt=OLD, by=at(890))


def test_what_was_allowed_once_stays_allowed() -> None:
    """The replacement may have acted on it."""
    allowed = TakeOver(attempt=OLD, now=True)
    new = an_attempt(2, AttemptState.STARTING, replaces=OLD)
    new = dataclasses.replace(new, order=an_order(new, take_over=allowed))
    snapshot = a_pair(an_attempt(), new, reports=[a_report(OLD)])
    assert ordered(snapshot, NEW).take_over == allowed


def test_a_time_that_was_named_is_not_put_off() -> None:
    named = TakeOver(attempt=OLD, by=at(715))
    new = an_attempt(2, AttemptState.STARTING, replaces=OLD)
    new = dataclasses.replace(new, order=an_order(new, take_over=named))
    later = an_attempt(1, AttemptState.TERMINATING, notice=a_notice(900), ending_s=590)
    snapshot = a_pair(later, new, reports=[a_report(OLD)])
    assert ordered(snapshot, NEW).take_over == named
