"""The table that a user sees before a job is submitted: what it could run on, and what place would
choose now."""

from __future__ import annotations

import datetime as dt

from spotrunner.core.market import candidates, within_budget
from spotrunner.core.model import JobSpec, Offer
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
        within_budget(each, spec.budget_usd_micros, deps.limits)
        for each in candidates(spec, offers, refusals, now, deps.limits)
    ]
    choice = deps.policy.choose(found)
    rows = [
        _row(each.offer, each.left_out, each.offer == choice.offer)
        for each in found
        if each.offer.market is spec.market
    ]
    return rows, choice


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
