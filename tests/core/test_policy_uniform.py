from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from spotrunner.core.policy import NEVER
from spotrunner.core.policy.uniform_progress import AHEAD_CHANGEOVERS, UniformProgress
from spotrunner.core.situation import Candidate, Situation
from tests.core.situations import (
    CHANGEOVER_S,
    WORK_S,
    a_situation,
    no_on_demand,
    on_demand,
    refused,
    spot,
    up,
)

HERE, BASE = spot(sight=up(3600)), on_demand()
A = "spot us-east-1a"
# Twice the time that the work takes: the pace is half a second of work a second.
PACE, TIME_S = 0.5, 2 * WORK_S
MARGIN_S = AHEAD_CHANGEOVERS * CHANGEOVER_S * PACE


def halfway(ahead_s: float, *candidates: Candidate, **changes: object) -> Situation:
    """Half of the time is gone, and `ahead_s` more than half of the work is done."""
    base = a_situation(0, *candidates, done_s=WORK_S / 2 + ahead_s)
    return dataclasses.replace(
        base,
        elapsed_s=TIME_S / 2,
        left_s=TIME_S / 2,
        **changes,  # type: ignore[arg-type]
    )


def where(situation: Situation) -> str:
    take = UniformProgress().choose(situation).take
    if take is None:
        return "wait"
    return f"{take.offer.market.value} {take.offer.pool.zone}" if take.is_spot else "on-demand"


@pytest.mark.parametrize(
    ("ahead_s", "candidates", "on", "taken"),
    [
        # spot whenever there is some
        (-1000, (spot(), BASE), None, A),
        (1000, (spot(), BASE), None, A),
        (-1000, (HERE, BASE), HERE, A),
        # without it, the pace decides
        (0, (refused(), BASE), None, "wait"),
        (-1, (refused(), BASE), None, "on-demand"),
        (-1, (refused(), no_on_demand()), None, "wait"),
        # on-demand is left two changeovers ahead, and only for spot
        (MARGIN_S, (spot(), BASE), BASE, "on-demand"),
        (MARGIN_S + 1, (spot(), BASE), BASE, A),
        (MARGIN_S + 1, (refused(), BASE), BASE, "on-demand"),
    ],
)
def test_it_keeps_up_with_its_pace(
    ahead_s: float, candidates: tuple[Candidate, ...], on: Candidate | None, taken: str
) -> None:
    assert where(halfway(ahead_s, *candidates, on=on)) == taken


def test_the_safety_net_is_greedys() -> None:
    assert where(a_situation(CHANGEOVER_S, spot(), BASE)) == "on-demand"
    assert where(a_situation(0, HERE, BASE, on=HERE)) == A


@pytest.mark.parametrize("changes", [{"work_s": None, "work_left_s": None}, {"left_s": None}])
def test_without_a_pace_it_waits_for_spot(changes: dict[str, Any]) -> None:
    assert where(a_situation(0, refused(), BASE, **changes)) == "wait"
    assert where(a_situation(0, spot(), BASE, **changes)) == A


@pytest.mark.parametrize(
    ("situation", "look_s"),
    [
        (halfway(100, refused(), BASE), 201),  # behind its pace, at half a second a second
        (halfway(0, spot(), BASE, on=BASE), 2 * MARGIN_S + 1),  # it gains as much on-demand
        (halfway(0, spot(), BASE, on=BASE, pending_s=50), 2 * (MARGIN_S + 50) + 1),
        (halfway(0, HERE, BASE, on=HERE), NEVER),
        (halfway(MARGIN_S + 1, refused(), BASE, on=BASE), NEVER),
    ],
)
def test_it_says_when_the_answer_may_change(situation: Situation, look_s: float) -> None:
    assert UniformProgress().choose(situation).look_s == pytest.approx(look_s)


def test_words() -> None:
    assert "10 min of work behind" in UniformProgress().choose(halfway(-600, refused(), BASE)).why
    assert "10 min of work ahead" in UniformProgress().choose(halfway(600, refused(), BASE)).why
    assert "until it is 10 min ahead" in UniformProgress().choose(halfway(0, spot(), on=BASE)).why
