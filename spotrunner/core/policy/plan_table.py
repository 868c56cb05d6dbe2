"""Makes the planner's tables by value iteration. Needs numpy, so nothing of the core imports it.

The model: capacity is there or not, and is lost or regained by core/hazard's rates, by the age of
the run or outage. Time goes in looks, and what a look finds is what decides it. One array holds the
cost to the end for each age and slack; a step back in time is a matrix product over the ages and a
shift along the slack.

A launch on spot is one long step. Lost within its changeover, it has cost only the time gone by;
else the job is on spot, with a changeover less of slack. Slack below zero is a missed deadline, at
a cost that no other way comes near.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from spotrunner.core.hazard import AGES_S, bucket
from spotrunner.core.policy.tables import AGES, ROWS, Table, TableKey

Floats: TypeAlias = npt.NDArray[np.float32]

LATE = np.float32(1e6)
_HOUR_S = 3600.0
# The grid of slacks is finest where a changeover or a look more decides, and coarse far away.
_FINE_STEPS = 6
_COARSER = 1.12
_COARSEST_S = 1800.0
# Pages are kept for every look near the deadline, and further away for every fourth.
_KEPT_ALL = 12
_KEPT_EACH = 4


def build(key: TableKey) -> Table:
    """Takes 0.05 to 0.5 s, and a few megabytes."""
    slacks_s = _slacks(key)
    values = _Values(key, slacks_s)
    looks, pages = [], []
    for k in range(1, int(key.horizon_s // key.look_s) + 1):
        page = values.step(k)
        if k <= _KEPT_ALL or k % _KEPT_EACH == 0:
            looks.append(k)
            pages.append(page)
    costs = np.stack(pages)
    assert costs.shape == (len(looks), ROWS, len(slacks_s))
    return Table(
        look_s=key.look_s,
        looks=tuple(looks),
        slacks_s=tuple(slacks_s.tolist()),
        # Plain floats one by one: reading a cell of numpy's takes ten times as long.
        costs=memoryview(costs.tobytes()).cast("f"),
    )


def _slacks(key: TableKey) -> npt.NDArray[np.float64]:
    step_s = min(key.look_s, key.changeover_s) / _FINE_STEPS
    fine_s = 2 * key.changeover_s + 3 * key.look_s
    grid = list(np.arange(0, fine_s + step_s, step_s))
    while grid[-1] < key.horizon_s:
        step_s = min(step_s * _COARSER, _COARSEST_S)
        grid.append(grid[-1] + step_s)
    return np.array(grid)


class _Values:
    """The costs to the end from so many looks before the deadline, one look further back at each
    step: idle and on-demand by what is known of spot (down, then up), on spot by the run's age."""

    def __init__(self, key: TableKey, slacks_s: npt.NDArray[np.float64]) -> None:
        self._key, self._slacks_s = key, slacks_s
        self._chances = _chances(key)
        self._changeover_looks = max(1, math.ceil(key.changeover_s / key.look_s - 1e-9))
        self._after_look = _Later(slacks_s, key.look_s)
        self._after_launch = _Later(slacks_s, key.changeover_s)
        self._after_loss = [
            _Later(slacks_s, min(j * key.look_s, key.changeover_s))
            for j in range(1, self._changeover_looks + 1)
        ]
        done = np.zeros((2 * AGES, len(slacks_s)), np.float32)
        self._idle, self._on_demand, self._on_spot = [done], [done], [done[AGES:]]

    def step(self, k: int) -> Floats:
        """All rows of the table at `k` looks before the deadline."""
        key, chances = self._key, self._chances
        hours = np.float32(key.look_s / _HOUR_S)
        # With so much slack the work ends within this look, or was done before it.
        needed = np.clip(k - self._slacks_s / key.look_s, 0, 1).astype(np.float32) * hours
        keep_on_demand = needed + chances.without @ self._on_demand[-1]
        go_on_demand = self._after_launch(keep_on_demand)
        wait = self._after_look(chances.without @ self._idle[-1])
        keep_spot = np.float32(key.price) * needed + chances.stays @ self._on_spot[-1]
        keep_spot += chances.lost[:, None] * self._idle[-1][chances.fresh]
        go_spot = self._launch(k, hours)
        rows = np.concatenate([wait, keep_on_demand, go_on_demand, go_spot, keep_spot])
        self._remember(k, wait, keep_on_demand, go_on_demand, go_spot, keep_spot)
        page: Floats = np.minimum(rows, LATE)
        return page

    def _launch(self, k: int, hours: np.float32) -> Floats:
        """A launch on spot, for each age of the run that it joins."""
        takes, paid = self._changeover_looks, np.float32(self._key.price) * hours
        if k < takes:
            return np.full((AGES, len(self._slacks_s)), LATE, np.float32)
        alive: Floats = np.eye(AGES, dtype=np.float32)
        cost: Floats = np.zeros((AGES, len(self._slacks_s)), np.float32)
        for j in range(1, takes + 1):
            lost = alive @ self._chances.lost[:, None]
            idle = self._idle[k - j][self._chances.fresh][None]
            cost += lost * (paid * j + self._after_loss[j - 1](idle))
            alive = alive @ self._chances.stays
        cost += alive @ self._after_launch(self._on_spot[k - takes])
        cost += alive.sum(1, keepdims=True) * paid * takes
        return cost

    def _remember(
        self, k: int, wait: Floats, keep: Floats, go: Floats, go_spot: Floats, keep_spot: Floats
    ) -> None:
        idle, on_demand = np.minimum(wait, go), np.minimum(wait, keep)
        for values in (idle, on_demand):
            values[AGES:] = np.minimum(values[AGES:], go_spot)
        on_spot = np.minimum(keep_spot, go[AGES:])
        is_done = self._slacks_s >= k * self._key.look_s - 1e-6
        for values, kept in (
            (idle, self._idle),
            (on_demand, self._on_demand),
            (on_spot, self._on_spot),
        ):
            values = np.minimum(values, LATE)
            values[:, is_done] = 0
            kept.append(values)


class _Later:
    """Values at a slack that is so much less: between two points of the grid, LATE below zero."""

    def __init__(self, slacks_s: npt.NDArray[np.float64], seconds: float) -> None:
        then_s = slacks_s - seconds
        low = np.searchsorted(slacks_s, then_s, side="right") - 1
        self._low = np.clip(low, 0, len(slacks_s) - 2)
        width_s = slacks_s[self._low + 1] - slacks_s[self._low]
        weight = (then_s - slacks_s[self._low]) / width_s
        self._weight = np.clip(weight, 0, 1).astype(np.float32)
        self._is_late = then_s < -1e-6

    def __call__(self, values: Floats) -> Floats:
        found = values[:, self._low] * (1 - self._weight) + values[:, self._low + 1] * self._weight
        found[:, self._is_late] = LATE
        return found


@dataclass(frozen=True, kw_only=True)
class _Chances:
    """From one look to the next. `without` is between (down by age, up by age), `stays` between the
    ages of a run that goes on; `lost` is by its age, and `fresh` the age at which what just changed
    is seen."""

    without: Floats
    stays: Floats
    lost: Floats
    fresh: int


def _chances(key: TableKey) -> _Chances:
    hazards, logit_share = key.hazards, float(key.share_class)
    lost = _within_look(hazards.lost_an_hour, hazards.lost_weight * logit_share, key.look_s)
    back = _within_look(hazards.regained_an_hour, hazards.regained_weight * logit_share, key.look_s)
    ageing, fresh = _ageing(key.look_s), bucket(key.look_s / 2)
    stays = ageing * (1 - lost)[:, None]
    without = np.zeros((2 * AGES, 2 * AGES), np.float32)
    without[:AGES, :AGES] = ageing * (1 - back)[:, None]
    without[:AGES, AGES + fresh] += back
    without[AGES:, AGES:] = stays
    without[AGES:, fresh] += lost
    return _Chances(without=without, stays=stays, lost=lost, fresh=fresh)


def _within_look(an_hour: tuple[float, ...], weight: float, look_s: float) -> Floats:
    rates = np.array(an_hour) * math.exp(weight)
    return (1 - np.exp(-rates * look_s / _HOUR_S)).astype(np.float32)


def _ageing(look_s: float) -> Floats:
    """What share of each bucket of age is in each bucket one look later, if nothing happens."""
    low = np.array(AGES_S, float)
    high = np.append(low[1:], low[-1] + 1)  # all of the last, open bucket stays in it
    upper = np.append(low[1:], np.inf)
    overlap = np.minimum(high[:, None] + look_s, upper) - np.maximum(low[:, None] + look_s, low)
    shares: Floats = (np.maximum(overlap, 0) / (high - low)[:, None]).astype(np.float32)
    return shares
