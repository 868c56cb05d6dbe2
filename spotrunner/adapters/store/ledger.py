"""The ledger in SQL: what ended attempts cost by day, and its sums. All inside a transaction."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from spotrunner.adapters import codec
from spotrunner.adapters.store.books import lines
from spotrunner.adapters.store.schema import ATTEMPTS, JOBS, LEDGER, META
from spotrunner.core.caps import Spent
from spotrunner.core.ledger import Entry
from spotrunner.core.model import Attempt, Market
from spotrunner.core.states import AttemptState
from spotrunner.ports import Booked

# How many attempts are read and booked at a time when all are.
ATTEMPTS_A_TIME = 500

Columns = dict[str, Any]

_COST = LEDGER.c.instance_usd_micros + LEDGER.c.extras_usd_micros + LEDGER.c.transfer_usd_micros


def rows(attempts: Iterable[Attempt], tz: str) -> list[Columns]:
    """What is to be booked of these attempts."""
    return [_columns(entry) for attempt in attempts for entry in lines(attempt, tz)]


def clear(connection: Connection, attempts: Sequence[str]) -> None:
    """Take these attempts out."""
    connection.execute(delete(LEDGER).where(LEDGER.c.attempt.in_(attempts)))


def add(connection: Connection, rows: Sequence[Columns]) -> None:
    if rows:
        connection.execute(insert(LEDGER), rows)


def book_anew(connection: Connection, tz: str) -> None:
    """All attempts that have ended, by the days of this zone."""
    connection.execute(update(META).values(ledger_tz=tz))
    connection.execute(delete(LEDGER))
    ended = select(ATTEMPTS.c.body).where(ATTEMPTS.c.state == AttemptState.ENDED.value)
    # Read in parts: the attempts of years do not have to fit into memory.
    found = connection.execute(ended, execution_options={"yield_per": ATTEMPTS_A_TIME}).scalars()
    for bodies in found.partitions():
        attempts = (codec.from_json(Attempt, body.encode("ascii")) for body in bodies)
        add(connection, rows(attempts, tz))


def spent(connection: Connection, since: dt.date) -> Spent:
    by_owner: Counter[str] = Counter()
    by_sweep: Counter[str] = Counter()
    for owner, sweep, cost in connection.execute(_whose()):
        by_owner[owner] += int(cost)
        if sweep:
            by_sweep[sweep] += int(cost)
    by_owner_and_day: dict[tuple[str, dt.date], int] = {}
    by_day: Counter[dt.date] = Counter()
    on_demand_by_day: Counter[dt.date] = Counter()
    for owner, day, cost, on_demand in connection.execute(_days(since)):
        by_owner_and_day[owner, day] = int(cost)
        by_day[day] += int(cost)
        on_demand_by_day[day] += int(on_demand)
    return Spent(
        total_usd_micros=sum(by_owner.values()),
        by_owner=by_owner,
        by_sweep=by_sweep,
        by_day=by_day,
        by_owner_and_day=by_owner_and_day,
        on_demand_by_day=on_demand_by_day,
    )


def booked(connection: Connection, since: dt.date | None) -> tuple[Booked, ...]:
    table = LEDGER.c
    found = (
        select(LEDGER, JOBS.c.owner, JOBS.c.sweep)
        .join(JOBS, JOBS.c.id == table.job_id)
        .order_by(table.day, table.job_id, table.attempt)
    )
    if since is not None:
        found = found.where(table.day >= since)
    return tuple(_booked(row) for row in connection.execute(found))


# -- statements --------------------------------------------------------------------------------


def _whose() -> Select[Any]:
    """What each owner's jobs of each sweep came to. By job first: that is one walk through an
    index, and there are fewer jobs than lines to look up."""
    table = LEDGER.c
    by_job = select(table.job_id, func.sum(_COST).label("cost")).group_by(table.job_id).subquery()
    return (
        select(JOBS.c.owner, JOBS.c.sweep, func.sum(by_job.c.cost))
        .join(by_job, by_job.c.job_id == JOBS.c.id)
        .group_by(JOBS.c.owner, JOBS.c.sweep)
    )


def _days(since: dt.date) -> Select[Any]:
    return (
        select(JOBS.c.owner, LEDGER.c.day, func.sum(_COST), func.sum(LEDGER.c.on_demand_usd_micros))
        .join(JOBS, JOBS.c.id == LEDGER.c.job_id)
        .where(LEDGER.c.day >= since)
        .group_by(JOBS.c.owner, LEDGER.c.day)
    )


# -- values and columns ------------------------------------------------------------------------


def _columns(entry: Entry) -> Columns:
    return {
        "attempt": entry.attempt,
        "day": entry.day,
        "job_id": entry.job_id,
        "region": entry.region,
        "market": entry.market.value,
        "lived_s": entry.lived_s,
        "instance_usd_micros": entry.instance_usd_micros,
        "extras_usd_micros": entry.extras_usd_micros,
        "transfer_usd_micros": entry.transfer_usd_micros,
        "on_demand_usd_micros": entry.on_demand_usd_micros,
        "estimated": entry.estimated,
    }


def _booked(row: Row[Any]) -> Booked:
    entry = Entry(
        attempt=row.attempt,
        job_id=row.job_id,
        region=row.region,
        market=Market(row.market),
        day=row.day,
        lived_s=row.lived_s,
        instance_usd_micros=row.instance_usd_micros,
        extras_usd_micros=row.extras_usd_micros,
        transfer_usd_micros=row.transfer_usd_micros,
        on_demand_usd_micros=row.on_demand_usd_micros,
        estimated=row.estimated,
    )
    return Booked(entry=entry, owner=row.owner, sweep=row.sweep)
