"""Prices that are set by hand: until they are set again, and never to what EC2 does not sell."""

from __future__ import annotations

import datetime as dt
import re

import pytest

from spotrunner.core.model import Pool
from spotrunner.lab.prices import move_prices
from spotrunner.sim.steps import Steps
from spotrunner.sim.world import World
from tests.sim.worlds import POOL, START, a_world, at, launched

WEATHER = Steps([(START, 100_000), (at(7200), 120_000), (at(20_000), 90_000)])
OTHER = Pool(region="us-east-1", zone="us-east-1b", instance_type=POOL.instance_type)
TYPE = POOL.instance_type


@pytest.fixture
def world() -> World:
    return a_world(prices={POOL: WEATHER, OTHER: WEATHER.copy()})


def rows(world: World, now: dt.datetime) -> list[tuple[dt.datetime, int]]:
    """Of the pool, the oldest first."""
    told = world.price_history(now, POOL.region, zones=[POOL.zone], start=START)
    return [(row.at, row.usd_micros) for row in reversed(told)]


def test_a_price_stays_until_it_is_set_again_and_is_told_with_its_time(world: World) -> None:
    move_prices(world, at(1000.7), TYPE, 0.4)
    move_prices(world, at(30_000), TYPE, 0.3)
    assert rows(world, at(40_000)) == [(START, 100_000), (at(1000), 400_000), (at(30_000), 300_000)]


def test_then_the_weather_is_what_it_would_have_been(world: World) -> None:
    move_prices(world, at(1000), TYPE, 0.4)
    (moved, _) = move_prices(world, at(10_000), TYPE, None)
    assert (moved.was_usd_micros, moved.usd_micros) == (400_000, 120_000)
    assert rows(world, at(40_000)) == [
        (START, 100_000),
        (at(1000), 400_000),
        (at(10_000), 120_000),
        (at(20_000), 90_000),
    ]


def test_only_the_zones_that_were_named_change(world: World) -> None:
    (moved,) = move_prices(world, at(0), TYPE, 0.4, [OTHER.zone])
    assert (moved.pool, moved.on_demand_usd_micros) == (OTHER, 526_000)
    assert rows(world, at(10)) == [(START, 100_000)]


def test_the_bill_has_it_from_the_next_hour_of_the_instance_on(world: World) -> None:
    launched(world)  # it runs, and is paid for, from second 10 on
    move_prices(world, at(1000), TYPE, 0.4)
    move_prices(world, at(5000), TYPE, None)
    (line,) = world.bill(at(10 + 3 * 3600))
    assert line.usd_micros == 100_000 + 400_000 + 120_000


def test_who_would_not_pay_it_is_taken(world: World) -> None:
    id_ = launched(world, max_price_usd_micros=350_000)
    move_prices(world, at(60), TYPE, 0.4)
    view = world.imds(at(61), id_)
    assert view is not None
    assert view.spot_action is not None


@pytest.mark.parametrize(
    ("instance_type", "usd_hour", "zones", "words"),
    [
        ("g4dn.xlage", 0.4, (), "the lab does not sell 'g4dn.xlage'; nearest: g4dn.xlarge"),
        ("z", 0.4, (), "the lab does not sell 'z'; it has g4dn.xlarge"),
        (TYPE, 0.4, ["us-esat-1a"], "not sell g4dn.xlarge in 'us-esat-1a'; nearest: us-east-1a"),
        (TYPE, 0.0, (), "a spot price is 0.0001 USD an hour at least, not 0.0"),
        (TYPE, -0.4, (), "a spot price is 0.0001 USD an hour at least, not -0.4"),
        (TYPE, float("nan"), (), "a spot price is 0.0001 USD an hour at least, not nan"),
        (TYPE, 0.5261, (), "never above on-demand: 0.526 USD an hour for g4dn.xlarge in us-east-"),
        (TYPE, float("inf"), (), "and inf was asked for"),
    ],
)
def test_what_ec2_does_not_sell_is_refused_and_changes_nothing(
    world: World, instance_type: str, usd_hour: float, zones: list[str], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        move_prices(world, at(1000), instance_type, usd_hour, zones)
    assert rows(world, at(2000)) == [(START, 100_000)]
