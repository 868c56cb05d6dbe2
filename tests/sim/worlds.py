"""Builders for tests of the simulated market."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest

from spotrunner.core.model import Market, Pool
from spotrunner.sim.setups import G4DN, plain_setup
from spotrunner.sim.values import ApiError, Manners, RunRequest, Stage
from spotrunner.sim.world import World

START = dt.datetime(2026, 3, 2, 12, 0, tzinfo=dt.timezone.utc)
POOL = Pool(region="us-east-1", zone="us-east-1a", instance_type=G4DN)
# Nothing lags and nothing is left to chance.
EXACT = Manners(
    pending_s=(10.0, 10.0),
    listed_s=(0.0, 0.0),
    filtered_s=(0.0, 0.0),
    known_s=(0.0, 0.0),
    stale_s=(0.0, 0.0),
    shutting_down_s=(30.0, 30.0),
    reclaim_late_s=(0.0, 0.0),
    rebalance_share=0.0,
    unannounced_share=0.0,
    throttled=False,
)
# Everything comes late, each at a time of its own.
LAGGING = Manners(
    pending_s=(10.0, 10.0),
    listed_s=(5.0, 5.0),
    filtered_s=(20.0, 20.0),
    known_s=(3.0, 3.0),
    stale_s=(4.0, 4.0),
    shutting_down_s=(30.0, 30.0),
    reclaim_late_s=(7.0, 7.0),
    rebalance_share=0.0,
    unannounced_share=0.0,
)


def at(seconds: float) -> dt.datetime:
    """This many seconds after the worlds' start."""
    return START + dt.timedelta(seconds=seconds)


def a_world(manners: Manners = EXACT, seed: int = 1, **setup: Any) -> World:
    """The plain world, with parts of its set-up replaced."""
    return World(dataclasses.replace(plain_setup(START, manners=manners), **setup), seed)


def a_request(world: World, pool: Pool = POOL, **changes: Any) -> RunRequest:
    """A spot launch in the pool, by its subnet."""
    region = world.pools.region(pool.region)
    request = RunRequest(
        region=pool.region,
        instance_type=pool.instance_type,
        image_id=region.images[0].id,
        market=Market.SPOT,
        subnet_id=world.pools.zone(pool.region, pool.zone).subnet_id,
        shutdown_behavior="terminate",
    )
    return dataclasses.replace(request, **changes)


def launched(world: World, seconds: float = 0, **changes: Any) -> str:
    (record,) = world.run_instances(at(seconds), a_request(world, **changes))
    return record.id


def stage_of(world: World, seconds: float, instance_id: str) -> Stage:
    (record,) = world.describe(at(seconds), POOL.region, [instance_id])
    return record.stage


def refused(world: World, seconds: float = 0, **changes: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        launched(world, seconds, **changes)
    return caught.value
