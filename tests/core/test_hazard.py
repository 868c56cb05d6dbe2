from __future__ import annotations

import dataclasses
import math

import pytest

from spotrunner.core.hazard import (
    AGES_S,
    MEASURED,
    bucket,
    logit,
    lost_an_hour,
    regained_an_hour,
    run_hours,
)

FLAT = dataclasses.replace(MEASURED, lost_an_hour=(0.5,) * len(AGES_S))


@pytest.mark.parametrize(
    ("age_s", "index"),
    [(-1, 0), (0, 0), (299.9, 0), (300, 1), (3599, 4), (3600, 5), (57_600, 9), (1e9, 9)],
)
def test_the_bucket_of_an_age(age_s: float, index: int) -> None:
    assert bucket(age_s) == index


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 0), (0.0, math.log(2 / 98)), (1.0, math.log(98 / 2))]
)
def test_shares_beyond_what_half_a_day_can_tell_say_no_more(share: float, expected: float) -> None:
    assert logit(share) == pytest.approx(expected)


def test_a_pool_that_was_up_more_is_lost_less_and_comes_back_sooner() -> None:
    assert lost_an_hour(MEASURED, 400, 0.5) == MEASURED.lost_an_hour[1]
    assert lost_an_hour(MEASURED, 400, 0.9) < lost_an_hour(MEASURED, 400, 0.5)
    assert regained_an_hour(MEASURED, 400, 0.9) > regained_an_hour(MEASURED, 400, 0.5)


@pytest.mark.parametrize("age_s", [0, 400, 100_000])
@pytest.mark.parametrize("most_h", [1.0, 12.0])
def test_with_one_hazard_for_all_ages_the_hours_are_those_of_the_book(
    age_s: float, most_h: float
) -> None:
    expected = (1 - math.exp(-0.5 * most_h)) / 0.5
    assert run_hours(FLAT, age_s, 0.5, most_h) == pytest.approx(expected)


def test_older_runs_last_longer() -> None:
    ages = [400, 2000, 4000, 8000, 60_000]
    hours = [run_hours(MEASURED, age_s, 0.5, 12.0) for age_s in ages]
    assert hours == sorted(hours)
    assert 0 < hours[0] < hours[-1] < 12


@pytest.mark.parametrize("rates", [(1.0,), (0.0,) * len(AGES_S)])
def test_hazards_are_positive_and_one_for_each_age(rates: tuple[float, ...]) -> None:
    with pytest.raises(AssertionError):
        dataclasses.replace(MEASURED, lost_an_hour=rates)
