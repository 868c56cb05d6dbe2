"""What the account and the market hold: zones, types, prices, capacity, quotas."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from spotrunner.core.model import Market, Pool
from spotrunner.sim import refusals
from spotrunner.sim.values import PriceRow, Region, Setup, TypeFacts, Zone

# EC2 keeps 90 days of spot prices.
_HISTORY = dt.timedelta(days=90)


class Pools:
    """The set-up, with what scripts changed of it since."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.types = {facts.name: facts for facts in setup.types}
        self._regions = {region.name: region for region in setup.regions}
        self._prices = {pool: steps.copy() for pool, steps in setup.prices.items()}
        self._capacity = {pool: steps.copy() for pool, steps in setup.capacity.items()}
        self._forced: dict[tuple[Pool, Market], bool] = {}

    # -- where -----------------------------------------------------------------------------

    def region(self, name: str) -> Region:
        """Raises ApiError."""
        if name not in self._regions:
            raise refusals.bad_parameter(f"Invalid region: {name}")
        return self._regions[name]

    def zone(self, region: str, name: str) -> Zone:
        """Raises ApiError."""
        for zone in self.region(region).zones:
            if zone.name == name:
                return zone
        raise refusals.unknown_zone(name)

    def zone_of_subnet(self, region: str, subnet_id: str) -> Zone:
        """Raises ApiError."""
        for zone in self.region(region).zones:
            if zone.subnet_id == subnet_id:
                return zone
        raise refusals.unknown_subnet(subnet_id)

    def facts(self, instance_type: str) -> TypeFacts:
        """Raises ApiError."""
        if instance_type not in self.types:
            raise refusals.unknown_type(instance_type)
        return self.types[instance_type]

    def offered(self, region: str) -> frozenset[Pool]:
        return frozenset(pool for pool in self._prices if pool.region == region)

    # -- prices ----------------------------------------------------------------------------

    def on_demand(self, pool: Pool) -> int:
        """Micro-dollars an hour."""
        return self.setup.on_demand_usd_micros[pool.region, pool.instance_type]

    def spot(self, pool: Pool, at: dt.datetime) -> int:
        """Micro-dollars an hour; never above on-demand, as EC2 has it."""
        return min(self._prices[pool].at(at), self.on_demand(pool))

    def price(self, pool: Pool, market: Market, at: dt.datetime) -> int:
        return self.on_demand(pool) if market is Market.ON_DEMAND else self.spot(pool, at)

    def set_price(self, pool: Pool, at: dt.datetime, usd_micros: int) -> None:
        self._prices[pool].set(at, usd_micros)

    def next_above(self, pool: Pool, after: dt.datetime, usd_micros: int) -> dt.datetime | None:
        """When the spot price next rises above this."""
        step = self._prices[pool].next_where(after, lambda price: price > usd_micros)
        return step[0] if step else None

    def history(
        self, pools: Iterable[Pool], start: dt.datetime, end: dt.datetime, now: dt.datetime
    ) -> list[PriceRow]:
        """Rows within [start, end] and the one in force at `start`, newest first."""
        start, end = max(start, now - _HISTORY), min(end, now)
        rows = [
            PriceRow(
                at=at,
                pool=pool,
                zone_id=self.zone(pool.region, pool.zone).id,
                usd_micros=min(price, self.on_demand(pool)),
            )
            for pool in pools
            for at, price in self._prices[pool].since(start, end)
        ]
        rows.sort(key=lambda row: (-row.at.timestamp(), row.pool))
        return rows

    # -- capacity --------------------------------------------------------------------------

    def has_capacity(self, pool: Pool, market: Market, at: dt.datetime) -> bool:
        """Whether the pool gives anything at all: what a script says, else the weather, which
        knows spot only."""
        forced = self._forced.get((pool, market))
        if forced is not None:
            return forced
        if market is Market.ON_DEMAND or pool not in self._capacity:
            return True
        return self._capacity[pool].at(at)

    def force_capacity(self, pool: Pool, market: Market, up: bool | None) -> None:
        if up is None:
            self._forced.pop((pool, market), None)
        else:
            self._forced[pool, market] = up

    def next_down(self, pool: Pool, after: dt.datetime) -> dt.datetime | None:
        """When the weather next takes the pool's spot capacity away."""
        steps = self._capacity.get(pool)
        edge = steps.next_where(after, lambda up: not up) if steps else None
        return edge[0] if edge else None

    def slots(self, pool: Pool) -> int:
        return self.setup.slots.get(pool, self.setup.default_slots)

    def quota(self, region: str, family: str, market: Market) -> int | None:
        """vCPUs; None without a limit."""
        return self.setup.quotas.get((region, family, market))
