"""The tables. What is searched by or joined on has a column; the whole value lies in `body`, as
adapters/codec writes it, so that a new field of the model needs no migration.

Every change here needs a migration beside it (migrations/versions); a test compares the two.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.types import TypeDecorator

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect


class Utc(TypeDecorator[dt.datetime]):
    """An aware time, in UTC. SQLite knows no zones and gets the bare UTC time, whose text sorts as
    the time does."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        assert value.tzinfo is not None, "a time without a zone"
        utc = value.astimezone(dt.timezone.utc)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        assert isinstance(value, dt.datetime)
        if value.tzinfo is None:
            return value.replace(tzinfo=dt.timezone.utc)
        return value.astimezone(dt.timezone.utc)


METADATA = MetaData(
    # Constraints have names, so that later migrations can speak of them.
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only where the key is its own INTEGER.
_NUMBER = BigInteger().with_variant(Integer, "sqlite")

# One row: whose store it is, and who may write.
META = Table(
    "meta",
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True),
    Column("installation", String(64)),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", Text, nullable=False),
    Column("held_until", Utc),
    # The zone whose midnights cut the ledger; null before anything was booked.
    Column("ledger_tz", Text),
)

JOBS = Table(
    "jobs",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("state", String(16), nullable=False, index=True),
    Column("submitted_at", Utc, nullable=False),
    # The one field that others than the leader write: not in the body.
    Column("watched_until", Utc),
    # By whom and what for money is summed.
    Column("owner", Text, nullable=False, server_default=""),
    Column("sweep", Text, nullable=False, server_default=""),
    Column("body", Text, nullable=False),
)

ATTEMPTS = Table(
    "attempts",
    METADATA,
    Column("id", String(80), primary_key=True),
    Column("job_id", String(64), ForeignKey("jobs.id"), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("region", String(32), nullable=False),
    Column("intent_at", Utc, nullable=False),
    Column("ended_at", Utc),
    Column("body", Text, nullable=False),
    Index(None, "job_id", "generation"),
    Index(None, "state", "job_id"),
    Index(None, "region"),
    Index(None, "ended_at"),
)

# A job that only EC2's tags know of can have a story too: no foreign key. The words lie in the
# body, as JSON in ASCII, since they quote others and no database takes every text.
EVENTS = Table(
    "events",
    METADATA,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("at", Utc, nullable=False),
    Column("job_id", String(64), nullable=False),
    Column("subject", String(80), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Index(None, "job_id", "number"),
)

COMMANDS = Table(
    "commands",
    METADATA,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("at", Utc, nullable=False),
    Column("job_id", String(64), ForeignKey("jobs.id"), nullable=False),
    Column("verb", String(16), nullable=False),
    Column("done", Boolean, nullable=False),
    # What it changes, for the verbs that say it.
    Column("body", Text),
    Index(None, "done", "id"),
)

REFUSALS = Table(
    "refusals",
    METADATA,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("at", Utc, nullable=False, index=True),
    Column("body", Text, nullable=False),
)

# A price by its type and zone, then by its time: a zone's history lies together, in order, and
# what was in force at a time is one step in the key. SQLite keeps the rows in the key itself: half
# the size of a table with an index beside it.
QUOTES = Table(
    "quotes",
    METADATA,
    Column("region", String(32), primary_key=True),
    Column("instance_type", String(32), primary_key=True),
    Column("zone_id", String(32), primary_key=True),
    Column("at", Utc, primary_key=True),
    Column("price_usd_micros_hour", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

MEMOS = Table(
    "memos",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("at", Utc, nullable=False),
    Column("etag", Text),
    Column("body", Text, nullable=False),
)

# What each ended attempt cost on each day (core/ledger). All of it follows from the attempts and
# the zone: it is kept so that sums over all jobs need no attempt. The first index holds all that
# the sums over all time read, a job's lines together.
LEDGER = Table(
    "ledger",
    METADATA,
    Column("attempt", String(80), ForeignKey("attempts.id"), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("job_id", String(64), ForeignKey("jobs.id"), nullable=False),
    Column("region", String(32), nullable=False),
    Column("market", String(16), nullable=False),
    Column("lived_s", BigInteger, nullable=False),
    Column("instance_usd_micros", BigInteger, nullable=False),
    Column("extras_usd_micros", BigInteger, nullable=False),
    Column("transfer_usd_micros", BigInteger, nullable=False),
    Column("on_demand_usd_micros", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Index(
        "ix_ledger_job_id",
        "job_id",
        "instance_usd_micros",
        "extras_usd_micros",
        "transfer_usd_micros",
    ),
    Index(None, "day", "job_id"),
)

# For good, so that each is raised once.
ALERTS = Table(
    "alerts",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("at", Utc, nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("job_id", String(64)),
    Column("body", Text, nullable=False),
)

# The error quotes others: JSON in ASCII, as the words of events.
DELIVERIES = Table(
    "deliveries",
    METADATA,
    Column("alert", Text, ForeignKey("alerts.key"), primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("tries", Integer, nullable=False),
    Column("next_at", Utc, nullable=False),
    Column("delivered_at", Utc),
    Column("error", Text),
    Index(None, "delivered_at", "next_at"),
)
