"""Pay on for the attempts that prove that they work: no evidence, no money.

An attempt runs only until `paid_until`; its agent powers off before that. At half time of a step
it gets another one, if it reported lately and if its job's caps pay it at the dearest price. No
step reaches far past the end of the job's window, so that it holds without us too.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

from spotrunner.core.charges import transfer_usd_micros
from spotrunner.core.draft import Draft
from spotrunner.core.model import Attempt, EndReason, Job, Phase
from spotrunner.core.money import (
    HOUR_S,
    bill_end,
    dearest_usd_micros_hour,
    late_s,
    seconds_between,
    usd,
)
from spotrunner.core.purse import Payment, Purse, Scope
from spotrunner.core.retire import is_superseded
from spotrunner.core.states import AttemptState
from spotrunner.core.windows import NEVER, closes_at

_KEPT = (AttemptState.STARTING, AttemptState.RUNNING)
_AT_WORK = (Phase.BOOT, Phase.FETCH, Phase.READY, Phase.RESTORE, Phase.TRAIN)


def keep(draft: Draft) -> None:
    for attempt in draft.live():
        if attempt.state in _KEPT:
            _keep(draft, _pay_lumps(draft, attempt))


def _keep(draft: Draft, attempt: Attempt) -> None:
    if attempt.state in _KEPT and _is_due(draft, attempt) and _has_evidence(draft, attempt):
        _extend(draft, attempt)


def _pay_lumps(draft: Draft, attempt: Attempt) -> Attempt:
    """Checkpoints to another region come in lumps: the one under way and the last one are always
    reserved, or it stops while they still are."""
    if attempt.traffic_usd_micros == 0:
        return attempt
    needs = attempt.traffic_usd_micros + _lumps(draft, attempt)
    more = needs - attempt.traffic_reserved_usd_micros
    if more <= 0:
        return attempt
    left = draft.purse(draft.jobs[attempt.job_id]).left_usd_micros
    if left is None or more <= left:
        draft.update(dataclasses.replace(attempt, traffic_reserved_usd_micros=needs))
    else:
        why = f"its next checkpoints to another region need {usd(more)}, and {usd(left)} are left"
        draft.wind_down(attempt, EndReason.BUDGET, why, why)
    return draft.attempts[attempt.id]


def _lumps(draft: Draft, attempt: Attempt) -> int:
    spec, region = draft.jobs[attempt.job_id].spec, attempt.offer.pool.region
    return transfer_usd_micros(2 * spec.lump_bytes, spec.home_region, region)


def _is_due(draft: Draft, attempt: Attempt) -> bool:
    """Half of the step is used up, and the attempt is one that should go on. An interrupted one
    has its notice's two minutes, which are paid as a rule: `paid_until` wins over idling."""
    if draft.now >= attempt.paid_until or is_superseded(draft, attempt):
        return False
    job = draft.jobs[attempt.job_id]
    held_until = draft.snapshot.held_until
    if held_until is not None and attempt.paid_until < held_until:
        return True
    ahead_s = (_wanted_until(draft, job) - draft.now).total_seconds()
    left_s = (attempt.paid_until - draft.now).total_seconds()
    return left_s <= max(draft.limits.step_s, ahead_s) / 2


def _wanted_until(draft: Draft, job: Job) -> dt.datetime:
    """A step ahead, or over the time for which somebody holds us; but the window bounds it, with
    the time that a stop takes."""
    until = draft.now + _s(draft.step_s(job))
    held_until = draft.snapshot.held_until
    if held_until is not None:
        until = max(until, held_until + _s(draft.limits.step_s))
    closes = window_end(job, draft.now)
    return until if closes is None else min(until, closes + _s(draft.limits.stop_s))


def window_end(job: Job, now: dt.datetime) -> dt.datetime | None:
    """When the job's window closes; None where it is closed, or has no end."""
    closes = closes_at(job.spec.window, now) if job.spec.window else None
    return None if closes == NEVER else closes


def _has_evidence(draft: Draft, attempt: Attempt) -> bool:
    """It said lately that it is at work; one that winds down by itself needs no more money, and
    one whose trainer stalls gets more only when that gives a sign of life again."""
    report = draft.report(attempt)
    if report is None or report.phase not in _AT_WORK or report.is_stalled:
        return False
    return draft.now < report.at + dt.timedelta(seconds=draft.limits.fresh_report_s)


def _extend(draft: Draft, attempt: Attempt) -> None:
    job = draft.jobs[attempt.job_id]
    until = _wanted_until(draft, job)
    wanted_s = int((until - attempt.paid_until).total_seconds())
    if wanted_s <= 0:
        return  # it is paid to the end of the window
    purse = draft.purse(job, seconds_between(draft.now, until))
    traffic = _traffic_usd_micros_hour(draft, attempt)
    reserved = _traffic_reserved(draft, attempt, attempt.paid_until, traffic)
    early_s = draft.limits.clock_s if attempt.launched_at is None else 0
    payment = Payment(
        begin=bill_end(attempt, draft.limits) - _s(early_s),
        wanted_s=wanted_s,
        usd_micros_hour=dearest_usd_micros_hour(attempt),
        launched_at=attempt.launched_at or attempt.intent_at,
        moved_usd_micros=reserved - attempt.traffic_reserved_usd_micros,
        moved_usd_micros_hour=traffic,
        late_s=late_s(attempt, draft.limits),
    )
    pays_s = purse.pays_s(payment)
    if pays_s < min(wanted_s, draft.limits.boot_allowance_s):
        _say_last_step(draft, attempt, purse, payment)
        return
    paid_until = attempt.paid_until + _s(pays_s)
    # Should it have been told that this was the last step, it no longer is.
    extended = dataclasses.replace(
        attempt,
        paid_until=paid_until,
        end_detail="",
        traffic_reserved_usd_micros=_traffic_reserved(draft, attempt, paid_until, traffic),
    )
    left = draft.purse(job).left_usd_micros
    draft.mark(
        extended,
        "extended",
        f"it works, so it is paid until {paid_until:%H:%M:%S}",
        seconds=pays_s,
        cap_left_usd=None if left is None else left / 1_000_000,
    )


def _traffic_usd_micros_hour(draft: Draft, attempt: Attempt) -> int:
    """What an hour of its checkpoints to another region may come to: half as much again as so
    far."""
    if attempt.first_step_at is None or attempt.traffic_usd_micros == 0:
        return 0
    trained_s = max(draft.limits.look_s, seconds_between(attempt.first_step_at, draft.now))
    return attempt.traffic_usd_micros * HOUR_S * 3 // (2 * trained_s)


def _traffic_reserved(
    draft: Draft, attempt: Attempt, until: dt.datetime, usd_micros_hour: int
) -> int:
    if attempt.traffic_usd_micros == 0:
        return attempt.traffic_reserved_usd_micros
    ahead = usd_micros_hour * seconds_between(draft.now, until) // HOUR_S
    needs = attempt.traffic_usd_micros + _lumps(draft, attempt) + ahead
    return max(attempt.traffic_reserved_usd_micros, needs)


def _say_last_step(draft: Draft, attempt: Attempt, purse: Purse, payment: Payment) -> None:
    """Said once a figure: `end_detail` remembers it, and is the reason when it ends by it."""
    balance = purse.bound_by(payment) if purse.priced else None
    cap, left = (balance.cap, balance.left_usd_micros) if balance else ("the budget", 0)
    why = (
        f"{cap} leaves {usd(max(0, left))}, which pays no further step:"
        f" it stops with a checkpoint before {attempt.paid_until:%H:%M:%S}"
    )
    if attempt.end_detail != why:
        scope = balance.cap.scope.value if balance else Scope.JOB.value
        told = dataclasses.replace(attempt, end_detail=why)
        draft.mark(told, "last-step", why, scope=scope)


def _s(seconds: int) -> dt.timedelta:
    return dt.timedelta(seconds=seconds)
