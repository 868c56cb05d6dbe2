"""The planner's tables: what each way to go on is expected to cost from here to the end.

Made by plan_table, which needs numpy; read here, in microseconds, without it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from spotrunner.core.hazard import AGES_S, Hazards, logit
from spotrunner.core.situation import Situation

_HOUR_S = 3600.0
AGES = len(AGES_S)
# Where the rows of each way begin. Those without a spot instance know whether there is spot: AGES
# rows for the age of an outage, then AGES for that of a run.
WAIT, STAY_ON_DEMAND, GO_ON_DEMAND, GO_SPOT, STAY_SPOT = 0, 2 * AGES, 4 * AGES, 6 * AGES, 7 * AGES
ROWS = 8 * AGES

# Keys are rounded so that looks share tables: finer steps change few decisions.
LOOK_STEP_S = 15.0
LEAST_LOOK_S = 180.0  # of the plan; the guard looks as often as the situation says
MOST_LOOKS = 1000
CHANGEOVER_STEP_S = 30.0
LEAST_HORIZON_S = 6 * _HOUR_S
PRICE_STEP = 0.1
LEAST_PRICE = 0.05
MOST_SHARE_CLASS = 4


@dataclass(frozen=True, kw_only=True)
class TableKey:
    """What a table is made for. `price` is that of spot work over on-demand work; `share_class` the
    rounded logit of the share of the last half day that there was spot."""

    look_s: float
    changeover_s: float
    horizon_s: float
    price: float
    share_class: int
    hazards: Hazards


@dataclass(frozen=True, kw_only=True)
class Table:
    """Expected cost to the end, in hours of on-demand, by looks left, row and slack.

    `looks` and `slacks_s` ascend. `costs` is flat: the slack runs fastest, then the row, then the
    looks.
    """

    look_s: float
    looks: Sequence[int]
    slacks_s: Sequence[float]
    costs: Sequence[float]

    def page(self, left_s: float, slack_s: float) -> Page:
        """The costs at this time and slack, by row."""
        wanted, looks = left_s / self.look_s, self.looks
        after = min(bisect.bisect_left(looks, wanted), len(looks) - 1)
        is_nearer = after > 0 and wanted - looks[after - 1] <= looks[after] - wanted
        slacks_s = self.slacks_s
        low = min(max(bisect.bisect_right(slacks_s, slack_s) - 1, 0), len(slacks_s) - 2)
        weight = (slack_s - slacks_s[low]) / (slacks_s[low + 1] - slacks_s[low])
        return Page(
            costs=self.costs,
            first=(after - is_nearer) * ROWS * len(slacks_s) + low,
            stride=len(slacks_s),
            weight=min(1.0, max(0.0, weight)),
        )


@dataclass(frozen=True, kw_only=True)
class Page:
    """One time and slack of a table: a cost for each row, between two columns."""

    costs: Sequence[float]
    first: int
    stride: int
    weight: float

    def cost(self, row: int) -> float:
        at = self.first + row * self.stride
        return self.costs[at] * (1 - self.weight) + self.costs[at + 1] * self.weight


class Tables(Protocol):
    def table(self, key: TableKey) -> Table | None:
        """None while there is none. Must return at once in a daemon's round."""
        ...


class NoTables:
    def table(self, key: TableKey) -> Table | None:
        return None


NO_TABLES: Tables = NoTables()


def key_of(situation: Situation, price: float) -> TableKey:
    assert situation.left_s is not None
    horizon_s = LEAST_HORIZON_S
    while horizon_s < situation.left_s:
        horizon_s *= 2
    look_s = max(situation.look_s, LEAST_LOOK_S, horizon_s / MOST_LOOKS)
    most = MOST_SHARE_CLASS
    return TableKey(
        look_s=_up(look_s, LOOK_STEP_S),
        changeover_s=_up(situation.changeover_s, CHANGEOVER_STEP_S),
        horizon_s=horizon_s,
        price=max(LEAST_PRICE, round(price / PRICE_STEP) * PRICE_STEP),
        share_class=max(-most, min(most, round(logit(situation.together.share)))),
        hazards=situation.hazards,
    )


def _up(seconds: float, step_s: float) -> float:
    return max(step_s, math.ceil(seconds / step_s - 1e-9) * step_s)
