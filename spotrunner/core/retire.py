"""End what is over. First the agent is told to stop (it saves, commits and powers off); only what
did not end itself in its time is terminated."""

from __future__ import annotations

import datetime as dt

from spotrunner.core.draft import Draft
from spotrunner.core.model import Attempt, EndReason, Job, Limits, Pause, Phase
from spotrunner.core.states import AttemptState, JobState

_ENDINGS = {
    JobState.CANCELLED: EndReason.CANCELLED,
    JobState.SUCCEEDED: EndReason.DONE,
    JobState.FAILED: EndReason.FAILED,
}

_SERVING = (
    AttemptState.PENDING,
    AttemptState.REQUESTED,
    AttemptState.STARTING,
    AttemptState.RUNNING,
)


def retire(draft: Draft) -> None:
    for attempt in draft.live():
        if attempt.state is not AttemptState.TERMINATING:
            _stop(draft, attempt)
        if draft.attempts[attempt.id].state is AttemptState.TERMINATING:
            _enforce(draft, draft.attempts[attempt.id])


def _stop(draft: Draft, attempt: Attempt) -> None:
    """The first reason for which the attempt is over, if there is one."""
    job = draft.jobs[attempt.job_id]
    if job.state.over:
        if not waits_for_free(draft, attempt):
            draft.wind_down(attempt, _ENDINGS[job.state], f"the job is {job.state.value}")
    elif stands_still(job):
        if not waits_for_free(draft, attempt):
            draft.wind_down(attempt, EndReason.PAUSED, f"the job is paused: {job.reason}")
    elif is_superseded(draft, attempt):
        if not waits_for_free(draft, attempt):
            reason = _superseded_reason(draft, attempt)
            draft.wind_down(attempt, reason, "a later attempt has taken HEAD over")
    elif draft.now > attempt.paid_until + _s(draft.limits.unpaid_grace_s):
        detail = attempt.end_detail
        draft.wind_down(attempt, unpaid_reason(attempt), "its paid time is over", detail)
    elif attempt.state is AttemptState.INTERRUPTED:
        _stop_interrupted(draft, attempt)
    else:
        _stop_slow_boot(draft, attempt)


def _superseded_reason(draft: Draft, attempt: Attempt) -> EndReason:
    if is_silent(draft, attempt):
        return EndReason.SILENT
    return EndReason.MOVED if is_moved(draft, attempt) else EndReason.SUPERSEDED


def _stop_interrupted(draft: Draft, attempt: Attempt) -> None:
    assert attempt.notice is not None
    report = draft.report(attempt)
    if draft.now > attempt.notice.at + _s(draft.limits.free_idle_s):
        why = "EC2 did not take it in time after its notice"
        draft.wind_down(attempt, EndReason.INTERRUPTED, why)
    elif report is not None and report.phase is Phase.IDLE and not waits_for_free(draft, attempt):
        why = "it has handed over, and its time is billed"
        draft.wind_down(attempt, EndReason.INTERRUPTED, why)


def _stop_slow_boot(draft: Draft, attempt: Attempt) -> None:
    if attempt.launched_at is None or attempt.first_step_at is not None:
        return
    age_s = (draft.now - attempt.launched_at).total_seconds()
    listened_s = (_listened_until(draft) - attempt.launched_at).total_seconds()
    if draft.report(attempt) is None and listened_s > draft.limits.first_report_s:
        why = f"no report of its agent {listened_s:.0f} s after the launch"
        draft.wind_down(attempt, EndReason.BOOT, why)
    elif age_s > draft.limits.first_step_s:
        why = f"no step of training {age_s:.0f} s after the launch"
        draft.wind_down(attempt, EndReason.BOOT, why)


def _enforce(draft: Draft, attempt: Attempt) -> None:
    """Terminate what had its time. Asked again every round until EC2 lists it as ended; that no
    listing shows it is no reason to pay for it."""
    instance = draft.instance(attempt)
    instance_id = instance.id if instance else attempt.instance_id
    if instance_id is None or (instance is not None and not instance.billed):
        return
    if waits_for_free(draft, attempt):
        return
    assert attempt.ending is not None
    assert attempt.ending_at is not None
    graceful = attempt.ending_at + _s(_grace_s(attempt.ending, draft.limits))
    if draft.now >= min(graceful, attempt.paid_until + _s(draft.limits.unpaid_grace_s)):
        why = f"{attempt.id}: {attempt.ending.value}, and still there"
        draft.terminate(attempt.offer.pool.region, instance_id, why)


def _grace_s(ending: EndReason, limits: Limits) -> int:
    """How long an attempt may take to end itself, inside its paid time. Whoever may hold unsaved
    steps gets the most, and whoever cannot hear us gets nothing."""
    if ending in (EndReason.SILENT, EndReason.LOST, EndReason.BOOT):
        return 0
    if ending is EndReason.ORPHANED:
        return limits.orphan_stop_s
    has_steps = ending in (
        EndReason.CANCELLED,
        EndReason.MOVED,
        EndReason.PAUSED,
        EndReason.BUDGET,
    )
    return limits.stop_s if has_steps else limits.done_s


# -- facts that other phases ask for too -------------------------------------------------------


def stands_still(job: Job) -> bool:
    """Paused so that its attempts stop. What the budget pauses has used up what was paid."""
    return job.state is JobState.PAUSED and job.pause is not Pause.BUDGET


def serves(draft: Draft, attempt: Attempt) -> bool:
    """Its job may count on it: as far as we know it works, or will."""
    return attempt.state in _SERVING and not is_silent(draft, attempt)


def is_silent(draft: Draft, attempt: Attempt) -> bool:
    """It has reported once, and not for too long."""
    report = draft.report(attempt)
    return report is not None and _listened_until(draft) > report.at + _s(draft.limits.silent_s)


def is_superseded(draft: Draft, attempt: Attempt) -> bool:
    head = draft.head(attempt.job_id)
    return head is not None and head.generation > attempt.generation


def is_moved(draft: Draft, attempt: Attempt) -> bool:
    """It was healthy when it handed over to a replacement that the policy wanted: its agent was
    told that the replacement is ready, and nothing else ended it."""
    report = draft.report(attempt)
    if attempt.notice is not None or (report is not None and report.notice is not None):
        return False
    was_told = attempt.order is not None and attempt.order.replacement_ready
    hands_over = report is not None and report.phase in (Phase.HANDOVER, Phase.IDLE)
    has_heir = any(other.replaces == attempt.id for other in draft.of(attempt.job_id))
    return has_heir and (was_told or hands_over)


def unpaid_reason(attempt: Attempt) -> EndReason:
    """Why its paid time was not extended: `keep` has left a word if it was for the budget."""
    return EndReason.BUDGET if attempt.end_detail else EndReason.UNPAID


def waits_for_free(draft: Draft, attempt: Attempt) -> bool:
    """EC2 has announced to take it in its first hour: that hour is free if EC2 does it, so nobody
    else ends it, until the grace or the paid time is over."""
    if attempt.notice is None or attempt.launched_at is None:
        return False
    first_hour = attempt.launched_at + _s(draft.limits.first_hour_notice_s)
    patience = attempt.notice.at + _s(draft.limits.free_idle_s)
    return attempt.notice.at <= first_hour and draft.now <= min(patience, attempt.paid_until)


def _listened_until(draft: Draft) -> dt.datetime:
    """An outage of the mail is ours, not the agents'."""
    return draft.snapshot.mail_at or draft.now


def _s(seconds: int) -> dt.timedelta:
    return dt.timedelta(seconds=seconds)
