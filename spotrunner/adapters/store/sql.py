"""ports.Store in SQL: SQLite now; PostgreSQL needs another engine and nothing else.

Values become text before a transaction begins and values again after it has ended: inside one
there is only the database, but for a ledger that is booked anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Row, Select, case, func, insert, or_, select, update
from sqlalchemy import exc as sql_errors

from spotrunner.adapters import codec
from spotrunner.adapters.store import ledger, outbox
from spotrunner.adapters.store.books import FIRST_TZ, check_zone
from spotrunner.adapters.store.market import SqlMarket
from spotrunner.adapters.store.parts import parts
from spotrunner.adapters.store.schema import (
    ALERTS,
    ATTEMPTS,
    COMMANDS,
    EVENTS,
    JOBS,
    META,
    REFUSALS,
)
from spotrunner.adapters.store.transaction import transaction
from spotrunner.core.caps import Spent
from spotrunner.core.model import Attempt, Command, CommandVerb, Event, Job, Refusal
from spotrunner.core.states import AttemptState, JobState
from spotrunner.ports import Booked, Changes, Misconfigured, StaleEpoch

_OPEN = [state.value for state in JobState if not state.over]
_LIVE = [state.value for state in AttemptState if state.live]

T = TypeVar("T")
Columns = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Extension:
    """What a command changes: its `body`."""

    budget_usd_micros: int | None = None
    deadline_at: dt.datetime | None = None


class SqlStore(outbox.SqlOutbox):
    """Over an engine whose database has the tables already (`sqlite.open_store` makes both); also
    ports.Outbox."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        # The zone of the ledger as it was last seen: what a write books is made with it.
        self._tz = FIRST_TZ

    @property
    def market(self) -> SqlMarket:
        """The market's facts in the same database; `close` closes both."""
        return SqlMarket(self._engine)

    def installation(self) -> str | None:
        with transaction(self._engine) as connection:
            found: str | None = connection.execute(select(META.c.installation)).scalar_one()
        return found

    def set_installation(self, installation: str) -> None:
        unset = META.c.installation.is_(None)
        with transaction(self._writer) as connection:
            connection.execute(update(META).where(unset).values(installation=installation))
            stored = connection.execute(select(META.c.installation)).scalar_one()
        if stored != installation:
            raise Misconfigured(f"the store belongs to installation {stored}, not {installation}")

    # -- writing -------------------------------------------------------------------------------

    def lead(self, holder: str, above: int = 0) -> int:
        highest = case((META.c.epoch > above, META.c.epoch), else_=above)
        with transaction(self._writer) as connection:
            connection.execute(update(META).values(epoch=highest + 1, holder=holder))
            epoch: int = connection.execute(select(META.c.epoch)).scalar_one()
        return epoch

    def write(self, epoch: int, changes: Changes) -> None:
        jobs = {job.id: _job_columns(job) for job in changes.jobs}
        placed = {attempt.id: attempt for attempt in changes.attempts}
        attempts = {attempt.id: _attempt_columns(attempt) for attempt in placed.values()}
        events = [_event_columns(event) for event in changes.events]
        refusals = [_refusal_columns(refusal) for refusal in changes.refusals]
        alerts = outbox.raised(changes.alerts)
        tz = self._tz
        booked = ledger.rows(placed.values(), tz)
        with transaction(self._writer) as connection:
            now_tz = _check_epoch(connection, epoch)
            if now_tz != tz:
                # Seldom: somebody else has said since whose midnights count.
                self._tz, booked = now_tz, ledger.rows(placed.values(), now_tz)
            for job_id, columns in jobs.items():
                _update_job(connection, job_id, columns)
            for attempt_id, columns in attempts.items():
                _put_attempt(connection, attempt_id, columns)
            for ids in parts(list(placed)):
                ledger.clear(connection, ids)
            ledger.add(connection, booked)
            if events:
                connection.execute(insert(EVENTS), events)
            if refusals:
                connection.execute(insert(REFUSALS), refusals)
            outbox.put_new(connection, alerts)
            for numbers in parts(changes.commands_done):
                done = update(COMMANDS).where(COMMANDS.c.id.in_(numbers)).values(done=True)
                connection.execute(done)

    def add_job(self, job: Job, events: Sequence[Event]) -> None:
        columns = {
            "id": job.id,
            "submitted_at": job.submitted_at,
            "watched_until": job.watched_until,
            **_job_columns(job),
        }
        story = [_event_columns(event) for event in events]
        with transaction(self._writer) as connection:
            with _refusal_means(f"there is a job {job.id} already"):
                connection.execute(insert(JOBS).values(columns))
            if story:
                connection.execute(insert(EVENTS), story)

    def add_command(
        self,
        job_id: str,
        verb: CommandVerb,
        at: dt.datetime,
        *,
        budget_usd_micros: int | None = None,
        deadline_at: dt.datetime | None = None,
    ) -> Command:
        carries = _Extension(budget_usd_micros=budget_usd_micros, deadline_at=deadline_at)
        body = None if carries == _Extension() else _text(carries)
        new = insert(COMMANDS).values(at=at, job_id=job_id, verb=verb.value, done=False, body=body)
        with (
            transaction(self._writer) as connection,
            _refusal_means(f"there is no job {job_id}"),
        ):
            key = connection.execute(new).inserted_primary_key
        assert key is not None
        return Command(
            id=key[0],
            at=at,
            job_id=job_id,
            verb=verb,
            budget_usd_micros=budget_usd_micros,
            deadline_at=deadline_at,
        )

    def hold(self, until: dt.datetime | None) -> None:
        with transaction(self._writer) as connection:
            connection.execute(update(META).values(held_until=until))

    def watch(self, job_id: str, until: dt.datetime) -> None:
        earlier = or_(JOBS.c.watched_until.is_(None), JOBS.c.watched_until < until)
        raise_it = update(JOBS).where(JOBS.c.id == job_id, earlier).values(watched_until=until)
        with transaction(self._writer) as connection:
            connection.execute(raise_it)

    # -- reading -------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job | None:
        jobs = self._jobs(_JOBS.where(JOBS.c.id == job_id))
        return jobs[0] if jobs else None

    def jobs(self, newest: int | None = None) -> tuple[Job, ...]:
        if newest is None:
            return self._jobs(_JOBS)
        # The ids first: what is sorted to be left out need not be read whole.
        late = (JOBS.c.submitted_at.desc(), JOBS.c.id.desc())
        ids = select(JOBS.c.id).order_by(*late).limit(newest)
        return self._jobs(_JOBS.where(JOBS.c.id.in_(ids)))

    def jobs_named(self, name: str) -> tuple[Job, ...]:
        alike = self._jobs(_JOBS.where(JOBS.c.id.startswith(f"{name}-", autoescape=True)))
        return tuple(job for job in alike if job.spec.name == name)

    def job_counts(self) -> Mapping[JobState, int]:
        states = select(JOBS.c.state, func.count().label("many")).group_by(JOBS.c.state)
        return {JobState(row.state): row.many for row in self._rows(states)}

    def open_jobs(self) -> tuple[Job, ...]:
        live = select(ATTEMPTS.c.job_id).where(ATTEMPTS.c.state.in_(_LIVE))
        return self._jobs(_JOBS.where(or_(JOBS.c.state.in_(_OPEN), JOBS.c.id.in_(live))))

    def attempts(self, job_ids: Sequence[str]) -> tuple[Attempt, ...]:
        table = ATTEMPTS.c
        # In the order of the parts, each in its own order: that of all.
        wanted = [
            select(table.body)
            .where(table.job_id.in_(ids))
            .order_by(table.job_id, table.generation, table.id)
            for ids in parts(sorted(set(job_ids)))
        ]
        with transaction(self._engine) as connection:
            rows = [row for statement in wanted for row in connection.execute(statement)]
        return tuple(_value(Attempt, row.body) for row in rows)

    def regions(self) -> frozenset[str]:
        found = select(ATTEMPTS.c.region).distinct()
        with transaction(self._engine) as connection:
            return frozenset(connection.execute(found).scalars())

    def commands(self) -> tuple[Command, ...]:
        table = COMMANDS.c
        rows = self._rows(
            select(table.id, table.at, table.job_id, table.verb, table.body)
            .where(table.done.is_(False))
            .order_by(table.id)
        )
        return tuple(map(_command, rows))

    def events(self, job_id: str, after: int = 0) -> tuple[tuple[int, Event], ...]:
        rows = self._rows(
            select(EVENTS)
            .where(EVENTS.c.job_id == job_id, EVENTS.c.number > after)
            .order_by(EVENTS.c.number)
        )
        return tuple((row.number, _event(row)) for row in rows)

    def refusals(self, since: dt.datetime) -> tuple[Refusal, ...]:
        table = REFUSALS.c
        rows = self._rows(
            select(table.body).where(table.at >= since).order_by(table.at, table.number)
        )
        return tuple(_value(Refusal, row.body) for row in rows)

    def recent_attempts(self, since: dt.datetime) -> tuple[Attempt, ...]:
        table = ATTEMPTS.c
        rows = self._rows(
            select(table.body)
            .where(or_(table.state.in_(_LIVE), table.ended_at >= since))
            .order_by(table.intent_at, table.id)
        )
        return tuple(_value(Attempt, row.body) for row in rows)

    def held_until(self) -> dt.datetime | None:
        with transaction(self._engine) as connection:
            found: dt.datetime | None = connection.execute(select(META.c.held_until)).scalar_one()
        return found

    def alert_keys(self, since: dt.datetime) -> frozenset[str]:
        found = select(ALERTS.c.key).where(ALERTS.c.at >= since)
        with transaction(self._engine) as connection:
            return frozenset(connection.execute(found).scalars())

    def close(self) -> None:
        self._engine.dispose()

    # -- the ledger ----------------------------------------------------------------------------

    def cut_days_in(self, tz: str) -> None:
        check_zone(tz)
        if self._zone() != tz:
            with transaction(self._writer) as connection:
                ledger.book_anew(connection, tz)
        self._tz = tz

    def begin_ledger(self) -> None:
        """For whoever opens the database: books what ended before there was a ledger."""
        if self._zone() is None:
            with transaction(self._writer) as connection:
                # Asked again: another process may have been quicker.
                if connection.execute(select(META.c.ledger_tz)).scalar_one() is None:
                    ledger.book_anew(connection, FIRST_TZ)

    def spent(self, since: dt.date) -> Spent:
        with transaction(self._engine) as connection:
            return ledger.spent(connection, since)

    def booked(self, since: dt.date | None = None) -> tuple[Booked, ...]:
        with transaction(self._engine) as connection:
            return ledger.booked(connection, since)

    def _zone(self) -> str | None:
        with transaction(self._engine) as connection:
            found: str | None = connection.execute(select(META.c.ledger_tz)).scalar_one()
        return found

    def _jobs(self, statement: Select[Any]) -> tuple[Job, ...]:
        rows = self._rows(statement.order_by(JOBS.c.submitted_at, JOBS.c.id))
        return tuple(
            dataclasses.replace(_value(Job, row.body), watched_until=row.watched_until)
            for row in rows
        )

    def _rows(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        with transaction(self._engine) as connection:
            return connection.execute(statement).all()


# -- inside a transaction ----------------------------------------------------------------------


@contextlib.contextmanager
def _refusal_means(what: str) -> Iterator[None]:
    """A key that exists already, or one that is pointed to and does not exist."""
    try:
        yield
    except sql_errors.IntegrityError as error:
        raise Misconfigured(what) from error


def _check_epoch(connection: Connection, epoch: int) -> str:
    """Holds the row to the end of the transaction: nobody becomes the leader in between, or moves
    the midnights of the ledger, whose zone this returns."""
    wanted = select(META.c.epoch, META.c.ledger_tz).with_for_update()
    led, tz = connection.execute(wanted).one()
    if epoch != led:
        raise StaleEpoch(f"epoch {epoch} may not write: the store is led in {led}")
    return tz or FIRST_TZ


def _update_job(connection: Connection, job_id: str, columns: Columns) -> None:
    result = connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(columns))
    if result.rowcount != 1:
        raise Misconfigured(f"there is no job {job_id}")


def _put_attempt(connection: Connection, attempt_id: str, columns: Columns) -> None:
    known = update(ATTEMPTS).where(ATTEMPTS.c.id == attempt_id).values(columns)
    if connection.execute(known).rowcount == 0:
        with _refusal_means(f"there is no job {columns['job_id']}"):
            connection.execute(insert(ATTEMPTS).values(id=attempt_id, **columns))


# -- values and columns ------------------------------------------------------------------------

_JOBS = select(JOBS.c.body, JOBS.c.watched_until)


def _job_columns(job: Job) -> Columns:
    """What the leader writes of a job."""
    body = _text(dataclasses.replace(job, watched_until=None))
    return {
        "state": job.state.value,
        "owner": job.spec.owner,
        "sweep": job.spec.sweep,
        "body": body,
    }


def _attempt_columns(attempt: Attempt) -> Columns:
    return {
        "job_id": attempt.job_id,
        "generation": attempt.generation,
        "state": attempt.state.value,
        "region": attempt.offer.pool.region,
        "intent_at": attempt.intent_at,
        "ended_at": attempt.ended_at,
        "body": _text(attempt),
    }


def _command(row: Row[Any]) -> Command:
    carries = _value(_Extension, row.body) if row.body else _Extension()
    return Command(
        id=row.id,
        at=row.at,
        job_id=row.job_id,
        verb=CommandVerb(row.verb),
        budget_usd_micros=carries.budget_usd_micros,
        deadline_at=carries.deadline_at,
    )


def _event_columns(event: Event) -> Columns:
    return {
        "at": event.at,
        "job_id": event.job_id,
        "subject": event.subject,
        "kind": event.kind,
        "body": json.dumps({"why": event.why, "data": dict(event.data)}),
    }


def _event(row: Row[Any]) -> Event:
    body = json.loads(row.body)
    return Event(
        at=row.at,
        job_id=row.job_id,
        subject=row.subject,
        kind=row.kind,
        why=body["why"],
        data=body["data"],
    )


def _refusal_columns(refusal: Refusal) -> Columns:
    return {"at": refusal.at, "body": _text(refusal)}


def _text(value: object) -> str:
    return codec.to_json(value).decode("ascii")


def _value(cls: type[T], body: str) -> T:
    return codec.from_json(cls, body.encode("ascii"))
