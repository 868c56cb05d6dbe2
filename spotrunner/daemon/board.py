"""The latest view of the market: what is offered where, and for how much.

Every region is read on its own. One that does not answer keeps its last good data, whose age is
known; nothing stops for it.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field

import structlog

from spotrunner.core.market import spot_and_on_demand
from spotrunner.core.model import Offer, Pool, Quote
from spotrunner.core.tracked import RegionMarket
from spotrunner.daemon.remembered import remembered
from spotrunner.daemon.tracker import Reading, Tracker, failed_whole
from spotrunner.ports import Clock, MarketStore, PortError, Prices, Unavailable

log = structlog.get_logger(__name__)

# A type that nobody asked for during this time is read no more.
FORGOTTEN_AFTER = dt.timedelta(days=1)

# A region of which nothing is known is waited for so long, and not again for the same read.
PATIENCE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Sync:
    """What is to be read of a region whatever is known of it; `told` is for all who asked."""

    since: dt.datetime
    types: frozenset[str]
    told: Future[Reading] = field(default_factory=Future)

    def covers(self, since: dt.datetime, types: frozenset[str]) -> bool:
        return self.since <= since and types <= self.types

    def widened(self, since: dt.datetime, types: frozenset[str]) -> Sync:
        return Sync(since=min(self.since, since), types=self.types | types, told=self.told)


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
        # One at a time reads a region. A sync has its turn after the read that is under way, and
        # holds no thread until then.
        self._reads: dict[str, Future[Reading]] = {}
        self._syncs: dict[str, Sync] = {}
        self._queued: dict[str, Sync] = {}
        # reads under way that somebody has waited for in vain
        self._slow: set[Future[Reading]] = set()
        # A read that is over at once is kept by the thread that asked for it, within its call.
        self._lock = threading.RLock()

    def offers(self, regions: Iterable[str], types: Iterable[str]) -> tuple[Offer, ...]:
        """The offers of these types now, by what is held; see `look`."""
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
        wait(reads.values(), timeout=self._patience_s)
        silent = Unavailable(f"no answer within {self._patience_s:g} s: ask again")
        return {region: read.result() if read.done() else silent for region, read in reads.items()}

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
        """What is held of each region. A read of what is stale is begun; only for one that has
        none of these types yet there is a bounded wait, once. It answers a later call."""
        now, wanted, asked_for = self._clock.now(), list(regions), frozenset(types)
        read_of = {region: self._recall(region, asked_for, now) for region in wanted}
        with self._lock:
            self._harvest()
            for region, types_of_region in read_of.items():
                if types_of_region and region not in self._reads:
                    self._read_if_due(region, types_of_region, now)
            # Who asks for nothing only lets the time come for what is read anyway.
            reads = [
                self._reads[region]
                for region in read_of
                if region in self._reads and self._is_waited_for(region, asked_for)
            ]
        if reads:
            wait(reads, timeout=self._patience_s)
        with self._lock:
            self._harvest()
            self._slow.update(read for read in reads if not read.done())
            return {region: self._held(region) for region in wanted}

    def sync(
        self, regions: Collection[str], types: Iterable[str], since: dt.datetime, timeout_s: float
    ) -> Mapping[str, Reading | None]:
        """Read all spot prices from `since` on, of the types that are read and of these, whatever
        is known of them; None for a region that is still at it after `timeout_s`. Who asks while
        the same is under way gets the answer of that."""
        now, more = self._clock.now(), frozenset(types)
        read_of = {region: self._recall(region, more, now) for region in regions}
        with self._lock:
            self._harvest()
            told = {region: self._join(region, of, since) for region, of in read_of.items()}
            self._harvest()
        wait(told.values(), timeout=timeout_s)
        return {region: read.result() if read.done() else None for region, read in told.items()}

    def _offered(self, region: str, names: Sequence[str]) -> frozenset[Pool] | PortError:
        try:
            return self._prices.offered(region, names)
        except PortError as error:
            return error

    def _recall(self, region: str, types: frozenset[str], now: dt.datetime) -> frozenset[str]:
        """All types that a read of the region is to tell of. What the store has of those that are
        new here is held from now on: it is served while their read is under way, or fails. Not
        under the lock: the store may be slow."""
        while True:
            with self._lock:
                asked = self._ask(region, types, now)
                before, held = self._markets.get(region), self._held(region)
            try:
                market = remembered(self._store, held, asked, now)
            except Unavailable as error:
                log.warning("not read", what="stored prices", region=region, error=str(error))
                market = held
            with self._lock:
                # What a read has brought meanwhile is newer: this is added to that.
                if self._markets.get(region) is before:
                    self._markets[region] = market
                    return asked

    # -- under the lock ------------------------------------------------------------------------

    def _held(self, region: str) -> RegionMarket:
        return self._markets.get(region, RegionMarket(region=region))

    def _ask(self, region: str, types: frozenset[str], now: dt.datetime) -> frozenset[str]:
        """Remember who is asked for; all that a read of the region is to tell of. One user's look
        at many types must not make every later read a long one."""
        asked_at = {**self._asked_at.get(region, {}), **dict.fromkeys(types, now)}
        recent = {name: at for name, at in asked_at.items() if now < at + FORGOTTEN_AFTER}
        self._asked_at[region] = recent
        return self._types.union(recent)

    def _read_if_due(self, region: str, types: frozenset[str], now: dt.datetime) -> None:
        market = self._held(region)
        if self._tracker.is_due(market, types, now):
            self._begin(region, market, types, now, None)

    def _begin(
        self,
        region: str,
        market: RegionMarket,
        types: frozenset[str],
        now: dt.datetime,
        since: dt.datetime | None,
    ) -> None:
        read = self._executor.submit(self._tracker.read, market, types, now, since)
        self._reads[region] = read
        read.add_done_callback(self._ended)

    def _ended(self, _: Future[Reading]) -> None:
        with self._lock:
            self._harvest()

    def _is_waited_for(self, region: str, types: frozenset[str]) -> bool:
        """Only while no offer can be made of one of these types, and no second time."""
        if region in self._syncs or self._reads[region] in self._slow:
            return False
        market = self._held(region)
        priced = market.prices.said.keys() | market.on_demand.said.keys()
        return bool(types - (market.offered.said.keys() & priced))

    def _join(self, region: str, types: frozenset[str], since: dt.datetime) -> Future[Reading]:
        """The sync that is under way, if it tells as much; else the one that comes next."""
        under_way = self._syncs.get(region)
        if under_way is not None and under_way.covers(since, types):
            return under_way.told
        sync = self._queued.get(region, Sync(since=since, types=types)).widened(since, types)
        self._queued[region] = sync
        return sync.told

    def _harvest(self) -> None:
        """Keep what reads have brought, and begin what waited for their end."""
        for region in [region for region, read in self._reads.items() if read.done()]:
            read = self._reads.pop(region)
            self._slow.discard(read)
            reading = self._reading(region, read)
            self._markets[region] = reading.market
            if (sync := self._syncs.pop(region, None)) is not None:
                sync.told.set_result(reading)
        for region in [region for region in self._queued if region not in self._reads]:
            # One that is over at once harvests too, and may have begun the next.
            if (sync := self._queued.pop(region, None)) is not None:
                self._syncs[region] = sync
                now = self._clock.now()
                self._begin(region, self._held(region), sync.types, now, sync.since)

    def _reading(self, region: str, read: Future[Reading]) -> Reading:
        """What it brought. A bug of ours is the region's trouble, and takes nothing away of what is
        held: rounds go on."""
        error = read.exception()
        if not isinstance(error, Exception):
            return read.result()
        log.error("not read", what="market", region=region, exc_info=error)
        now = self._clock.now()
        types = self._ask(region, frozenset(), now)
        return Reading(market=failed_whole(self._held(region), types, now, error))
