"""The latest view of the market: what is offered where, and for how much.

Every region is read on its own. One that does not answer keeps its last good data, whose age is
known; nothing stops for it.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field

import structlog

from spotrunner.core.market import spot_and_on_demand
from spotrunner.core.model import Offer, Pool, Quote
from spotrunner.ports import Clock, PortError, Prices

log = structlog.get_logger(__name__)

# The price of an instance-hour is looked up at its start: an outage of ours up to this long loses
# none of them.
HISTORY = dt.timedelta(days=2)
# A type that nobody asked for during this time is read no more.
FORGOTTEN_AFTER = dt.timedelta(days=1)

# A region that does not answer for so long keeps nobody waiting.
PATIENCE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class RegionMarket:
    """What one region answered last of `types`. `trouble` is why the newest try failed, if it
    did."""

    types: frozenset[str] = frozenset()
    pools: frozenset[Pool] = frozenset()
    quotes: Mapping[Pool, tuple[Quote, ...]] = field(default_factory=dict)
    on_demand: Mapping[str, int] = field(default_factory=dict)
    read_at: dt.datetime | None = None
    tried_at: dt.datetime | None = None
    trouble: str = ""


class Board:
    """Reads through `prices` at most every `every_s`, in `executor`. Safe from several threads."""

    def __init__(
        self,
        prices: Prices,
        clock: Clock,
        executor: Executor,
        every_s: float,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._prices = prices
        self._clock = clock
        self._executor = executor
        self._every = dt.timedelta(seconds=every_s)
        self._markets: dict[str, RegionMarket] = {}
        # by region and type: when somebody last asked for it
        self._asked_at: dict[str, dict[str, dt.datetime]] = {}
        self._patience_s = patience_s
        self._reads: dict[str, Future[RegionMarket]] = {}
        self._lock = threading.Lock()

    def offers(self, regions: Iterable[str], types: Iterable[str]) -> tuple[Offer, ...]:
        """The offers of these types now, after reading what is unknown or stale."""
        now, wanted = self._clock.now(), frozenset(types)
        found: list[Offer] = []
        for region, market in self._fresh(regions, wanted, now).items():
            pools = sorted(pool for pool in market.pools if pool.instance_type in wanted)
            on_demand = {(region, name): price for name, price in market.on_demand.items()}
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

    def _offered(self, region: str, names: Sequence[str]) -> frozenset[Pool] | PortError:
        try:
            return self._prices.offered(region, names)
        except PortError as error:
            return error

    def _fresh(
        self, regions: Iterable[str], types: frozenset[str], now: dt.datetime
    ) -> Mapping[str, RegionMarket]:
        """What is held of each region, after a bounded wait for what is stale. A region that does
        not answer in time answers a later call."""
        wanted = list(regions)
        with self._lock:
            self._harvest()
            for region in wanted:
                market = self._markets.get(region, RegionMarket())
                asked = self._ask(region, types, now)
                if types and region not in self._reads and self._is_stale(market, types, now):
                    read = self._executor.submit(self._read, region, market, asked, now)
                    self._reads[region] = read
            reads = [self._reads[region] for region in wanted if region in self._reads]
        wait(reads, timeout=self._patience_s)
        with self._lock:
            self._harvest()
            return {region: self._markets.get(region, RegionMarket()) for region in wanted}

    def _harvest(self) -> None:
        """Keep what reads have brought. Under the lock."""
        for region in [region for region, read in self._reads.items() if read.done()]:
            self._markets[region] = self._reads.pop(region).result()

    def _ask(self, region: str, types: frozenset[str], now: dt.datetime) -> frozenset[str]:
        """Remember who is asked for; all that a read of the region is to tell of. Under the lock:
        one user's look at many types must not make every later read a long one."""
        asked_at = {**self._asked_at.get(region, {}), **dict.fromkeys(types, now)}
        recent = {name: at for name, at in asked_at.items() if now < at + FORGOTTEN_AFTER}
        self._asked_at[region] = recent
        return frozenset(recent)

    def _is_stale(self, market: RegionMarket, types: frozenset[str], now: dt.datetime) -> bool:
        if not types <= market.types or market.tried_at is None:
            return True
        # A failed read is repeated sooner, but not in every round.
        wait = self._every if not market.trouble else self._every / 10
        return now >= market.tried_at + wait

    def _read(
        self, region: str, old: RegionMarket, types: frozenset[str], now: dt.datetime
    ) -> RegionMarket:
        names: Sequence[str] = sorted(types)
        try:
            pools = self._prices.offered(region, names)
            quotes = self._prices.quotes(region, names, now - HISTORY)
            on_demand = self._prices.on_demand(region, names)
        except PortError as error:
            log.warning("prices not read", region=region, error=str(error))
            return RegionMarket(
                types=types,
                pools=old.pools,
                quotes=old.quotes,
                on_demand=old.on_demand,
                read_at=old.read_at,
                tried_at=now,
                trouble=str(error),
            )
        by_pool: dict[Pool, list[Quote]] = {}
        for quote in quotes:
            by_pool.setdefault(quote.pool, []).append(quote)
        return RegionMarket(
            types=types,
            pools=pools,
            quotes={pool: tuple(history) for pool, history in by_pool.items()},
            on_demand=on_demand,
            read_at=now,
            tried_at=now,
        )
