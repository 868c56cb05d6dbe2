"""Moving the spot price of a type, by hand."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spotrunner.core.model import Pool
from spotrunner.sim.world import World

# EC2 prices spot in steps of this.
_STEP_USD_MICROS = 100


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Prices an hour, before and after."""

    pool: Pool
    was_usd_micros: int
    usd_micros: int
    on_demand_usd_micros: int


def move_prices(
    world: World,
    now: dt.datetime,
    instance_type: str,
    usd_hour: float | None,
    zones: Sequence[str] = (),
) -> tuple[Moved, ...]:
    """The type's spot price from now on, in these zones or in all (None: the weather's again).
    Raises ValueError, and changes nothing then, for what EC2 does not sell at such a price."""
    pools = _chosen(_pools_of(world, instance_type), zones)
    usd_micros = None
    if usd_hour is not None:
        for pool in pools:
            _check_price(world, pool, usd_hour)
        usd_micros = round(usd_hour * 1e6 / _STEP_USD_MICROS) * _STEP_USD_MICROS
    return tuple(_move(world, now, pool, usd_micros) for pool in pools)


def _move(world: World, now: dt.datetime, pool: Pool, usd_micros: int | None) -> Moved:
    was_usd_micros = world.pools.spot(pool, now)
    world.fix_price(now, pool, usd_micros)
    return Moved(
        pool=pool,
        was_usd_micros=was_usd_micros,
        usd_micros=world.pools.spot(pool, now),
        on_demand_usd_micros=world.pools.on_demand(pool),
    )


# -- what EC2 does not sell --------------------------------------------------------------------


def _pools_of(world: World, instance_type: str) -> list[Pool]:
    every = [pool for region in world.setup.regions for pool in world.pools.offered(region.name)]
    sold = sorted({pool.instance_type for pool in every})
    if instance_type not in sold:
        raise ValueError(f"the lab does not sell {instance_type!r}{_hint(instance_type, sold)}")
    return sorted(pool for pool in every if pool.instance_type == instance_type)


def _chosen(pools: Sequence[Pool], zones: Sequence[str]) -> list[Pool]:
    sold = [pool.zone for pool in pools]
    for zone in zones:
        if zone not in sold:
            what = pools[0].instance_type
            raise ValueError(f"the lab does not sell {what} in {zone!r}{_hint(zone, sold)}")
    return [pool for pool in pools if not zones or pool.zone in zones]


def _hint(wrong: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(wrong, list(known), n=1)
    return f"; nearest: {near[0]}" if near else f"; it has {', '.join(known)}"


def _check_price(world: World, pool: Pool, usd_hour: float) -> None:
    # Not `<`: what is no number is not enough either.
    if not usd_hour * 1e6 >= _STEP_USD_MICROS:
        least = _STEP_USD_MICROS / 1e6
        raise ValueError(f"a spot price is {least} USD an hour at least, not {usd_hour}")
    on_demand = world.pools.on_demand(pool)
    if usd_hour * 1e6 > on_demand:
        raise ValueError(
            f"EC2's spot price is never above on-demand: {on_demand / 1e6} USD an hour for "
            f"{pool.instance_type} in {pool.zone}, and {usd_hour} was asked for"
        )
