"""What may be spent, by whom, and what was: the caps of the settings and the sums they bound.

A day is one of `tz`, the budgets' zone. Amounts are micro-dollars.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What may be spent in all and on each day; None: no bound."""

    total_usd_micros: int | None = None
    day_usd_micros: int | None = None


@dataclass(frozen=True, kw_only=True)
class Caps:
    """`each_owner` bounds every owner who has no bound of their own."""

    tz: str = "UTC"
    installation: Bound = Bound()
    owners: Mapping[str, Bound] = field(default_factory=dict)
    each_owner: Bound = Bound()

    def owner(self, name: str) -> Bound:
        return self.owners.get(name, self.each_owner)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What the attempts that have ended cost, of all jobs. Days are those from yesterday on, in the
    zone of the caps: no cap asks for others."""

    total_usd_micros: int = 0
    by_owner: Mapping[str, int] = field(default_factory=dict)
    by_sweep: Mapping[str, int] = field(default_factory=dict)
    by_day: Mapping[dt.date, int] = field(default_factory=dict)
    by_owner_and_day: Mapping[tuple[str, dt.date], int] = field(default_factory=dict)
    # what the same time would have cost on demand, by day: for the daily summary
    on_demand_by_day: Mapping[dt.date, int] = field(default_factory=dict)


UNCAPPED, NOTHING_SPENT = Caps(), Spent()
