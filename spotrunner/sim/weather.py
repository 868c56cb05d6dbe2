"""Seeded synthetic weather: spot prices and capacity with the statistics of the real market.

Prices: price-history snapshots of all regions, 2025 to 2026 (a smoothed market: never above
on-demand, slow, a row a day at least). Capacity: probes of p3.2xlarge in nine zones of three
regions every 195 s through 2023. What is measured stands in the constants; what is chosen so that
the result comes out as measured says so. tests/sim/test_weather.py holds the outcome to them.
"""

from __future__ import annotations

import bisect
import datetime as dt
import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from spotrunner.core.model import Pool
from spotrunner.sim.steps import Steps

# -- measured: prices --------------------------------------------------------------------------

FLOOR_RATIO = 0.10  # of on-demand
CAP_RATIO = 1.0
# spot over on-demand by family, 10th, 50th and 90th percentile over zones and time
RATIO_P10_P50_P90: Mapping[str, tuple[float, float, float]] = {
    "p3": (0.10, 0.18, 0.33),
    "g4dn": (0.11, 0.29, 0.43),
    "g5": (0.19, 0.34, 0.48),
    "g6": (0.14, 0.30, 0.44),
    "p4d": (0.22, 0.35, 0.47),
}
OTHER_RATIO = (0.20, 0.32, 0.45)  # chosen: families that nobody measured
DAILY_CHANGE_PCT_P50_P90 = (1.6, 7.8)
HEARTBEAT_S = 86_400

# -- measured: capacity ------------------------------------------------------------------------

# a zone from the worst to the best: share of time with capacity, mean hours up
ZONES_WORST_TO_BEST = (
    (0.167, 0.72),
    (0.447, 1.66),
    (0.467, 1.48),
    (0.591, 2.18),
    (0.682, 4.27),
    (0.759, 5.51),
    (0.883, 5.76),
    (0.891, 6.48),
    (0.905, 9.75),
)
# hazard an hour of losing capacity, by the hours that it has been there: (from, hazard)
HAZARD_BY_AGE_H = (
    (0.0, 1.27),
    (0.25, 1.09),
    (0.5, 0.77),
    (1.0, 0.43),
    (2.0, 0.20),
    (4.0, 0.15),
    (8.0, 0.11),
    (16.0, 0.04),
)
CORRELATION_IN_REGION = (0.39, 0.59)

# -- chosen so that the above comes out --------------------------------------------------------

_SD_A_DAY_MEDIAN = 0.029  # of the log price
_SD_A_DAY_SPREAD = 0.95  # calm pools and wild ones: sigma of the logarithm of their sd
_SD_A_DAY_MOST = 0.15
_STEP_MEAN_H = 8.0
_BACK_TO_LEVEL_DAYS = 45.0
_LEVEL_WIDTH = 0.88  # the walk around the level widens what is measured of both together
_REGION_SHARE = 0.5  # of the variance of the level that zones of a region have in common
_DROUGHT_SHARE = 0.49  # how much of the lack of capacity is the region's: their correlation
_DROUGHT_OVER_DOWN = 2.0  # a region's drought against a zone's mean time down
_RHYTHM = 0.8  # droughts begin this much more and less often through the day
_WEEKEND = 0.4  # ... and on a Saturday or Sunday this much as often
_MEAN_WEEK = (5 + 2 * _WEEKEND) / 7
_BUSY_HOUR_UTC = 18

_HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Climate:
    """What the weather of a pool comes from. `quality` places its zone between the worst (0) and
    the best (1) of the measured ones."""

    pool: Pool
    on_demand_usd_micros: int
    quality: float


# -- prices ------------------------------------------------------------------------------------


def spot_prices(
    dice: random.Random, climates: Sequence[Climate], start: dt.datetime, end: dt.datetime
) -> dict[Pool, Steps[int]]:
    """Micro-dollars an hour, in EC2's steps of 0.0001 USD."""
    regional: dict[tuple[str, str], float] = {}
    prices = {}
    for climate in climates:
        key = (climate.pool.region, climate.pool.instance_type)
        common = regional.setdefault(key, dice.gauss(0, 1))
        own = dice.gauss(0, 1)
        rank = math.sqrt(_REGION_SHARE) * common + math.sqrt(1 - _REGION_SHARE) * own
        level = _ratio(climate.pool.instance_type, rank)
        prices[climate.pool] = Steps(
            (at, _rounded(ratio * climate.on_demand_usd_micros, climate.on_demand_usd_micros))
            for at, ratio in _wander(dice, level, start, end)
        )
    return prices


def _ratio(instance_type: str, rank: float) -> float:
    """The level that has this standard normal rank in the family's distribution: lognormal on
    either side of its median."""
    family = instance_type.split(".")[0]
    low, median, high = RATIO_P10_P50_P90.get(family, OTHER_RATIO)
    p90 = 1.2816
    sigma = math.log(high / median) / p90 if rank > 0 else math.log(median / low) / p90
    return median * math.exp(_LEVEL_WIDTH * sigma * rank)


def _wander(
    dice: random.Random, level: float, start: dt.datetime, end: dt.datetime
) -> Iterator[tuple[dt.datetime, float]]:
    """The ratio's walk around its level, with a row a day at least."""
    spread = math.exp(_SD_A_DAY_SPREAD * dice.gauss(0, 1))
    sd_a_day = min(_SD_A_DAY_MEDIAN * spread, _SD_A_DAY_MOST)
    at, away = start, 0.0
    yield at, _within(level)
    while at < end:
        wait_s = dice.expovariate(1 / (_STEP_MEAN_H * _HOUR_S))
        change_at = at + dt.timedelta(seconds=round(wait_s) + 1)
        while (change_at - at).total_seconds() > HEARTBEAT_S:
            at += dt.timedelta(seconds=HEARTBEAT_S)
            yield at, _within(level * math.exp(away))
        days = wait_s / 86_400
        away *= math.exp(-days / _BACK_TO_LEVEL_DAYS)
        away += sd_a_day * math.sqrt(days) * dice.gauss(0, 1)
        # What the bounds hide is forgotten, or a price would stick to its floor for weeks.
        away = math.log(_within(level * math.exp(away)) / level)
        at = change_at
        yield at, _within(level * math.exp(away))


def _within(ratio: float) -> float:
    return min(max(ratio, FLOOR_RATIO), CAP_RATIO)


def _rounded(usd_micros: float, most: int) -> int:
    return min(max(round(usd_micros / 100), 1) * 100, most)


# -- capacity ----------------------------------------------------------------------------------


def capacity(
    dice: random.Random, climates: Sequence[Climate], start: dt.datetime, end: dt.datetime
) -> dict[Pool, Steps[bool]]:
    """Whether each pool has spot capacity: droughts of its whole region, and its own."""
    by_region: dict[str, list[Climate]] = {}
    for climate in climates:
        by_region.setdefault(climate.pool.region, []).append(climate)
    found: dict[Pool, Steps[bool]] = {}
    for members in by_region.values():
        quality = sum(climate.quality for climate in members) / len(members)
        region = _Drought.of(*_zone(quality))
        wet = list(region.spells(dice, start, end))
        for climate in members:
            found[climate.pool] = Steps(_runs(dice, region, climate.quality, wet, start))
    return {climate.pool: found[climate.pool] for climate in climates}


def _zone(quality: float) -> tuple[float, float]:
    """(share of time up, mean hours up) of a zone between the worst and the best."""
    place = min(max(quality, 0.0), 1.0) * (len(ZONES_WORST_TO_BEST) - 1)
    below = min(int(place), len(ZONES_WORST_TO_BEST) - 2)
    part = place - below
    (share0, up0), (share1, up1) = ZONES_WORST_TO_BEST[below : below + 2]
    return share0 + part * (share1 - share0), up0 + part * (up1 - up0)


@dataclass(frozen=True, kw_only=True)
class _Drought:
    """A region's own process: with capacity or without, whatever its zones do."""

    share_up: float
    begin_an_hour: float
    mean_h: float

    @classmethod
    def of(cls, share: float, up_h: float) -> _Drought:
        """Two zones that are up when their region and they themselves are correlate by
        share/share_up * (1-share_up)/(1-share): solved for share_up."""
        share_up = 1 / (1 + _DROUGHT_SHARE * (1 - share) / share)
        mean_h = _DROUGHT_OVER_DOWN * up_h * (1 - share) / share
        return cls(
            share_up=share_up, begin_an_hour=(1 - share_up) / share_up / mean_h, mean_h=mean_h
        )

    def spells(
        self, dice: random.Random, start: dt.datetime, end: dt.datetime
    ) -> Iterator[tuple[dt.datetime, dt.datetime]]:
        """The times between droughts, as (from, to)."""
        at = start
        if dice.random() > self.share_up:
            at += _hours(dice.expovariate(1 / self.mean_h))
        while at < end:
            until = self._next_begin(dice, at)
            yield at, until
            at = until + _hours(dice.expovariate(1 / self.mean_h))

    def _next_begin(self, dice: random.Random, at: dt.datetime) -> dt.datetime:
        """By thinning: candidates at the highest rate, kept by the rate of their hour."""
        most = (1 + _RHYTHM) / _MEAN_WEEK
        while True:
            at += _hours(dice.expovariate(self.begin_an_hour * most))
            if dice.random() * most < _busy(at):
                return at


def _busy(at: dt.datetime) -> float:
    turn = 2 * math.pi * (at.hour + at.minute / 60 - _BUSY_HOUR_UTC) / 24
    weekend = _WEEKEND if at.weekday() >= 5 else 1.0
    return (1 + _RHYTHM * math.cos(turn)) * weekend / _MEAN_WEEK


def _runs(
    dice: random.Random,
    region: _Drought,
    quality: float,
    wet: Sequence[tuple[dt.datetime, dt.datetime]],
    start: dt.datetime,
) -> list[tuple[dt.datetime, bool]]:
    """The pool's steps: within each time that its region has capacity, runs up and down."""
    share, up_h = _zone(quality)
    share_own = min(share / region.share_up, 0.99)
    factor = _hazard_factor(round(up_h, 3), round(region.begin_an_hour, 4))
    down_h = up_h * (1 - share_own) / share_own
    steps = [(start, False)]
    for begin, end in wet:
        at, up = begin, dice.random() < share_own
        while at < end:
            if steps[-1][1] is not up:
                steps.append((at, up))
            run_h = _age_at_loss(dice, factor) if up else dice.expovariate(1 / down_h)
            at, up = at + _hours(run_h), not up
        if steps[-1][1]:
            steps.append((end, False))
    return steps


def _hours(hours: float) -> dt.timedelta:
    return dt.timedelta(seconds=round(hours * _HOUR_S) + 1)


# -- hazard by age -----------------------------------------------------------------------------

_AGES = tuple(age for age, _ in HAZARD_BY_AGE_H)


def _cumulated() -> tuple[float, ...]:
    total, sums = 0.0, [0.0]
    for (age, hazard), (until, _) in itertools.pairwise(HAZARD_BY_AGE_H):
        total += hazard * (until - age)
        sums.append(total)
    return tuple(sums)


_CUMULATED = _cumulated()


def _age_at_loss(dice: random.Random, factor: float) -> float:
    """Hours: a run's length under the measured hazard times `factor`."""
    wanted = dice.expovariate(1.0) / factor
    bin_ = bisect.bisect_right(_CUMULATED, wanted) - 1
    return _AGES[bin_] + (wanted - _CUMULATED[bin_]) / HAZARD_BY_AGE_H[bin_][1]


def _mean_run_h(factor: float, other_hazard: float) -> float:
    """The mean of a run that ends by its age's hazard times `factor`, or by another, constant."""
    mean, survived = 0.0, 1.0
    for index, (age, hazard) in enumerate(HAZARD_BY_AGE_H):
        rate = hazard * factor + other_hazard
        last = index + 1 == len(HAZARD_BY_AGE_H)
        through = 0.0 if last else math.exp(-rate * (_AGES[index + 1] - age))
        mean += survived * (1 - through) / rate
        survived *= through
    return mean


@lru_cache(maxsize=256)
def _hazard_factor(mean_up_h: float, other_hazard: float) -> float:
    """The factor that gives runs this mean; the mean falls as it rises."""
    low, high = 0.01, 100.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        if _mean_run_h(middle, other_hazard) > mean_up_h:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)
