"""Tell each agent what the round means for it: one order a live attempt, renewed only when what
it says changes, and posted until it surely lies in the mailbox."""

from __future__ import annotations

import dataclasses
import datetime as dt

from spotrunner.core.draft import Draft
from spotrunner.core.interval import handles_save_signal, save_every_s
from spotrunner.core.model import Attempt, Order, Phase, TakeOver, Verb
from spotrunner.core.plan import PostOrder
from spotrunner.core.retire import is_silent, serves
from spotrunner.core.states import AttemptState

# After these words of its agent nothing more comes of an attempt.
_SPENT = (Phase.IDLE, Phase.FAILED, Phase.FAULT, Phase.STOPPED, Phase.UNPAID, Phase.FENCED)


def orders(draft: Draft) -> None:
    due = []
    for attempt in draft.live():
        wanted = _wanted(draft, attempt)
        if attempt.order is None or not _same(attempt.order, wanted):
            attempt = dataclasses.replace(attempt, order=wanted)
            draft.update(attempt)
        assert attempt.order is not None
        if attempt.order.n > attempt.order_posted_n:
            due.append(attempt.order)
    paid_before = {attempt.id: attempt.paid_until for attempt in draft.snapshot.attempts}
    # A round acts for a bounded time. Payments go first, and of these the one that is needed first.
    due.sort(key=lambda o: (o.verb is Verb.STOP, paid_before.get(o.attempt, o.paid_until)))
    for order in due:
        draft.post(PostOrder(order=order))


def _wanted(draft: Draft, attempt: Attempt) -> Order:
    job = draft.jobs[attempt.job_id]
    stop = attempt.state is AttemptState.TERMINATING
    watched = job.watched_until is not None and draft.now < job.watched_until
    return Order(
        box=attempt.id,
        epoch=draft.snapshot.epoch,
        n=(attempt.order.n if attempt.order else 0) + 1,
        attempt=attempt.id,
        generation=attempt.generation,
        verb=Verb.STOP if stop else Verb.RUN,
        paid_until=attempt.paid_until,
        why=attempt.ending.value if stop and attempt.ending else "",
        take_over=_take_over(draft, attempt),
        replacement_ready=_replacement_ready(draft, attempt),
        checkpoints_asked=job.checkpoints_asked,
        watched=watched,
        save_every_s=save_every_s(draft, attempt),
        handles_save_signal=handles_save_signal(draft, job),
    )


def _same(old: Order, new: Order) -> bool:
    return dataclasses.replace(new, n=old.n) == old


def _take_over(draft: Draft, attempt: Attempt) -> TakeOver | None:
    """When a replacement may take HEAD: at once from the dead, the silent and the spent; from one
    that is interrupted or stopped when its time is over; from one that trains on only when it says
    `final`. What was once allowed stays allowed: the replacement may have acted on it."""
    if attempt.replaces is None:
        return None
    before = attempt.order.take_over if attempt.order else None
    if before is not None and before.now:
        return before
    old = draft.attempts.get(attempt.replaces)
    if old is None or not old.state.live or is_silent(draft, old) or _is_spent(draft, old):
        return TakeOver(attempt=attempt.replaces, now=True)
    if before is not None and before.by is not None:
        return before
    if old.notice is not None:
        by = old.notice.at + dt.timedelta(seconds=draft.limits.notice_grace_s)
        return TakeOver(attempt=old.id, by=by)
    if serves(draft, old):
        return TakeOver(attempt=old.id)
    # Being stopped: it commits as final within its grace, and no longer.
    by = (old.ending_at or draft.now) + dt.timedelta(seconds=draft.limits.stop_s)
    return TakeOver(attempt=old.id, by=by)


def _is_spent(draft: Draft, old: Attempt) -> bool:
    """Nothing more comes of it: it said so, or it never said anything at all. One whose report
    cannot be read now may still have steps to save."""
    report = draft.report(old)
    if report is not None:
        return report.phase in _SPENT
    return draft.mail_known and old.first_step_at is None and old.notice is None


def _replacement_ready(draft: Draft, attempt: Attempt) -> bool:
    """Whether a replacement that can be counted on waits for HEAD with everything in place."""
    for other in draft.live(attempt.job_id):
        report = draft.report(other)
        is_ready = report is not None and report.phase is Phase.READY
        if other.replaces == attempt.id and is_ready and serves(draft, other):
            return True
    return False
