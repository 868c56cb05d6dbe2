from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from spotrunner.core.policy import NEVER, Choice
from spotrunner.core.policy.deadline import MOVE_GAIN, WAIT_SHARE, Deadline
from spotrunner.core.policy.guard import burnt_s
from spotrunner.core.situation import Candidate, Situation
from tests.core.situations import (
    CHANGEOVER_S,
    LOOK_S,
    WORK_S,
    a_situation,
    no_on_demand,
    on_demand,
    refused,
    spot,
    up,
)

ENOUGH_S = CHANGEOVER_S + WAIT_SHARE * WORK_S  # to wait: 5,280 s
HERE, BASE = spot(sight=up(3600)), on_demand()


def choose(situation: Situation) -> Choice:
    return Deadline().choose(situation)


def where(situation: Situation) -> str:
    take = choose(situation).take
    if take is None:
        return "wait"
    assert take == situation.on or take.left_out is None, "what is left out may not be taken"
    return f"{take.offer.market.value} {take.offer.pool.zone}" if take.is_spot else "on-demand"


A, B = "spot us-east-1a", "spot us-east-1b"


# -- the rule ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slack_s", "candidates", "taken"),
    [
        # spot while a failure can be borne, seen or not
        (ENOUGH_S, (spot(), BASE), A),
        (ENOUGH_S, (HERE, BASE), A),
        (ENOUGH_S, (spot(sight=up(0)), BASE), A),
        (CHANGEOVER_S, (spot(), BASE), A),
        (CHANGEOVER_S - 1, (spot(), BASE), "on-demand"),
        # the cheapest work first
        (ENOUGH_S, (spot("us-east-1b"), spot(), BASE), B),
        (ENOUGH_S, (refused(), spot("us-east-1b"), BASE), B),
        # no spot: wait while the slack is enough for the work
        (ENOUGH_S, (refused(), BASE), "wait"),
        (ENOUGH_S - 1, (refused(), BASE), "on-demand"),
        (ENOUGH_S - 1, (refused(), no_on_demand()), "wait"),
    ],
)
def test_from_nowhere(slack_s: float, candidates: tuple[Candidate, ...], taken: str) -> None:
    assert where(a_situation(slack_s, *candidates)) == taken


def test_less_work_left_needs_less_slack_to_wait() -> None:
    slack_s = CHANGEOVER_S + WAIT_SHARE * WORK_S / 2
    assert where(a_situation(slack_s, refused(), BASE)) == "on-demand"
    assert where(a_situation(slack_s, refused(), BASE, done_s=WORK_S / 2)) == "wait"


@pytest.mark.parametrize(
    ("slack_s", "seen", "taken"),
    [
        (CHANGEOVER_S, spot(), A),  # unseen: a refused launch costs nothing
        (CHANGEOVER_S, spot(sight=up(CHANGEOVER_S)), A),
        (CHANGEOVER_S, spot(sight=up(CHANGEOVER_S - 1)), "on-demand"),
        (CHANGEOVER_S - 1, spot(sight=up(CHANGEOVER_S)), "on-demand"),
        (10 * ENOUGH_S, refused(), "on-demand"),  # it works there, and waiting does not
    ],
)
def test_from_on_demand_only_to_spot_that_has_proved_itself(
    slack_s: float, seen: Candidate, taken: str
) -> None:
    assert where(a_situation(slack_s, seen, BASE, on=BASE)) == taken


@pytest.mark.parametrize(
    ("slack_s", "pending_s", "taken"),
    [
        (ENOUGH_S, 0, A),
        (ENOUGH_S, 600, A),
        (0, 0, A),  # it makes progress as fast as time passes, and one changeover is kept
        (LOOK_S, 600, A),
        (LOOK_S - 1, 600, "on-demand"),  # the next look would be too late
        (30, 30, A),
        (29, 30, "on-demand"),
    ],
)
def test_on_spot_it_stays_until_the_deadline_asks(
    slack_s: float, pending_s: float, taken: str
) -> None:
    assert where(a_situation(slack_s, HERE, BASE, on=HERE, pending_s=pending_s)) == taken


@pytest.mark.parametrize(
    ("slack_s", "other", "taken"),
    [
        (ENOUGH_S, spot("us-east-1b", 127_000, sight=up(3600)), B),
        (ENOUGH_S, spot("us-east-1b", 129_000, sight=up(3600)), A),  # a small gain
        (ENOUGH_S, spot("us-east-1b", 127_000), A),  # nobody knows whether it is there
        (2 * CHANGEOVER_S - 1, spot("us-east-1b", 127_000, sight=up(3600)), A),
    ],
)
def test_a_healthy_instance_is_left_only_for_much_cheaper_work(
    slack_s: float, other: Candidate, taken: str
) -> None:
    assert MOVE_GAIN == 0.2
    assert where(a_situation(slack_s, other, HERE, BASE, on=HERE)) == taken


# -- outside the tick model --------------------------------------------------------------------

SLOW = spot(speed=0.5, sight=up(3600))


def test_slow_spot_is_left_in_time() -> None:
    """At half the speed a minute costs half a minute of slack."""
    assert where(a_situation(30, SLOW, BASE, on=SLOW)) == A
    assert where(a_situation(29, SLOW, BASE, on=SLOW)) == "on-demand"


def test_slow_spot_is_entered_only_for_a_while() -> None:
    assert where(a_situation(3 * CHANGEOVER_S, SLOW, BASE)) == A
    assert where(a_situation(3 * CHANGEOVER_S - 1, SLOW, BASE)) == "on-demand"


@pytest.mark.parametrize(
    ("seen", "on", "taken"),
    [
        (spot(price=300_000, speed=0.5), None, "on-demand"),  # 0.60 USD for an hour of work
        (spot(price=300_000, speed=0.5), BASE, "on-demand"),
        (spot(price=260_000, speed=0.5), None, A),
        (dataclasses.replace(refused(), speed=0.1), None, "on-demand"),  # nothing to wait for
    ],
)
def test_spot_that_is_dearer_for_its_work_is_not_taken_and_not_waited_for(
    seen: Candidate, on: Candidate | None, taken: str
) -> None:
    assert where(a_situation(10 * ENOUGH_S, seen, BASE, on=on)) == taken


def test_fast_spot_burns_nothing() -> None:
    fast = spot(speed=2.0, sight=up(3600))
    assert where(a_situation(0, fast, BASE, on=fast)) == A
    assert burnt_s(a_situation(0, fast, BASE, on=fast)) == 0


def test_where_on_demand_is_refused_spot_is_more_than_nothing() -> None:
    none = no_on_demand()
    assert where(a_situation(0, spot(), none)) == A
    assert where(a_situation(0, SLOW, none, on=SLOW)) == A
    assert where(a_situation(0, refused(), none)) == "wait"


def test_on_demand_that_is_too_slow_for_the_deadline_is_not_the_fallback() -> None:
    slow = on_demand(100_000, speed=0.5)
    choice = choose(a_situation(0, refused(), slow, BASE))
    assert choice.take == BASE
    assert choose(a_situation(0, refused(), slow)).take == slow
    assert choose(a_situation(0, refused(), slow, BASE, on=slow)).take == BASE


@pytest.mark.parametrize(
    ("left_s", "work_left_s", "on", "pending_s", "taken"),
    [
        (-1, WORK_S, None, 0, "on-demand"),
        (-1, WORK_S, HERE, 0, "on-demand"),
        (-1, WORK_S, BASE, 0, "on-demand"),
        (-1, CHANGEOVER_S, HERE, 0, A),  # done before on-demand would have begun
        (-1, CHANGEOVER_S, HERE, 1, "on-demand"),
        (1000, 1000, HERE, 0, A),  # nothing but this can be in time
        (1000, 1001, HERE, 0, "on-demand"),
        (-1, None, HERE, 0, "on-demand"),
    ],
)
def test_late_it_goes_where_it_ends_first(
    left_s: float,
    work_left_s: float | None,
    on: Candidate | None,
    pending_s: float,
    taken: str,
) -> None:
    late = dataclasses.replace(
        a_situation(0, HERE, BASE, on=on, pending_s=pending_s),
        left_s=left_s,
        work_left_s=work_left_s,
    )
    assert where(late) == taken


@pytest.mark.parametrize("changes", [{"work_s": None, "work_left_s": None}, {"left_s": None}])
def test_without_an_estimate_or_a_deadline_the_slack_is_endless(changes: dict[str, Any]) -> None:
    assert where(a_situation(0, refused(), BASE, **changes)) == "wait"
    assert where(a_situation(0, spot(), BASE, **changes)) == A
    assert where(a_situation(0, HERE, BASE, on=HERE, **changes)) == A


# -- when to look again ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("situation", "look_s"),
    [
        (a_situation(ENOUGH_S + 100, refused(), BASE), 101),
        (a_situation(ENOUGH_S, HERE, BASE, on=HERE), NEVER),
        (a_situation(ENOUGH_S, SLOW, BASE, on=SLOW), (ENOUGH_S - 30) / 0.5 + 1),
        (a_situation(500, HERE, BASE, on=HERE, pending_s=600), 500 - LOOK_S + 1),
        (a_situation(600, HERE, BASE, on=HERE, pending_s=600), NEVER),
        (a_situation(ENOUGH_S, spot(sight=up(500)), BASE, on=BASE), 101),
        (a_situation(ENOUGH_S, refused(), BASE, on=BASE), NEVER),
        (a_situation(None, refused(), BASE), NEVER),
    ],
)
def test_it_says_when_the_answer_may_change(situation: Situation, look_s: float) -> None:
    assert choose(situation).look_s == pytest.approx(look_s)


def test_a_look_that_is_due_finds_another_answer() -> None:
    waits = a_situation(ENOUGH_S + 100, refused(), BASE)
    after_s = choose(waits).look_s
    later = a_situation(ENOUGH_S + 100 - after_s, refused(), BASE)
    assert where(later) == "on-demand"


# -- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("situation", "words"),
    [
        (a_situation(ENOUGH_S, refused(), BASE), "waits for spot: 88 min of slack, on-demand at"),
        (a_situation(3600, refused(), BASE), "60 min of slack are less than 88 min"),
        (a_situation(7200, spot(), BASE), "spot in us-east-1a at 0.1600 USD/h, with 2 h 0 min"),
        (a_situation(ENOUGH_S, spot(sight=up(0)), BASE, on=BASE), "up for 10 min"),
        (a_situation(100, HERE, BASE, on=BASE), "do not pay for a launch"),
        (a_situation(59, refused(), BASE), "on-demand: only 59 s of slack are left"),
        (a_situation(-180, refused(), BASE), "on-demand: even so it will be 3 min late"),
        (a_situation(0, BASE, left_s=-7200), "the deadline passed 2 h 0 min ago"),
        (a_situation(0, HERE, BASE, on=HERE), "it runs on spot, with 0 s of slack"),
    ],
)
def test_the_reason_has_the_numbers_that_decided(situation: Situation, words: str) -> None:
    assert words in choose(situation).why
