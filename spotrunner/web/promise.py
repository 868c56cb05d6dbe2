"""Whether a job's deadline and its caps can both be kept: what spot is expected to cost, what
on-demand to the end would need, and what may be spent."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from spotrunner.core.amounts import cents_up
from spotrunner.core.charges import extras_usd_micros_hour
from spotrunner.core.located import Problem
from spotrunner.core.look import Outlook, Progress, look
from spotrunner.core.market import is_too_dear, move_usd_micros, rate_usd_micros_hour
from spotrunner.core.model import Job, JobSpec, Market, Offer
from spotrunner.core.money import HOUR_S, usd
from spotrunner.core.purse import Purse, Scope
from spotrunner.core.situation import Candidate, Situation
from spotrunner.web.caps import cents

# Sums of seconds differ from themselves by less than this.
_EPSILON = 1e-6
_NONE = Progress()


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Micro-dollars that the work that is left needs: on-demand to the end, which is surely in
    time, and as it is expected on spot (None: there is no spot offer)."""

    on_demand: Offer
    on_demand_usd_micros: int
    spot: Offer | None
    spot_usd_micros: int | None

    def __str__(self) -> str:
        on_demand = f"on-demand to the end would need {cents(self.on_demand_usd_micros)}"
        if self.spot is None or self.spot_usd_micros is None:
            return f"{on_demand} ({self.on_demand.pool})"
        spot = f"the work is expected to cost {usd(self.spot_usd_micros)} on spot"
        return f"{spot} ({self.spot.pool}), {on_demand} ({self.on_demand.pool})"


def needs(job: Job, outlook: Outlook, progress: Progress = _NONE) -> Needs | None:
    """None where there is no deadline, or no on-demand offer that the job would take."""
    spec = job.spec
    situation = look(job, progress, outlook)
    work_s = situation.work_left_s
    if spec.deadline_at is None or work_s is None:
        return None
    allowed = [it for it in situation.candidates if not is_too_dear(spec, it.offer)]
    costs = {
        it.offer: _on_demand_usd_micros(spec, it, work_s, situation)
        for it in allowed
        if not it.is_spot and it.speed >= 1 - _EPSILON
    }
    if not costs:
        return None
    on_demand = min(costs, key=lambda offer: costs[offer])
    spot = _spot(allowed)
    return Needs(
        on_demand=on_demand,
        on_demand_usd_micros=costs[on_demand],
        spot=spot.offer if spot else None,
        spot_usd_micros=_spot_usd_micros(spec, spot, work_s) if spot else None,
    )


def _on_demand_usd_micros(
    spec: JobSpec, each: Candidate, work_s: float, situation: Situation
) -> int:
    """The work, one start, and bringing the data."""
    needs_s = work_s / each.speed + situation.changeover_s
    work = math.ceil(rate_usd_micros_hour(spec, each.offer) * needs_s / HOUR_S)
    return work + move_usd_micros(spec, each.offer.pool.region)


def _spot(allowed: list[Candidate]) -> Candidate | None:
    """The cheapest expected work: of what can be had now, if anything can."""
    spot = [it for it in allowed if it.is_spot]
    return next((it for it in spot if it.left_out is None), next(iter(spot), None))


def _spot_usd_micros(spec: JobSpec, spot: Candidate, work_s: float) -> int:
    """With each start and loss that is to be expected, the disk and the address."""
    extras = extras_usd_micros_hour(spot.offer.pool.region, spec.disk_gib)
    return int((spot.usd_micros_work_hour + extras / spot.speed) * work_s / HOUR_S)


# -- the words ---------------------------------------------------------------------------------


def settled(spec: JobSpec, needed: Needs, raises: bool) -> tuple[JobSpec, Problem | None]:
    """The spec with the budget that it is submitted with, and what its user is told. With `raises`
    (`on_conflict: deadline`) the budget follows the deadline, else the deadline the budget."""
    budget = spec.budget_usd_micros
    if budget is None or needed.on_demand_usd_micros <= budget:
        return spec, None
    message = f"the deadline and the budget cannot both be promised: {needed}, and the budget is"
    if raises:
        enough = cents_up(needed.on_demand_usd_micros)
        told = f"{usd(budget)}; on_conflict: deadline raises it to {cents(enough)}, never exceeded"
        problem = Problem(key="budget", message=f"{message} {told}")
        return dataclasses.replace(spec, budget_usd_micros=enough), problem
    problem = Problem(
        key="budget",
        message=f"{message} {usd(budget)}, which holds: {_late(spec)}",
        hint=f"to be in time, give it budget: {_amount(needed)}, or on_conflict: deadline",
    )
    return spec, problem


def bound_elsewhere(spec: JobSpec, needed: Needs, purse: Purse) -> Problem | None:
    """The tightest cap beside the job's own, where it does not pay for the deadline: no job can
    raise that one."""
    others = (each for each in purse.balances if each.cap.scope is not Scope.JOB)
    bound = min(others, key=lambda each: each.left_usd_micros, default=None)
    if bound is None or bound.left_usd_micros >= needed.on_demand_usd_micros:
        return None
    return Problem(
        key="deadline",
        message=f"the deadline cannot be promised: {needed}, and {bound.cap} leaves"
        f" {usd(max(0, bound.left_usd_micros))}, which holds: {_late(spec)}",
    )


def _late(spec: JobSpec) -> str:
    if spec.market is Market.ON_DEMAND:
        return "it stops there, and will be late"
    return "on-demand is not taken where it is not paid to the end, so it may be late"


def _amount(needed: Needs) -> str:
    return f"{cents_up(needed.on_demand_usd_micros) / 1_000_000:.2f}"
