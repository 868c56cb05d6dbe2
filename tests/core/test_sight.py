from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from spotrunner.core.model import Attempt, EndReason, Market, Refused
from spotrunner.core.sight import (
    PRIOR_SHARE,
    UNSEEN,
    UNSEEN_AGE_S,
    Sight,
    Track,
    sights,
    spells,
    together,
)
from spotrunner.core.states import AttemptState
from tests.build import a_notice, a_pool, a_refusal, an_attempt, an_offer, at

HOUR = 3600.0
POOL = a_pool()


def ended(generation: int, launched_s: float, ended_s: float, **changes: Any) -> Attempt:
    return an_attempt(
        generation,
        AttemptState.ENDED,
        launched_s=launched_s,
        ended_at=at(ended_s),
        **{"end_reason": EndReason.DONE, **changes},
    )


def seen(attempts: list[Attempt], refusals: list[Any] | None = None, now_s: float = HOUR) -> Sight:
    return sights(attempts, refusals or [], at(now_s), 600)[POOL]


# -- what a pool shows -------------------------------------------------------------------------


def test_where_ours_runs_the_pool_is_up_since_the_launch() -> None:
    sight = seen([an_attempt(launched_s=0)])
    assert (sight.up, sight.was_up, sight.age_s) == (True, True, HOUR)
    assert sight.share > PRIOR_SHARE


def test_what_was_never_seen_has_no_sight() -> None:
    assert sights([], [], at(0), 600) == {}


@pytest.mark.parametrize(("now_s", "up"), [(599, False), (601, None)])
def test_a_refusal_counts_as_seen_now_while_it_is_fresh(now_s: float, up: bool | None) -> None:
    sight = seen([], [a_refusal()], now_s)
    assert (sight.up, sight.was_up, sight.age_s) == (up, False, UNSEEN_AGE_S + now_s)


def test_a_pool_that_refused_a_while_ago_came_back_about_half_way() -> None:
    attempts = [ended(1, 0, 100)]
    sight = seen(attempts, [a_refusal(at_s=100)], HOUR + 100)
    assert (sight.age_s, sight.run_age_s) == (HOUR, HOUR / 2)


def test_an_interruption_ends_the_run() -> None:
    taken = ended(1, 0, 1800, end_reason=EndReason.INTERRUPTED)
    assert (seen([taken]).was_up, seen([taken]).age_s) == (False, 1800)
    assert seen([taken], now_s=1900).up is False


def test_a_notice_ends_it_when_it_was_seen() -> None:
    noticed = an_attempt(1, AttemptState.INTERRUPTED, launched_s=0, notice=a_notice(1920))
    sight = seen([noticed], now_s=1860)
    assert (sight.up, sight.was_up, sight.age_s) == (False, False, 60)


def test_what_we_left_ourselves_is_still_up_as_far_as_we_know() -> None:
    sight = seen([ended(1, 0, 1800)])
    assert (sight.up, sight.was_up, sight.age_s) == (None, True, HOUR)


def test_two_of_ours_show_the_same_time_once() -> None:
    one = seen([an_attempt(1, launched_s=0)])
    assert seen([an_attempt(1, launched_s=0), an_attempt(2, launched_s=0)]) == one


def test_on_demand_and_other_refusals_say_nothing_of_spot() -> None:
    on_demand = dataclasses.replace(an_offer(), market=Market.ON_DEMAND)
    attempts = [an_attempt(offer=on_demand), an_attempt(2, launched_s=None)]
    refusals = [a_refusal(market=Market.ON_DEMAND), a_refusal(meaning=Refused.QUOTA)]
    assert spells(attempts, refusals, at(HOUR)) == {}


def test_what_was_seen_days_ago_is_forgotten() -> None:
    days = 3 * 86_400
    assert seen([ended(1, 0, 100)], [a_refusal()], days) == UNSEEN


def test_a_prior_is_what_an_unseen_pool_starts_from() -> None:
    other = a_pool("eu-west-1a")
    found = sights([], [], at(0), 600, {other: 0.9})
    assert dataclasses.replace(found[other], share=PRIOR_SHARE) == UNSEEN
    assert found[other].share == pytest.approx(0.9)


def test_three_hours_of_our_own_outweigh_a_prior() -> None:
    refusals = [a_refusal(at_s=minutes * 60) for minutes in range(0, 360, 10)]
    high = sights([], refusals, at(6 * HOUR), 600, {POOL: 0.95})[POOL]
    attempts = [an_attempt(launched_s=0)]
    low = sights(attempts, [], at(6 * HOUR), 600, {POOL: 0.1})[POOL]
    assert low.share > 0.6
    assert high.share < 0.5


# -- the memory --------------------------------------------------------------------------------


def test_the_unseen_returns_to_the_prior() -> None:
    track = Track()
    track.see(False)
    track.pass_time(12 * HOUR, False)
    low = track.sight(None).share
    track.pass_time(48 * HOUR, None)
    assert low < 0.2
    assert track.sight(None).share == pytest.approx(PRIOR_SHARE, abs=0.03)


def test_many_short_looks_are_one_long_one() -> None:
    one, many = Track(), Track()
    one.pass_time(6 * HOUR, True)
    for _ in range(3600):
        many.pass_time(6, True)
    assert many.sight(None).share == pytest.approx(one.sight(None).share)


@pytest.mark.parametrize(("first", "then", "age"), [(True, True, 60), (True, False, 0)])
def test_an_age_begins_with_a_change(first: bool, then: bool, age: float) -> None:
    track = Track()
    track.see(not first)
    track.see(first)
    track.pass_time(60, first)
    track.see(then)
    assert track.sight(then).age_s == age


# -- together ----------------------------------------------------------------------------------

UP_1H = Sight(up=True, was_up=True, age_s=HOUR, share=0.5)
UP_2H = Sight(up=True, was_up=True, age_s=2 * HOUR, share=0.6)
DOWN_1H = Sight(up=False, was_up=False, age_s=HOUR, share=0.4)
DOWN_2H = Sight(up=False, was_up=False, age_s=2 * HOUR, share=0.3)


@pytest.mark.parametrize(
    ("each", "up", "age_s", "share"),
    [
        ([], None, UNSEEN_AGE_S, PRIOR_SHARE),
        ([UP_1H, UP_2H, DOWN_1H], True, 2 * HOUR, 0.6),
        ([DOWN_1H, DOWN_2H], False, HOUR, 0.4),
        ([DOWN_2H, UNSEEN], None, UNSEEN_AGE_S, PRIOR_SHARE),
    ],
)
def test_pools_as_one(each: list[Sight], up: bool | None, age_s: float, share: float) -> None:
    sight = together(each)
    assert (sight.up, sight.age_s, sight.share) == (up, age_s, share)
