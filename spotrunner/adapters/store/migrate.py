"""Brings a database to the schema of this version, by Alembic."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from spotrunner.ports import Misconfigured

# Optuna brings an `alembic_version` of its own to the same server.
VERSION_TABLE = "spotrunner_version"


def migrate(connection: Connection) -> None:
    """Inside the caller's transaction, so that a database has one schema or the other and never
    half of one. Raises Misconfigured for a schema that is newer than this version."""
    config = Config()
    config.set_main_option("script_location", "spotrunner.adapters.store:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    current = revision(connection)
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise Misconfigured(
            f"the store has schema {current}, and this version of spotrunner knows them up to"
            f" {scripts.get_current_head()} only: a newer version wrote it; use that one"
        )
    if current != scripts.get_current_head():
        command.upgrade(config, "head")


def revision(connection: Connection) -> str | None:
    """The schema's revision; None in an empty database."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()
