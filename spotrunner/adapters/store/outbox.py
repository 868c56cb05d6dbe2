"""ports.Outbox in SQL: the alerts that were raised, and which channel has still to take them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, insert, select, update

from spotrunner.adapters import codec
from spotrunner.adapters.store.parts import parts
from spotrunner.adapters.store.schema import ALERTS, DELIVERIES
from spotrunner.adapters.store.transaction import transaction, writing
from spotrunner.core.alert import Alert
from spotrunner.ports import Delivery

# So many are due at most; the rest come with the next look.
DUE_MOST = 50

Columns = dict[str, Any]
Alerts = Sequence[tuple[Alert, tuple[str, ...]]]


class SqlOutbox:
    """Over an engine whose database has the tables already; whoever opened it closes it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = writing(engine)

    def due(self, now: dt.datetime) -> tuple[Delivery, ...]:
        table = DELIVERIES.c
        oldest = (
            select(ALERTS.c.body, table.channel, table.tries)
            .join(ALERTS, ALERTS.c.key == table.alert)
            .where(table.delivered_at.is_(None), table.next_at <= now)
            .order_by(ALERTS.c.at, table.alert, table.channel)
            .limit(DUE_MOST)
        )
        with transaction(self._engine) as connection:
            rows = connection.execute(oldest).all()
        return tuple(
            Delivery(
                alert=codec.from_json(Alert, row.body.encode("ascii")),
                channel=row.channel,
                tries=row.tries,
            )
            for row in rows
        )

    def delivered(self, alert_key: str, channel: str, at: dt.datetime) -> None:
        done = update(DELIVERIES).where(_waiting(alert_key, channel)).values(delivered_at=at)
        with transaction(self._writer) as connection:
            connection.execute(done)

    def failed(
        self, alert_key: str, channel: str, at: dt.datetime, next_at: dt.datetime, error: str
    ) -> None:
        said = json.dumps({"at": at.isoformat(), "error": error})
        again = update(DELIVERIES).where(_waiting(alert_key, channel))
        with transaction(self._writer) as connection:
            connection.execute(
                again.values(tries=DELIVERIES.c.tries + 1, next_at=next_at, error=said)
            )


# -- what a write raises -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Raised:
    """An alert with its deliveries, as columns."""

    alert: Columns
    deliveries: tuple[Columns, ...]


def raised(alerts: Alerts) -> dict[str, Raised]:
    """By key; of those that share one, the first."""
    found: dict[str, Raised] = {}
    for alert, channels in alerts:
        found.setdefault(alert.key, _raised(alert, channels))
    return found


def put_new(connection: Connection, alerts: Mapping[str, Raised]) -> None:
    """Those whose key is not known. Inside a transaction of the leader: nobody else raises the same
    between the question and the answer."""
    known = _known(connection, list(alerts))
    new = [one for key, one in alerts.items() if key not in known]
    if new:
        connection.execute(insert(ALERTS), [one.alert for one in new])
    deliveries = [each for one in new for each in one.deliveries]
    if deliveries:
        connection.execute(insert(DELIVERIES), deliveries)


def _known(connection: Connection, keys: Sequence[str]) -> set[str]:
    asked = (select(ALERTS.c.key).where(ALERTS.c.key.in_(part)) for part in parts(keys))
    return {key for statement in asked for key in connection.execute(statement).scalars()}


def _raised(alert: Alert, channels: Sequence[str]) -> Raised:
    return Raised(
        alert={
            "key": alert.key,
            "at": alert.at,
            "kind": alert.kind.value,
            "job_id": alert.job_id,
            "body": codec.to_json(alert).decode("ascii"),
        },
        deliveries=tuple(
            {"alert": alert.key, "channel": channel, "tries": 0, "next_at": alert.at}
            for channel in dict.fromkeys(channels)
        ),
    )


def _waiting(alert_key: str, channel: str) -> ColumnElement[bool]:
    table = DELIVERIES.c
    return and_(table.alert == alert_key, table.channel == channel, table.delivered_at.is_(None))
