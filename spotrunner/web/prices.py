"""What pools cost and have cost, and how old that knowledge is."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from spotrunner.core.catalogue import closest_name, region_problem, type_problem
from spotrunner.core.history import Span, Step, holes, steps, summary
from spotrunner.core.located import Problem
from spotrunner.core.tracked import RegionMarket, Source
from spotrunner.web import errors
from spotrunner.web.deps import Deps
from spotrunner.web.find import past
from spotrunner.web.views import Json, when

SINCE_DAYS = 30
# EC2 remembers no more.
MOST_DAYS = 90
# 90 days of all regions are some hundred pages; who asked sees what came until then.
SYNC_TIMEOUT_S = 240.0
# Prices are read every ten minutes: when three reads brought nothing, nobody knows them now.
_FRESH_S = 3 * 600


class SyncBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    days: Annotated[StrictInt, Field(ge=1, le=MOST_DAYS)] = MOST_DAYS
    types: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()


class PriceCalls:
    """`/prices` and `/prices/sync`."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/prices", self.prices)
        router.add_api_route("/prices/sync", self.sync, methods=["POST"])
        return router

    def prices(
        self,
        type_: Annotated[list[str] | None, Query(alias="type")] = None,
        region: Annotated[list[str] | None, Query()] = None,
        since: str = f"{SINCE_DAYS}d",
        steps: bool = False,
    ) -> Json:
        """By pool, the price now and over the time from `since` on: a time, or how long ago. All
        types that are looked at, or only those named; with `steps` also every price, and the
        `hazards` that rounds decide with: what a back-test needs. `unknown` are the times whose
        prices were never read, with the time since the last read where that is long ago."""
        deps, now = self._deps, self._deps.clock.now()
        regions = self._regions(region or ())
        self._check_types(type_ or ())
        begin = past(since, now)
        markets = deps.tracked(regions, type_ or deps.types)
        found = [
            of_type
            for market in markets.values()
            for of_type in _types(deps, market, type_ or (), Span(begin=begin, end=now))
        ]
        rows = [row for of_type in found for row in of_type.rows(steps)]
        answer: Json = {
            "now": when(now),
            "since": when(begin),
            "pools": sorted(rows, key=_by_price),
            "unknown": [hole for of_type in found for hole in of_type.unknown()],
            "regions": {name: region_view(market) for name, market in markets.items()},
        }
        if steps:
            hazards = deps.outlook(regions, type_ or deps.types).hazards
            answer["hazards"] = dataclasses.asdict(hazards)
        return answer

    def sync(self, body: SyncBody) -> Json:
        """Read the last `days` again, of all types that are looked at and of those named."""
        regions = self._regions(body.regions)
        self._check_types(body.types)
        since = self._deps.clock.now() - dt.timedelta(days=body.days)
        types = body.types or self._deps.types
        readings = self._deps.sync(regions, types, since, SYNC_TIMEOUT_S)
        return {
            "since": when(since),
            "regions": {
                name: None
                if reading is None
                else {
                    "rows": reading.rows,
                    "new_rows": reading.new_rows,
                    "trouble": reading.trouble,
                }
                for name, reading in readings.items()
            },
        }

    def _regions(self, asked: Sequence[str]) -> tuple[str, ...]:
        """Those asked for, all where none are. Raises ApiError."""
        ours = self._deps.regions
        wrong = [
            Problem(message=_region_problem(name, ours), key="region")
            for name in asked
            if name not in ours
        ]
        if wrong:
            raise errors.refused(wrong)
        return tuple(dict.fromkeys(asked)) or ours

    def _check_types(self, asked: Sequence[str]) -> None:
        """Raises ApiError."""
        problems = [type_problem(name) for name in asked]
        wrong = [Problem(message=problem, key="type") for problem in problems if problem]
        if wrong:
            raise errors.refused(wrong)


def _region_problem(name: str, ours: Sequence[str]) -> str:
    problem = region_problem(name)
    likely = closest_name(name, ours)
    if problem is not None and likely is None:
        return problem
    if problem is not None:
        return f"{name} is not an AWS region; nearest of the daemon's: {likely}"
    return (
        f"the daemon does not look at {name}, only at {', '.join(ours)}: add it to `regions` in the"
        " daemon's settings and restart it"
    )


# -- one type in one region --------------------------------------------------------------------

Prices = Sequence[tuple[dt.datetime, int]]


@dataclass(frozen=True, kw_only=True)
class _OfType:
    """A type in a region over a time: of each zone its prices, and when they were seen at all."""

    market: RegionMarket
    instance_type: str
    window: Span
    known: tuple[Span, ...]
    by_zone: Mapping[str, Prices]

    def rows(self, with_steps: bool) -> Iterator[Json]:
        offered = self.market.offered.values.get(self.instance_type)
        zones = {pool.zone for pool in offered or ()}
        for zone in sorted(zones | self.by_zone.keys()):
            row = self._row(zone)
            row["offered"] = None if offered is None else zone in zones
            if with_steps:
                row["steps"] = [
                    [when(step.begin), when(step.end), usd_hour(step.price_usd_micros_hour)]
                    for step in self._steps(zone)
                ]
            yield row

    def unknown(self) -> Iterator[Json]:
        """Of a type that was never read at all nothing is invented either: its region's line tells
        of it once, and not once a type."""
        if not self.known:
            return
        for hole in holes(self.known, self.window.begin, self.window.end):
            # Neither is a minute a hole, nor the time since the last read, if that is in order.
            if hole.seconds > (60 if hole.end < self.window.end else _FRESH_S):
                yield {
                    "region": self.market.region,
                    "instance_type": self.instance_type,
                    "from": when(hole.begin),
                    "to": when(hole.end),
                }

    def _steps(self, zone: str) -> tuple[Step, ...]:
        return steps(self.by_zone.get(zone, ()), self.known, self.window.begin, self.window.end)

    def _row(self, zone: str) -> Json:
        over = summary(self._steps(zone))
        quotes = self.by_zone.get(zone, ())
        price = quotes[-1][1] if quotes else None
        on_demand = self.market.on_demand_usd_micros.get(self.instance_type)
        return {
            "region": self.market.region,
            "zone": zone,
            "zone_id": self.market.zone_ids.get(zone),
            "instance_type": self.instance_type,
            "price_usd_hour": usd_hour(price),
            "price_since": when(quotes[-1][0]) if quotes else None,
            "change_fraction": over.change_fraction if over else None,
            "min_usd_hour": usd_hour(over.least) if over else None,
            "mean_usd_hour": usd_hour(over.mean) if over else None,
            "max_usd_hour": usd_hour(over.most) if over else None,
            "known_s": over.known_s if over else 0.0,
            "ondemand_usd_hour": usd_hour(on_demand),
            "saved_fraction": 1 - price / on_demand if price and on_demand else None,
        }


def _types(
    deps: Deps, market: RegionMarket, wanted: Sequence[str], window: Span
) -> Iterator[_OfType]:
    names = {id_: name for name, id_ in market.zone_ids.items()}
    for instance_type in sorted(market.types.intersection(wanted) if wanted else market.types):
        rows = deps.market.zone_quotes(market.region, [instance_type], window.begin, window.end)
        by_zone: dict[str, list[tuple[dt.datetime, int]]] = {}
        for row in rows:
            if row.zone_id in names:
                price = (row.at, row.price_usd_micros_hour)
                by_zone.setdefault(names[row.zone_id], []).append(price)
        known = tuple(deps.known(market.region, instance_type))
        if not by_zone:
            # Not kept (the zones' ids are not known), but seen.
            by_zone, known = _held(market, instance_type)
        yield _OfType(
            market=market,
            instance_type=instance_type,
            window=window,
            known=known,
            by_zone=by_zone,
        )


def _held(
    market: RegionMarket, instance_type: str
) -> tuple[dict[str, list[tuple[dt.datetime, int]]], tuple[Span, ...]]:
    said = market.prices.said.get(instance_type)
    by_zone: dict[str, list[tuple[dt.datetime, int]]] = {
        pool.zone: [(quote.at, quote.price_usd_micros_hour) for quote in quotes]
        for pool, quotes in (said.value if said else {}).items()
    }
    begins = [quotes[0][0] for quotes in by_zone.values()]
    known = (Span(begin=min(begins), end=said.at),) if said and begins else ()
    return by_zone, known


# -- for people --------------------------------------------------------------------------------


def region_view(market: RegionMarket) -> Json:
    """When a region was read and what keeps it from being read, as a whole and by source."""
    return {
        "read_at": when(market.read_at),
        "trouble": market.trouble,
        "sources": {name: source_view(source) for name, source in market.sources.items()},
    }


def source_view(source: Source[Any]) -> Json:
    return {
        "read_at": when(source.read_at),
        "tried_at": when(source.tried_at),
        "trouble": source.trouble,
    }


def usd_hour(usd_micros: int | None) -> float | None:
    return None if usd_micros is None else usd_micros / 1_000_000


def _by_price(row: Json) -> tuple[str, float, str]:
    price = row["price_usd_hour"]
    return row["instance_type"], float("inf") if price is None else price, row["zone"]
