"""Opens the store in a SQLite file: all that is SQLite's own is here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy import exc as sql_errors

from spotrunner.adapters.store.migrate import migrate
from spotrunner.adapters.store.sql import SqlStore
from spotrunner.adapters.store.transaction import WRITES, writing
from spotrunner.ports import Misconfigured, Unavailable

# How long a writer waits for another one; ours are done in milliseconds.
BUSY_S = 15


def open_store(path: Path) -> SqlStore:
    """The store in this file, made if it is not there (its folder must be), and brought to this
    version's schema. Raises Misconfigured when it cannot be: no database, a newer schema."""
    _make_private(path)
    engine = new_engine(path)
    try:
        with writing(engine).begin() as connection:
            migrate(connection)
        store = SqlStore(engine)
        store.begin_ledger()
    except (sql_errors.DatabaseError, Misconfigured, Unavailable) as error:
        engine.dispose()
        why = getattr(error, "orig", None) or error
        raise Misconfigured(f"{path} cannot be used as the store: {why}") from error
    return store


def _make_private(path: Path) -> None:
    """Nobody else may read it: job files have secrets in `envs`. SQLite gives its side files the
    mode of the database."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise Misconfigured(f"{path} cannot be used as the store: {error.strerror}") from error


def new_engine(path: Path) -> Engine:
    """Connections that commit to the disk, and begin transactions as the store means them."""
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, connect_args={"timeout": BUSY_S})
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, _: Any) -> None:
    # Python's module would begin transactions where it thinks best; we begin them below.
    connection.isolation_level = None
    # Readers do not wait for the writer. FULL: a commit is on the disk when it returns.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _on_begin(connection: Connection) -> None:
    """A writer takes its lock at the beginning: to ask for it later, after a read, can be refused
    without any waiting."""
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
