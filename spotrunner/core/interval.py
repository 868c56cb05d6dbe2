"""How often a trainer is asked for a checkpoint: as often as it pays.

A save stops the training for a while, and a loss costs what was done since the last one. Young
(1974) and Daly (2006, first order) balance the two: sqrt(2 x cost of a save x mean time to a loss),
less that cost. The cost is what the job's own trainer reported, or took to answer; the time to a
loss is that of the pool at the age of its run, as policies see it.
"""

from __future__ import annotations

import dataclasses
import math

from spotrunner.core.draft import Draft
from spotrunner.core.hazard import lost_an_hour
from spotrunner.core.model import Attempt, Job, Limits, Market
from spotrunner.core.money import HOUR_S
from spotrunner.core.sight import UNSEEN

# A save, until the job's own has been measured: that of a checkpoint of a few GB on a local disk.
UNMEASURED_SAVE_S = 10.0
# A figure is held until it is off by more than this part: each change is a letter.
_HELD = 0.2


def save_every_s(draft: Draft, attempt: Attempt) -> int | None:
    """How old the attempt's newest checkpoint may become; None where its trainer saves when it
    wants to."""
    job = draft.jobs[attempt.job_id]
    saving = job.spec.saving
    if not handles_save_signal(draft, job):
        return None
    auto = _held(attempt, _best_s(draft, attempt, job)) if saving.auto else None
    return min((every_s for every_s in (auto, saving.every_s) if every_s is not None), default=None)


def handles_save_signal(draft: Draft, job: Job) -> bool:
    """Unless the job says no, or one of its attempts has shown it: each other one would lose what
    it did since its last checkpoint to a request for the next."""
    return job.spec.handles_save_signal and all(
        attempt.handles_save_signal for attempt in draft.of(job.id)
    )


def daly_s(save_s: float, mean_life_s: float, limits: Limits) -> float:
    """Between two saves, within the limits."""
    best = math.sqrt(2 * save_s * mean_life_s) - save_s
    return min(max(best, limits.least_save_every_s), limits.most_save_every_s)


def coarse(seconds: float) -> int:
    """To two significant digits: nobody measures a hazard better."""
    digits = max(0, math.floor(math.log10(max(1.0, seconds))) - 1)
    return int(round(seconds, -digits))


def _best_s(draft: Draft, attempt: Attempt, job: Job) -> int:
    limits = draft.limits
    if attempt.offer.market is Market.ON_DEMAND:
        return limits.most_save_every_s
    sight = draft.snapshot.sights.get(attempt.offer.pool, UNSEEN)
    # It runs here, whatever was seen of others.
    sight = dataclasses.replace(sight, up=True, was_up=True)
    hazard = lost_an_hour(draft.snapshot.hazards, sight.run_age_s, sight.share)
    return coarse(daly_s(_save_s(draft, attempt, job), HOUR_S / hazard, limits))


def _save_s(draft: Draft, attempt: Attempt, job: Job) -> float:
    """Its own, else that of the job's latest report that has one."""
    own = draft.report(attempt)
    if own is not None and own.save_s is not None:
        return own.save_s
    reports = [report for each in draft.of(job.id) if (report := draft.report(each)) is not None]
    measured = [report for report in reports if report.save_s is not None]
    latest = max(measured, key=lambda report: report.at, default=None)
    if latest is None or latest.save_s is None:
        return UNMEASURED_SAVE_S
    return latest.save_s


def _held(attempt: Attempt, best_s: int) -> int:
    before = attempt.order.save_every_s if attempt.order else None
    if before is not None and abs(best_s - before) <= _HELD * before:
        return before
    return best_s
