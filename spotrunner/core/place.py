"""Give a place to the jobs that wait for one: ask the job's policy, reserve a first step, launch.

A job has one attempt that serves it. Once that one is interrupted, silent or being ended, a
replacement starts at once and takes HEAD over when it may. While it trains, the policy may want it
elsewhere: the new place is launched first, and the old one hands over when the new one is ready.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

from spotrunner.core.draft import Draft
from spotrunner.core.ids import attempt_id, generation_of, job_of
from spotrunner.core.look import is_same_place, look
from spotrunner.core.market import OVER_BUDGET
from spotrunner.core.model import Attempt, EndReason, Job, Market, Offer, Pause, Phase
from spotrunner.core.money import affordable_s, first_paid_s, start_s, usd
from spotrunner.core.policy import Policies
from spotrunner.core.retire import serves
from spotrunner.core.situation import Situation
from spotrunner.core.states import AttemptState, JobState, advance


def place(draft: Draft, policies: Policies) -> None:
    for job in list(draft.jobs.values()):
        if job.state.over:
            continue
        serving = [attempt for attempt in draft.live(job.id) if serves(draft, attempt)]
        for attempt in serving:
            if attempt.state is AttemptState.PENDING:
                _send_again(draft, attempt)
        if draft.launches >= draft.limits.launches_a_round:
            continue
        if not serving:
            _place_job(draft, job, policies)
        elif len(serving) == 1 and serving[0].state is AttemptState.RUNNING:
            _move_job(draft, job, policies, serving[0])
        elif len(serving) == 1:
            _rescue_job(draft, job, policies, serving[0])


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


def _place_job(draft: Draft, job: Job, policies: Policies) -> None:
    if not _may_start(draft, job):
        _wait(draft, job, "HEAD or the mail cannot be read now, so nothing new may start")
        return
    policy = policies.get(job.spec.policy)
    if policy is None:
        _wait(draft, job, f"this version of spotrunner has no policy {job.spec.policy}")
        return
    situation = look(job, draft.progress(job), draft.outlook)
    choice = policy.choose(situation)
    if choice.take is not None:
        _launch(draft, job, choice.take.offer, choice.why)
    elif (offer := _unpaid(situation)) is not None:
        _pause_on_budget(draft, job, offer)
    else:
        _wait(draft, job, choice.why)


def _may_start(draft: Draft, job: Job) -> bool:
    """Without both nobody knows which generations were handed out."""
    return draft.head_known(job.id) and draft.mail_known


def _unpaid(situation: Situation) -> Offer | None:
    """The cheapest offer that nothing but the budget keeps the job from, where that is so of all
    that could be had."""
    if any(each.left_out is None for each in situation.candidates):
        return None
    unpaid = [each.offer for each in situation.candidates if each.left_out == OVER_BUDGET]
    return min(unpaid, key=lambda offer: offer.price_usd_micros_hour, default=None)


def _move_job(draft: Draft, job: Job, policies: Policies, attempt: Attempt) -> None:
    """Where the policy wants a job that trains already. Nowhere is a place too: then the attempt
    stops with a checkpoint, and the job waits."""
    report, policy = draft.report(attempt), policies.get(job.spec.policy)
    is_ending = report is None or report.phase is not Phase.TRAIN
    if policy is None or is_ending or not _may_start(draft, job):
        return
    choice = policy.choose(look(job, draft.progress(job), draft.outlook, attempt))
    if choice.take is None:
        draft.wind_down(attempt, EndReason.MOVED, choice.why)
    elif not is_same_place(choice.take.offer, attempt.offer):
        _launch(draft, job, choice.take.offer, choice.why)


def _rescue_job(draft: Draft, job: Job, policies: Policies, attempt: Attempt) -> None:
    """Spot that is slow to start uses up the slack as waiting does: its policy may want on-demand
    beside it. Whoever is ready first trains; nothing else is moved before it has made a step."""
    policy = policies.get(job.spec.policy)
    is_spot = attempt.offer.market is Market.SPOT
    if policy is None or not is_spot or not _may_start(draft, job):
        return
    choice = policy.choose(look(job, draft.progress(job), draft.outlook, attempt))
    if choice.take is not None and not choice.take.is_spot:
        _launch(draft, job, choice.take.offer, choice.why)


def _launch(draft: Draft, job: Job, offer: Offer, why: str) -> None:
    pays_s = first_paid_s(draft.cap_left(job), offer, draft.limits)
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
