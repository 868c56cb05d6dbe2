"""The table that a user sees before a job is submitted: what it could run on, and what place would
choose now."""

from __future__ import annotations

import dataclasses
import datetime as dt

from spotrunner.core.market import Candidate, candidates
from spotrunner.core.model import JobSpec, Limits, Offer
from spotrunner.core.money import affordable_s
from spotrunner.core.policy import Choice
from spotrunner.web.deps import Deps

# As far back as a refusal can matter: the longest cool-down is a day.
REFUSALS_KEPT = dt.timedelta(days=2)


def table(deps: Deps, spec: JobSpec) -> tuple[list[dict[str, object]], Choice]:
    """The offers of the job's market as rows, and the choice among all."""
    now = deps.clock.now()
    offers = deps.offers(spec.regions, spec.instance_types)
    refusals = deps.store.refusals(now - REFUSALS_KEPT)
    found = [
        _within_budget(spec, each, deps.limits)
        for each in candidates(spec, offers, refusals, now, deps.limits)
    ]
    choice = deps.policy.choose(found)
    rows = [
        _row(each.offer, each.left_out, each.offer == choice.offer)
        for each in found
        if each.offer.market is spec.market
    ]
    return rows, choice


def start_s(limits: Limits) -> int:
    """What a budget has to pay, at the dearest price, for place to launch anything."""
    return limits.boot_allowance_s + limits.boot_slack_s


def pays_start(spec: JobSpec, offer: Offer, limits: Limits) -> bool:
    need_s = start_s(limits)
    return affordable_s(spec.budget_usd_micros, offer.dearest_usd_micros_hour, need_s) >= need_s


def _within_budget(spec: JobSpec, candidate: Candidate, limits: Limits) -> Candidate:
    """The same as core/place does before it chooses."""
    if candidate.left_out is not None or pays_start(spec, candidate.offer, limits):
        return candidate
    return dataclasses.replace(candidate, left_out="the budget does not pay a first step of it")


def _row(offer: Offer, left_out: str | None, chosen: bool) -> dict[str, object]:
    return {
        "region": offer.pool.region,
        "zone": offer.pool.zone,
        "instance_type": offer.pool.instance_type,
        "market": offer.market.value,
        "price_usd_hour": offer.price_usd_micros_hour / 1_000_000,
        "ondemand_usd_hour": offer.dearest_usd_micros_hour / 1_000_000,
        "chosen": chosen,
        "left_out": left_out,
    }
