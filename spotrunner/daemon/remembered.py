"""What the store has of a region's market: it is served until the sources speak, and while they are
silent."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from spotrunner.core.model import Pool, Quote
from spotrunner.core.tracked import Quotes, RegionMarket, Said, Source
from spotrunner.daemon import memos
from spotrunner.ports import MarketStore

T = TypeVar("T")

# What rounds have at hand. The price of an instance-hour is looked up at its start: an outage of
# ours up to this long loses none of them.
HISTORY = dt.timedelta(days=2)


def remembered(
    store: MarketStore, market: RegionMarket, types: frozenset[str], now: dt.datetime
) -> RegionMarket:
    """`market` with what the store has of types that it does not know yet. Raises Unavailable."""
    new = types - market.types
    if not new:
        return market
    region, zones = market.region, market.zones
    if not zones.said and (said := memos.ZONES.read(store, region)) is not None:
        zones = Source(said={region: said})
    names = {id_: name for name, id_ in zones.values.get(region, {}).items()}
    on_demand = {name: memos.ON_DEMAND.read(store, region, name) for name in new}
    return dataclasses.replace(
        market,
        types=market.types | new,
        zones=zones,
        offered=_with(market.offered, {name: _offered(store, region, name) for name in new}),
        prices=_with(market.prices, _quotes(store, region, new, names, now)),
        on_demand=_with(market.on_demand, on_demand),
    )


def by_pool(quotes: Sequence[Quote]) -> Quotes:
    """In the order that they come in."""
    found: dict[Pool, list[Quote]] = {}
    for quote in quotes:
        found.setdefault(quote.pool, []).append(quote)
    return {pool: tuple(history) for pool, history in found.items()}


def _with(source: Source[T], found: Mapping[str, Said[T] | None]) -> Source[T]:
    said = {key: said for key, said in found.items() if said is not None}
    return dataclasses.replace(source, said={**said, **source.said})


def _offered(store: MarketStore, region: str, instance_type: str) -> Said[frozenset[Pool]] | None:
    said = memos.OFFERED.read(store, region, instance_type)
    if said is None:
        return None
    pools = (Pool(region=region, zone=it, instance_type=instance_type) for it in said.value)
    return Said(at=said.at, value=frozenset(pools))


def _quotes(
    store: MarketStore,
    region: str,
    types: Collection[str],
    names: Mapping[str, str],
    now: dt.datetime,
) -> Mapping[str, Said[Quotes] | None]:
    """Zones are the store's by id: without the region's names there are none to speak of."""
    found: dict[str, Said[Quotes] | None] = {}
    for name in types if names else ():
        spans = memos.read_spans(store, region, name)
        quotes = [
            Quote(
                pool=Pool(region=region, zone=names[row.zone_id], instance_type=name),
                at=row.at,
                price_usd_micros_hour=row.price_usd_micros_hour,
            )
            for row in store.zone_quotes(region, [name], now - HISTORY)
            if row.zone_id in names
        ]
        if spans and quotes:
            found[name] = Said(at=spans[-1].end, value=by_pool(quotes))
    return found
