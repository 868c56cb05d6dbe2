"""Deletes what was kept encrypted of a job's secrets as soon as nobody can need it any more.

The store says of which jobs that has been done (an event of each), so that neither a crash nor an
S3 that does not answer leaves one behind: it is asked again, less and less often.
"""

from __future__ import annotations

import datetime as dt
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import structlog

from spotrunner.core.model import Event, Job, Snapshot
from spotrunner.core.secret_place import Keeper, objects_of, place_of
from spotrunner.ports import Changes, Objects, PortError, Store

log = structlog.get_logger(__name__)

FORGOTTEN = "secrets-deleted"
# After the first refusal, and at the most: what is not allowed now will not be a second later.
FIRST_WAIT_S = 10.0
LONGEST_WAIT_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class _Refused:
    """How it was refused last, and when it is asked for again."""

    error: str
    wait_s: float
    again_at: dt.datetime


class Forgetter:
    """`look` is called by the round's thread; S3 is asked beside it."""

    def __init__(self, *, store: Store, objects: Objects, executor: Executor, epoch: int) -> None:
        self._store = store
        self._objects = objects
        self._executor = executor
        self._epoch = epoch
        self._kept = {job.id for job in store.jobs() if _names(job) and not self._told(job)}
        self._asked: dict[str, Future[PortError | None]] = {}
        self._refused: dict[str, _Refused] = {}

    def look(self, snapshot: Snapshot) -> None:
        """Raises StaleEpoch."""
        self._tell(snapshot)
        # A snapshot has every job that is not over, and every live attempt.
        open_ = {job.id for job in snapshot.jobs if not job.state.over}
        open_ |= {attempt.job_id for attempt in snapshot.attempts if attempt.state.live}
        self._kept |= {job.id for job in snapshot.jobs if job.id in open_ and _names(job)}
        for job_id in sorted(self._kept - open_ - self._asked.keys()):
            refused = self._refused.get(job_id)
            if refused is not None and snapshot.now < refused.again_at:
                continue
            self._asked[job_id] = self._executor.submit(self._delete, job_id)

    def _tell(self, snapshot: Snapshot) -> None:
        for job_id in [job_id for job_id, answer in self._asked.items() if answer.done()]:
            error = self._asked.pop(job_id).result()
            if error is not None:
                self._wait(job_id, str(error), snapshot.now)
                continue
            self._refused.pop(job_id, None)
            self._kept.discard(job_id)
            job = self._store.job(job_id)
            if job is None:
                continue
            event = Event(
                at=snapshot.now,
                job_id=job_id,
                subject=job_id,
                kind=FORGOTTEN,
                why=f"the job is over: {', '.join(_names(job))} no longer lies in the bucket",
            )
            self._store.write(self._epoch, Changes(events=(event,)))
            log.info(event.kind, subject=event.subject, why=event.why)

    def _wait(self, job_id: str, error: str, now: dt.datetime) -> None:
        """Twice as long as the last time; told where it is news."""
        last = self._refused.get(job_id)
        wait_s = FIRST_WAIT_S if last is None else min(2 * last.wait_s, LONGEST_WAIT_S)
        again_at = now + dt.timedelta(seconds=wait_s)
        self._refused[job_id] = _Refused(error=error, wait_s=wait_s, again_at=again_at)
        if last is None or last.error != error:
            log.warning("secrets not deleted", job=job_id, error=error)

    def _delete(self, job_id: str) -> PortError | None:
        """In a thread of its own."""
        try:
            found = [it.key for it in self._objects.list(objects_of(job_id))]
            self._objects.delete(found)
        except PortError as error:
            return error
        return None

    def _told(self, job: Job) -> bool:
        return any(event.kind == FORGOTTEN for _, event in self._store.events(job.id))


def _names(job: Job) -> list[str]:
    """Of the secrets that lie in the bucket while the job is open."""
    return [it.name for it in job.spec.secrets if place_of(it.source).keeper is Keeper.OBJECT]
