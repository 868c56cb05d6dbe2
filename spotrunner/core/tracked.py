"""What the sources outside said last of a region's market, when they did, and why the newest try
failed. A source that is silent takes nothing away of what it said before.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from spotrunner.core.model import Pool, Quote

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Said(Generic[T]):
    at: dt.datetime
    value: T


@dataclass(frozen=True, kw_only=True)
class Source(Generic[T]):
    """`said` is by what was asked for, such as an instance type; `tried` is what the newest try
    asked for, at `tried_at`. `is_denied`: only a person can mend the trouble."""

    said: Mapping[str, Said[T]] = field(default_factory=dict)
    tried: frozenset[str] = frozenset()
    tried_at: dt.datetime | None = None
    trouble: str = ""
    is_denied: bool = False

    @property
    def values(self) -> Mapping[str, T]:
        return {key: said.value for key, said in self.said.items()}

    @property
    def read_at(self) -> dt.datetime | None:
        """When the oldest of it was said; None where nothing was."""
        return min((said.at for said in self.said.values()), default=None)

    def heard(self, values: Mapping[str, T], now: dt.datetime) -> Source[T]:
        new = {key: Said(at=now, value=value) for key, value in values.items()}
        return Source(said={**self.said, **new}, tried=frozenset(values), tried_at=now)

    def failed(
        self, keys: Collection[str], now: dt.datetime, trouble: str, is_denied: bool = False
    ) -> Source[T]:
        return dataclasses.replace(
            self, tried=frozenset(keys), tried_at=now, trouble=trouble, is_denied=is_denied
        )

    def only(self, keys: Collection[str]) -> Source[T]:
        """What was said of these; the rest is forgotten."""
        said = {key: said for key, said in self.said.items() if key in keys}
        return dataclasses.replace(self, said=said, tried=self.tried.intersection(keys))

    def is_due(
        self,
        keys: frozenset[str],
        now: dt.datetime,
        every: dt.timedelta,
        again_after: dt.timedelta,
    ) -> bool:
        """Whether to ask for `keys` now: what was never asked for at once, what is known when it is
        older than `every`, and what failed again after `again_after`, unless it was denied."""
        if keys - self.said.keys() - self.tried:
            return True
        if self.trouble and self.tried_at is not None:
            return now >= self.tried_at + (every if self.is_denied else again_after)
        return any(key not in self.said or now >= self.said[key].at + every for key in keys)


Quotes = Mapping[Pool, tuple[Quote, ...]]


@dataclass(frozen=True, kw_only=True)
class RegionMarket:
    """One region: its zones (name -> id, under the region's own name), and by type where it is
    offered, its spot quotes of the last days and its on-demand price, micro-dollars an hour (None:
    AWS lists none). `types` are those that are looked at."""

    region: str
    types: frozenset[str] = frozenset()
    zones: Source[Mapping[str, str]] = field(default_factory=Source)
    offered: Source[frozenset[Pool]] = field(default_factory=Source)
    prices: Source[Quotes] = field(default_factory=Source)
    on_demand: Source[int | None] = field(default_factory=Source)

    @property
    def zone_ids(self) -> Mapping[str, str]:
        return self.zones.values.get(self.region, {})

    @property
    def pools(self) -> frozenset[Pool]:
        return frozenset(pool for pools in self.offered.values.values() for pool in pools)

    @property
    def quotes(self) -> Quotes:
        return {
            pool: quotes
            for by_pool in self.prices.values.values()
            for pool, quotes in by_pool.items()
        }

    @property
    def on_demand_usd_micros(self) -> Mapping[str, int]:
        return {name: price for name, price in self.on_demand.values.items() if price is not None}

    @property
    def sources(self) -> Mapping[str, Source[Any]]:
        """By the name that people know them by."""
        return {
            "spot prices": self.prices,
            "on-demand prices": self.on_demand,
            "offerings": self.offered,
            "zones": self.zones,
        }

    @property
    def read_at(self) -> dt.datetime | None:
        """How old the oldest part of it is; None while any part is missing."""
        ages = [source.read_at for source in self.sources.values()]
        known = [age for age in ages if age is not None]
        return min(known) if len(known) == len(ages) else None

    @property
    def trouble(self) -> str:
        """Empty when all is well. Sources that fail in the same words are named together."""
        names: dict[str, list[str]] = {}
        for name, source in self.sources.items():
            if source.trouble:
                names.setdefault(source.trouble, []).append(name)
        return "; ".join(f"{', '.join(of)}: {trouble}" for trouble, of in names.items())

    def only(self, types: frozenset[str]) -> RegionMarket:
        """What is known of these types."""
        return dataclasses.replace(
            self,
            types=self.types & types,
            offered=self.offered.only(types),
            prices=self.prices.only(types),
            on_demand=self.on_demand.only(types),
        )
