"""What a policy is told of a job: its Situation, from what the round knows."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spotrunner.core.hazard import MEASURED, Hazards
from spotrunner.core.market import (
    TOO_LONG_ON_DEMAND,
    candidates,
    expected,
    move_usd_micros,
    rate_usd_micros_hour,
    within_budget,
)
from spotrunner.core.model import (
    Attempt,
    EndReason,
    Job,
    JobSpec,
    Limits,
    Market,
    Offer,
    Pause,
    Pool,
    Refusal,
    Report,
)
from spotrunner.core.money import HOUR_S
from spotrunner.core.purse import UNBOUNDED, Purse
from spotrunner.core.sight import UNSEEN, Sight, together
from spotrunner.core.situation import Candidate, Situation
from spotrunner.core.speed import rates, speeds
from spotrunner.core.states import AttemptState
from spotrunner.core.windows import closes_at, open_s, opens_at

# Of the changeovers that the job has seen, the longest of so many counts: a deadline that rests on
# the mean is missed half of the time.
CHANGEOVERS = 5
# A deadline is at most a year away.
MOST_NIGHTS = 400

# The policy that takes nothing else (core/policy/on_demand).
ON_DEMAND_ONLY = "on_demand"

_STARTING = (AttemptState.PENDING, AttemptState.REQUESTED, AttemptState.STARTING)


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What all jobs share: the market as it is known now."""

    now: dt.datetime
    limits: Limits
    offers: Sequence[Offer] = ()
    refusals: Sequence[Refusal] = ()
    sights: Mapping[Pool, Sight] = field(default_factory=dict)
    scores: Mapping[Pool, int] = field(default_factory=dict)
    bands: Mapping[Pool, int] = field(default_factory=dict)
    hazards: Hazards = MEASURED


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is. `attempts` are its own, oldest first; `step` is HEAD's, since whatever came
    later may still be lost; `purse` is what its caps leave."""

    attempts: Sequence[Attempt] = ()
    reports: Mapping[str, Report] = field(default_factory=dict)
    step: int = 0
    purse: Purse = UNBOUNDED


def look(job: Job, progress: Progress, outlook: Outlook, on: Attempt | None = None) -> Situation:
    """`on` is the attempt that serves the job, if one does. Times are those in which its window is
    open: a closed one is no time to train in."""
    spec, now, limits = job.spec, outlook.now, outlook.limits
    resumes = job.pause is Pause.PRICE
    offered = candidates(spec, outlook.offers, outlook.refusals, now, limits, resumes)
    known = speeds(spec, rates(progress.attempts, progress.reports))
    changeover_s = changeover(progress.attempts, limits, now)
    left_s = open_until(spec, now, spec.deadline_at) if spec.deadline_at else None
    if left_s is not None and spec.deadline_at is not None:
        # Each night that comes before the deadline begins with a start.
        left_s -= changeover_s * _nights(spec, now, spec.deadline_at)
    here = _here(on, offered)
    first_work_s = _work(progress, spec, known)[1]
    base = _fallback(spec, offered, known, first_work_s, left_s, changeover_s, here)
    work_s, work_left_s = _work(progress, spec, known, known.get(base, 1.0))
    catch_up = _half_on_demand(offered, base) if left_s is not None else 0.0
    pending_s = _pending(on, changeover_s, limits, now)

    def valued(each: Candidate, runs: bool = False) -> Candidate:
        speed = known.get(each.offer.pool.instance_type, 1.0) / known.get(base, 1.0)
        return _valued(each, job, outlook, speed, work_left_s, changeover_s, catch_up, runs)

    least_s = limits.boot_allowance_s
    if _was_stopped_by_budget(job, progress.attempts):
        # It starts again only for more than a boot's worth.
        least_s = max(least_s, int(changeover_s) + limits.step_s)
    paid = (within_budget(each, spec, progress.purse, now, limits, least_s) for each in offered)
    found = [valued(each) for each in paid]
    if _is_rescued(spec, on):
        found = [_to_the_end(each, spec, progress.purse, work_left_s) for each in found]
    found.sort(key=lambda it: (it.usd_micros_work_hour, -(it.score or 0) if it.is_spot else 0))
    return Situation(
        candidates=tuple(found),
        elapsed_s=open_until(spec, job.submitted_at, now),
        left_s=left_s,
        work_s=work_s,
        work_left_s=work_left_s,
        changeover_s=changeover_s,
        look_s=limits.look_s,
        on=valued(here, runs=True) if here is not None else None,
        pending_s=pending_s,
        together=together([each.sight for each in found if each.is_spot]),
        hazards=outlook.hazards,
    )


def _nights(spec: JobSpec, now: dt.datetime, until: dt.datetime) -> int:
    """How often its window opens again between the two; the start that is due now, or at the next
    opening, is counted with the slack."""
    if spec.window is None:
        return 0
    nights, at = 0, opens_at(spec.window, now)
    while nights < MOST_NIGHTS:
        closes = closes_at(spec.window, at)
        if closes is None or closes >= until:  # at the latest where it never does
            break
        opens = opens_at(spec.window, closes)
        if opens >= until:
            break
        nights, at = nights + 1, opens
    return nights


def _was_stopped_by_budget(job: Job, attempts: Sequence[Attempt]) -> bool:
    """And the user has not said since then that it may cost something else."""
    launched = [it for it in attempts if it.launched_at is not None]
    last = launched[-1] if launched else None
    stopped = last is not None and EndReason.BUDGET in (last.end_reason, last.ending)
    if job.pause is not Pause.BUDGET and not stopped:
        return False
    stopped_at = last.ended_at or last.ending_at if last is not None else None
    return job.extended_at is None or (stopped_at is not None and job.extended_at < stopped_at)


# -- time --------------------------------------------------------------------------------------


def open_until(spec: JobSpec, begin: dt.datetime, end: dt.datetime) -> float:
    """Seconds from `begin` to `end` in which the job may train; negative where `end` is past."""
    if spec.window is None or end <= begin:
        return (end - begin).total_seconds()
    return open_s(spec.window, begin, end)


def changeover(attempts: Sequence[Attempt], limits: Limits, now: dt.datetime) -> float:
    """Seconds from the request of a launch to its first step, as this job has seen them; the
    limits' own until then. A launch that still starts takes at least as long as it has taken."""
    seen = [changed for each in attempts if (changed := changeover_of(each)) is not None]
    longest = max(seen[-CHANGEOVERS:], default=float(limits.changeover_s))
    starting = [
        (now - (each.sent_at or each.intent_at)).total_seconds()
        for each in attempts
        if each.state in _STARTING and each.first_step_at is None
    ]
    return max([longest, *starting])


def changeover_of(attempt: Attempt) -> float | None:
    """Of one attempt; None where it never made a step."""
    if attempt.first_step_at is None:
        return None
    return max(
        0.0, (attempt.first_step_at - (attempt.sent_at or attempt.intent_at)).total_seconds()
    )


def _pending(on: Attempt | None, changeover_s: float, limits: Limits, now: dt.datetime) -> float:
    """One that is overdue makes no step until the next look either, as far as anybody would bet."""
    if on is None or on.first_step_at is not None:
        return 0.0
    gone_s = (now - (on.sent_at or on.intent_at)).total_seconds()
    return max(float(limits.look_s), changeover_s - gone_s)


# -- work --------------------------------------------------------------------------------------


def _work(
    progress: Progress, spec: JobSpec, known: Mapping[str, float], speed: float | None = None
) -> tuple[float | None, float | None]:
    """Seconds in all and left, at this speed (None: at that of the job's first type). Measured
    progress is believed before the user's estimate."""
    first = known[spec.instance_types[0]]
    speed = speed or first
    is_measured = bool(rates(progress.attempts, progress.reports))
    total = _total_steps(progress)
    if is_measured and total is not None:
        return total / speed, max(0, total - progress.step) / speed
    if spec.work_s is None:
        return None, None
    work_s = spec.work_s * first / speed
    done_s = progress.step / speed if is_measured else 0.0
    return work_s, max(0.0, work_s - done_s)


def _total_steps(progress: Progress) -> int | None:
    for attempt in reversed(progress.attempts):
        report = progress.reports.get(attempt.id)
        total = (report.total_steps if report else None) or attempt.total_steps
        if total is not None:
            return total
    return None


# -- offers ------------------------------------------------------------------------------------


def _fallback(
    spec: JobSpec,
    offered: Sequence[Candidate],
    known: Mapping[str, float],
    first_work_s: float | None,
    left_s: float | None,
    changeover_s: float,
    here: Candidate | None,
) -> str:
    """The type whose on-demand offer the deadline rests on: the cheapest by work of those that are
    fast enough, else the fastest. Work counts in its seconds; `first_work_s` is what is left in
    those of the job's first type. Where the job runs on-demand, no changeover is due."""
    on_demand = [each for each in offered if not each.is_spot]
    # What cannot be had now cannot be rested on, while there is another.
    on_demand = [each for each in on_demand if each.left_out is None] or on_demand
    if not on_demand:
        return spec.instance_types[0]

    def speed(each: Candidate) -> float:
        return known[each.offer.pool.instance_type]

    def is_in_time(each: Candidate) -> bool:
        if left_s is None or first_work_s is None:
            return True
        runs = here is not None and is_same_place(here.offer, each.offer)
        needs_s = first_work_s * known[spec.instance_types[0]] / speed(each)
        return needs_s + (0.0 if runs else changeover_s) <= left_s

    in_time = [each for each in on_demand if is_in_time(each)]
    if not in_time:
        return max(on_demand, key=speed).offer.pool.instance_type
    cheapest = min(in_time, key=lambda each: each.offer.price_usd_micros_hour / speed(each))
    return cheapest.offer.pool.instance_type


def _is_rescued(spec: JobSpec, on: Attempt | None) -> bool:
    """On-demand is its way out of a deadline's need. Where it is on-demand already, the money for
    that is reserved, and one that wants nothing else has no other place."""
    wants_spot = spec.market is Market.SPOT and spec.policy != ON_DEMAND_ONLY
    is_there = on is not None and on.offer.market is Market.ON_DEMAND
    return wants_spot and spec.deadline_at is not None and not is_there


def _to_the_end(
    each: Candidate, spec: JobSpec, purse: Purse, work_left_s: float | None
) -> Candidate:
    """On-demand is left out where the caps do not pay it to the end of the work: it would be late
    all the same, and dearer. What a day's cap does not pay, the next day does."""
    totals = [it.left_usd_micros for it in purse.balances if it.cap.day is None]
    left = min(totals, default=None)
    if each.left_out is not None or each.is_spot or left is None or work_left_s is None:
        return each
    needs = rate_usd_micros_hour(spec, each.offer) * work_left_s / each.speed / HOUR_S
    return each if needs <= left else dataclasses.replace(each, left_out=TOO_LONG_ON_DEMAND)


def _half_on_demand(offered: Sequence[Candidate], base: str) -> float:
    """What an hour that a loss costs is made up for at: on-demand, half of the time (fitted on the
    traces of docs/policy.md)."""
    prices = [
        each.offer.dearest_usd_micros_hour
        for each in offered
        if each.offer.pool.instance_type == base
    ]
    return min(prices, default=0) / 2


def _here(on: Attempt | None, offered: Sequence[Candidate]) -> Candidate | None:
    """Where the job runs, at today's price; whatever keeps others from there does not matter."""
    if on is None:
        return None
    same = (each for each in offered if is_same_place(each.offer, on.offer))
    return dataclasses.replace(next(same, Candidate(offer=on.offer)), left_out=None)


def is_same_place(one: Offer, other: Offer) -> bool:
    return one.pool == other.pool and one.market is other.market


def _valued(
    each: Candidate,
    job: Job,
    outlook: Outlook,
    speed: float,
    work_left_s: float | None,
    changeover_s: float,
    catch_up: float,
    runs: bool,
) -> Candidate:
    pool = each.offer.pool
    sight = outlook.sights.get(pool, UNSEEN) if each.is_spot else UNSEEN
    if runs and each.is_spot:
        sight = dataclasses.replace(sight, up=True, was_up=True)
    work_hour = expected(
        each.offer,
        sight,
        outlook.hazards,
        speed=speed,
        work_left_s=work_left_s,
        changeover_s=changeover_s,
        catch_up_usd_micros_hour=catch_up,
        move_usd_micros=move_usd_micros(job.spec, pool.region),
        runs=runs,
    )
    return dataclasses.replace(
        each,
        sight=sight,
        speed=speed,
        usd_micros_work_hour=work_hour,
        score=outlook.scores.get(pool) if each.offer.market is Market.SPOT else None,
        band=outlook.bands.get(pool) if each.offer.market is Market.SPOT else None,
    )
