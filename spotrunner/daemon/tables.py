"""Where the planner's tables come from: made where they are asked for, or off the round's thread.

Each takes numpy a good part of a second, so a round must not wait for one: until it is there, the
planner decides by the deadline rule.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, Future

import structlog

from spotrunner.core.policy.tables import Table, TableKey

log = structlog.get_logger(__name__)

Build = Callable[[TableKey], Table]

# A table is 1 to 10 MB. Keys are rounded so coarsely that a job meets a handful in its life.
MOST_TABLES = 32
NUMPY_HINT = "the planner needs numpy: pip install 'spotrunner[planner]'"


class NoNumpy(Exception):
    """The extra is not installed; the message says how to get it."""


def build_table(key: TableKey) -> Table:
    """Raises NoNumpy."""
    try:
        from spotrunner.core.policy.plan_table import build
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        raise NoNumpy(NUMPY_HINT) from error
    return build(key)


class TablesOnDemand:
    """Makes a table when it is first asked for, and the caller waits: for the back-test and the
    benchmark."""

    def __init__(self, build: Build = build_table, most: int = MOST_TABLES) -> None:
        self._build, self._most = build, most
        self._kept: OrderedDict[TableKey, Table] = OrderedDict()

    def table(self, key: TableKey) -> Table | None:
        table = self._kept.get(key)
        if table is None:
            table = self._kept[key] = self._build(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return table


class TablesInBackground:
    """Has tables made by `executor`, each once, and gives None until one is there. One that could
    not be made is not tried again while it is remembered. Safe from several threads: rounds and
    users ask."""

    def __init__(
        self, executor: Executor, build: Build = build_table, most: int = MOST_TABLES
    ) -> None:
        self._executor, self._build, self._most = executor, build, most
        self._asked: OrderedDict[TableKey, Future[Table]] = OrderedDict()
        self._lock = threading.Lock()

    def table(self, key: TableKey) -> Table | None:
        with self._lock:
            future = self._asked.get(key)
            if future is None:
                self._ask(key)
                return None
            self._asked.move_to_end(key)
        # A table that nobody could make has been spoken of already.
        return future.result() if future.done() and _error(future) is None else None

    def _ask(self, key: TableKey) -> None:
        """Nothing is asked for while as many are being made as may be kept. Under the lock."""
        if len(self._asked) >= self._most:
            done = next((old for old, future in self._asked.items() if future.done()), None)
            if done is None:
                return
            del self._asked[done]
        future = self._executor.submit(self._build, key)
        self._asked[key] = future
        future.add_done_callback(_say_if_failed)


def _error(future: Future[Table]) -> BaseException | None:
    return None if future.cancelled() else future.exception()


def _say_if_failed(future: Future[Table]) -> None:
    error = _error(future)
    if error is not None:
        log.warning("no table for the planner: the deadline rule decides", error=str(error))
