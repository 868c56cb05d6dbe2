"""ports.Store in memory: for stories in virtual time and tests of what uses a store."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from spotrunner.adapters.store.books import FIRST_TZ, check_zone, lines
from spotrunner.adapters.store.outbox_memory import MemoryOutbox
from spotrunner.core.caps import Spent
from spotrunner.core.ledger import Entry
from spotrunner.core.model import Attempt, Command, CommandVerb, Event, Job, Refusal
from spotrunner.core.states import JobState
from spotrunner.ports import Booked, Changes, Misconfigured, StaleEpoch


class MemoryStore(MemoryOutbox):
    """Forgets everything with its process; else as the contract says. Also ports.Outbox."""

    def __init__(self) -> None:
        super().__init__()
        self._installation: str | None = None
        self._epoch = 0
        self._jobs: dict[str, Job] = {}
        self._attempts: dict[str, Attempt] = {}
        self._events: list[tuple[int, Event]] = []
        self._refusals: list[Refusal] = []
        self._commands: list[Command] = []
        self._done: set[int] = set()
        self._held_until: dt.datetime | None = None
        self._tz = FIRST_TZ
        self._ledger: dict[str, tuple[Entry, ...]] = {}  # by attempt

    def installation(self) -> str | None:
        with self._lock:
            return self._installation

    def set_installation(self, installation: str) -> None:
        with self._lock:
            if self._installation not in (None, installation):
                raise Misconfigured(
                    f"the store belongs to installation {self._installation}, not {installation}"
                )
            self._installation = installation

    # -- writing -------------------------------------------------------------------------------

    def lead(self, holder: str, above: int = 0) -> int:
        with self._lock:
            self._epoch = max(self._epoch, above) + 1
            return self._epoch

    def write(self, epoch: int, changes: Changes) -> None:
        with self._lock:
            if epoch != self._epoch:
                raise StaleEpoch(f"epoch {epoch} may not write: the store is led in {self._epoch}")
            # All checks come first, so that nothing is written of what is refused.
            for job_id in (
                *(job.id for job in changes.jobs),
                *(a.job_id for a in changes.attempts),
            ):
                self._known(job_id)
            for job in changes.jobs:
                watched_until = self._jobs[job.id].watched_until
                self._jobs[job.id] = dataclasses.replace(job, watched_until=watched_until)
            for attempt in changes.attempts:
                self._attempts[attempt.id] = attempt
                self._book(attempt)
            self._append(changes.events)
            self._refusals += changes.refusals
            self._done.update(changes.commands_done)
            for alert, channels in changes.alerts:
                self._raise(alert, channels)

    def add_job(self, job: Job, events: Sequence[Event]) -> None:
        with self._lock:
            if job.id in self._jobs:
                raise Misconfigured(f"there is a job {job.id} already")
            self._jobs[job.id] = job
            self._append(events)

    def add_command(
        self,
        job_id: str,
        verb: CommandVerb,
        at: dt.datetime,
        *,
        budget_usd_micros: int | None = None,
        deadline_at: dt.datetime | None = None,
    ) -> Command:
        with self._lock:
            self._known(job_id)
            command = Command(
                id=len(self._commands) + 1,
                at=at,
                job_id=job_id,
                verb=verb,
                budget_usd_micros=budget_usd_micros,
                deadline_at=deadline_at,
            )
            self._commands.append(command)
            return command

    def hold(self, until: dt.datetime | None) -> None:
        with self._lock:
            self._held_until = until

    def watch(self, job_id: str, until: dt.datetime) -> None:
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and (job.watched_until is None or job.watched_until < until):
                self._jobs[job_id] = dataclasses.replace(job, watched_until=until)

    # -- reading -------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job | None:
        with self._lock:
            return self._jobs.get(job_id)

    def jobs(self, newest: int | None = None) -> tuple[Job, ...]:
        found = self._all()
        return found if newest is None else found[max(0, len(found) - newest) :]

    def jobs_named(self, name: str) -> tuple[Job, ...]:
        return tuple(job for job in self._all() if job.spec.name == name)

    def job_counts(self) -> Mapping[JobState, int]:
        return Counter(job.state for job in self._all())

    def open_jobs(self) -> tuple[Job, ...]:
        with self._lock:
            live = {attempt.job_id for attempt in self._attempts.values() if attempt.state.live}
            jobs = [job for job in self._jobs.values() if not job.state.over or job.id in live]
        return _oldest_first(jobs)

    def attempts(self, job_ids: Sequence[str]) -> tuple[Attempt, ...]:
        wanted = set(job_ids)
        with self._lock:
            found = [attempt for attempt in self._attempts.values() if attempt.job_id in wanted]
        return tuple(sorted(found, key=lambda it: (it.job_id, it.generation, it.id)))

    def regions(self) -> frozenset[str]:
        with self._lock:
            return frozenset(attempt.offer.pool.region for attempt in self._attempts.values())

    def commands(self) -> tuple[Command, ...]:
        with self._lock:
            return tuple(it for it in self._commands if it.id not in self._done)

    def events(self, job_id: str, after: int = 0) -> tuple[tuple[int, Event], ...]:
        with self._lock:
            return tuple(
                (number, event)
                for number, event in self._events[max(0, after) :]
                if event.job_id == job_id
            )

    def refusals(self, since: dt.datetime) -> tuple[Refusal, ...]:
        with self._lock:
            found = [refusal for refusal in self._refusals if refusal.at >= since]
        return tuple(sorted(found, key=lambda refusal: refusal.at))

    def recent_attempts(self, since: dt.datetime) -> tuple[Attempt, ...]:
        with self._lock:
            found = [
                attempt
                for attempt in self._attempts.values()
                if attempt.state.live
                or (attempt.ended_at is not None and attempt.ended_at >= since)
            ]
        return tuple(sorted(found, key=lambda it: (it.intent_at, it.id)))

    def held_until(self) -> dt.datetime | None:
        with self._lock:
            return self._held_until

    def alert_keys(self, since: dt.datetime) -> frozenset[str]:
        with self._lock:
            return frozenset(key for key, alert in self._alerts.items() if alert.at >= since)

    def close(self) -> None:
        pass

    # -- the ledger ----------------------------------------------------------------------------

    def cut_days_in(self, tz: str) -> None:
        check_zone(tz)
        with self._lock:
            if tz != self._tz:
                self._tz = tz
                for attempt in self._attempts.values():
                    self._book(attempt)

    def spent(self, since: dt.date) -> Spent:
        by_owner: Counter[str] = Counter()
        by_sweep: Counter[str] = Counter()
        by_day: Counter[dt.date] = Counter()
        by_owner_and_day: Counter[tuple[str, dt.date]] = Counter()
        on_demand_by_day: Counter[dt.date] = Counter()
        for line in self._lines():
            day, cost = line.entry.day, line.entry.cost_usd_micros
            by_owner[line.owner] += cost
            if line.sweep:
                by_sweep[line.sweep] += cost
            if day >= since:
                by_day[day] += cost
                by_owner_and_day[line.owner, day] += cost
                on_demand_by_day[day] += line.entry.on_demand_usd_micros
        return Spent(
            total_usd_micros=sum(by_owner.values()),
            by_owner=by_owner,
            by_sweep=by_sweep,
            by_day=by_day,
            by_owner_and_day=by_owner_and_day,
            on_demand_by_day=on_demand_by_day,
        )

    def booked(self, since: dt.date | None = None) -> tuple[Booked, ...]:
        found = [line for line in self._lines() if since is None or line.entry.day >= since]
        return tuple(
            sorted(found, key=lambda it: (it.entry.day, it.entry.job_id, it.entry.attempt))
        )

    def _lines(self) -> list[Booked]:
        with self._lock:
            specs = {job.id: job.spec for job in self._jobs.values()}
            entries = [entry for booked in self._ledger.values() for entry in booked]
        return [
            Booked(entry=it, owner=specs[it.job_id].owner, sweep=specs[it.job_id].sweep)
            for it in entries
        ]

    def _all(self) -> tuple[Job, ...]:
        with self._lock:
            return _oldest_first(self._jobs.values())

    # -- inside the lock -----------------------------------------------------------------------

    def _known(self, job_id: str) -> None:
        if job_id not in self._jobs:
            raise Misconfigured(f"there is no job {job_id}")

    def _book(self, attempt: Attempt) -> None:
        """Instead of what it has in the ledger."""
        self._ledger[attempt.id] = lines(attempt, self._tz)

    def _append(self, events: Sequence[Event]) -> None:
        first = len(self._events) + 1
        self._events += enumerate(events, start=first)


def _oldest_first(jobs: Iterable[Job]) -> tuple[Job, ...]:
    return tuple(sorted(jobs, key=lambda job: (job.submitted_at, job.id)))
