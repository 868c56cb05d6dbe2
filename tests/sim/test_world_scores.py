"""Placement scores, and the past that they and the advisor's file are made of."""

from __future__ import annotations

import datetime as dt

import pytest

from spotrunner.core.model import Market, Pool
from spotrunner.sim.setups import G4DN, G5, P3, lab_setup
from spotrunner.sim.steps import Steps
from spotrunner.sim.values import ApiError
from spotrunner.sim.world import World
from tests.sim.worlds import POOL, START, a_world, at

TYPES = [G4DN, G5, P3]
DAY_S = 86_400


def score(world: World, seconds: float = 0, types: list[str] = TYPES) -> int:
    """Of the pool's zone."""
    rows = world.placement_scores(at(seconds), POOL.region, types, [POOL.region])
    (found,) = [row.score for row in rows if row.zone_id == "use1-az4"]
    return found


def with_capacity(*steps: tuple[float, bool]) -> World:
    """A world whose first zone sells one type, and that one so."""
    steady = Steps([(at(-DAY_S), 150_000)])
    capacity = Steps([(at(seconds), up) for seconds, up in steps])
    return a_world(prices={POOL: steady}, capacity={POOL: capacity})


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (((-DAY_S, True),), 10),
        (((-DAY_S, False),), 1),
        (((-DAY_S, True), (-DAY_S / 2, False)), 2),
        (((-DAY_S, False), (-DAY_S / 2, True)), 7),
        (((-DAY_S, True), (-1, False)), 3),
        (((-DAY_S, False), (-1, True)), 4),
        (((-9 * DAY_S, False), (-3 * DAY_S, True)), 10),
        (((0, True),), 10),  # nothing is known of before: as it is now
    ],
)
def test_what_counts_is_now_and_then_the_last_day(
    steps: tuple[tuple[float, bool], ...], expected: int
) -> None:
    assert score(with_capacity(*steps)) == expected


def test_the_best_type_of_a_zone_counts() -> None:
    world = a_world()
    for kind, expected in [(G4DN, 10), (G5, 3)]:
        world.set_capacity(
            at(0), Pool(region=POOL.region, zone=POOL.zone, instance_type=kind), False
        )
        assert score(world) == expected


@pytest.mark.parametrize("types", [[], [G4DN], [G4DN, G5], [G4DN, G4DN, G4DN]])
def test_few_types_score_low(types: list[str]) -> None:
    rows = a_world().placement_scores(at(0), POOL.region, types, [POOL.region])
    assert all(row.score <= 3 for row in rows)
    assert bool(rows) is bool(types)


def test_the_best_ten_zones_come_and_the_best_first() -> None:
    world = World(lab_setup(3, START), seed=3)
    regions = [region.name for region in world.setup.regions]
    rows = world.placement_scores(START, regions[0], TYPES, regions)
    assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)
    assert len({(row.region, row.zone_id) for row in rows}) == len(rows) == 7
    assert {row.score for row in rows} > {10}, "some zones are better than others"
    assert rows == world.placement_scores(START, regions[0], TYPES[::-1], regions[::-1])


def test_an_unknown_region_is_refused() -> None:
    with pytest.raises(ApiError, match="mars-1"):
        a_world().placement_scores(at(0), POOL.region, TYPES, ["mars-1"])


# -- the past ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start_s", "end_s", "share"),
    [
        (0, 100, 0.5),
        (0, 50, 1.0),
        (50, 100, 0.0),
        (25, 75, 0.5),
        (90, 200, 10 / 11),
        (-100, 0, 1.0),
    ],
)
def test_the_share_of_a_time_with_capacity(start_s: float, end_s: float, share: float) -> None:
    world = with_capacity((0, True), (50, False), (100, True))
    found = world.pools.share_up(POOL, at(start_s), at(end_s))
    assert found == pytest.approx(share)


def test_the_lab_has_a_past_that_changes_nothing_of_its_future() -> None:
    longer, shorter = (lab_setup(3, START, days_before=days) for days in (30, 2))
    end = START + dt.timedelta(days=29)
    for pool, steps in longer.capacity.items():
        future = [step for step in steps.since(START, end) if step[0] > START]
        assert future == [s for s in shorter.capacity[pool].since(START, end) if s[0] > START]
    world = World(longer, seed=3)
    month = (START - dt.timedelta(days=30), START)
    shares = {world.pools.share_up(pool, *month) for pool in longer.capacity}
    assert len(shares) > 5, "every pool has a past of its own"
    assert all(world.pools.has_capacity(p, Market.ON_DEMAND, START) for p in longer.capacity)
