from __future__ import annotations

import pytest

from spotrunner.core.policy import NEVER
from spotrunner.core.policy.greedy import Greedy
from spotrunner.core.situation import Candidate, Situation
from tests.core.situations import (
    CHANGEOVER_S,
    LOOK_S,
    a_situation,
    no_on_demand,
    on_demand,
    refused,
    spot,
    up,
)

HERE, BASE = spot(sight=up(3600)), on_demand()
A, B = "spot us-east-1a", "spot us-east-1b"
# The safety net counts whole looks: one is gone when it is not whole any more.
NET_S = CHANGEOVER_S + LOOK_S


def where(situation: Situation) -> str:
    take = Greedy().choose(situation).take
    if take is None:
        return "wait"
    return f"{take.offer.market.value} {take.offer.pool.zone}" if take.is_spot else "on-demand"


@pytest.mark.parametrize(
    ("slack_s", "candidates", "on", "pending_s", "taken"),
    [
        (10_000, (spot(), BASE), None, 0, A),
        (10_000, (refused(), BASE), None, 0, "wait"),
        (10_000, (refused(), BASE), BASE, 0, "wait"),
        (10_000, (spot("us-east-1b", 200_000, sight=up(9)), spot(), BASE), None, 0, A),
        # the net under what does not run on spot: two changeovers beyond the work
        (NET_S, (spot(), BASE), None, 0, A),
        (NET_S - 1, (spot(), BASE), None, 0, "on-demand"),
        (NET_S - 1, (spot(), BASE), BASE, 0, "on-demand"),
        # and under what does: one
        (LOOK_S, (HERE, BASE), HERE, 60, A),
        (LOOK_S - 1, (HERE, BASE), HERE, 60, "on-demand"),
        (LOOK_S - 1, (HERE, BASE), HERE, 0, A),
        (0, (HERE, BASE), HERE, 0, A),
    ],
)
def test_spot_until_the_net_catches_it(
    slack_s: float,
    candidates: tuple[Candidate, ...],
    on: Candidate | None,
    pending_s: float,
    taken: str,
) -> None:
    assert where(a_situation(slack_s, *candidates, on=on, pending_s=pending_s)) == taken


def test_it_chooses_by_price_alone() -> None:
    """The published rule knows no hazards, and the candidates come by expected cost."""
    dear_but_lasting = spot("us-east-1b", 200_000, usd_micros_work_hour=1.0)
    assert where(a_situation(10_000, dear_but_lasting, spot(), BASE)) == A
    twice_as_fast = spot("us-east-1b", 300_000, speed=2.0)
    assert where(a_situation(10_000, spot(), twice_as_fast, BASE)) == B


def test_slow_spot_is_left_in_time() -> None:
    slow = spot(speed=0.5, sight=up(3600))
    assert where(a_situation(LOOK_S, slow, BASE, on=slow)) == A
    assert where(a_situation(LOOK_S - 1, slow, BASE, on=slow)) == "on-demand"


def test_without_a_deadline_it_waits_for_ever() -> None:
    assert where(a_situation(None, refused(), BASE)) == "wait"
    assert where(a_situation(None, spot(), BASE)) == A
    assert where(a_situation(0, refused(), BASE, work_s=None, work_left_s=None)) == "wait"
    late = a_situation(0, spot(), BASE, left_s=-1, work_s=None, work_left_s=None)
    assert where(late) == "on-demand"


def test_where_on_demand_is_refused_it_takes_spot() -> None:
    assert where(a_situation(0, spot(), no_on_demand())) == A
    assert where(a_situation(NET_S - 1, spot(), no_on_demand())) == A
    slow = spot(speed=0.5, sight=up(3600))
    assert where(a_situation(30, slow, no_on_demand(), on=slow)) == A


@pytest.mark.parametrize(
    ("situation", "look_s"),
    [
        (a_situation(NET_S + 100, refused(), BASE), 101),
        (a_situation(10_000, HERE, BASE, on=HERE), NEVER),
        (a_situation(LOOK_S + 40, HERE, BASE, on=HERE, pending_s=600), 41),
        (a_situation(None, refused(), BASE), NEVER),
    ],
)
def test_it_says_when_the_answer_may_change(situation: Situation, look_s: float) -> None:
    assert Greedy().choose(situation).look_s == pytest.approx(look_s)


def test_the_look_finds_another_answer() -> None:
    after_s = Greedy().choose(a_situation(NET_S + 100, refused(), BASE)).look_s
    assert where(a_situation(NET_S + 100 - after_s, refused(), BASE)) == "on-demand"
    before = a_situation(NET_S + 100 - after_s + 1, refused(), BASE)
    assert where(before) == "wait"
