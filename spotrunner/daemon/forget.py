"""Deletes what was kept encrypted of a job's secrets as soon as nobody can need it any more.

The store says of which jobs that has been done (an event of each), so that neither a crash nor an
S3 that does not answer leaves one behind: it is asked again every round.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future

import structlog

from spotrunner.core.model import Event, Job, Snapshot
from spotrunner.core.secret_place import Keeper, objects_of, place_of
from spotrunner.ports import Changes, Objects, PortError, Store

log = structlog.get_logger(__name__)

FORGOTTEN = "secrets-deleted"


class Forgetter:
    """`look` is called by the round's thread; S3 is asked beside it."""

    def __init__(self, *, store: Store, objects: Objects, executor: Executor, epoch: int) -> None:
        self._store = store
        self._objects = objects
        self._executor = executor
        self._epoch = epoch
        self._kept = {job.id for job in store.jobs() if _names(job) and not self._told(job)}
        self._asked: dict[str, Future[PortError | None]] = {}

    def look(self, snapshot: Snapshot) -> None:
        """Raises StaleEpoch."""
        self._tell(snapshot)
        # A snapshot has every job that is not over, and every live attempt.
        open_ = {job.id for job in snapshot.jobs if not job.state.over}
        open_ |= {attempt.job_id for attempt in snapshot.attempts if attempt.state.live}
        self._kept |= {job.id for job in snapshot.jobs if job.id in open_ and _names(job)}
        for job_id in sorted(self._kept - open_ - self._asked.keys()):
            self._asked[job_id] = self._executor.submit(self._delete, job_id)

    def _tell(self, snapshot: Snapshot) -> None:
        for job_id in [job_id for job_id, answer in self._asked.items() if answer.done()]:
            error = self._asked.pop(job_id).result()
            if error is not None:
                log.warning("secrets not deleted", job=job_id, error=str(error))
                continue
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
