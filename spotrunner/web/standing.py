"""How a job stands: against its deadline and its caps, and what its changeovers cost it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from spotrunner.core.look import changeover_of
from spotrunner.core.market import expected
from spotrunner.core.model import Attempt, Job, Report
from spotrunner.core.money import HOUR_S
from spotrunner.core.purse import UNBOUNDED
from spotrunner.core.situation import Situation
from spotrunner.web.ahead import forecast_view, goes_on, situation_of
from spotrunner.web.deps import Deps
from spotrunner.web.moments import Json, when
from spotrunner.web.money import account_of, balance_view, in_force, purse_of

# What a changeover can come to with a machine image that has the container in it.
SHORT_S = 60


def standing(
    deps: Deps, job: Job, attempts: Sequence[Attempt], reports: Mapping[str, Report], step: int
) -> Json:
    """`step` is HEAD's. Times are of now, or of the end of a job that is over."""
    situation, purse = None, UNBOUNDED
    if not job.state.over:
        outlook = deps.outlook(job.spec.regions, job.spec.instance_types)
        purse = purse_of(deps, account_of(deps, job, attempts), job)
        situation = situation_of(job, attempts, reports, step, outlook, purse)
    return {
        "schedule": _schedule(job, situation, job.ended_at or deps.clock.now()),
        "changeover": _changeover(attempts, situation),
        "forecast": forecast_view(deps, job, situation, purse) if situation else None,
        "caps": [balance_view(each) for each in in_force(purse, deps.clock.now())],
        "goes_on": goes_on(deps, job, purse),
    }


def _schedule(job: Job, situation: Situation | None, at: dt.datetime) -> Json:
    """Work is in seconds of `work_on`, the type that the deadline rests on."""
    deadline_at = job.spec.deadline_at
    has_slack = situation is not None and situation.slack_s != float("inf")
    return {
        "policy": job.spec.policy,
        "deadline_at": when(deadline_at),
        "left_s": (deadline_at - at).total_seconds() if deadline_at else None,
        "work_s": situation.work_s if situation else None,
        "work_left_s": situation.work_left_s if situation else None,
        "work_on": _unit(job, situation) if situation else None,
        "slack_s": situation.slack_s if situation and has_slack else None,
    }


def _unit(job: Job, situation: Situation) -> str:
    """The type whose speed is 1."""
    types = (each.offer.pool.instance_type for each in situation.candidates if each.speed == 1)
    return next(types, job.spec.instance_types[0])


# -- changeovers -------------------------------------------------------------------------------


def _changeover(attempts: Sequence[Attempt], situation: Situation | None) -> Json | None:
    """From the request of a launch to its first step; None before the first was seen."""
    seen = [(it, s) for it in attempts if (s := changeover_of(it)) is not None]
    if not seen:
        return None
    spans = [seconds for _, seconds in seen]
    mean_s = sum(spans) / len(spans)
    saving = _ahead(situation, mean_s) if situation else _behind(seen)
    return {
        "count": len(spans),
        "mean_s": mean_s,
        "longest_s": max(spans),
        "short_s": SHORT_S,
        "short_saves_usd": None if saving is None else saving / 1_000_000,
    }


def _ahead(situation: Situation, mean_s: float) -> float | None:
    """Micro-dollars that the work that is left is expected to cost more than with changeovers of
    SHORT_S: where it runs now, else where it would be cheapest. None where nobody knows the work,
    or nothing is offered."""
    free = [each for each in situation.candidates if each.left_out is None]
    place = situation.on or next(iter(free or situation.candidates), None)
    work_left_s = situation.work_left_s
    if place is None or work_left_s is None:
        return None
    catch_up = _catch_up(situation)

    def work_hour(changeover_s: float) -> float:
        return expected(
            place.offer,
            place.sight,
            situation.hazards,
            speed=place.speed,
            work_left_s=work_left_s,
            changeover_s=changeover_s,
            catch_up_usd_micros_hour=catch_up,
        )

    return (work_hour(max(SHORT_S, mean_s)) - work_hour(SHORT_S)) * work_left_s / HOUR_S


def _catch_up(situation: Situation) -> float:
    """As core/look counts what a loss of time costs: nothing without a deadline."""
    if situation.left_s is None:
        return 0.0
    dearest = (
        each.offer.dearest_usd_micros_hour for each in situation.candidates if each.speed == 1
    )
    return min(dearest, default=0) / 2


def _behind(seen: Sequence[tuple[Attempt, float]]) -> float:
    """Micro-dollars that the changeovers of a job that is over took beyond SHORT_S each."""
    return sum(
        max(0.0, seconds - SHORT_S) * attempt.offer.price_usd_micros_hour / HOUR_S
        for attempt, seconds in seen
    )
