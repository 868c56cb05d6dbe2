"""ports.MarketStore in SQL, over the engine of the store beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Engine,
    FromClause,
    Row,
    Select,
    Table,
    and_,
    func,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from spotrunner.adapters.store.quotes import CheckedMarket, Wanted
from spotrunner.adapters.store.schema import MEMOS, QUOTES, Utc
from spotrunner.adapters.store.transaction import transaction, writing
from spotrunner.ports import Memo, ZoneQuote

Insert = sqlite.Insert | postgresql.Insert


class SqlMarket(CheckedMarket):
    """Over an engine whose database has the tables already; whoever opened it closes it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = writing(engine)

    def memo(self, key: str) -> Memo | None:
        with transaction(self._engine) as connection:
            row = connection.execute(select(MEMOS).where(MEMOS.c.key == key)).one_or_none()
        if row is None:
            return None
        return Memo(key=row.key, at=row.at, body=row.body, etag=row.etag)

    def _add(self, quotes: Sequence[ZoneQuote]) -> int:
        # In the order of the key: two that add the same rows do not wait for each other in a ring.
        rows = [_quote_columns(quote) for quote in quotes]
        unknown = self._insert(QUOTES).on_conflict_do_nothing()
        with transaction(self._writer) as connection:
            # One statement a row, prepared once: no database's limit of parameters is near. Asked
            # for, the count is the sum over all; else some drivers have lost it by the end.
            counted = {"preserve_rowcount": True}
            return connection.execute(unknown, rows, execution_options=counted).rowcount

    def _history(self, wanted: Wanted) -> list[ZoneQuote]:
        statements = [_history(name, wanted) for name in sorted(wanted.instance_types)]
        with transaction(self._engine) as connection:
            rows = [row for statement in statements for row in connection.execute(statement)]
        return [_quote(row) for row in rows]

    def _remember(self, memo: Memo) -> None:
        said = {"at": memo.at, "etag": memo.etag, "body": memo.body}
        new = self._insert(MEMOS).values(key=memo.key, **said)
        with transaction(self._writer) as connection:
            connection.execute(new.on_conflict_do_update(index_elements=["key"], set_=said))

    def _insert(self, table: Table) -> Insert:
        """That knows of conflicts: the same words, but each database's own."""
        if self._engine.dialect.name == "postgresql":
            return postgresql.insert(table)
        return sqlite.insert(table)


def _history(instance_type: str, wanted: Wanted) -> Select[Any]:
    """A type's quotes in a region, a zone's from the one in force at `since` on."""
    region, since, until = wanted.region, wanted.since, wanted.until
    zones = _zones(region, instance_type)
    before = QUOTES.alias()
    in_force = select(func.max(before.c.at)).where(
        _of(before, region, instance_type),
        before.c.zone_id == zones.c.zone_id,
        before.c.at <= since,
    )
    begins = func.coalesce(in_force.scalar_subquery(), literal(since, Utc))
    history = (
        select(QUOTES)
        .join(zones, QUOTES.c.zone_id == zones.c.zone_id)
        .where(_of(QUOTES, region, instance_type), QUOTES.c.at >= begins)
    )
    return history if until is None else history.where(QUOTES.c.at <= until)


def _zones(region: str, instance_type: str) -> CTE:
    """The ids of the zones that have quotes, and a null. Each is looked up above the one before:
    DISTINCT would read every row of all the years."""
    least = func.min(QUOTES.c.zone_id).label("zone_id")
    of_type = select(least).where(_of(QUOTES, region, instance_type))
    zones = of_type.cte("zones", recursive=True)
    above = of_type.where(QUOTES.c.zone_id > zones.c.zone_id).scalar_subquery()
    return zones.union_all(select(above).where(zones.c.zone_id.is_not(None)))


def _of(table: FromClause, region: str, instance_type: str) -> ColumnElement[bool]:
    return and_(table.c.region == region, table.c.instance_type == instance_type)


def _quote_columns(quote: ZoneQuote) -> dict[str, Any]:
    return {
        "region": quote.region,
        "instance_type": quote.instance_type,
        "zone_id": quote.zone_id,
        "at": quote.at,
        "price_usd_micros_hour": quote.price_usd_micros_hour,
    }


def _quote(row: Row[Any]) -> ZoneQuote:
    return ZoneQuote(
        region=row.region,
        zone_id=row.zone_id,
        instance_type=row.instance_type,
        at=row.at,
        price_usd_micros_hour=row.price_usd_micros_hour,
    )
