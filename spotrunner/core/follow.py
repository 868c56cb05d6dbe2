"""Follow an attempt's instance and what its agent reports: where it is, its pace, what it has
moved, its notice, its stalls."""

from __future__ import annotations

import dataclasses
import datetime as dt

from spotrunner.core.charges import transfer_usd_micros
from spotrunner.core.draft import Draft
from spotrunner.core.ends import LAST_WORDS, avoid
from spotrunner.core.milestones import merged
from spotrunner.core.model import Attempt, EndReason, Instance, InstanceState, Notice, Report
from spotrunner.core.money import billed_price, hour_index
from spotrunner.core.retire import unpaid_reason
from spotrunner.core.saving import UNAWARE
from spotrunner.core.speed import is_warm
from spotrunner.core.states import AttemptState, advance

# A trainer's pace changes by less than this part from one report to the next.
_FLICKER = 0.1


def follow_launch(draft: Draft, attempt: Attempt, instance: Instance) -> Attempt:
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


def note_prices(draft: Draft, attempt: Attempt, instance: Instance) -> Attempt:
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


def follow_report(draft: Draft, attempt: Attempt, report: Report) -> Attempt:
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
    attempt = _follow_machine(draft, attempt, report)
    attempt = _follow_stall(draft, attempt, report)
    attempt = _follow_unaware(draft, attempt, report)
    attempt = _follow_pace(draft, attempt, report)
    attempt = _follow_traffic(draft, attempt, report)
    if report.notice is not None:
        attempt = _follow_notice(draft, attempt, report.notice, report)
    if attempt.safe_at is None:
        attempt = _follow_save(draft, attempt, report)
    ending = LAST_WORDS.get(report.phase)
    if ending is EndReason.UNPAID:
        ending = unpaid_reason(attempt)
    if ending is not None and attempt.state is not AttemptState.TERMINATING:
        detail = "\n".join((report.message, *report.log_tail)).strip()
        draft.wind_down(attempt, ending, report.message or report.phase.value, detail)
        attempt = draft.attempts[attempt.id]
    return attempt


def _hour_price(draft: Draft, attempt: Attempt, instance: Instance, hour: int) -> int | None:
    return billed_price(draft.snapshot.quotes, attempt.offer, instance.launched_at, hour)


def _follow_machine(draft: Draft, attempt: Attempt, report: Report) -> Attempt:
    """What is worth knowing when the attempt is over. An agent that was started again tells of
    its own way up: the first one counts."""
    noted = dataclasses.replace(
        attempt,
        milestones=merged(attempt.milestones, report.milestones),
        image_digest=attempt.image_digest or report.image_digest,
        diagnosis=report.diagnosis or attempt.diagnosis,
    )
    if noted != attempt:
        draft.update(noted)
    return noted


def _follow_stall(draft: Draft, attempt: Attempt, report: Report) -> Attempt:
    """Its agent deals with it by itself; here it becomes part of the story."""
    stalled_at = report.stalled_at
    if stalled_at is not None and stalled_at != attempt.stalled_at:
        attempt = dataclasses.replace(attempt, stalled_at=stalled_at)
        since = f" since {report.alive_at:%H:%M:%S}" if report.alive_at else ""
        why = f"its trainer gave no sign of life{since}: SIGABRT prints its stacks into the log"
        draft.mark(attempt, "stalled", why, step=report.step)
    if report.restarts > attempt.restarts:
        attempt = dataclasses.replace(attempt, restarts=report.restarts)
        why = f"its trainer was started again in place: {report.message}"
        draft.mark(attempt, "restarted-in-place", why, restarts=report.restarts)
    return attempt


def _follow_unaware(draft: Draft, attempt: Attempt, report: Report) -> Attempt:
    """An agent that was started again has forgotten it; the attempt has not."""
    if report.handles_save_signal or not attempt.handles_save_signal:
        return attempt
    attempt = dataclasses.replace(attempt, handles_save_signal=False)
    why = f"{UNAWARE}; it is not asked again, and a notice stops it at once"
    draft.mark(attempt, "unaware-of-saves", why, step=report.step)
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


def _follow_notice(draft: Draft, attempt: Attempt, notice: Notice, report: Report) -> Attempt:
    if attempt.notice is not None:
        return _follow_moved_notice(draft, attempt, attempt.notice, notice.at)
    attempt = dataclasses.replace(attempt, notice=notice)
    if attempt.state in (AttemptState.STARTING, AttemptState.RUNNING):
        attempt = advance(attempt, AttemptState.INTERRUPTED)
    draft.mark(
        attempt,
        "notice",
        f"EC2 takes the instance at {notice.at:%H:%M:%S}",
        step=report.step,
        seen_at=notice.seen_at.isoformat(),
    )
    avoid(draft, attempt, "EC2 interrupted an attempt here")
    return attempt


def _follow_moved_notice(draft: Draft, attempt: Attempt, known: Notice, at: dt.datetime) -> Attempt:
    """Its agent acts by the new time, so whoever takes over from it has to wait for the same. An
    agent that was started again says that it has seen it just now."""
    if at == known.at:
        return attempt
    attempt = dataclasses.replace(attempt, notice=dataclasses.replace(known, at=at))
    why = f"EC2 takes the instance at {at:%H:%M:%S}, and not at {known.at:%H:%M:%S}"
    draft.mark(attempt, "notice-moved", why)
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
