"""How long spot capacity lasts once it is there, and how long it stays away.

The longer a pool has been up, the longer it will be: the hazard of losing it falls thirty-fold from
the first minutes to the second day, so that the age of the run, and not its price, tells what a
launch is worth. A second thing tells as much: the share of the last half day that it was up.

Figures: a Poisson regression over the availability traces of "Can't Be Late" (NSDI'24; p2 and p3 of
AWS, 2022 and 2023, singles and gangs). Those under five minutes say as much about the interval of
those probes as about EC2: `spotrunner policy fit` makes them anew from our own launches.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from functools import lru_cache

# The buckets of age begin at these seconds; the last one is open.
AGES_S = (0, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 57_600)

# Shares beyond these say no more: a half day holds too little to tell .98 from 1.
_SHARE_RANGE = (0.02, 0.98)
_HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Hazards:
    """Events an hour by bucket of age, for a pool that was up half of the time. They rise and fall
    by exp(weight * logit(share)) with the share of the last half day that it was up."""

    lost_an_hour: tuple[float, ...]  # by the age of the run
    regained_an_hour: tuple[float, ...]  # by the age of the outage
    lost_weight: float
    regained_weight: float

    def __post_init__(self) -> None:
        for rates in (self.lost_an_hour, self.regained_an_hour):
            assert len(rates) == len(AGES_S), f"a rate for each of {len(AGES_S)} ages, not {rates}"
            assert all(rate > 0 for rate in rates), f"a hazard is positive: {rates}"


MEASURED = Hazards(
    lost_an_hour=(0.125, 2.341, 0.995, 1.229, 0.815, 0.549, 0.313, 0.258, 0.261, 0.085),
    regained_an_hour=(0.183, 2.907, 0.977, 1.143, 0.714, 0.5, 0.271, 0.273, 0.198, 0.087),
    lost_weight=-0.391,
    regained_weight=0.223,
)


def bucket(age_s: float) -> int:
    """The index in AGES_S that this age falls in."""
    return bisect.bisect_right(AGES_S, max(0.0, age_s)) - 1


def logit(share: float) -> float:
    least, most = _SHARE_RANGE
    share = min(most, max(least, share))
    return math.log(share / (1 - share))


def lost_an_hour(hazards: Hazards, age_s: float, share: float) -> float:
    """Losses an hour of a pool that has been up for so long."""
    return hazards.lost_an_hour[bucket(age_s)] * math.exp(hazards.lost_weight * logit(share))


def regained_an_hour(hazards: Hazards, age_s: float, share: float) -> float:
    """Returns an hour of a pool that has been down for so long."""
    rate = hazards.regained_an_hour[bucket(age_s)]
    return rate * math.exp(hazards.regained_weight * logit(share))


def run_hours(hazards: Hazards, age_s: float, share: float, most_h: float) -> float:
    """How many of the next `most_h` hours a pool that has been up for `age_s` is expected to stay
    up."""
    # Steps finer than this change no decision, and make the answers worth remembering.
    return _run_hours(hazards, bucket(age_s), round(logit(share), 1), round(most_h, 2))


@lru_cache(maxsize=8192)
def _run_hours(hazards: Hazards, first: int, share_logit: float, most_h: float) -> float:
    """The integral of survival, bucket by bucket, from the beginning of bucket `first`."""
    factor = math.exp(hazards.lost_weight * share_logit)
    total, alive, left_h = 0.0, 1.0, most_h
    for index in range(first, len(AGES_S)):
        rate = hazards.lost_an_hour[index] * factor
        is_last = index + 1 == len(AGES_S)
        width_h = left_h if is_last else (AGES_S[index + 1] - AGES_S[index]) / _HOUR_S
        spent_h = min(width_h, left_h)
        survives = math.exp(-rate * spent_h)
        total += alive * (1 - survives) / rate
        alive *= survives
        left_h -= spent_h
        if left_h <= 0:
            break
    return total
