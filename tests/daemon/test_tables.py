from __future__ import annotations

import builtins
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

import pytest
import structlog

from spotrunner.core.hazard import MEASURED
from spotrunner.core.policy.tables import Table, TableKey
from spotrunner.daemon.tables import (
    NoNumpy,
    TablesInBackground,
    TablesOnDemand,
    build_table,
)

T = TypeVar("T")


class Later(Executor):
    """Keeps what is submitted until the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()

        def work() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except ValueError as error:
                future.set_exception(error)

        self.waiting.append(work)
        return future

    def work(self) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each()


def key(n: int = 0) -> TableKey:
    return TableKey(
        look_s=180.0,
        changeover_s=600.0,
        horizon_s=21_600.0,
        price=n / 10,
        share_class=0,
        hazards=MEASURED,
    )


class Builder:
    """Notes what it is asked to build."""

    def __init__(self, *, fails: bool = False) -> None:
        self.built: list[TableKey] = []
        self._fails = fails

    def __call__(self, key: TableKey) -> Table:
        self.built.append(key)
        if self._fails:
            raise ValueError("no memory for it")
        return Table(look_s=key.price, looks=(1, 2), slacks_s=(0.0, 1.0), costs=())


# -- in the background -------------------------------------------------------------------------


def test_a_table_is_made_off_the_round_and_once() -> None:
    executor, build = Later(), Builder()
    tables = TablesInBackground(executor, build)
    assert tables.table(key()) is None
    assert tables.table(key()) is None
    assert (len(executor.waiting), build.built) == (1, [])
    executor.work()
    found = tables.table(key())
    assert found is not None
    assert tables.table(key()) is found
    assert build.built == [key()]


def test_the_table_not_used_for_longest_makes_room() -> None:
    executor, build = Later(), Builder()
    tables = TablesInBackground(executor, build, most=2)
    for n in (1, 2):
        tables.table(key(n))
    executor.work()
    tables.table(key(1))
    tables.table(key(3))
    executor.work()
    assert [tables.table(key(n)) is not None for n in (1, 3)] == [True, True]
    assert tables.table(key(2)) is None


def test_while_all_are_being_made_nothing_more_is_asked_for() -> None:
    executor = Later()
    tables = TablesInBackground(executor, Builder(), most=2)
    assert [tables.table(key(n)) for n in (1, 2, 3, 4)] == [None] * 4
    assert len(executor.waiting) == 2
    executor.work()
    assert tables.table(key(3)) is None
    assert len(executor.waiting) == 1


def test_one_that_cannot_be_made_is_said_once_and_not_tried_again() -> None:
    executor, build = Later(), Builder(fails=True)
    tables = TablesInBackground(executor, build)
    with structlog.testing.capture_logs() as logs:
        tables.table(key())
        executor.work()
        assert tables.table(key()) is None
        assert tables.table(key()) is None
    assert len(build.built) == 1
    assert [(log["log_level"], log["error"]) for log in logs] == [("warning", "no memory for it")]


# -- on demand ---------------------------------------------------------------------------------


def test_on_demand_the_caller_waits_once() -> None:
    build = Builder()
    tables = TablesOnDemand(build, most=2)
    first = tables.table(key(1))
    assert first is not None
    assert tables.table(key(1)) is first
    tables.table(key(2))
    tables.table(key(1))
    tables.table(key(3))  # the second makes room
    tables.table(key(1))
    assert build.built == [key(1), key(2), key(3)]
    tables.table(key(2))
    assert build.built[3:] == [key(2)]


def test_without_numpy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "spotrunner.core.policy.plan_table":
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NoNumpy, match=r"pip install 'spotrunner\[planner\]'"):
        build_table(key())
