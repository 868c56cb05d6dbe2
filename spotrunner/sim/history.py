"""What is known of the past of some pools: prices, on-demand prices and, from traces, capacity.

A History is checked when it is made, so that a back-test never guesses: what is wrong raises
BadHistory, and what is odd is a warning. Both name the pool, and the file and line if there is one.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from spotrunner.core.model import Pool
from spotrunner.core.money import usd
from spotrunner.sim.steps import Steps

# EC2 repeats a price that stands still about once a day: two days without a row are a hole.
GAP = dt.timedelta(hours=48)
# Regions are read one after the other.
_LATE = dt.timedelta(hours=1)
# A list of warnings is read by people.
MOST_WARNINGS = 20
_MICROS = 1_000_000


class BadHistory(Exception):
    """These prices cannot be back-tested. The message is for people, complete with the fix."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A time of which nothing is known of a pool."""

    begin: dt.datetime
    end: dt.datetime

    @property
    def hours(self) -> float:
        return (self.end - self.begin).total_seconds() / 3600


@dataclass(frozen=True, kw_only=True)
class PoolHistory:
    """`prices` hold from `first_at` on, micro-dollars an hour. `capacity` is whether EC2 had the
    pool; None where nobody knows."""

    pool: Pool
    on_demand_usd_micros_hour: int
    prices: Steps[int]
    first_at: dt.datetime
    capacity: Steps[bool] | None = None
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, kw_only=True)
class History:
    """`source` says in words where it came from."""

    start: dt.datetime
    end: dt.datetime
    pools: tuple[PoolHistory, ...]
    source: str
    warnings: tuple[str, ...] = ()

    @property
    def gaps(self) -> tuple[Gap, ...]:
        return tuple(gap for each in self.pools for gap in each.gaps)

    @property
    def knows_capacity(self) -> bool:
        return all(each.capacity is not None for each in self.pools)

    @property
    def provenance(self) -> str:
        """One plain line: what was recorded, and what was drawn."""
        if self.knows_capacity:
            return f"prices and capacity: recorded, from {self.source}"
        return (
            f"prices: recorded, from {self.source}; capacity: synthetic, drawn with the statistics"
            " of nine zones measured in 2023"
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One recorded price. `place` is the file and line, for messages."""

    pool: Pool
    at: dt.datetime
    price_usd_micros_hour: int
    place: str = ""


def from_rows(
    rows: Iterable[Row],
    on_demand: Mapping[tuple[str, str], int],
    source: str,
    *,
    until: dt.datetime | None = None,
    unread: Mapping[tuple[str, str], Sequence[Gap]] | None = None,
) -> History:
    """`on_demand` is by (region, type), micro-dollars an hour. Somebody who read the prices knows
    `until` when, and the times that are `unread`; from rows alone the last one is the end, and a
    long silence a gap. Raises BadHistory where nothing is left to be tested."""
    by_pool: dict[Pool, list[Row]] = {}
    for row in rows:
        by_pool.setdefault(row.pool, []).append(row)
    if not by_pool:
        raise BadHistory(
            f"{source} has no price of the job's types in its regions: give the job types and"
            " regions that it has, or other prices"
        )
    warnings: list[str] = []
    end = until or max(row.at for each in by_pool.values() for row in each)
    pools = []
    for pool in sorted(by_pool):
        dear = on_demand.get((pool.region, pool.instance_type))
        if dear is None:
            warnings.append(
                f"{pool} has no on-demand price and is left out: add --on-demand"
                f" {pool.instance_type}=USD, or an ondemand.csv"
            )
        else:
            known = None if unread is None else unread.get((pool.region, pool.instance_type), ())
            pools.append(_pool_history(pool, by_pool[pool], dear, end, known, warnings))
    if not pools:
        types = sorted({pool.instance_type for pool in by_pool})
        raise BadHistory(
            f"no pool in {source} has an on-demand price, and without one nothing bounds a spot"
            f" price: add --on-demand {types[0]}=USD, or an ondemand.csv"
        )
    start = min(each.first_at for each in pools)
    return History(
        start=start,
        end=end,
        pools=tuple(pools),
        source=source,
        warnings=_bounded([*_late_beginnings(pools, start), *warnings]),
    )


def _late_beginnings(pools: Sequence[PoolHistory], start: dt.datetime) -> list[str]:
    """What was not read before a pool's first price has no last price that could hold: a line for
    each type and region that begins later than the history does."""
    begins = {
        (each.pool.instance_type, each.pool.region): gap.end
        for each in pools
        for gap in each.gaps
        if gap.begin < each.first_at and gap.end - start > _LATE
    }
    return [
        f"the prices of {kind} in {region} begin at {at:%Y-%m-%d %H:%M} UTC: no run starts before"
        for (kind, region), at in sorted(begins.items())
    ]


def _pool_history(
    pool: Pool,
    rows: Sequence[Row],
    on_demand: int,
    end: dt.datetime,
    unread: Sequence[Gap] | None,
    warnings: list[str],
) -> PoolHistory:
    _warn_of_order(pool, rows, warnings)
    steps = _steps(pool, rows, warnings)
    first_at = next(iter(steps))
    gaps = tuple(_silences([*steps, end]) if unread is None else unread)
    warnings += [
        f"{pool}: no price for {gap.hours:.0f} h from {gap.begin:%Y-%m-%d %H:%M} on: the last one"
        " is taken to hold, and no run starts in there"
        for gap in gaps
        if gap.begin >= first_at
    ]
    return PoolHistory(
        pool=pool,
        on_demand_usd_micros_hour=on_demand,
        prices=Steps((at, row.price_usd_micros_hour) for at, row in steps.items()),
        first_at=first_at,
        gaps=gaps,
    )


def _warn_of_order(pool: Pool, rows: Sequence[Row], warnings: list[str]) -> None:
    """EC2 itself answers with the newest first: only a mixture of both orders is odd."""
    pairs = list(itertools.pairwise(rows))
    back = [later for row, later in pairs if later.at < row.at]
    if back and any(later.at > row.at for row, later in pairs):
        where = f" (from {back[0].place} on)" if back[0].place else ""
        warnings.append(f"{pool}: its prices are not in the order of time{where}: sorted")


def _steps(pool: Pool, rows: Sequence[Row], warnings: list[str]) -> dict[dt.datetime, Row]:
    """By time, in its order. Of two at one time the last one counts."""
    steps: dict[dt.datetime, Row] = {}
    for row in sorted(rows, key=lambda row: row.at):
        before = steps.get(row.at)
        if before is not None and before.price_usd_micros_hour != row.price_usd_micros_hour:
            where = f" ({row.place})" if row.place else ""
            warnings.append(
                f"{pool}: two prices at {row.at:%Y-%m-%d %H:%M:%S}{where}: the last one counts"
            )
        steps[row.at] = row
    return steps


def _silences(times: Sequence[dt.datetime]) -> Iterator[Gap]:
    for begin, later in itertools.pairwise(times):
        if later - begin > GAP:
            yield Gap(begin=begin, end=later)


def with_dear_prices(history: History, by: str) -> History:
    """With a warning for each pool that cost more than on-demand, which EC2 lets no spot price do:
    `by` is what told the on-demand price."""
    found = []
    for each in history.pools:
        dear = each.on_demand_usd_micros_hour
        prices = [price for _, price in each.prices.since(each.first_at, history.end)]
        above = sum(price > dear for price in prices)
        if above:
            found.append(
                f"{above} of {len(prices)} prices of {each.pool} are above its on-demand price of"
                f" {usd(dear)} an hour: is {by} right?"
            )
    return dataclasses.replace(history, warnings=(*_bounded(found), *history.warnings))


def _bounded(warnings: Sequence[str]) -> tuple[str, ...]:
    if len(warnings) <= MOST_WARNINGS:
        return tuple(warnings)
    more = len(warnings) - MOST_WARNINGS
    return (*warnings[:MOST_WARNINGS], f"... and {more} more like these")


def usd_micros(text: str, place: str) -> int:
    """A price in USD an hour as micro-dollars. Raises BadHistory for what is no price."""
    try:
        price = Decimal(text.strip())
    except InvalidOperation:
        raise BadHistory(f"{place}: expected a price in USD an hour, found {text!r}") from None
    if not price.is_finite() or price <= 0:
        raise BadHistory(f"{place}: expected a price above 0 USD an hour, found {text.strip()}")
    micros = round(price * _MICROS)
    if micros < 1 or not math.isfinite(float(price)) or price > 100_000:
        raise BadHistory(f"{place}: {text.strip()} USD an hour is no price of an instance")
    return micros
