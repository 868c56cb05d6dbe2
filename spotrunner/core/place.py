"""Give a place to the jobs that wait for one: choose an offer, reserve its first step, launch.

A job has one attempt that serves it. While that one is healthy nothing is placed; once it is
interrupted, silent or being ended, a replacement starts at once and takes HEAD over when it may.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

from spotrunner.core.draft import Draft
from spotrunner.core.ids import attempt_id, generation_of, job_of
from spotrunner.core.market import candidates, within_budget
from spotrunner.core.model import Attempt, Job, Offer, Pause
from spotrunner.core.money import affordable_s, first_paid_s, start_s, usd
from spotrunner.core.policy import Policy
from spotrunner.core.retire import serves
from spotrunner.core.states import AttemptState, JobState, advance


def place(draft: Draft, policy: Policy) -> None:
    for job in list(draft.jobs.values()):
        if job.state.over:
            continue
        serving = [attempt for attempt in draft.live(job.id) if serves(draft, attempt)]
        for attempt in serving:
            if attempt.state is AttemptState.PENDING:
                _send_again(draft, attempt)
        if not serving and draft.launches < draft.limits.launches_a_round:
            _place_job(draft, job, policy)


def _send_again(draft: Draft, attempt: Attempt) -> None:
    """The launch's outcome is unknown. The same bytes with the same token give the same instance,
    so asking again is safe; its money is renewed first, since it starts to run only now."""
    if draft.now >= attempt.intent_at + dt.timedelta(seconds=draft.limits.intent_s):
        return
    job = draft.jobs[attempt.job_id]
    until = draft.now + dt.timedelta(seconds=attempt.first_paid_s)
    more_s = int((until - attempt.paid_until).total_seconds())
    # The first sending may have launched it already, so this comes on top of what is reserved.
    left = draft.cap_left(job)
    if affordable_s(left, attempt.offer.dearest_usd_micros_hour, more_s) < more_s:
        return
    renewed = dataclasses.replace(attempt, paid_until=until)
    draft.update(renewed)
    draft.launch(renewed, "its launch has not been confirmed")


def _place_job(draft: Draft, job: Job, policy: Policy) -> None:
    if not draft.head_known(job.id) or not draft.mail_known:
        # Without both nobody knows which generations were handed out.
        _wait(draft, job, "HEAD or the mail cannot be read now, so nothing new may start")
        return
    offered = candidates(job.spec, draft.snapshot.offers, draft.refusals, draft.now, draft.limits)
    left = draft.cap_left(job)
    bounded = [within_budget(candidate, left, draft.limits) for candidate in offered]
    choice = policy.choose(bounded)
    if choice.offer is not None:
        pays_s = first_paid_s(left, choice.offer, draft.limits)
        _launch(draft, job, choice.offer, pays_s, choice.why)
        return
    free = [candidate.offer for candidate in offered if candidate.left_out is None]
    if free and all(candidate.left_out is not None for candidate in bounded):
        _pause_on_budget(draft, job, free[0])
    else:
        _wait(draft, job, choice.why)


def _launch(draft: Draft, job: Job, offer: Offer, pays_s: int, why: str) -> None:
    generation = _next_generation(draft, job)
    attempt = Attempt(
        id=attempt_id(job.id, generation),
        job_id=job.id,
        generation=generation,
        state=AttemptState.PENDING,
        offer=offer,
        intent_at=draft.now,
        paid_until=draft.now + dt.timedelta(seconds=pays_s),
        first_paid_s=pays_s,
        step_before=draft.head_step(job.id),
        replaces=_predecessor(draft, job),
    )
    active = advance(job, JobState.ACTIVE, pause=None, reason="")
    if job.state is not JobState.ACTIVE:
        draft.mark(active, "active", "an attempt was placed")
    else:
        draft.update(active)
    draft.mark(
        attempt,
        "placed",
        why,
        pool=str(offer.pool),
        region=offer.pool.region,
        market=offer.market.value,
        price_usd_hour=offer.price_usd_micros_hour / 1_000_000,
        replaces=attempt.replaces,
    )
    draft.launch(attempt, why)


def _predecessor(draft: Draft, job: Job) -> str | None:
    """The live attempt that HEAD has to be taken from: its holder, else the latest."""
    live = draft.live(job.id)
    head = draft.head(job.id)
    holders = [attempt for attempt in live if head is not None and attempt.id == head.attempt]
    return (holders or live)[-1].id if live else None


def _next_generation(draft: Draft, job: Job) -> int:
    """One more than any that was ever handed out, by whoever remembers: our store may have been
    restored from a backup."""
    seen = [attempt.generation for attempt in draft.of(job.id)]
    head = draft.head(job.id)
    if head is not None:
        seen.append(head.generation)
    names = [*draft.snapshot.boxes, *(i.attempt_id or "" for i in draft.all_instances())]
    seen += [generation_of(name) or 0 for name in names if job_of(name) == job.id]
    return max(seen, default=0) + 1


def _pause_on_budget(draft: Draft, job: Job, offer: Offer) -> None:
    if draft.live(job.id):
        _wait(draft, job, "the budget is reserved for an attempt that is still ending")
        return
    spent = sum(attempt.cost_usd_micros or 0 for attempt in draft.of(job.id))
    need = offer.dearest_usd_micros_hour * start_s(draft.limits) // 3600
    why = (
        f"the budget of {usd(job.spec.budget_usd_micros or 0)} has {usd(spent)} spent, and a first"
        f" step on {offer.pool} needs {usd(need)} in reserve"
    )
    paused = advance(job, JobState.PAUSED, pause=Pause.BUDGET, reason=why)
    if job.pause is not Pause.BUDGET:
        draft.mark(paused, "paused", why)
    else:
        draft.update(paused)


def _wait(draft: Draft, job: Job, why: str) -> None:
    """Say why nothing is placed, once for each reason."""
    if job.reason != why:
        draft.mark(dataclasses.replace(job, reason=why), "waiting", why)
