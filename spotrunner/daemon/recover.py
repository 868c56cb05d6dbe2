"""Learn from the receipts in S3 what the store does not know: once, before the first round.

A store that was restored from a backup, or lost, has forgotten what was spent and paid for since;
the receipts (ports.Receipts) have not. The store stays the authority on everything else: what it
knows as ended has ended, and of what users asked for since the backup only another budget or
deadline is known, which lies with the job. Where a receipt shows
that somebody wanted the job to stop, it waits for somebody's word.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import structlog
from pydantic import TypeAdapter, ValidationError

from spotrunner.core.alert import Alert, AlertKind
from spotrunner.core.ids import job_of
from spotrunner.core.model import Attempt, EndReason, Event, Head, Job, JobSpec, Pause
from spotrunner.core.money import exposure_until, usd
from spotrunner.core.states import AttemptState, JobState, advance
from spotrunner.daemon.reconcile import to_nobody
from spotrunner.ports import Changes, NotFound, Objects, Receipts, Store

T = TypeVar("T")

log = structlog.get_logger(__name__)

# S3 answers in some 20 ms: a store that was lost reads 10,000 receipts in half a minute.
READERS = 8
# A record of the store holds its whole request: 10,000 at once would fill a small host.
JOBS_AT_ONCE = 100

UNKNOWN_JOB = (
    "the store was restored from a backup that did not know this job: look at it, then"
    " spotrunner resume {job}"
)

STOPPED_JOB = (
    "the store was restored from a backup; its last instance had been told to stop (cancelled,"
    " paused, or by panic): look at it, then spotrunner resume {job}"
)

_SPEC: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
_HEAD: TypeAdapter[Head] = TypeAdapter(Head)
# Ends that somebody asked for. That it was the price or a window nobody can say from a receipt.
_ASKED_FOR = frozenset({EndReason.CANCELLED, EndReason.PAUSED})
# How far along an attempt is.
_RANKS = {state: rank for rank, state in enumerate(AttemptState)}


def recover(
    *,
    store: Store,
    receipts: Receipts,
    objects: Objects,
    epoch: int,
    now: dt.datetime,
    channels_of: Callable[[Alert], tuple[str, ...]] = to_nobody,
) -> None:
    """What was done before a call fails stays done, and the next call does the rest. `channels_of`
    says over which channels an alert goes. Raises Unavailable, NotAuthorized, Misconfigured,
    StaleEpoch."""
    desk = _Desk(store=store, objects=objects, epoch=epoch, now=now, channels_of=channels_of)
    by_job: dict[str, list[str]] = {}
    for name in sorted(receipts.names()):
        by_job.setdefault(job_of(name), []).append(name)
    for jobs in _parts(sorted(by_job)):
        names = [name for job_id in jobs for name in by_job[job_id]]
        news = _news(store, receipts, jobs, names)
        for job_id, learned in itertools.groupby(news, lambda each: each.attempt.job_id):
            _recover_job(desk, job_id, tuple(learned))


def _parts(jobs: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(jobs), JOBS_AT_ONCE):
        yield jobs[start : start + JOBS_AT_ONCE]


def _news(
    store: Store, receipts: Receipts, jobs: Sequence[str], names: Sequence[str]
) -> Iterator[_Learned]:
    """By job. What has ended in the store needs no receipt."""
    known = {attempt.id: attempt for attempt in store.attempts(jobs)}
    doubtful = [name for name in names if name not in known or known[name].state.live]
    for receipt in _read(receipts, doubtful):
        learned = _compared(known.get(receipt.id), receipt)
        if learned.attempt != learned.known:
            yield learned


def _read(receipts: Receipts, names: Sequence[str]) -> list[Attempt]:
    """In the order of the names; what cannot be read as a receipt is left out."""
    if not names:
        return []
    with ThreadPoolExecutor(min(READERS, len(names)), "receipts") as pool:
        return [each for each in pool.map(receipts.read, names) if each is not None]


# -- an attempt --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Learned:
    """An attempt as the store has it, and as it has to be."""

    known: Attempt | None
    attempt: Attempt

    @property
    def most_usd_micros(self) -> int:
        """What it has come to, or may come to within what is paid."""
        attempt = self.attempt
        if attempt.state.live:
            return exposure_until(attempt, attempt.paid_until)
        return attempt.cost_usd_micros or 0


def _compared(known: Attempt | None, receipt: Attempt) -> _Learned:
    attempt = _unknown(receipt) if known is None else _merged(known, receipt)
    return _Learned(known=known, attempt=attempt)


def _unknown(receipt: Attempt) -> Attempt:
    """The receipt is older than the launch, which may have followed. With the time of a sending and
    no request it is never sent again, only looked for: see core/place and core/settle."""
    if receipt.state is AttemptState.PENDING and receipt.sent_at is None:
        return dataclasses.replace(receipt, sent_at=receipt.intent_at)
    return receipt


def _merged(known: Attempt, receipt: Attempt) -> Attempt:
    """The one that is further along, with what only the other knows. A store that wrote the
    receipt itself is never behind it in anything."""
    if _was_opened_again(known, receipt):
        return known
    is_behind = _RANKS[receipt.state] > _RANKS[known.state]
    base, other = (receipt, known) if is_behind else (known, receipt)
    return dataclasses.replace(
        base,
        paid_until=max(known.paid_until, receipt.paid_until),
        request=known.request,
        order=known.order,
        order_posted_n=known.order_posted_n,
        sent_at=base.sent_at or other.sent_at,
        instance_id=base.instance_id or other.instance_id,
        launched_at=base.launched_at or other.launched_at,
        hour_prices_usd_micros=max(
            base.hour_prices_usd_micros, other.hour_prices_usd_micros, key=len
        ),
        running_price_usd_micros=base.running_price_usd_micros or other.running_price_usd_micros,
        moved_bytes=max(base.moved_bytes, other.moved_bytes),
        transfer_usd_micros=max(base.transfer_usd_micros, other.transfer_usd_micros),
        traffic_usd_micros=max(base.traffic_usd_micros, other.traffic_usd_micros),
        traffic_reserved_usd_micros=max(
            base.traffic_reserved_usd_micros, other.traffic_reserved_usd_micros
        ),
    )


def _was_opened_again(known: Attempt, receipt: Attempt) -> bool:
    """It was given up, and then its instance turned up: the receipt of that was lost."""
    is_orphan = known.ending is EndReason.ORPHANED and receipt.ending is not EndReason.ORPHANED
    return is_orphan and not receipt.state.live


# -- a job -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Desk:
    """What every job is recovered with."""

    store: Store
    objects: Objects
    epoch: int
    now: dt.datetime
    channels_of: Callable[[Alert], tuple[str, ...]]


def _recover_job(desk: _Desk, job_id: str, learned: Sequence[_Learned]) -> None:
    attempts = tuple(each.attempt for each in learned)
    job = desk.store.job(job_id) or _add_job(desk, job_id, attempts)
    if job is None:
        _warn_of_nobodys(job_id, learned)
        return
    placed = _placed(_as_extended(desk, job), learned)
    event = _event(job, learned, desk.now)
    changes = Changes(
        jobs=(placed,) if placed != job else (),
        attempts=attempts,
        events=(event,),
        alerts=_alerts(desk, placed, learned),
    )
    desk.store.write(desk.epoch, changes)
    log.warning(event.kind, subject=event.subject, why=event.why)


def _add_job(desk: _Desk, job_id: str, attempts: Sequence[Attempt]) -> Job | None:
    """As it ended, where HEAD or its last receipt says so. Else paused, since nobody knows what its
    user has asked for; whatever runs of it stops with a checkpoint."""
    spec = _lying_at(desk.objects, f"jobs/{job_id}/spec.json", _SPEC)
    if spec is None:
        return None
    head = _lying_at(desk.objects, f"jobs/{job_id}/checkpoints/HEAD.json", _HEAD)
    state, reason = _fate(spec, head, attempts)
    is_paused = state is JobState.PAUSED
    job = Job(
        id=job_id,
        spec=spec,
        state=state,
        submitted_at=min(attempt.intent_at for attempt in attempts),
        pause=Pause.USER if is_paused else None,
        reason=UNKNOWN_JOB.format(job=job_id) if is_paused else reason,
        ended_at=None if is_paused else _newest(attempts).ended_at,
    )
    desk.store.add_job(job, ())
    return job


def _as_extended(desk: _Desk, job: Job) -> Job:
    """With the budget and the deadline that lie with it: whoever changed them since the backup
    wrote them there first (web/wishes)."""
    spec = _lying_at(desk.objects, f"jobs/{job.id}/spec.json", _SPEC)
    if spec is None:
        return job
    return dataclasses.replace(
        job,
        spec=dataclasses.replace(
            job.spec, budget_usd_micros=spec.budget_usd_micros, deadline_at=spec.deadline_at
        ),
    )


def _fate(spec: JobSpec, head: Head | None, attempts: Sequence[Attempt]) -> tuple[JobState, str]:
    """With the reason. One that failed and has retries left has not failed for good, and one whose
    agent was stopped by somebody else than its daemon (a detail says so) was not cancelled."""
    last = _newest(attempts)
    failures = sum(attempt.ending is EndReason.FAILED for attempt in attempts)
    if head is not None and head.done:
        return JobState.SUCCEEDED, ""
    if last.ending is EndReason.CANCELLED and not last.end_detail:
        return JobState.CANCELLED, "it was cancelled before the store was restored"
    if last.ending is EndReason.FAILED and failures > spec.retries:
        return JobState.FAILED, last.end_detail or "its trainer failed"
    return JobState.PAUSED, ""


def _newest(attempts: Sequence[Attempt]) -> Attempt:
    return max(attempts, key=lambda attempt: attempt.generation)


def _lying_at(objects: Objects, key: str, form: TypeAdapter[T]) -> T | None:
    """What cannot be read is as if it did not lie there: one job must not keep all from a start."""
    try:
        return form.validate_json(objects.get(key).body, strict=True)
    except NotFound:
        return None
    except ValidationError as error:
        why = "; ".join(each["msg"] for each in error.errors(include_url=False)[:3])
        log.warning("what lies with a job cannot be read", key=key, why=why)
        return None


def _warn_of_nobodys(job_id: str, learned: Sequence[_Learned]) -> None:
    log.error(
        "no cap counts this money: the store does not know its job, and its spec.json is not to be"
        " had; what runs of it is reaped",
        job=job_id,
        attempts=[each.attempt.id for each in learned],
        usd=_most_usd_micros(learned) / 1_000_000,
    )


def _placed(job: Job, learned: Sequence[_Learned]) -> Job:
    """A job that was placed since the backup is at work again, and one whose last instance was told
    to stop since is not. Not where its user paused it: the word to go on may have come since, and
    so may another one to pause."""
    if job.state.over or job.pause is Pause.USER:
        return job
    if _was_told_to_stop(max(learned, key=lambda each: each.attempt.generation)):
        reason = STOPPED_JOB.format(job=job.id)
        return advance(job, JobState.PAUSED, pause=Pause.USER, reason=reason)
    serves = (
        each.attempt.state.live and each.attempt.state is not AttemptState.TERMINATING
        for each in learned
    )
    return advance(job, JobState.ACTIVE, pause=None, reason="") if any(serves) else job


def _was_told_to_stop(last: _Learned) -> bool:
    """Since the backup: what came of a word that the store had heard, the store knows."""
    ending = last.attempt.ending
    return ending in _ASKED_FOR and (last.known is None or last.known.ending is not ending)


def _alerts(
    desk: _Desk, job: Job, learned: Sequence[_Learned]
) -> tuple[tuple[Alert, tuple[str, ...]], ...]:
    """Of a job that waits for a word since its store forgot it: no round will tell of it."""
    if job.pause is not Pause.USER or job.reason not in (
        UNKNOWN_JOB.format(job=job.id),
        STOPPED_JOB.format(job=job.id),
    ):
        return ()
    alert = Alert(
        key=f"{job.id}/recovered/{desk.epoch}",
        at=desk.now,
        kind=AlertKind.PAUSED,
        job_id=job.id,
        owner=job.spec.owner,
        channels=job.spec.alerts,
        title=f"{job.id} is paused",
        why=job.reason,
        cost=f"{usd(_most_usd_micros(learned))} counted from its receipts",
        command=f"spotrunner resume {job.id}",
    )
    return ((alert, desk.channels_of(alert)),)


def _most_usd_micros(learned: Sequence[_Learned]) -> int:
    return sum(each.most_usd_micros for each in learned)


def _event(job: Job, learned: Sequence[_Learned], now: dt.datetime) -> Event:
    unknown = sum(each.known is None for each in learned)
    behind = len(learned) - unknown
    most = _most_usd_micros(learned)
    parts = [f"{unknown} that it did not know"] if unknown else []
    parts += [f"{behind} that it knew less of"] if behind else []
    why = (
        f"the store is older than the receipts of its attempts: {' and '.join(parts)}."
        f" They are counted with {usd(most)}"
    )
    data = {"unknown": unknown, "behind": behind, "usd": most / 1_000_000}
    return Event(at=now, job_id=job.id, subject=job.id, kind="recovered", why=why, data=data)
