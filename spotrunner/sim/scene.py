"""What one run of a back-test meets: prices and capacity of each pool, from a start on."""

from __future__ import annotations

import bisect
import datetime as dt
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from spotrunner.core.model import EndedBy, Market, Offer, Pool, Quote
from spotrunner.sim.history import History, PoolHistory
from spotrunner.sim.steps import Steps
from spotrunner.sim.weather import Climate, capacity

EVER = dt.datetime.max.replace(tzinfo=dt.timezone.utc)


@dataclass(frozen=True, kw_only=True)
class Taking:
    """EC2 takes what runs in a pool: it says so at `notice_at`."""

    notice_at: dt.datetime
    by: EndedBy


@dataclass(frozen=True, kw_only=True)
class PoolScene:
    """`prices` are the changes, oldest first: before the first one the pool is not sold. `open` is
    its spot capacity."""

    pool: Pool
    on_demand_usd_micros_hour: int
    prices: tuple[tuple[dt.datetime, int], ...]
    open: Steps[bool]

    @cached_property
    def times(self) -> Sequence[dt.datetime]:
        """Of the price changes."""
        return [at for at, _ in self.prices]

    def price_at(self, at: dt.datetime) -> int | None:
        index = bisect.bisect_right(self.times, at) - 1
        return self.prices[index][1] if index >= 0 else None

    def offers_at(self, at: dt.datetime) -> tuple[Offer, ...]:
        spot = self.price_at(at)
        priced = ((Market.SPOT, spot), (Market.ON_DEMAND, self.on_demand_usd_micros_hour))
        return tuple(
            Offer(
                pool=self.pool,
                market=market,
                price_usd_micros_hour=price,
                dearest_usd_micros_hour=max(self.on_demand_usd_micros_hour, price),
            )
            for market, price in priced
            if price is not None
        )

    def quotes(self, since: dt.datetime, until: dt.datetime) -> tuple[Quote, ...]:
        """The price in force at `since`, and all later ones up to `until`."""
        first = max(0, bisect.bisect_right(self.times, since) - 1)
        last = bisect.bisect_right(self.times, until)
        return tuple(
            Quote(pool=self.pool, at=at, price_usd_micros_hour=price)
            for at, price in self.prices[first:last]
        )

    def gives(self, at: dt.datetime, bid_usd_micros: int | None) -> bool:
        """Whether EC2 accepts a spot launch."""
        price = self.price_at(at)
        return price is not None and _pays(bid_usd_micros, price) and self.open.at(at)

    def takes(self, after: dt.datetime, bid_usd_micros: int | None) -> Taking | None:
        """When EC2 takes a spot instance that was launched at `after`."""
        shut = self.open.next_where(after, lambda is_open: not is_open)
        found = Taking(notice_at=shut[0], by=EndedBy.EC2) if shut else None
        if bid_usd_micros is None:
            return found
        for at, price in self.prices[bisect.bisect_right(self.times, after) :]:
            if found is not None and at >= found.notice_at:
                break
            if not _pays(bid_usd_micros, price):
                return Taking(notice_at=at, by=EndedBy.PRICE)
        return found


def _pays(bid_usd_micros: int | None, price: int) -> bool:
    return bid_usd_micros is None or price <= bid_usd_micros


@dataclass(frozen=True, kw_only=True)
class Scene:
    """`until` is where the history, and with it the run, ends."""

    start: dt.datetime
    until: dt.datetime
    pools: tuple[PoolScene, ...]

    @cached_property
    def by_pool(self) -> dict[Pool, PoolScene]:
        return {each.pool: each for each in self.pools}

    @cached_property
    def changes(self) -> Sequence[dt.datetime]:
        """When any price changes."""
        return sorted({at for each in self.pools for at in each.times if at > self.start})

    def next_change(self, after: dt.datetime) -> dt.datetime | None:
        index = bisect.bisect_right(self.changes, after)
        return self.changes[index] if index < len(self.changes) else None

    def offers_at(self, at: dt.datetime) -> tuple[Offer, ...]:
        return tuple(offer for each in self.pools for offer in each.offers_at(at))


def scene(history: History, start: dt.datetime, until: dt.datetime, seed: str) -> Scene:
    """Where the history does not know the capacity, `seed` draws it."""
    drawn = _drawn([each for each in history.pools if each.capacity is None], start, until, seed)
    return Scene(
        start=start,
        until=until,
        pools=tuple(
            PoolScene(
                pool=each.pool,
                on_demand_usd_micros_hour=each.on_demand_usd_micros_hour,
                prices=_prices(each, start, until),
                open=each.capacity or drawn[each.pool],
            )
            for each in history.pools
        ),
    )


def _prices(
    history: PoolHistory, start: dt.datetime, until: dt.datetime
) -> tuple[tuple[dt.datetime, int], ...]:
    """Changes only: a row that repeats the price is no news."""
    rows: list[tuple[dt.datetime, int]] = []
    for at, price in history.prices.since(max(start, history.first_at), until):
        if not rows or rows[-1][1] != price:
            rows.append((at, price))
    return tuple(rows)


def _drawn(
    unknown: Sequence[PoolHistory], start: dt.datetime, until: dt.datetime, seed: str
) -> dict[Pool, Steps[bool]]:
    dice = random.Random(f"{seed}/capacity")
    climates = [
        Climate(
            pool=each.pool,
            on_demand_usd_micros=each.on_demand_usd_micros_hour,
            # anything from the worst to the best of the zones that were measured
            quality=dice.random(),
        )
        for each in unknown
    ]
    return capacity(dice, climates, start, until)
