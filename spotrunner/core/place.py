"""Give a place to the jobs that wait for one: ask the job's policy, reserve a first step, launch.

A job has one attempt that serves it. Once that one is interrupted, silent or being ended, a
replacement starts at once and takes HEAD over when it may. While it trains, the policy may want it
elsewhere: the new place is launched first, and the old one hands over when the new one is ready.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

from spotrunner.core.charges import extras_usd_micros_hour
from spotrunner.core.draft import Draft
from spotrunner.core.ids import attempt_id, generation_of, job_of
from spotrunner.core.keep import window_end
from spotrunner.core.look import changeover, is_same_place, look
from spotrunner.core.market import (
    OVER_BUDGET,
    far_usd_micros,
    first_step_s,
    move_usd_micros,
    start_payment,
    start_usd_micros,
)
from spotrunner.core.model import Attempt, EndReason, Job, Market, Offer, Pause, Phase
from spotrunner.core.money import (
    bill_end,
    dearest_usd_micros_hour,
    late_s,
    seconds_between,
    start_s,
    usd,
)
from spotrunner.core.pause import halt, is_above_for_long
from spotrunner.core.policy import Policies, Policy
from spotrunner.core.purse import Payment
from spotrunner.core.retire import serves, stands_still
from spotrunner.core.situation import Situation
from spotrunner.core.states import AttemptState, JobState, advance
from spotrunner.core.windows import is_open


def place(draft: Draft, policies: Policies) -> None:
    for job in list(draft.jobs.values()):
        if not job.state.over and not stands_still(job):
            _place(draft, job, policies)


def _place(draft: Draft, job: Job, policies: Policies) -> None:
    serving = [attempt for attempt in draft.live(job.id) if serves(draft, attempt)]
    for attempt in serving:
        if attempt.state is AttemptState.PENDING:
            _send_again(draft, attempt)
    if draft.launches >= draft.limits.launches_a_round:
        return
    if draft.is_held:
        if not serving:
            _wait(draft, job, _held(draft))
    elif not serving:
        _place_job(draft, job, policies)
    elif len(serving) == 1 and serving[0].state is AttemptState.RUNNING:
        _move_job(draft, job, policies, serving[0])
    elif len(serving) == 1:
        _rescue_job(draft, job, policies, serving[0])


def _held(draft: Draft) -> str:
    if draft.snapshot.brake is not None:
        return f"nothing is launched ({draft.snapshot.brake}); to go on: spotrunner hold --off"
    assert draft.snapshot.held_until is not None
    return f"nothing is launched until {draft.snapshot.held_until:%H:%M:%S}: spotrunner hold"


def _send_again(draft: Draft, attempt: Attempt) -> None:
    """The launch's outcome is unknown. The same bytes with the same token give the same instance,
    so asking again is safe; its money is renewed first, since it starts to run only now."""
    if draft.now >= attempt.intent_at + dt.timedelta(seconds=draft.limits.intent_s):
        return
    if draft.is_held or (attempt.request is None and attempt.sent_at is not None):
        return  # what was sent is known to the store that was lost, and to EC2
    job = draft.jobs[attempt.job_id]
    until = draft.now + dt.timedelta(seconds=attempt.first_paid_s)
    more_s = seconds_between(attempt.paid_until, until)
    # The first sending may have launched it already, so this comes on top of what is reserved.
    payment = Payment(
        begin=bill_end(attempt, draft.limits) - dt.timedelta(seconds=draft.limits.clock_s),
        wanted_s=more_s,
        usd_micros_hour=dearest_usd_micros_hour(attempt),
        launched_at=attempt.intent_at,
        late_s=late_s(attempt, draft.limits),
    )
    if draft.purse(job, attempt.first_paid_s).pays_s(payment) < more_s:
        return
    renewed = dataclasses.replace(attempt, paid_until=until)
    draft.update(renewed)
    draft.launch(renewed, "its launch has not been confirmed")


def _place_job(draft: Draft, job: Job, policies: Policies) -> None:
    if job.spec.window is not None and not is_open(job.spec.window, draft.now):
        return  # it has used up its budget besides, and is paused by that
    if not _may_start(draft, job):
        _wait(draft, job, "HEAD or the mail cannot be read now, so nothing new may start")
        return
    policy = policies.get(job.spec.policy)
    if policy is None:
        _wait(draft, job, f"this version of spotrunner has no policy {job.spec.policy}")
        return
    situation = look(job, draft.progress(job), draft.outlook)
    choice = policy.choose(situation)
    if (closes := _closes_too_soon(draft, job)) is not None:
        _wait(draft, job, f"its window closes at {closes:%H:%M} UTC: too soon for another start")
    elif choice.take is not None:
        _launch(draft, job, choice.take.offer, choice.why)
    elif (offer := _unpaid(situation)) is not None:
        _pause_on_budget(draft, job, offer)
    else:
        _wait(draft, job, choice.why)


def _closes_too_soon(draft: Draft, job: Job) -> dt.datetime | None:
    """When its window closes, where a launch would hardly train until then. A deadline before that
    is worth a short one: nothing comes after it."""
    closes, deadline_at = window_end(job, draft.now), job.spec.deadline_at
    if closes is None or (deadline_at is not None and deadline_at <= closes):
        return None
    needs_s = 2 * changeover(draft.of(job.id), draft.limits, draft.now)
    return closes if (closes - draft.now).total_seconds() < needs_s else None


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
    if _closes_too_soon(draft, job) is not None:
        return
    if is_above_for_long(draft, attempt):
        _leave(draft, job, policy, attempt)
        return
    choice = policy.choose(look(job, draft.progress(job), draft.outlook, attempt))
    if choice.take is None:
        draft.wind_down(attempt, EndReason.MOVED, choice.why)
    elif not is_same_place(choice.take.offer, attempt.offer):
        _launch(draft, job, choice.take.offer, choice.why)


def _leave(draft: Draft, job: Job, policy: Policy, attempt: Attempt) -> None:
    """The price where it trains has been above the job's limit for long enough: another place, as
    for a job that has none, or none at all."""
    choice = policy.choose(look(job, draft.progress(job), draft.outlook))
    if choice.take is not None:
        why = f"the price in {attempt.offer.pool} is above pause_above; {choice.why}"
        _launch(draft, job, choice.take.offer, why)
    else:
        # Something below the limit is to be had, or the job would be paused: it waits for that.
        why = f"the price in {attempt.offer.pool} is above pause_above; {choice.why}"
        draft.wind_down(attempt, EndReason.MOVED, why)


def _rescue_job(draft: Draft, job: Job, policies: Policies, attempt: Attempt) -> None:
    """Spot that is slow to start uses up the slack as waiting does: its policy may want on-demand
    beside it. Whoever is ready first trains; nothing else is moved before it has made a step."""
    policy = policies.get(job.spec.policy)
    is_spot = attempt.offer.market is Market.SPOT
    if policy is None or not is_spot or not _may_start(draft, job):
        return
    if _closes_too_soon(draft, job) is not None:
        return
    choice = policy.choose(look(job, draft.progress(job), draft.outlook, attempt))
    if choice.take is not None and not choice.take.is_spot:
        _launch(draft, job, choice.take.offer, choice.why)


def _launch(draft: Draft, job: Job, offer: Offer, why: str) -> None:
    pays_s = _first_step_s(draft, job, offer)
    region = offer.pool.region
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
        extras_usd_micros_hour=extras_usd_micros_hour(region, job.spec.disk_gib),
        transfer_usd_micros=move_usd_micros(job.spec, region),
        traffic_reserved_usd_micros=far_usd_micros(job.spec, region, draft.limits),
    )
    active = advance(job, JobState.ACTIVE, pause=None, reason="")
    if job.state is JobState.PAUSED:
        draft.mark(active, "resumed", "the budget pays a step again")
    elif job.state is not JobState.ACTIVE:
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


def _first_step_s(draft: Draft, job: Job, offer: Offer) -> int:
    """What is paid at once: a step of the usual length, though the job be unattended, since its
    agent has proven nothing yet; not far past the end of its window."""
    limits, closes = draft.limits, window_end(job, draft.now)
    pays_s = first_step_s(draft.purse(job), job.spec, offer, draft.now, limits.step_s, limits)
    if closes is None:
        return pays_s
    return min(pays_s, int((closes - draft.now).total_seconds()) + limits.stop_s)


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
    need = start_usd_micros(job.spec, offer, draft.limits)
    purse, least_s = draft.purse(job), start_s(draft.limits)
    payment = start_payment(job.spec, offer, draft.now, least_s, draft.limits)
    bound = purse.bound_by(payment) or purse.tightest
    assert bound is not None, "nothing is over budget where there is none"
    cap, left = bound.cap, max(0, bound.left_usd_micros)
    why = (
        f"{cap} has {usd(bound.accrued_usd_micros)} spent and {usd(left)} left, and a first step"
        f" on {offer.pool} needs {usd(need)} in reserve"
    )
    halt(draft, job, Pause.BUDGET, why)


def _wait(draft: Draft, job: Job, why: str) -> None:
    """Say why nothing is placed, once for each reason. What is paused has a better one."""
    if job.reason != why and job.state is not JobState.PAUSED:
        draft.mark(dataclasses.replace(job, reason=why), "waiting", why)
