"""A transaction over an engine, as every store of ours means it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy import Connection, Engine
from sqlalchemy import exc as sql_errors

from spotrunner.ports import Unavailable

# A transaction that writes says so at its beginning; sqlite.py acts on it.
WRITES = "spotrunner_writes"


def writing(engine: Engine) -> Engine:
    """The same connections, for transactions that write."""
    return engine.execution_options(**{WRITES: True})


@contextlib.contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Commits at its end; an error inside undoes all of it. Raises Unavailable."""
    try:
        with engine.begin() as connection:
            yield connection
    except (sql_errors.OperationalError, sql_errors.TimeoutError) as error:
        # Locked for too long, the disk full or gone, no connection to be had.
        raise Unavailable(f"the store: {getattr(error, 'orig', None) or error}") from error
