"""The latest view of the market: what is offered where, and for how much.

Every region is read on its own. One that does not answer keeps its last good data, whose age is
known; nothing stops for it.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, wait

import structlog

from spotrunner.core.market import spot_and_on_demand
from spotrunner.core.model import Offer, Pool, Quote
from spotrunner.core.tracked import RegionMarket
from spotrunner.daemon.remembered import remembered
from spotrunner.daemon.tracker import Reading, Tracker
from spotrunner.ports import Clock, MarketStore, PortError, Prices, Unavailable

log = structlog.get_logger(__name__)

# A type that nobody asked for during this time is read no more.
FORGOTTEN_AFTER = dt.timedelta(days=1)

# A region that does not answer for so long keeps nobody waiting.
PATIENCE_S = 20.0


class Board:
    """Reads through `prices` at most every `every_s`, in `executor`, and keeps what it read in
    `market`. The `types` are always read, others while somebody asks for them. Safe from several
    threads."""

    def __init__(
        self,
        prices: Prices,
        clock: Clock,
        executor: Executor,
        every_s: float,
        patience_s: float = PATIENCE_S,
        *,
        market: MarketStore,
        types: Iterable[str] = (),
    ) -> None:
        self._prices = prices
        self._clock = clock
        self._executor = executor
        self._store = market
        self._tracker = Tracker(prices, market, every_s)
        self._types = frozenset(types)
        self._markets: dict[str, RegionMarket] = {}
        # by region and type: when somebody last asked for it
        self._asked_at: dict[str, dict[str, dt.datetime]] = {}
        self._patience_s = patience_s
        self._reads: dict[str, Future[Reading]] = {}
        self._lock = threading.Lock()

    def offers(self, regions: Iterable[str], types: Iterable[str]) -> tuple[Offer, ...]:
        """The offers of these types now, after reading what is unknown or stale."""
        now, wanted = self._clock.now(), frozenset(types)
        found: list[Offer] = []
        for region, market in self.look(regions, wanted).items():
            pools = sorted(pool for pool in market.pools if pool.instance_type in wanted)
            on_demand = {
                (region, name): price for name, price in market.on_demand_usd_micros.items()
            }
            found += spot_and_on_demand(pools, market.quotes, on_demand, now)
        return tuple(found)

    def offered(
        self, regions: Iterable[str], types: Iterable[str]
    ) -> Mapping[str, frozenset[Pool] | PortError]:
        """By region: the pools in which EC2 offers these types now, or why that is not to be had.
        Asked each time, without any price."""
        names = sorted(types)
        reads = {region: self._executor.submit(self._offered, region, names) for region in regions}
        return {region: read.result() for region, read in reads.items()}

    def quotes(self) -> Mapping[Pool, tuple[Quote, ...]]:
        """The history that is held, of all regions."""
        with self._lock:
            markets = list(self._markets.values())
        return {pool: quotes for market in markets for pool, quotes in market.quotes.items()}

    def markets(self) -> Mapping[str, RegionMarket]:
        """What is held by region, with its age and trouble, for people."""
        with self._lock:
            return dict(self._markets)

    def look(self, regions: Iterable[str], types: Iterable[str]) -> Mapping[str, RegionMarket]:
        """What is held of each region, after a bounded wait for what is stale of these types. A
        region that does not answer in time answers a later call."""
        now, wanted, asked_for = self._clock.now(), list(regions), frozenset(types)
        with self._lock:
            self._harvest()
            for region in wanted:
                types_of_region = self._ask(region, asked_for, now)
                market = self._remembered(region, types_of_region, now)
                if types_of_region and region not in self._reads:
                    self._read_if_due(market, types_of_region, now)
            reads = [self._reads[region] for region in wanted if region in self._reads]
        # Who asks for nothing only lets the time come for what is read anyway.
        wait(reads if asked_for else (), timeout=self._patience_s)
        with self._lock:
            self._harvest()
            return {
                region: self._markets.get(region, RegionMarket(region=region)) for region in wanted
            }

    def sync(
        self, regions: Collection[str], types: Iterable[str], since: dt.datetime, timeout_s: float
    ) -> Mapping[str, Reading | None]:
        """Read all spot prices from `since` on, of the types that are read and of these, whatever
        is known of them; None for a region that is still at it after `timeout_s`."""
        now, more = self._clock.now(), frozenset(types)
        with self._lock:
            self._harvest()
            for region in regions:
                asked = self._ask(region, more, now)
                market = self._remembered(region, asked, now)
                before = self._reads.get(region)
                self._reads[region] = self._executor.submit(
                    self._sync, before, market, asked, now, since
                )
            reads = {region: self._reads[region] for region in regions}
        wait(reads.values(), timeout=timeout_s)
        return {region: read.result() if read.done() else None for region, read in reads.items()}

    def _sync(
        self,
        before: Future[Reading] | None,
        market: RegionMarket,
        types: frozenset[str],
        now: dt.datetime,
        since: dt.datetime,
    ) -> Reading:
        """After the read that is under way: one at a time reads a region."""
        if before is not None:
            market = before.result().market
        return self._tracker.read(market, types, now, since)

    def _offered(self, region: str, names: Sequence[str]) -> frozenset[Pool] | PortError:
        try:
            return self._prices.offered(region, names)
        except PortError as error:
            return error

    # -- under the lock ------------------------------------------------------------------------

    def _read_if_due(self, market: RegionMarket, types: frozenset[str], now: dt.datetime) -> None:
        if self._tracker.is_due(market, types, now):
            read = self._executor.submit(self._tracker.read, market, types, now)
            self._reads[market.region] = read

    def _harvest(self) -> None:
        """Keep what reads have brought."""
        for region in [region for region, read in self._reads.items() if read.done()]:
            self._markets[region] = self._reads.pop(region).result().market

    def _ask(self, region: str, types: frozenset[str], now: dt.datetime) -> frozenset[str]:
        """Remember who is asked for; all that a read of the region is to tell of. One user's look
        at many types must not make every later read a long one."""
        asked_at = {**self._asked_at.get(region, {}), **dict.fromkeys(types, now)}
        recent = {name: at for name, at in asked_at.items() if now < at + FORGOTTEN_AFTER}
        self._asked_at[region] = recent
        return self._types.union(recent)

    def _remembered(self, region: str, types: frozenset[str], now: dt.datetime) -> RegionMarket:
        """What is held, with what the store has of types that are new here: it is served while
        their read is under way, or fails."""
        market = self._markets.get(region, RegionMarket(region=region))
        try:
            market = remembered(self._store, market, types, now)
        except Unavailable as error:
            log.warning("not read", what="stored prices", region=region, error=str(error))
        self._markets[region] = market
        return market
