"""What only a store in a file can break: crashes, other processes, schemas, other people."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, Table, dialects, event, inspect
from sqlalchemy.schema import CreateTable

from spotrunner.adapters import codec
from spotrunner.adapters.store.migrate import VERSION_TABLE
from spotrunner.adapters.store.schema import METADATA
from spotrunner.adapters.store.sqlite import new_engine, open_store
from spotrunner.core.model import Attempt, CommandVerb, Job
from spotrunner.core.states import AttemptState
from spotrunner.ports import Changes, Misconfigured, Unavailable
from tests.contracts.values import a_job, a_refusal, a_spec, a_zone_quote, an_attempt, at

JOB = "digits-aaaa"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@contextlib.contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.contracts.store_writer", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=30)
        assert process.stdout is not None
        process.stdout.close()


def numbers(process: subprocess.Popen[str], least: int) -> list[str]:
    """The first lines of a writer; it goes on writing meanwhile."""
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(least)]
    assert all(lines), "the writer has ended"
    return lines


def rest(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.read().split()


# -- crashes and other processes ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("least", [1, 25, 80])
def test_what_a_write_returned_from_survives_kill_9(path: Path, least: int) -> None:
    store = open_store(path)
    store.add_job(a_job(), ())
    with writer(path) as process:
        said = numbers(process, least)
        process.kill()
        said += rest(process)
    # A new process in effect: nothing of the old one's side files is held open.
    store.close()
    store = open_store(path)
    job = store.job(JOB)
    assert job is not None
    last = job.checkpoints_asked
    # The write after the last one that was heard of may have been done.
    assert last in (int(said[-1]), int(said[-1]) + 1)
    assert [attempt.step_before for attempt in store.attempts([JOB])] == [last]
    wanted = [n for n in range(1, last + 1) for _ in range(2)]
    assert [event.data["n"] for _, event in store.events(JOB)] == wanted
    store.close()


@pytest.mark.slow
def test_a_leader_in_another_process_is_stopped_at_its_next_write(path: Path) -> None:
    store = open_store(path)
    store.add_job(a_job(), ())
    with writer(path) as process:
        said = numbers(process, 10)
        epoch = store.lead("another")
        job = store.job(JOB)
        said += rest(process)
        assert process.wait(timeout=30) == 0
    assert said[-1] == "stale"
    assert job == store.job(JOB) == a_job(checkpoints_asked=int(said[-2]))
    store.write(epoch, Changes(jobs=(a_job(),)))
    store.close()


def test_a_commit_is_on_the_disk(path: Path) -> None:
    """What kill -9 cannot show: a power cut spares it too."""
    engine = new_engine(path)
    with engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    engine.dispose()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_store_that_is_closed_opens_as_it_was(path: Path) -> None:
    store = open_store(path)
    store.set_installation("5170c4fe")
    store.add_job(a_job(watched_until=at(60)), ())
    command = store.add_command(JOB, CommandVerb.CANCEL, at(1))
    epoch = store.lead("a")
    store.close()
    store = open_store(path)
    assert store.installation() == "5170c4fe"
    assert store.jobs() == (a_job(watched_until=at(60)),)
    assert store.commands() == (command,)
    assert store.lead("b") > epoch
    store.close()


def test_a_store_that_stays_locked_is_unavailable(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spotrunner.adapters.store.sqlite.BUSY_S", 0.01)
    store = open_store(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            store.lead("a")
        assert store.jobs() == ()
        other.execute("ROLLBACK")
    assert store.lead("a") == 1
    store.close()


# -- the schema --------------------------------------------------------------------------------


def test_the_migrations_make_the_schema(path: Path, tmp_path: Path) -> None:
    open_store(path).close()
    migrated, declared = new_engine(path), new_engine(tmp_path / "declared.sqlite")
    METADATA.create_all(declared)
    with migrated.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []
    for table in METADATA.tables:
        assert _names(migrated, table) == _names(declared, table)
    migrated.dispose()
    declared.dispose()


def _names(engine: Engine, table: str) -> object:
    """Names of constraints and indexes, by which later migrations change them."""
    found = inspect(engine)
    return (
        found.get_pk_constraint(table),
        found.get_foreign_keys(table),
        found.get_check_constraints(table),
        sorted(index["name"] or "" for index in found.get_indexes(table)),
    )


@pytest.mark.parametrize("table", METADATA.sorted_tables, ids=str)
def test_the_tables_are_postgresqls_too(table: Table) -> None:
    text = str(CreateTable(table).compile(dialect=dialects.registry.load("postgresql")()))
    assert "DATETIME" not in text
    assert ("BIGSERIAL" in text) == (table.name in ("events", "commands", "refusals"))


def test_a_store_of_the_first_schema_keeps_all_it_has(path: Path) -> None:
    attempt = an_attempt(state=AttemptState.ENDED, ended_at=at(60))
    _write_old_schema(path, "0001", a_job(), attempt)
    store = open_store(path)
    assert store.installation() == "5170c4fe"
    assert store.jobs() == (a_job(watched_until=at(9)),)
    assert store.attempts([JOB]) == store.recent_attempts(at(60)) == (attempt,)
    assert store.recent_attempts(at(61)) == ()
    assert store.refusals(at(0)) == (a_refusal(),)
    assert [(number, event.kind) for number, event in store.events(JOB)] == [(3, "placed")]
    assert [command.id for command in store.commands()] == [5]
    assert store.lead("the new version") == 8
    assert store.market.add_quotes([a_zone_quote()]) == 1
    store.close()
    store = open_store(path)
    assert store.jobs() == (a_job(watched_until=at(9)),)
    assert store.market.zone_quotes("us-east-1", ["g4dn.xlarge"], at(0)) == (a_zone_quote(),)
    store.close()


def test_a_store_from_before_the_ledger_knows_what_was_spent(path: Path) -> None:
    job = a_job(spec=a_spec(owner="alice", sweep="night"))
    # From noon to two in the morning.
    ended = an_attempt(
        state=AttemptState.ENDED,
        launched_at=at(0),
        ended_at=at(14 * 3600),
        hour_prices_usd_micros=(200_000,) * 14,
        cost_usd_micros=2_800_000,
    )
    _write_old_schema(path, "0002", job, ended)
    store = open_store(path)
    today, tomorrow = dt.date(2026, 11, 1), dt.date(2026, 11, 2)
    spent = store.spent(today)
    assert spent.by_owner_and_day == {("alice", today): 2_400_000, ("alice", tomorrow): 400_000}
    assert spent.by_sweep == {"night": 2_800_000}
    assert [(it.entry.attempt, it.entry.day) for it in store.booked()] == [
        (ended.id, today),
        (ended.id, tomorrow),
    ]
    assert store.held_until() is None
    (command,) = store.commands()
    assert (command.budget_usd_micros, command.deadline_at) == (None, None)
    store.cut_days_in("Asia/Shanghai")
    store.close()
    # The ledger is begun once; afterwards it is as the daemon has said.
    store = open_store(path)
    assert store.spent(today).by_day == {today: 800_000, tomorrow: 2_000_000}
    store.close()


def test_a_ledger_that_was_not_begun_is_begun_later(path: Path) -> None:
    """Killed between the new tables and the booking."""
    store = open_store(path)
    store.add_job(a_job(), ())
    ended = an_attempt(state=AttemptState.ENDED, launched_at=at(0), cost_usd_micros=5)
    store.write(store.lead("a"), Changes(attempts=(ended,)))
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("DELETE FROM ledger")
        other.execute("UPDATE meta SET ledger_tz = NULL")
        other.commit()
    store = open_store(path)
    assert store.spent(dt.date(2026, 11, 1)).total_usd_micros == 5
    store.close()


def _write_old_schema(path: Path, revision: str, job: Job, attempt: Attempt) -> None:
    """A store as an old version left it, in the columns that it had (the first two had the same
    of all that is written here)."""
    engine = new_engine(path)
    config = Config()
    config.set_main_option("script_location", "spotrunner.adapters.store:migrations")
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()

    def body(value: object) -> str:
        return codec.to_json(value).decode()

    noon, soon, later = (
        f"2026-11-01 {time}.000000" for time in ("12:00:00", "12:00:09", "12:01:00")
    )
    rows: list[tuple[str, tuple[object, ...]]] = [
        ("jobs VALUES (?, ?, ?, ?, ?)", (JOB, "queued", noon, soon, body(job))),
        (
            "attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (attempt.id, JOB, 1, "ended", "us-east-1", noon, later, body(attempt)),
        ),
        (
            "events VALUES (?, ?, ?, ?, ?, ?)",
            (3, noon, JOB, JOB, "placed", '{"why": "", "data": {}}'),
        ),
        ("commands VALUES (?, ?, ?, ?, ?)", (5, noon, JOB, "cancel", 0)),
        ("refusals VALUES (?, ?, ?)", (1, noon, body(a_refusal()))),
    ]
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.execute("UPDATE meta SET installation = '5170c4fe', epoch = 7")
        for into, values in rows:
            old.execute(f"INSERT INTO {into}", values)
        old.commit()


def test_a_newer_schema_is_told_from_a_broken_one(path: Path) -> None:
    open_store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
        other.commit()
    with pytest.raises(Misconfigured, match=r"schema 9999.*up to 0003 only: a newer version"):
        open_store(path)


def test_a_file_that_is_no_store_is_left_alone(path: Path) -> None:
    path.write_bytes(b"a shopping list\n" * 100)
    with pytest.raises(Misconfigured, match="cannot be used as the store: file is not a database"):
        open_store(path)
    assert path.read_bytes() == b"a shopping list\n" * 100


def test_a_folder_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"nowhere/store\.sqlite.*No such file"):
        open_store(path.parent / "nowhere" / path.name)


def test_nobody_else_may_read_it(path: Path) -> None:
    store = open_store(path)
    store.lead("a")
    files = list(path.parent.iterdir())
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    store.close()


# -- speed -------------------------------------------------------------------------------------


def test_what_every_round_asks_is_found_by_index(path: Path) -> None:
    """With 10,000 finished jobs, a round must not read them."""
    store = open_store(path)
    store.add_job(a_job(), ())
    plans: list[str] = []

    def explain(connection: Connection, _: object, sql: str, parameters: Any, *more: Any) -> None:
        if sql.startswith(("SELECT", "WITH")):
            plan = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
            plans.extend(row[3] for row in plan.fetchall())

    event.listen(Engine, "before_cursor_execute", explain)
    try:
        store.open_jobs()
        store.attempts([JOB])
        store.commands()
        store.refusals(at(0))
        store.events(JOB, after=3)
        store.job(JOB)
        store.recent_attempts(at(0))
        store.market.zone_quotes("us-east-1", ["g4dn.xlarge"], at(0), at(60))
        store.market.memo("advisor")
        store.alert_keys(at(0))
        store.due(at(0))
        store.spent(dt.date(2026, 11, 1))
    finally:
        event.remove(Engine, "before_cursor_execute", explain)
    assert len(plans) >= 15
    scans = [line for line in plans if "SCAN" in line]
    # Tables of the statements' own: a few zones, a sum for each job. And the sum over all time.
    whole = {"SCAN zones", "SCAN anon_1", "SCAN ledger USING COVERING INDEX ix_ledger_job_id"}
    assert set(scans) <= whole
    store.close()
