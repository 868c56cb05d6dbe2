"""Follow the facts: move jobs and attempts to where the evidence says they are.

Only positive evidence moves anything: "not in the listing" proves nothing, and a region that did
not answer is unknown, not empty.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

from spotrunner.core.charges import transfer_usd_micros
from spotrunner.core.draft import Draft
from spotrunner.core.model import (
    Attempt,
    Command,
    CommandVerb,
    EndedBy,
    EndReason,
    Instance,
    InstanceState,
    Job,
    Market,
    Pause,
    Phase,
    Refusal,
    Refused,
    Report,
)
from spotrunner.core.money import (
    accrued,
    bill_end,
    billed_price,
    exposure,
    hour_index,
    is_free,
    usd,
)
from spotrunner.core.retire import is_moved, serves, unpaid_reason
from spotrunner.core.speed import is_warm
from spotrunner.core.states import AttemptState, JobState, advance

# A trainer's pace changes by less than this part from one report to the next.
_FLICKER = 0.1

# What an agent's last word means for its attempt.
_LAST_WORDS = {
    Phase.DONE: EndReason.DONE,
    Phase.FAILED: EndReason.FAILED,
    Phase.FAULT: EndReason.FAULT,
    Phase.UNPAID: EndReason.UNPAID,
    Phase.FENCED: EndReason.SUPERSEDED,
    Phase.STOPPED: EndReason.CANCELLED,
}


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
        attempt = _follow_launch(draft, attempt, instance)
        attempt = _note_prices(draft, attempt, instance)
    report = draft.report(attempt)
    if report is not None:
        attempt = _follow_report(draft, attempt, report)
    if instance is not None and instance.state is InstanceState.ENDED:
        # EC2 tells the time of only some ends; a daemon that was away must not book its absence.
        _end(draft, attempt, instance.ended_at, instance.ended_by)
    elif instance is not None and instance.state is InstanceState.ENDING:
        _follow_ending(draft, attempt, instance)
    elif instance is None:
        _miss(draft, attempt)


def _follow_launch(draft: Draft, attempt: Attempt, instance: Instance) -> Attempt:
    if attempt.instance_id is None or attempt.launched_at is None:
        attempt = dataclasses.replace(
            attempt, instance_id=instance.id, launched_at=instance.launched_at
        )
        draft.update(attempt)
    if attempt.state is AttemptState.PENDING:
        attempt = advance(attempt, AttemptState.REQUESTED)
        draft.mark(attempt, "found", "EC2 lists an instance of this attempt", instance=instance.id)
    if attempt.state is AttemptState.REQUESTED and instance.state is InstanceState.RUNNING:
        attempt = advance(attempt, AttemptState.STARTING)
        draft.mark(attempt, "starting", "its instance runs", instance=instance.id)
    return attempt


def _note_prices(draft: Draft, attempt: Attempt, instance: Instance) -> Attempt:
    """Record the price of each instance-hour when it is over, or the instance's life is. The hour
    that runs stays reserved at the dearest: AWS's own texts differ on what a price change in it
    does, and our quotes may be older than its start."""
    known = list(attempt.hour_prices_usd_micros)
    hours = hour_index(instance.launched_at, instance.ended_at or draft.now)
    if instance.state is InstanceState.ENDED:
        hours += 1
    while len(known) < hours:
        price = _hour_price(draft, attempt, instance, len(known))
        if price is None:
            break
        known.append(price)
    running = _hour_price(draft, attempt, instance, len(known))
    noted = dataclasses.replace(
        attempt, hour_prices_usd_micros=tuple(known), running_price_usd_micros=running
    )
    if noted != attempt:
        draft.update(noted)
    return noted


def _hour_price(draft: Draft, attempt: Attempt, instance: Instance, hour: int) -> int | None:
    return billed_price(draft.snapshot.quotes, attempt.offer, instance.launched_at, hour)


def _follow_report(draft: Draft, attempt: Attempt, report: Report) -> Attempt:
    if attempt.state in (AttemptState.PENDING, AttemptState.REQUESTED):
        if attempt.state is AttemptState.PENDING:
            attempt = advance(attempt, AttemptState.REQUESTED)
        attempt = advance(attempt, AttemptState.STARTING)
        draft.mark(attempt, "starting", "its agent reported")
    if report.first_step_at is not None and attempt.first_step_at is None:
        attempt = dataclasses.replace(attempt, first_step_at=report.first_step_at)
        if attempt.state is AttemptState.STARTING:
            attempt = advance(attempt, AttemptState.RUNNING)
        draft.mark(attempt, "training", "its trainer makes steps", step=report.step)
    attempt = _follow_pace(draft, attempt, report)
    attempt = _follow_traffic(draft, attempt, report)
    if report.notice is not None and attempt.notice is None:
        attempt = _follow_notice(draft, attempt, report)
    if attempt.safe_at is None:
        attempt = _follow_save(draft, attempt, report)
    ending = _LAST_WORDS.get(report.phase)
    if ending is EndReason.UNPAID:
        ending = unpaid_reason(attempt)
    if ending is not None and attempt.state is not AttemptState.TERMINATING:
        detail = "\n".join((report.message, *report.log_tail)).strip()
        draft.wind_down(attempt, ending, report.message or report.phase.value, detail)
        attempt = draft.attempts[attempt.id]
    return attempt


def _follow_pace(draft: Draft, attempt: Attempt, report: Report) -> Attempt:
    """What a step takes on this type, kept for when the attempt is over. That it flickers is no
    news: each change is a write."""
    old, new = attempt.steps_per_s, report.steps_per_s if is_warm(report) else None
    is_news = new is not None and (old is None or abs(new - old) > _FLICKER * old)
    total = report.total_steps if report.total_steps is not None else attempt.total_steps
    if is_news or total != attempt.total_steps:
        attempt = dataclasses.replace(
            attempt, steps_per_s=new if is_news else old, total_steps=total
        )
        draft.update(attempt)
    return attempt


def _follow_traffic(draft: Draft, attempt: Attempt, report: Report) -> Attempt:
    """Checkpoints to and from a home bucket in another region cost by the byte. How large they are
    is worth knowing near home, too: the next place may be far."""
    if report.moved_bytes is None or report.moved_bytes <= attempt.moved_bytes:
        return attempt
    job = draft.jobs[attempt.job_id]
    lump = report.moved_bytes - attempt.moved_bytes
    if lump > job.spec.lump_bytes:
        spec = dataclasses.replace(job.spec, lump_bytes=lump)
        draft.update(dataclasses.replace(job, spec=spec))
    home, region = job.spec.home_region, attempt.offer.pool.region
    cost = transfer_usd_micros(report.moved_bytes, home, region) if home not in ("", region) else 0
    attempt = dataclasses.replace(attempt, moved_bytes=report.moved_bytes, traffic_usd_micros=cost)
    draft.update(attempt)
    return attempt


def _follow_notice(draft: Draft, attempt: Attempt, report: Report) -> Attempt:
    assert report.notice is not None
    attempt = dataclasses.replace(attempt, notice=report.notice)
    if attempt.state in (AttemptState.STARTING, AttemptState.RUNNING):
        attempt = advance(attempt, AttemptState.INTERRUPTED)
    draft.mark(
        attempt,
        "notice",
        f"EC2 takes the instance at {report.notice.at:%H:%M:%S}",
        step=report.step,
        seen_at=report.notice.seen_at.isoformat(),
    )
    _avoid(draft, attempt, "EC2 interrupted an attempt here")
    return attempt


def _follow_save(draft: Draft, attempt: Attempt, report: Report) -> Attempt:
    """The work is safe from the first commit after the notice on."""
    notice, at = attempt.notice, report.committed_at
    if notice is None or at is None or at < notice.seen_at:
        return attempt
    attempt = dataclasses.replace(attempt, safe_at=at)
    took_s = (at - notice.seen_at).total_seconds()
    draft.mark(
        attempt,
        "safe",
        f"step {report.committed_step} is committed {took_s:.1f} s after the notice",
        step=report.committed_step,
        notice_to_commit_s=took_s,
    )
    return attempt


def _avoid_taken(draft: Draft, attempt: Attempt, by: EndedBy) -> None:
    if by is EndedBy.PRICE:
        message = "EC2 ended an attempt here: the spot price rose above max_price"
        _avoid(draft, attempt, message, Refused.PRICE)
    else:
        _avoid(draft, attempt, "EC2 interrupted an attempt here without notice")


def _avoid(
    draft: Draft, attempt: Attempt, message: str, meaning: Refused = Refused.CAPACITY
) -> None:
    draft.refuse(
        Refusal(
            pool=attempt.offer.pool,
            market=attempt.offer.market,
            at=draft.now,
            meaning=meaning,
            message=message,
        )
    )


def _follow_ending(draft: Draft, attempt: Attempt, instance: Instance) -> None:
    """Shutting down: it will not come back, and a replacement need not wait for its end."""
    if attempt.state in (AttemptState.INTERRUPTED, AttemptState.TERMINATING):
        return
    reason = _end_reason(draft, attempt, instance.ended_by)
    draft.wind_down(attempt, reason, f"its instance is shutting down ({_by(instance.ended_by)})")
    if instance.ended_by is not None and instance.ended_by.interruption:
        _avoid_taken(draft, attempt, instance.ended_by)


def _end(draft: Draft, attempt: Attempt, ended_at: dt.datetime | None, by: EndedBy | None) -> None:
    is_news = attempt.ending in (None, EndReason.FAULT)
    # A notice was the news, but for one thing: that it was the price, whose cool-down is another.
    if is_news and (by is EndedBy.PRICE or (by is EndedBy.EC2 and attempt.notice is None)):
        _avoid_taken(draft, attempt, by)
    elif by is EndedBy.FAULT and attempt.first_step_at is None:
        # A launch that is accepted and then finds no capacity ends like this.
        _avoid(draft, attempt, "an instance ended here by a fault of EC2's before it could work")
    at = ended_at or _unseen_end(draft, attempt)
    if ended_at is None and at > _last_sign(draft, attempt) + _s(draft.limits.silent_s):
        attempt = dataclasses.replace(attempt, estimated=True)
    ended = _closed(draft, attempt, at, by)
    why = f"{_by(by)}; cost {usd(ended.cost_usd_micros or 0)}"
    _mark_ended(draft, ended, why)


def _closed(draft: Draft, attempt: Attempt, at: dt.datetime, by: EndedBy | None) -> Attempt:
    """With its final bill. Where EC2 does not say who ended it, it may have been free: the dearer
    case is booked, and called an estimate if the first hour leaves a doubt."""
    launched_at = attempt.launched_at or attempt.intent_at
    is_spot = attempt.offer.market is Market.SPOT
    in_doubt = by in (None, EndedBy.UNKNOWN) and is_spot and hour_index(launched_at, at) == 0
    ended = advance(
        attempt,
        AttemptState.ENDED,
        ended_at=at,
        end_reason=_end_reason(draft, attempt, by),
        free=is_free(attempt.offer.market, launched_at, at, by),
        estimated=attempt.estimated or in_doubt,
    )
    return dataclasses.replace(ended, cost_usd_micros=accrued(ended, at))


def _mark_ended(draft: Draft, ended: Attempt, why: str) -> None:
    cost = ended.cost_usd_micros or 0
    draft.mark(
        ended,
        "ended",
        why + (", estimated" if ended.estimated and cost else ""),
        reason=ended.end_reason.value if ended.end_reason else None,
        cost_usd=cost / 1_000_000,
    )


def _reason(attempt: Attempt, by: EndedBy | None) -> EndReason:
    if by is not None and by.interruption:
        # What finished before EC2 took it has finished.
        finished = attempt.ending in (EndReason.DONE, EndReason.FAILED, EndReason.CANCELLED)
        return attempt.ending if finished and attempt.ending else EndReason.INTERRUPTED
    if attempt.notice is not None and attempt.ending in (None, EndReason.SUPERSEDED):
        # It handed over and ended itself before EC2 could: the interruption was the reason.
        return EndReason.INTERRUPTED
    return attempt.ending or EndReason.FAULT


def _end_reason(draft: Draft, attempt: Attempt, by: EndedBy | None) -> EndReason:
    """As `_reason`; one that powered itself off before anybody ordered it to may have moved, or
    have used up what its budget paid."""
    if by is EndedBy.ITSELF and attempt.ending is None:
        if is_moved(draft, attempt):
            return EndReason.MOVED
        if attempt.end_detail:
            return unpaid_reason(attempt)
    return _reason(attempt, by)


def _by(by: EndedBy | None) -> str:
    return {
        EndedBy.EC2: "EC2 took the instance",
        EndedBy.PRICE: "EC2 took the instance, because its spot price rose above max_price",
        EndedBy.US: "we ended the instance",
        EndedBy.ITSELF: "the instance powered itself off",
        EndedBy.FAULT: "EC2 reports a fault of its own",
    }.get(by or EndedBy.UNKNOWN, "the instance has ended")


def _miss(draft: Draft, attempt: Attempt) -> None:
    """No listing shows it. That proves something only together with time since its last sign."""
    report = draft.report(attempt)
    if attempt.instance_id is None and attempt.sent_at is None and report is None:
        _miss_unsent(draft, attempt)
        return
    sign = attempt.launched_at or attempt.sent_at or attempt.intent_at
    if report is not None:
        sign = max(sign, report.at)
    if draft.now < sign + _s(draft.limits.lost_s):
        return
    if draft.snapshot.instances.get(attempt.offer.pool.region) is None:
        return
    if attempt.instance_id is None:
        if attempt.state is not AttemptState.TERMINATING:
            draft.wind_down(attempt, EndReason.LOST, "nothing of its launch was seen in time")
        _give_up(draft, draft.attempts[attempt.id])
    elif attempt.instance_id in draft.snapshot.not_found:
        _give_up(draft, attempt)


def _miss_unsent(draft: Draft, attempt: Attempt) -> None:
    """The store says so before EC2 is asked, so EC2 never was: nothing can turn up, nothing is
    owed."""
    expired = draft.now >= attempt.intent_at + _s(draft.limits.intent_s)
    if expired or attempt.state is AttemptState.TERMINATING:
        _end_unseen(draft, attempt, 0, "its launch was never sent")


def _give_up(draft: Draft, attempt: Attempt) -> None:
    """End it without an instance to show for it. If one turns up, the reaper opens it again."""
    if attempt.instance_id is not None:
        _end_unseen(draft, attempt, None, "EC2 does not know its instance any more")
    elif draft.now >= bill_end(attempt, draft.limits):
        # Until here its reservation was kept.
        cost = 0 if _would_have_shown(draft, attempt) else exposure(attempt, draft.limits)
        _end_unseen(draft, attempt, cost, "it never showed up")


def _last_sign(draft: Draft, attempt: Attempt) -> dt.datetime:
    """Of life. What ended within minutes of it ended then, as near as anybody needs to know."""
    report = draft.report(attempt)
    signs = [attempt.launched_at or attempt.intent_at, report.at if report else None]
    signs.append(attempt.notice.at if attempt.notice else None)
    return max(sign for sign in signs if sign is not None)


def _unseen_end(draft: Draft, attempt: Attempt) -> dt.datetime:
    """When an instance that nobody can show any more ended at the latest: its own last word
    decides, unless it may have idled after that, else the end of its paid time."""
    # A round may have been held up between its `now` and its reading: by a host that slept, for
    # hours. What is ended then may have ended just before it was read.
    read_at = draft.snapshot.read_at or draft.now
    report = draft.report(attempt)
    if report is not None:
        read_at = max(read_at, report.at)
    latest = min(max(draft.now, read_at), bill_end(attempt, draft.limits))
    if report is not None and report.phase in _LAST_WORDS and attempt.notice is None:
        latest = min(latest, report.at + _s(draft.limits.done_s))
    return latest


def _would_have_shown(draft: Draft, attempt: Attempt) -> bool:
    """Was a listing read while it would have shown an instance, alive or ended? We may have been
    away for longer than EC2 remembers."""
    if draft.report(attempt) is not None or attempt.first_step_at is not None:
        return False
    looked_at = attempt.ending_at if attempt.ending is EndReason.LOST else draft.now
    assert looked_at is not None
    return looked_at <= attempt.paid_until + _s(draft.limits.listed_s)


def _end_unseen(draft: Draft, attempt: Attempt, cost: int | None, why: str) -> None:
    """`cost` None: that of its life, as far as anybody can say."""
    at = _unseen_end(draft, attempt)
    ended = advance(
        attempt,
        AttemptState.ENDED,
        ended_at=at if cost is None else draft.now,
        end_reason=attempt.ending or EndReason.LOST,
        estimated=cost != 0,
    )
    cost = accrued(ended, at) if cost is None else cost
    _mark_ended(draft, dataclasses.replace(ended, cost_usd_micros=cost), why)


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
            f" {failures[-1].end_detail}"
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


def _s(seconds: int) -> dt.timedelta:
    return dt.timedelta(seconds=seconds)
