"""A store in memory: for stories in virtual time and tests, held to the same contract as SQL."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from collections.abc import Sequence

from spotrunner.core.model import Attempt, Command, CommandVerb, Event, Job, Refusal
from spotrunner.ports import Changes, Misconfigured, StaleEpoch


class MemoryStore:
    """See ports.Store. One lock makes every call a transaction."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._installation: str | None = None
        self._epoch = 0
        self._jobs: dict[str, Job] = {}
        self._attempts: dict[str, Attempt] = {}
        self._events: list[Event] = []
        self._refusals: list[Refusal] = []
        self._commands: list[Command] = []
        self._done: set[int] = set()

    def installation(self) -> str | None:
        return self._installation

    def set_installation(self, installation: str) -> None:
        with self._lock:
            if self._installation not in (None, installation):
                raise Misconfigured(f"this store is of installation {self._installation}")
            self._installation = installation

    def lead(self, holder: str) -> int:
        with self._lock:
            self._epoch += 1
            return self._epoch

    def write(self, epoch: int, changes: Changes) -> None:
        with self._lock:
            if epoch != self._epoch:
                raise StaleEpoch(f"epoch {epoch} is over, {self._epoch} leads")
            for job in changes.jobs:
                kept = self._jobs[job.id].watched_until
                self._jobs[job.id] = dataclasses.replace(job, watched_until=kept)
            self._attempts.update({attempt.id: attempt for attempt in changes.attempts})
            self._events += changes.events
            self._refusals += changes.refusals
            self._done.update(changes.commands_done)

    def add_job(self, job: Job, events: Sequence[Event]) -> None:
        with self._lock:
            if job.id in self._jobs:
                raise Misconfigured(f"there is a job {job.id} already")
            self._jobs[job.id] = job
            self._events += events

    def add_command(self, job_id: str, verb: CommandVerb, at: dt.datetime) -> Command:
        with self._lock:
            command = Command(id=len(self._commands) + 1, at=at, job_id=job_id, verb=verb)
            self._commands.append(command)
            return command

    def watch(self, job_id: str, until: dt.datetime) -> None:
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and (job.watched_until is None or job.watched_until < until):
                self._jobs[job_id] = dataclasses.replace(job, watched_until=until)

    def job(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def jobs(self) -> tuple[Job, ...]:
        with self._lock:
            return tuple(sorted(self._jobs.values(), key=lambda job: (job.submitted_at, job.id)))

    def open_jobs(self) -> tuple[Job, ...]:
        living = {a.job_id for a in list(self._attempts.values()) if a.state.live}
        return tuple(job for job in self.jobs() if not job.state.over or job.id in living)

    def attempts(self, job_ids: Sequence[str]) -> tuple[Attempt, ...]:
        with self._lock:
            found = [a for a in self._attempts.values() if a.job_id in job_ids]
        return tuple(sorted(found, key=lambda attempt: (attempt.job_id, attempt.generation)))

    def commands(self) -> tuple[Command, ...]:
        with self._lock:
            return tuple(one for one in self._commands if one.id not in self._done)

    def events(self, job_id: str, after: int = 0) -> tuple[tuple[int, Event], ...]:
        with self._lock:
            numbered = list(enumerate(self._events, start=1))
        return tuple((n, event) for n, event in numbered if n > after and event.job_id == job_id)

    def refusals(self, since: dt.datetime) -> tuple[Refusal, ...]:
        with self._lock:
            return tuple(refusal for refusal in self._refusals if refusal.at >= since)

    def close(self) -> None:
        """Nothing to give back."""
