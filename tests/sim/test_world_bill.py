"""What the simulated market asks, and what EC2 charges."""

from __future__ import annotations

import pytest

from spotrunner.sim.steps import Steps
from spotrunner.sim.world import World
from tests.sim.worlds import POOL, a_world, at, launched


def test_price_history_has_the_row_in_force_before_the_window_and_nothing_of_the_future() -> None:
    prices = {POOL: Steps([(at(n * 100), 100_000 + n) for n in range(10)])}
    world = a_world(prices=prices)
    rows = world.price_history(at(500), POOL.region, start=at(250), end=at(900))
    assert [(row.at, row.usd_micros) for row in rows] == [
        (at(500), 100_005),
        (at(400), 100_004),
        (at(300), 100_003),
        (at(200), 100_002),
    ]
    assert rows[0].zone_id == "use1-az4"


def test_spot_never_costs_more_than_on_demand() -> None:
    world = a_world()
    world.set_price(at(0), POOL, 9_000_000)
    (row,) = world.price_history(at(1), POOL.region, [POOL.instance_type], [POOL.zone])
    assert row.usd_micros == 526_000


def charged(world: World, seconds: float) -> int:
    return world.bill(at(seconds))[0].usd_micros


def test_a_minute_is_the_least_that_is_billed() -> None:
    world = a_world()
    id_ = launched(world)
    world.terminate(at(11), POOL.region, [id_])
    assert charged(world, 5000) == 150_000 // 60


def test_the_price_at_the_start_of_each_hour_holds_for_that_hour() -> None:
    world = a_world()
    id_ = launched(world)  # runs from 10 s on
    world.set_price(at(600), POOL, 300_000)
    world.terminate(at(3610 + 1800), POOL.region, [id_])
    assert charged(world, 9000) == 150_000 + 300_000 // 2


@pytest.mark.parametrize("notice", [True, False])
def test_what_ec2_takes_in_the_first_hour_is_free(notice: bool) -> None:
    world = a_world()
    id_ = launched(world)
    assert charged(world, 1810) == 75_000
    world.interrupt(at(3480 if notice else 3600), id_, notice=notice)
    (line,) = world.bill(at(9000))
    assert (line.usd_micros, line.free) == (0, True)


def test_a_second_after_the_first_hour_is_not_free() -> None:
    world = a_world()
    id_ = launched(world)
    world.interrupt(at(3490), id_)
    (line,) = world.bill(at(9000))
    assert (line.usd_micros, line.free) == (150_000, False)


@pytest.mark.parametrize("end", ["terminate", "shutdown"])
def test_what_ends_after_a_notice_by_our_hand_is_billed(end: str) -> None:
    world = a_world()
    id_ = launched(world)
    world.interrupt(at(1790), id_)
    if end == "terminate":
        world.terminate(at(1810), POOL.region, [id_])
    else:
        world.shutdown_from_inside(at(1810), id_)
    assert charged(world, 9000) == 75_000
