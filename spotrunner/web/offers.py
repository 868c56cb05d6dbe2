"""The table that a user sees before a job is submitted: what it could run on, and what place would
choose now."""

from __future__ import annotations

import datetime as dt

from spotrunner.core.look import Outlook, Progress, look
from spotrunner.core.model import Job, JobSpec
from spotrunner.core.policy import Choice
from spotrunner.core.situation import Candidate
from spotrunner.core.states import JobState
from spotrunner.web.deps import Deps

# As far back as a refusal can matter: the longest cool-down is a day.
REFUSALS_KEPT = dt.timedelta(days=2)


def table(deps: Deps, spec: JobSpec) -> tuple[list[dict[str, object]], Choice]:
    """The job's offers as rows, the cheapest expected work first, and its policy's choice."""
    now = deps.clock.now()
    outlook = Outlook(
        now=now,
        limits=deps.limits,
        offers=deps.offers(spec.regions, spec.instance_types),
        refusals=deps.store.refusals(now - REFUSALS_KEPT),
    )
    job = Job(id=spec.name, spec=spec, state=JobState.QUEUED, submitted_at=now)
    situation = look(job, Progress(left_usd_micros=spec.budget_usd_micros), outlook)
    choice = deps.policies[spec.policy].choose(situation)
    return [_row(each, each is choice.take) for each in situation.candidates], choice


def _row(candidate: Candidate, chosen: bool) -> dict[str, object]:
    offer = candidate.offer
    return {
        "region": offer.pool.region,
        "zone": offer.pool.zone,
        "instance_type": offer.pool.instance_type,
        "market": offer.market.value,
        "price_usd_hour": offer.price_usd_micros_hour / 1_000_000,
        "ondemand_usd_hour": offer.dearest_usd_micros_hour / 1_000_000,
        "chosen": chosen,
        "left_out": candidate.left_out,
    }
