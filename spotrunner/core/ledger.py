"""The ledger: what each attempt cost on each day, cut at midnight of the budgets' zone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from spotrunner.core.model import Attempt, Market
from spotrunner.core.money import (
    accrued,
    extras_cost,
    instance_cost,
    moved_cost,
    on_demand_cost,
    seconds_between,
)
from spotrunner.core.windows import local_day, midnight

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One attempt's cost on one day, micro-dollars: the instance, its disk and address, and bytes
    between regions. `on_demand_usd_micros` is what all of that would have been on demand;
    `estimated` where nobody can say any more how or when the attempt ended."""

    attempt: str
    job_id: str
    region: str
    market: Market
    day: dt.date
    lived_s: int
    instance_usd_micros: int
    extras_usd_micros: int
    transfer_usd_micros: int
    on_demand_usd_micros: int
    estimated: bool

    @property
    def cost_usd_micros(self) -> int:
        return self.instance_usd_micros + self.extras_usd_micros + self.transfer_usd_micros


def entries(attempt: Attempt, tz: str, now: dt.datetime) -> tuple[Entry, ...]:
    """So far, or in the end. They sum to `accrued`, to the micro-dollar: bytes are booked on the
    day of the launch, and what roundings leave over on the last day."""
    # EC2's clock may be ahead of ours: what has ended has lived to its end.
    end = attempt.ended_at or now
    total = accrued(attempt, end)
    if attempt.launched_at is None:
        # Nobody ever saw it: what was booked for it, if anything, was for its first paid step.
        unseen = _entry(attempt, local_day(tz, attempt.intent_at), _Sums(instance=total), _Sums())
        return (unseen,) if total else ()
    end = max(attempt.launched_at, end)
    moved, extras = moved_cost(attempt), extras_cost(attempt, end)
    instance, on_demand = total - extras - moved, on_demand_cost(attempt, end)
    booked = _Sums()
    found = []
    for begin, until in _days(attempt.launched_at, end, tz):
        is_last = until >= end
        # What all days up to this one come to, less those before it.
        so_far = _Sums(
            instance=instance if is_last else instance_cost(attempt, until),
            extras=extras if is_last else extras_cost(attempt, until),
            moved=moved,
            on_demand=on_demand if is_last else on_demand_cost(attempt, until),
        )
        day, lived_s = local_day(tz, begin), seconds_between(begin, until)
        found.append(_entry(attempt, day, so_far, booked, lived_s))
        booked = so_far
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class _Sums:
    instance: int = 0
    extras: int = 0
    moved: int = 0
    on_demand: int = 0


def _days(
    begin: dt.datetime, end: dt.datetime, tz: str
) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """The parts of [begin, end] that lie in one day each; at least one."""
    while True:
        until = midnight(tz, local_day(tz, begin) + _DAY)
        yield begin, min(until, end)
        if until >= end:
            return
        begin = until


def _entry(attempt: Attempt, day: dt.date, so_far: _Sums, booked: _Sums, lived_s: int = 0) -> Entry:
    return Entry(
        attempt=attempt.id,
        job_id=attempt.job_id,
        region=attempt.offer.pool.region,
        market=attempt.offer.market,
        day=day,
        lived_s=lived_s,
        instance_usd_micros=so_far.instance - booked.instance,
        extras_usd_micros=so_far.extras - booked.extras,
        transfer_usd_micros=so_far.moved - booked.moved,
        on_demand_usd_micros=so_far.on_demand - booked.on_demand,
        estimated=attempt.estimated,
    )
