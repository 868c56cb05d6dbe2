"""Follow the facts: move jobs and attempts to where the evidence says they are.

Only positive evidence moves anything: "not in the listing" proves nothing, and a region that did
not answer is unknown, not empty. What instances and agents tell lies in `follow`, how attempts end
in `ends`.
"""

from __future__ import annotations

import dataclasses

from spotrunner.core.draft import Draft
from spotrunner.core.ends import end, follow_ending, miss
from spotrunner.core.follow import follow_launch, follow_report, note_prices
from spotrunner.core.model import (
    Attempt,
    Command,
    CommandVerb,
    EndReason,
    InstanceState,
    Job,
    Pause,
)
from spotrunner.core.money import usd
from spotrunner.core.retire import serves
from spotrunner.core.states import AttemptState, JobState, advance


def settle(draft: Draft) -> None:
    _obey_users(draft)
    _agree_on_sweeps(draft)
    _know_homes(draft)
    for attempt in draft.live():
        _settle_attempt(draft, attempt.id)
    for job in list(draft.jobs.values()):
        _settle_job(draft, job)


# -- users -------------------------------------------------------------------------------------


def _obey_users(draft: Draft) -> None:
    for command in draft.snapshot.commands:
        job = draft.jobs.get(command.job_id)
        if job is not None and not job.state.over:
            _OBEYED[command.verb](draft, job, command)
        draft.done(command.id)


def _cancel(draft: Draft, job: Job, _: Command) -> None:
    cancelled = advance(job, JobState.CANCELLED, pause=None, reason="cancelled by the user")
    draft.mark(cancelled, "cancelled", "the user asked for it")


def _checkpoint(draft: Draft, job: Job, _: Command) -> None:
    asked = dataclasses.replace(job, checkpoints_asked=job.checkpoints_asked + 1)
    draft.mark(asked, "checkpoint-asked", "the user asked for a checkpoint now")


def _pause(draft: Draft, job: Job, _: Command) -> None:
    why = "paused by the user"
    paused = advance(job, JobState.PAUSED, pause=Pause.USER, reason=why)
    if job.pause is not Pause.USER:
        draft.mark(paused, "paused", why, pause=Pause.USER.value)


def _resume(draft: Draft, job: Job, _: Command) -> None:
    """What pauses a job by itself lets it go on by itself: only the user's own pause ends here."""
    if job.state is JobState.PAUSED and job.pause is Pause.USER:
        # Paused and resumed within one round, nothing of it has stopped.
        trains = any(serves(draft, attempt) for attempt in draft.live(job.id))
        state = JobState.ACTIVE if trains else JobState.QUEUED
        resumed = advance(job, state, pause=None, reason="")
        draft.mark(resumed, "resumed", "the user wants it to go on")


def _extend(draft: Draft, job: Job, command: Command) -> None:
    """Another cap, another deadline: from this round on. A job that its budget paused may try at
    once, with the smallest step."""
    spec, told = job.spec, []
    if command.budget_usd_micros is not None:
        spec = dataclasses.replace(spec, budget_usd_micros=command.budget_usd_micros)
        told.append(f"its budget is {usd(command.budget_usd_micros)}")
    if command.deadline_at is not None:
        spec = dataclasses.replace(spec, deadline_at=command.deadline_at)
        told.append(f"its deadline is {command.deadline_at:%Y-%m-%d %H:%M} UTC")
    extended_at = draft.now if command.budget_usd_micros is not None else job.extended_at
    job = dataclasses.replace(job, spec=spec, extended_at=extended_at)
    draft.mark(job, "changed", "the user changed it: " + ", ".join(told))


_OBEYED = {
    CommandVerb.CANCEL: _cancel,
    CommandVerb.CHECKPOINT: _checkpoint,
    CommandVerb.PAUSE: _pause,
    CommandVerb.RESUME: _resume,
    CommandVerb.EXTEND: _extend,
}


def _know_homes(draft: Draft) -> None:
    """Jobs are submitted without; what is far from home costs by the byte."""
    home_region = draft.snapshot.home_region
    for job in list(draft.jobs.values()):
        if home_region and not job.spec.home_region and not job.state.over:
            spec = dataclasses.replace(job.spec, home_region=home_region)
            draft.update(dataclasses.replace(job, spec=spec))


def _agree_on_sweeps(draft: Draft) -> None:
    """All open jobs of a sweep bear the cap that the newest of them names: it outlives that job."""
    by_age = sorted(draft.jobs.values(), key=lambda job: (job.submitted_at, job.id))
    named = {
        job.spec.sweep: job.spec.sweep_budget_usd_micros
        for job in by_age
        if job.spec.sweep and job.spec.sweep_budget_usd_micros is not None
    }
    for job in by_age:
        budget = named.get(job.spec.sweep)
        if budget not in (None, job.spec.sweep_budget_usd_micros) and not job.state.over:
            spec = dataclasses.replace(job.spec, sweep_budget_usd_micros=budget)
            draft.update(dataclasses.replace(job, spec=spec))


# -- attempts ----------------------------------------------------------------------------------


def _settle_attempt(draft: Draft, attempt_id: str) -> None:
    """The attempt's facts in the order in which they can have happened."""
    attempt = draft.attempts[attempt_id]
    instance = draft.instance(attempt)
    if instance is not None:
        attempt = follow_launch(draft, attempt, instance)
        attempt = note_prices(draft, attempt, instance)
    report = draft.report(attempt)
    if report is not None:
        attempt = follow_report(draft, attempt, report)
    if instance is not None and instance.state is InstanceState.ENDED:
        # EC2 tells the time of only some ends; a daemon that was away must not book its absence.
        end(draft, attempt, instance.ended_at, instance.ended_by)
    elif instance is not None and instance.state is InstanceState.ENDING:
        follow_ending(draft, attempt, instance)
    elif instance is None:
        miss(draft, attempt)


# -- jobs --------------------------------------------------------------------------------------


def _settle_job(draft: Draft, job: Job) -> None:
    """Success is read from HEAD, never from a report; failure from how its attempts ended."""
    if draft.head_known(job.id):
        _note_steps(draft, job)
    if job.state.over:
        if job.ended_at is None:
            draft.update(dataclasses.replace(job, ended_at=draft.now))
        return
    head = draft.head(job.id)
    if head is not None and head.done:
        done = advance(job, JobState.SUCCEEDED, pause=None, reason="", ended_at=draft.now)
        draft.mark(done, "succeeded", "HEAD names its outputs", step=head.step, outputs=head.done)
        return
    why = _hopeless(draft, job)
    if why is not None:
        failed = advance(job, JobState.FAILED, pause=None, reason=why, ended_at=draft.now)
        draft.mark(failed, "failed", why)


def _note_steps(draft: Draft, job: Job) -> None:
    """How far an attempt brought the job, as soon after its end as HEAD could be read."""
    for attempt in draft.of(job.id):
        if attempt.state is AttemptState.ENDED and attempt.step_after is None:
            step = max(attempt.step_before, _brought(draft, attempt))
            draft.update(dataclasses.replace(attempt, step_after=step))


def _brought(draft: Draft, attempt: Attempt) -> int:
    """Its own last commit, as it said. HEAD may be further by what others did meanwhile, so it
    counts only where the attempt said nothing."""
    report, head = draft.report(attempt), draft.head(attempt.job_id)
    if report is not None and report.committed_step is not None:
        return report.committed_step
    if report is not None and head is not None and head.attempt != attempt.id:
        return attempt.step_before
    return draft.head_step(attempt.job_id)


def _hopeless(draft: Draft, job: Job) -> str | None:
    attempts = draft.of(job.id)
    failures = [attempt for attempt in attempts if attempt.ending is EndReason.FAILED]
    if len(failures) > job.spec.retries:
        return (
            f"the trainer failed {len(failures)} time(s), {job.spec.retries} retries were allowed:"
            f" {_detail(failures[-1])}"
        )
    held = [attempt for attempt in attempts if attempt.step_after is not None and _tried(attempt)]
    fruitless = 0
    for attempt in reversed(held):
        if attempt.step_after is not None and attempt.step_after > attempt.step_before:
            break
        fruitless += 1
    if fruitless >= draft.limits.fruitless_attempts:
        return (
            f"{fruitless} attempts in a row brought no later checkpoint than step"
            f" {draft.head_step(job.id)}: {held[-1].end_detail or _words(held[-1])}"
        )
    return None


def _detail(failed: Attempt) -> str:
    """What to change first, where that is known; then what was said."""
    known = failed.diagnosis
    advice = f"{known.what}: {known.change}" if known is not None else ""
    return "\n".join(part for part in (advice, failed.end_detail) if part)


def _words(attempt: Attempt) -> str:
    """Why it ended, where nobody said more."""
    reason = attempt.end_reason or attempt.ending
    return f"the last one ended by {reason.value}" if reason else "the last one has ended"


def _tried(attempt: Attempt) -> bool:
    """Did it have a fair chance? A refusal, an interruption or a fault of EC2's before the first
    step, and a pause, say nothing about the job."""
    if attempt.launched_at is None or attempt.end_reason is EndReason.PAUSED:
        return False
    weather = attempt.end_reason in (EndReason.INTERRUPTED, EndReason.FAULT)
    return attempt.first_step_at is not None or not weather
