"""Money: the ledger, whose each job is, what commands carry; and the alerts with their deliveries.

What had ended before is booked by whoever opens the database (sqlite.py): `ledger_tz` is null until
then.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("meta", sa.Column("held_until", _TIME))
    op.add_column("meta", sa.Column("ledger_tz", sa.Text()))
    op.add_column("commands", sa.Column("body", sa.Text()))
    _say_whose_jobs_are()
    _make_ledger()
    _make_alerts()
    _make_deliveries()


def _say_whose_jobs_are() -> None:
    for name in ("owner", "sweep"):
        op.add_column("jobs", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    jobs = sa.table("jobs", *(sa.column(name) for name in ("id", "body", "owner", "sweep")))
    connection = op.get_bind()
    for job_id, body in connection.execute(sa.select(jobs.c.id, jobs.c.body)).all():
        spec = json.loads(body)["spec"]
        whose = {name: spec.get(name, "") for name in ("owner", "sweep")}
        if any(whose.values()):
            connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(whose))


def _make_ledger() -> None:
    op.create_table(
        "ledger",
        sa.Column("attempt", sa.String(80), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("region", sa.String(32), nullable=False),
        sa.Column("market", sa.String(16), nullable=False),
        sa.Column("lived_s", sa.BigInteger(), nullable=False),
        sa.Column("instance_usd_micros", sa.BigInteger(), nullable=False),
        sa.Column("extras_usd_micros", sa.BigInteger(), nullable=False),
        sa.Column("transfer_usd_micros", sa.BigInteger(), nullable=False),
        sa.Column("on_demand_usd_micros", sa.BigInteger(), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("attempt", "day", name="pk_ledger"),
        sa.ForeignKeyConstraint(["attempt"], ["attempts.id"], name="fk_ledger_attempt"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_ledger_job_id"),
    )
    amounts = [f"{name}_usd_micros" for name in ("instance", "extras", "transfer")]
    op.create_index("ix_ledger_job_id", "ledger", ["job_id", *amounts])
    op.create_index("ix_ledger_day_job_id", "ledger", ["day", "job_id"])


def _make_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("job_id", sa.String(64)),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_alerts"),
    )
    op.create_index("ix_alerts_at", "alerts", ["at"])


def _make_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("alert", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", _TIME, nullable=False),
        sa.Column("delivered_at", _TIME),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("alert", "channel", name="pk_deliveries"),
        sa.ForeignKeyConstraint(["alert"], ["alerts.key"], name="fk_deliveries_alert"),
    )
    op.create_index("ix_deliveries_delivered_at_next_at", "deliveries", ["delivered_at", "next_at"])
