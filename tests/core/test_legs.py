"""What the way to the first step was spent on: times by hand, in seconds from T0."""

from __future__ import annotations

from typing import Any

import pytest

from spotrunner.core.legs import Leg, Start, start_of
from spotrunner.core.milestones import NOTHING_REACHED, Milestones
from spotrunner.core.model import Attempt
from spotrunner.core.states import AttemptState
from tests.build import EXTRAS, SPOT, an_attempt, at, at_or_none

WAY: dict[str, Any] = {
    "booted": 31,
    "agent": 36,
    "image": 156,
    "data": 187,
    "head": 188,
    "restored": 200,
}


def milestones(baked: bool = False, **reached: Any) -> Milestones:
    times: dict[str, Any] = {f"{name}_at": at_or_none(s) for name, s in reached.items()}
    return Milestones(**times, baked=baked)


def an_attempt_(first_step_s: float | None = None, **changes: Any) -> Attempt:
    return an_attempt(1, sent_s=1, launched_s=5, first_step_s=first_step_s, **changes)


def told(start: Start | None) -> list[tuple[str, float]]:
    assert start is not None
    return [(spent.leg.value, spent.span_s) for spent in start.legs]


def test_every_leg_of_a_way_that_is_over() -> None:
    attempt = an_attempt_(231, extras_usd_micros_hour=EXTRAS)
    start = start_of(attempt, milestones(**WAY), at(10_000))
    assert told(start) == [
        ("request", 4),
        ("boot", 26),
        ("agent", 5),
        ("image", 120),
        ("data", 31),
        ("wait", 1),
        ("restore", 12),
        ("first step", 31),
    ]
    assert start is not None
    assert start.over
    assert start.span_s == 230 == sum(span for _, span in told(start))
    # charged from the launch on
    assert start.usd_micros == round(226 * (SPOT + EXTRAS) / 3600)


def test_data_may_be_there_before_the_image() -> None:
    way = milestones(**{**WAY, "data": 100, "image": 187})
    legs = told(start_of(an_attempt_(231), way, at(10_000)))
    assert legs[3:5] == [("data", 64), ("image", 87)]


def test_an_image_that_was_baked_in() -> None:
    start = start_of(an_attempt_(75), milestones(baked=True, **{**WAY, "image": 36}), at(80))
    assert start is not None
    assert start.baked
    assert ("image", 0) in told(start)


@pytest.mark.parametrize(
    ("reached", "leg", "span_s"),
    [
        ({}, Leg.BOOT, 195),
        ({"agent": 36}, Leg.IMAGE, 164),
        ({"booted": 31}, Leg.AGENT, 169),
        ({"booted": 31, "agent": 36}, Leg.IMAGE, 164),
        ({"booted": 31, "agent": 36, "data": 60}, Leg.IMAGE, 140),
        ({"booted": 31, "agent": 36, "image": 60}, Leg.DATA, 140),
        ({**WAY, "restored": None, "head": None}, Leg.WAIT, 13),
        ({**WAY, "restored": None}, Leg.RESTORE, 12),
        (WAY, Leg.FIRST_STEP, 0),
    ],
)
def test_the_leg_that_lasts(reached: Any, leg: Leg, span_s: float) -> None:
    start = start_of(an_attempt_(), milestones(**reached), at(200))
    assert start is not None
    assert not start.over
    assert (start.legs[-1].leg, start.legs[-1].span_s) == (leg, span_s)
    assert not start.legs[-1].over
    assert all(spent.over for spent in start.legs[:-1])
    assert start.span_s == 199


def test_an_instance_that_is_still_asked_for() -> None:
    asked = an_attempt(1, AttemptState.PENDING, sent_s=1, launched_s=None, first_step_s=None)
    start = start_of(asked, NOTHING_REACHED, at(11))
    assert told(start) == [("request", 10)]
    assert start is not None
    assert start.usd_micros == 0


def test_one_that_ended_on_its_way_is_as_far_as_it_came() -> None:
    ended = an_attempt_(state=AttemptState.ENDED, ended_at=at(90))
    start = start_of(ended, milestones(agent=36), at(10_000))
    assert told(start) == [("request", 4), ("boot", 31)]
    assert start is not None
    assert not start.over


def test_one_that_was_never_sent_has_no_way() -> None:
    wanted = an_attempt(1, AttemptState.PENDING, sent_s=None, launched_s=None, first_step_s=None)
    assert start_of(wanted, NOTHING_REACHED, at(9)) is None


def test_ec2_dates_a_launch_by_its_own_clock() -> None:
    early = an_attempt(1, sent_s=10, launched_s=9, first_step_s=40)
    start = start_of(early, milestones(agent=30), at(50))
    assert told(start) == [("request", 0), ("boot", 20), ("first step", 10)]
