"""What the account and the market hold: zones, types, prices, capacity, quotas."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Iterator, Sequence

from spotrunner.core.model import Market, Pool
from spotrunner.sim import refusals
from spotrunner.sim.values import PriceRow, Region, ScoreRow, Setup, TypeFacts, Zone

# EC2 keeps 90 days of spot prices.
_HISTORY = dt.timedelta(days=90)

# Placement scores. EC2's own: the best ten zones of a question, and always low for few types. Ours,
# since EC2 says nothing of how it reckons: what counts is now, then the share of the last day.
_ZONES_SCORED = 10
_FEWEST_TYPES = 3
_LOW_SCORE = 3
_SCORED_PAST = dt.timedelta(days=1)


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

    def fix_price(self, pool: Pool, at: dt.datetime, usd_micros: int | None) -> None:
        """From then on it is this (None: the weather's again)."""
        if usd_micros is None:
            self._prices[pool].follow(at, self.setup.prices[pool])
        else:
            self._prices[pool].hold(at, usd_micros)

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

    def share_up(self, pool: Pool, start: dt.datetime, end: dt.datetime) -> float:
        """The share of a time that the weather gave the pool spot capacity, 0 to 1."""
        steps = self._capacity.get(pool)
        if steps is None:
            return 1.0
        inside = [(at, up) for at, up in steps.since(start, end) if at > start]
        up_s = sum(
            (until - at).total_seconds()
            for (at, up), (until, _) in itertools.pairwise(
                [(start, steps.at(start)), *inside, (end, False)]
            )
            if up
        )
        return up_s / (end - start).total_seconds()

    def scores(
        self, regions: Sequence[str], instance_types: Sequence[str], at: dt.datetime
    ) -> list[ScoreRow]:
        """EC2's placement scores for one instance of any of these types in a single zone, the best
        first. Raises ApiError for an unknown region; types that are not sold here are types."""
        most = 10 if len(set(instance_types)) >= _FEWEST_TYPES else _LOW_SCORE
        rows = [
            ScoreRow(region=region.name, zone_id=zone.id, score=min(most, max(scores)))
            for region in (self.region(name) for name in dict.fromkeys(regions))
            for zone in region.zones
            if (scores := list(self._scores(region, zone, instance_types, at)))
        ]
        rows.sort(key=lambda row: (-row.score, row.region, row.zone_id))
        return rows[:_ZONES_SCORED]

    def _scores(
        self, region: Region, zone: Zone, instance_types: Sequence[str], at: dt.datetime
    ) -> Iterator[int]:
        for kind in instance_types:
            pool = Pool(region=region.name, zone=zone.name, instance_type=kind)
            if pool in self._prices:
                share = self.share_up(pool, at - _SCORED_PAST, at)
                up = self.has_capacity(pool, Market.SPOT, at)
                yield round(4 + 6 * share if up else 1 + 2 * share)

    def slots(self, pool: Pool) -> int:
        return self.setup.slots.get(pool, self.setup.default_slots)

    def quota(self, region: str, family: str, market: Market) -> int | None:
        """vCPUs; None without a limit."""
        return self.setup.quotas.get((region, family, market))
