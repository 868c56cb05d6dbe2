"""What Alembic runs for every command: here always over the connection of migrate.py; a developer
who writes a new migration runs `alembic` with the script location of migrate.py."""

from __future__ import annotations

from alembic import context

from spotrunner.adapters.store.migrate import VERSION_TABLE
from spotrunner.adapters.store.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    # SQLite alters tables by copying them.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
