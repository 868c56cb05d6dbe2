"""Reads a region's market and keeps it: zones, offerings, on-demand prices, and the history of the
spot prices without a hole, as far as EC2 remembers it.

Each source is tried by itself. One that fails leaves what it said last, in memory and, over a
restart, in the store; what it could not tell is asked for until it is there.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from spotrunner.core.history import Span, holes, merged
from spotrunner.core.model import Pool, Quote
from spotrunner.core.tracked import Quotes, RegionMarket, Source
from spotrunner.daemon import memos
from spotrunner.daemon.remembered import HISTORY, by_pool
from spotrunner.daemon.rows import Rows
from spotrunner.ports import MarketStore, NotAuthorized, PortError, Prices, ZoneQuote

log = structlog.get_logger(__name__)
T = TypeVar("T")

# How far back EC2 remembers spot prices.
KEPT = dt.timedelta(days=90)
# Read again each time: EC2 lists some prices a while after they began.
OVERLAP = dt.timedelta(hours=1)
# On-demand prices change by announcement, and are a call a type: they are read this seldom.
ON_DEMAND_EVERY = dt.timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A region after a try to read it; of the price rows that came, how many the store did not
    have. `trouble` is of the prices."""

    market: RegionMarket
    rows: int = 0
    new_rows: int = 0

    @property
    def trouble(self) -> str:
        return self.market.prices.trouble


@dataclass(frozen=True, kw_only=True)
class Window:
    """One question for spot prices."""

    since: dt.datetime
    types: tuple[str, ...]


class Tracker:
    """Reads each region at most once at a time; else safe from several threads."""

    def __init__(self, prices: Prices, market: MarketStore, every_s: float) -> None:
        self._prices = prices
        self._store = market
        self._every = dt.timedelta(seconds=every_s)
        # A failed read is repeated sooner, but not in every round.
        self._again_after = self._every / 10
        self._rows = Rows()

    def is_due(self, market: RegionMarket, types: frozenset[str], now: dt.datetime) -> bool:
        return any(
            source.is_due(keys, now, every, self._again_after)
            for source, keys, every in (
                (market.zones, frozenset({market.region}), self._every),
                (market.offered, types, self._every),
                (market.prices, types, self._every),
                (market.on_demand, types, self._on_demand_every),
            )
        )

    def read(
        self,
        old: RegionMarket,
        types: frozenset[str],
        now: dt.datetime,
        since: dt.datetime | None = None,
    ) -> Reading:
        """Ask each source that is due. `since` asks for all spot prices from then on, whatever is
        known of them."""
        region, market = old.region, old.only(types)
        market = dataclasses.replace(
            market,
            types=types,
            zones=self._ask(
                "zones", market, market.zones, frozenset({region}), now, self._every, self._zones
            ),
            offered=self._ask(
                "offerings", market, market.offered, types, now, self._every, self._offered
            ),
            on_demand=self._ask(
                "on-demand prices",
                market,
                market.on_demand,
                types,
                now,
                self._on_demand_every,
                self._on_demand,
            ),
        )
        is_due = market.prices.is_due(types, now, self._every, self._again_after)
        if not is_due and since is None:
            return Reading(market=market)
        return self._with_prices(market, now, since)

    @property
    def _on_demand_every(self) -> dt.timedelta:
        return max(self._every, ON_DEMAND_EVERY)

    # -- sources -------------------------------------------------------------------------------

    def _ask(
        self,
        what: str,
        market: RegionMarket,
        source: Source[T],
        keys: frozenset[str],
        now: dt.datetime,
        every: dt.timedelta,
        read: Callable[[str, frozenset[str], dt.datetime], Mapping[str, T]],
    ) -> Source[T]:
        if not source.is_due(keys, now, every, self._again_after):
            return source
        try:
            return source.heard(read(market.region, keys, now), now)
        except PortError as error:
            return _failed(source, what, market.region, keys, now, error)

    def _zones(
        self, region: str, _: frozenset[str], now: dt.datetime
    ) -> Mapping[str, Mapping[str, str]]:
        zones = dict(self._prices.zones(region))
        memos.ZONES.write(self._store, zones, now, region)
        return {region: zones}

    def _offered(
        self, region: str, types: frozenset[str], now: dt.datetime
    ) -> Mapping[str, frozenset[Pool]]:
        pools = self._prices.offered(region, sorted(types))
        found = {name: frozenset(p for p in pools if p.instance_type == name) for name in types}
        for name, of_type in found.items():
            zones = sorted(pool.zone for pool in of_type)
            memos.OFFERED.write(self._store, zones, now, region, name)
        return found

    def _on_demand(
        self, region: str, types: frozenset[str], now: dt.datetime
    ) -> Mapping[str, int | None]:
        prices = self._prices.on_demand(region, sorted(types))
        found = {name: prices.get(name) for name in types}
        for name, price in found.items():
            memos.ON_DEMAND.write(self._store, price, now, region, name)
        return found

    # -- spot prices ---------------------------------------------------------------------------

    def _with_prices(
        self, market: RegionMarket, now: dt.datetime, since: dt.datetime | None
    ) -> Reading:
        """The last days of all types first, in one question: rounds need them. Then what is missing
        before, type by type, so that what was got is kept when the next one fails."""
        region, source = market.region, market.prices
        rows: set[ZoneQuote] = set()
        new_rows = 0
        asked = market.types
        try:
            for window in self._windows(market, now, since):
                asked = frozenset(window.types)
                told = self._prices.quotes(region, window.types, window.since)
                quotes = self._rows.sound(region, window.types, told, now)
                stored = _stored(quotes, market.zone_ids)
                new_rows += self._keep(market, window, stored, now)
                rows.update(stored)
                source = source.heard(_joined(source, window.types, quotes, now), now)
        except PortError as error:
            source = _failed(source, "spot prices", region, asked, now, error)
        market = dataclasses.replace(market, prices=source)
        return Reading(market=market, rows=len(rows), new_rows=new_rows)

    def _windows(
        self, market: RegionMarket, now: dt.datetime, since: dt.datetime | None
    ) -> Iterator[Window]:
        lately = now - HISTORY
        starts = {name: since or self._start(market.region, name, now) for name in market.types}
        if not market.zone_ids:
            # Nothing of it can be kept: what rounds need is enough.
            starts = {name: max(lately, start) for name, start in starts.items()}
        recent = max(lately, min(starts.values(), default=lately))
        yield Window(since=recent, types=tuple(sorted(starts)))
        for name, start in sorted(starts.items()):
            if start < recent:
                yield Window(since=start, types=(name,))

    def _start(self, region: str, instance_type: str, now: dt.datetime) -> dt.datetime:
        """From when on prices are missing."""
        spans = memos.read_spans(self._store, region, instance_type)
        # What EC2 forgets in the next hour is not worth a question for all of it.
        missing = holes(spans, now - KEPT + OVERLAP, now)
        return max(now - KEPT, (missing[0].begin if missing else now) - OVERLAP)

    def _keep(
        self, market: RegionMarket, window: Window, rows: Sequence[ZoneQuote], now: dt.datetime
    ) -> int:
        """How many rows are new. First the rows and then the words that they are there."""
        if not market.zone_ids:
            return 0
        new = self._store.add_quotes(rows)
        for name in window.types:
            spans = memos.read_spans(self._store, market.region, name)
            spans = merged((*spans, Span(begin=window.since, end=now)))
            memos.write_spans(self._store, spans, now, market.region, name)
        return new


def failed_whole(
    market: RegionMarket, types: frozenset[str], now: dt.datetime, error: Exception
) -> RegionMarket:
    """`market` after a read of these types that ended by a bug of ours: what it holds stays, and
    all of it is asked for again as after a failure."""
    trouble = f"an error of spotrunner's own ({type(error).__name__}: {error}); see the log"
    return dataclasses.replace(
        market,
        zones=market.zones.failed({market.region}, now, trouble),
        offered=market.offered.failed(types, now, trouble),
        prices=market.prices.failed(types, now, trouble),
        on_demand=market.on_demand.failed(types, now, trouble),
    )


def _failed(
    source: Source[T],
    what: str,
    region: str,
    keys: Collection[str],
    now: dt.datetime,
    error: PortError,
) -> Source[T]:
    if str(error) != source.trouble:  # an outage is spoken of once
        log.warning("not read", what=what, region=region, error=str(error))
    return source.failed(keys, now, str(error), isinstance(error, NotAuthorized))


def _stored(quotes: Sequence[Quote], zone_ids: Mapping[str, str]) -> list[ZoneQuote]:
    """By zone id. A zone that the account has no name for is none that it can launch in."""
    return [
        ZoneQuote(
            region=quote.pool.region,
            zone_id=zone_ids[quote.pool.zone],
            instance_type=quote.pool.instance_type,
            at=quote.at,
            price_usd_micros_hour=quote.price_usd_micros_hour,
        )
        for quote in quotes
        if quote.pool.zone in zone_ids
    ]


def _joined(
    source: Source[Quotes], types: Collection[str], quotes: Sequence[Quote], now: dt.datetime
) -> Mapping[str, Quotes]:
    """By type: what was held and what came, of the last days, with the price in force before."""
    found: dict[str, Quotes] = {}
    for name in types:
        held = (it for of in source.values.get(name, {}).values() for it in of)
        came = (quote for quote in quotes if quote.pool.instance_type == name)
        every = sorted({*held, *came}, key=lambda quote: (quote.at, quote.price_usd_micros_hour))
        found[name] = {
            pool: _lately(history, now - HISTORY) for pool, history in by_pool(every).items()
        }
    return found


def _lately(history: tuple[Quote, ...], since: dt.datetime) -> tuple[Quote, ...]:
    first = max((n for n, quote in enumerate(history) if quote.at <= since), default=0)
    return history[first:]
