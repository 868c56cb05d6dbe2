"""The market: prices by zone, and what outside sources said last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _make_quotes()
    _make_memos()
    op.create_index("ix_attempts_ended_at", "attempts", ["ended_at"])


def _make_quotes() -> None:
    op.create_table(
        "quotes",
        sa.Column("region", sa.String(32), nullable=False),
        sa.Column("instance_type", sa.String(32), nullable=False),
        sa.Column("zone_id", sa.String(32), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("price_usd_micros_hour", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("region", "instance_type", "zone_id", "at", name="pk_quotes"),
        sqlite_with_rowid=False,
    )


def _make_memos() -> None:
    op.create_table(
        "memos",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("etag", sa.Text()),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_memos"),
    )
