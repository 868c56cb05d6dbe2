"""The first tables. A migration says what the tables were then: it never imports the schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _make_meta()
    _make_jobs()
    _make_attempts()
    _make_events()
    _make_commands()
    _make_refusals()


def _make_meta() -> None:
    meta = op.create_table(
        "meta",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("installation", sa.String(64)),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_meta"),
        sa.CheckConstraint("id = 1", name=op.f("ck_meta_one_row")),
    )
    op.bulk_insert(meta, [{"id": 1, "installation": None, "epoch": 0, "holder": ""}])


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("submitted_at", _TIME, nullable=False),
        sa.Column("watched_until", _TIME),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_state", "jobs", ["state"])


def _make_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", sa.String(80), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("region", sa.String(32), nullable=False),
        sa.Column("intent_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_attempts_job_id"),
    )
    op.create_index("ix_attempts_job_id_generation", "attempts", ["job_id", "generation"])
    op.create_index("ix_attempts_state_job_id", "attempts", ["state", "job_id"])
    op.create_index("ix_attempts_region", "attempts", ["region"])


def _make_events() -> None:
    op.create_table(
        "events",
        sa.Column("number", _NUMBER, nullable=False, autoincrement=True),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(80), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_events"),
    )
    op.create_index("ix_events_job_id_number", "events", ["job_id", "number"])


def _make_commands() -> None:
    op.create_table(
        "commands",
        sa.Column("id", _NUMBER, nullable=False, autoincrement=True),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("verb", sa.String(16), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_commands"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_commands_job_id"),
    )
    op.create_index("ix_commands_done_id", "commands", ["done", "id"])


def _make_refusals() -> None:
    op.create_table(
        "refusals",
        sa.Column("number", _NUMBER, nullable=False, autoincrement=True),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_refusals"),
    )
    op.create_index("ix_refusals_at", "refusals", ["at"])
