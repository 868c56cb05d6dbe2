"""The synthetic weather has the statistics of the measured one, within tolerances."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import math
import random
import statistics
from collections.abc import Sequence

import pytest

from spotrunner.core.model import Pool
from spotrunner.sim.steps import Steps
from spotrunner.sim.weather import (
    CORRELATION_IN_REGION,
    DAILY_CHANGE_PCT_P50_P90,
    FLOOR_RATIO,
    HAZARD_BY_AGE_H,
    HEARTBEAT_S,
    RATIO_P10_P50_P90,
    ZONES_WORST_TO_BEST,
    Climate,
    capacity,
    spot_prices,
)
from tests.sim.worlds import START

DAYS = 40
END = START + dt.timedelta(days=DAYS)
ON_DEMAND = 3_060_000  # large, so that EC2's rounding to 0.0001 USD does not blur the statistics


def climates(family: str, regions: int, quality: float = 0.5) -> list[Climate]:
    return [
        Climate(
            pool=Pool(region=f"r{n}", zone=f"r{n}{zone}", instance_type=f"{family}.xlarge"),
            on_demand_usd_micros=ON_DEMAND,
            quality=quality,
        )
        for n in range(regions)
        for zone in "abc"
    ]


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(share * len(values))]


def by_day(steps: Steps[int]) -> list[float]:
    return [steps.at(START + dt.timedelta(days=n)) / ON_DEMAND for n in range(DAYS)]


def changes_pct(days: Sequence[float], apart: int) -> list[float]:
    return [abs(b / a - 1) * 100 for a, b in zip(days, days[apart:], strict=False)]


# -- prices ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", sorted(RATIO_P10_P50_P90))
def test_prices_against_on_demand_are_distributed_as_measured(family: str) -> None:
    prices = spot_prices(random.Random(3), climates(family, 80), START, END)
    ratios = [ratio for steps in prices.values() for ratio in by_day(steps)]
    for share, measured in zip((0.1, 0.5, 0.9), RATIO_P10_P50_P90[family], strict=True):
        assert quantile(ratios, share) == pytest.approx(measured, rel=0.2)
    assert min(ratios) >= FLOOR_RATIO - 0.0001
    assert max(ratios) <= 1


def test_prices_change_from_day_to_day_and_over_weeks_as_measured() -> None:
    prices = spot_prices(random.Random(4), climates("g4dn", 80), START, END)
    days = [by_day(steps) for steps in prices.values()]
    one = [change for series in days for change in changes_pct(series, 1)]
    sixteen = [change for series in days for change in changes_pct(series, 16)]
    median, p90 = DAILY_CHANGE_PCT_P50_P90
    assert quantile(one, 0.5) == pytest.approx(median, rel=0.25)
    assert quantile(one, 0.9) == pytest.approx(p90, rel=0.25)
    assert quantile(sixteen, 0.5) == pytest.approx(6.7, rel=0.3)
    assert quantile(sixteen, 0.9) == pytest.approx(30.1, rel=0.3)


def test_zones_of_a_region_differ_as_much_as_measured() -> None:
    prices = spot_prices(random.Random(5), climates("g5", 80), START, END)
    spreads = []
    for n in range(80):
        now = [steps.at(START) for pool, steps in prices.items() if pool.region == f"r{n}"]
        spreads.append((max(now) / min(now) - 1) * 100)
    # measured: 2 to 194 %
    assert 1 < quantile(spreads, 0.1) < 40
    assert quantile(spreads, 0.95) < 250


def test_every_price_has_a_row_a_day_at_least() -> None:
    prices = spot_prices(random.Random(6), climates("p3", 10), START, END)
    for steps in prices.values():
        times = [at for at, _ in steps.since(START, END)]
        gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
        assert max(gaps) <= HEARTBEAT_S
        assert 1 <= len(times) / DAYS <= 6


# -- capacity ----------------------------------------------------------------------------------


def runs_h(steps: Steps[bool]) -> tuple[list[float], list[float]]:
    """The lengths of whole runs with capacity, and without."""
    edges = list(steps.since(START, END))
    up: list[float] = []
    down: list[float] = []
    for (begin, value), (end, _) in itertools.pairwise(edges):
        (up if value else down).append((end - begin).total_seconds() / 3600)
    return up, down


def sampled(steps: Steps[bool]) -> list[float]:
    return [float(steps.at(START + dt.timedelta(minutes=15 * n))) for n in range(96 * DAYS)]


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    mean_a, mean_b = statistics.fmean(a), statistics.fmean(b)
    both = math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return both / (len(a) * statistics.pstdev(a) * statistics.pstdev(b))


@pytest.mark.parametrize("place", range(0, len(ZONES_WORST_TO_BEST), 2))
def test_a_zone_is_up_as_much_and_as_long_as_the_measured_one_of_its_quality(place: int) -> None:
    share, mean_up_h = ZONES_WORST_TO_BEST[place]
    quality = place / (len(ZONES_WORST_TO_BEST) - 1)
    open_pools = capacity(random.Random(7), climates("p3", 10, quality), START, END)
    shares = [statistics.fmean(sampled(steps)) for steps in open_pools.values()]
    ups = [run for steps in open_pools.values() for run in runs_h(steps)[0]]
    assert statistics.fmean(shares) == pytest.approx(share, abs=0.08)
    assert statistics.fmean(ups) == pytest.approx(mean_up_h, rel=0.25)


def test_zones_of_a_region_dry_up_together_and_regions_do_not() -> None:
    open_pools = capacity(random.Random(8), climates("p3", 8), START, END)
    series = {pool: sampled(steps) for pool, steps in open_pools.items()}
    within: list[float] = []
    across: list[float] = []
    for a, b in itertools.combinations(series, 2):
        (within if a.region == b.region else across).append(correlation(series[a], series[b]))
    low, high = CORRELATION_IN_REGION
    assert low - 0.05 <= statistics.fmean(within) <= high + 0.05
    assert abs(statistics.fmean(across)) < 0.1


def test_capacity_that_has_been_there_longer_is_lost_less_often() -> None:
    """The hazards were measured over all nine zones together, so they are compared so."""
    best = len(ZONES_WORST_TO_BEST) - 1
    mixed = [
        dataclasses.replace(
            climate, pool=dataclasses.replace(climate.pool, region=f"{place}/{climate.pool.region}")
        )
        for place in range(best + 1)
        for climate in climates("p3", 4, place / best)
    ]
    open_pools = capacity(random.Random(9), mixed, START, END)
    ups = [run for steps in open_pools.values() for run in runs_h(steps)[0]]
    ages = [age for age, _ in HAZARD_BY_AGE_H] + [math.inf]
    for (age, hazard), until in zip(HAZARD_BY_AGE_H, ages[1:], strict=True):
        exposed = math.fsum(max(0.0, min(run, until) - age) for run in ups)
        lost = sum(age <= run < until for run in ups)
        assert hazard / 1.8 < lost / exposed < hazard * 1.8, f"at {age} h"


def test_a_day_has_good_and_bad_hours() -> None:
    open_pools = capacity(random.Random(10), climates("p3", 20), START, END)
    hours: list[list[float]] = [[] for _ in range(24)]
    for steps in open_pools.values():
        for n in range(24 * DAYS):
            when = START + dt.timedelta(hours=n)
            hours[when.hour].append(float(steps.at(when)))
    shares = [statistics.fmean(values) for values in hours]
    assert 0.08 < max(shares) - min(shares) < 0.35  # measured: 0.52 to 0.75


def test_the_same_seed_gives_the_same_weather() -> None:
    def rows(seed: int) -> list[object]:
        dice = random.Random(seed)
        pools = climates("g5", 2)
        prices = spot_prices(dice, pools, START, END)
        opened = capacity(dice, pools, START, END)
        return [
            *(list(steps.since(START, END)) for steps in prices.values()),
            *(list(steps.since(START, END)) for steps in opened.values()),
        ]

    assert rows(1) == rows(1)
    assert rows(1) != rows(2)
