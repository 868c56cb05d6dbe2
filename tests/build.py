"""Builders with defaults: a test names only what it is about.

Times are seconds from T0, which is when the first attempt was wanted; prices are g4dn.xlarge's of
2026, in micro-dollars an hour.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spotrunner.core.decide import decide
from spotrunner.core.draft import Draft
from spotrunner.core.ids import attempt_id, generation_of, job_of
from spotrunner.core.model import (
    Attempt,
    CheckpointRef,
    Command,
    CommandVerb,
    Head,
    Instance,
    InstanceState,
    Job,
    JobSpec,
    LaunchRequest,
    Limits,
    Market,
    Notice,
    Offer,
    Order,
    Phase,
    Pool,
    Quote,
    Refusal,
    Refused,
    Report,
    Snapshot,
    Verb,
)
from spotrunner.core.plan import Plan
from spotrunner.core.policy.named import policies
from spotrunner.core.purse import UNBOUNDED, Balance, Cap, Purse, Scope
from spotrunner.core.states import AttemptState, JobState

T0 = dt.datetime(2026, 11, 1, 12, 0, tzinfo=dt.timezone.utc)
JOB = "digits-7f3a"
INSTALLATION = "inst-1234"
SPOT, ON_DEMAND = 160_000, 526_000
# An hour of the address, and of 100 GiB of gp3 in us-east-1 at 0.08 USD a month of 720 hours.
EXTRAS = 5_000 + 11_112


def at(seconds: float) -> dt.datetime:
    return T0 + dt.timedelta(seconds=seconds)


def at_or_none(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else at(seconds)


# -- what is sold ------------------------------------------------------------------------------


def a_pool(zone: str = "us-east-1a", instance_type: str = "g4dn.xlarge") -> Pool:
    return Pool(region=zone[:-1], zone=zone, instance_type=instance_type)


def an_offer(
    zone: str = "us-east-1a",
    instance_type: str = "g4dn.xlarge",
    *,
    price: int = SPOT,
    dearest: int = ON_DEMAND,
    market: Market = Market.SPOT,
) -> Offer:
    return Offer(
        pool=a_pool(zone, instance_type),
        market=market,
        price_usd_micros_hour=price,
        dearest_usd_micros_hour=dearest,
    )


def a_quote(at_s: float, price: int, zone: str = "us-east-1a") -> Quote:
    return Quote(pool=a_pool(zone), at=at(at_s), price_usd_micros_hour=price)


def a_refusal(
    zone: str = "us-east-1a",
    instance_type: str = "g4dn.xlarge",
    *,
    meaning: Refused = Refused.CAPACITY,
    at_s: float = 0,
    market: Market = Market.SPOT,
) -> Refusal:
    return Refusal(
        pool=a_pool(zone, instance_type), market=market, at=at(at_s), meaning=meaning, message="no"
    )


# Three zones in two regions, the cheapest first.
OFFERS = (
    an_offer("us-east-1a"),
    an_offer("us-east-1b", price=170_000),
    an_offer("eu-west-1a", price=180_000, dearest=580_000),
)


def a_purse(left: int | None) -> Purse:
    """One cap that leaves so much; None: no cap."""
    if left is None:
        return UNBOUNDED
    cap = Cap(scope=Scope.JOB, name=JOB, usd_micros=max(0, left))
    reserved = max(0, -left)
    return Purse(balances=(Balance(cap=cap, accrued_usd_micros=0, reserved_usd_micros=reserved),))


# -- jobs and attempts -------------------------------------------------------------------------


def a_spec(**changes: Any) -> JobSpec:
    fields: dict[str, Any] = {
        "name": "digits",
        "run": "python train.py",
        "image": "tensorflow/tensorflow:2.17.0-gpu",
        "instance_types": ("g4dn.xlarge",),
        "regions": ("us-east-1", "eu-west-1"),
        "budget_usd_micros": 5_000_000,
    }
    return JobSpec(**{**fields, **changes})


def a_job(
    state: JobState = JobState.ACTIVE,
    *,
    id: str = JOB,
    budget: int | None = 5_000_000,
    retries: int = 0,
    spec: JobSpec | None = None,
    submitted_s: float = 0,
    **changes: Any,
) -> Job:
    return Job(
        id=id,
        spec=spec or a_spec(budget_usd_micros=budget, retries=retries),
        state=state,
        submitted_at=at(submitted_s),
        **changes,
    )


def a_notice(at_s: float, seen_s: float | None = None) -> Notice:
    return Notice(at=at(at_s), seen_at=at(at_s - 120 if seen_s is None else seen_s))


def a_request(attempt: str, offer: Offer) -> LaunchRequest:
    return LaunchRequest(
        client_token=f"{INSTALLATION}.{attempt}",
        pool=offer.pool,
        market=offer.market,
        image_id="ami-1",
        root_device="/dev/sda1",
        subnet_id="subnet-1",
        user_data="#!/bin/bash",
        disk_gib=100,
        tags=(),
    )


def an_attempt(
    generation: int = 1,
    state: AttemptState = AttemptState.RUNNING,
    *,
    job: str = JOB,
    offer: Offer | None = None,
    intent_s: float = 0,
    sent_s: float | None = 1,
    launched_s: float | None = 5,
    first_step_s: float | None = 120,
    paid_until_s: float = 1800,
    ending_s: float | None = None,
    notice: Notice | None = None,
    **changes: Any,
) -> Attempt:
    """As it would be in `state`: before REQUESTED it has no instance, before RUNNING no step."""
    id, offer = attempt_id(job, generation), offer or an_offer()
    launched = state is not AttemptState.PENDING and launched_s is not None
    trained = launched and state not in (AttemptState.REQUESTED, AttemptState.STARTING)
    fields: dict[str, Any] = {
        "request": None if sent_s is None else a_request(id, offer),
        "sent_at": at_or_none(sent_s),
        "instance_id": f"i-{job}.{generation}" if launched else None,
        "launched_at": at_or_none(launched_s) if launched else None,
        "first_step_at": at_or_none(first_step_s) if trained else None,
        "ending_at": at_or_none(ending_s),
        "first_paid_s": 1800,
    }
    if state is AttemptState.ENDED:
        fields["cost_usd_micros"] = 0
    return Attempt(
        id=id,
        job_id=job,
        generation=generation,
        state=state,
        offer=offer,
        intent_at=at(intent_s),
        paid_until=at(paid_until_s),
        notice=notice,
        **{**fields, **changes},
    )


def pending(generation: int = 1, **changes: Any) -> Attempt:
    return an_attempt(generation, AttemptState.PENDING, **changes)


def an_instance(
    attempt: Attempt | None = None,
    state: InstanceState = InstanceState.RUNNING,
    *,
    launched_s: float | None = None,
    ended_s: float | None = None,
    **changes: Any,
) -> Instance:
    """The instance of an attempt (of generation 1 by default)."""
    attempt = attempt or an_attempt()
    launched_at = attempt.launched_at or attempt.intent_at
    fields: dict[str, Any] = {
        "id": attempt.instance_id or f"i-{attempt.id}",
        "pool": attempt.offer.pool,
        "market": attempt.offer.market,
        "launched_at": launched_at if launched_s is None else at(launched_s),
        "client_token": attempt.request.client_token if attempt.request else None,
        "installation": INSTALLATION,
        "job_id": attempt.job_id,
        "attempt_id": attempt.id,
        "ended_at": at_or_none(ended_s),
    }
    return Instance(state=state, **{**fields, **changes})


# -- what others say ---------------------------------------------------------------------------


def a_report(
    attempt: str = f"{JOB}.1",
    at_s: float = 590,
    phase: Phase = Phase.TRAIN,
    *,
    first_step_s: float | None = None,
    committed_s: float | None = None,
    **changes: Any,
) -> Report:
    return Report(
        attempt=attempt,
        box=attempt,
        at=at(at_s),
        phase=phase,
        first_step_at=at_or_none(first_step_s),
        committed_at=at_or_none(committed_s),
        **changes,
    )


def a_head(step: int | None = 100, *, attempt: str = f"{JOB}.1", **changes: Any) -> Head:
    """HEAD as its holder left it; `step` None is before the first checkpoint."""
    ref = None
    if step is not None:
        folder = f"jobs/{job_of(attempt)}/checkpoints/{step:08d}-nonce/"
        ref = CheckpointRef(folder=folder, step=step, manifest_sha256="ab" * 32)
    fields: dict[str, Any] = {
        "seq": 1,
        "generation": generation_of(attempt) or 0,
        "nonce": "nonce",
        "manifest": ref,
    }
    return Head(attempt=attempt, **{**fields, **changes})


def an_order(attempt: Attempt, *, n: int = 1, epoch: int = 1, **changes: Any) -> Order:
    """The order that says what the attempt's record says."""
    fields: dict[str, Any] = {"verb": Verb.RUN, "paid_until": attempt.paid_until}
    return Order(
        box=attempt.id,
        epoch=epoch,
        n=n,
        attempt=attempt.id,
        generation=attempt.generation,
        **{**fields, **changes},
    )


def a_command(verb: CommandVerb, job: str = JOB, id: int = 1, **changes: Any) -> Command:
    return Command(id=id, at=T0, job_id=job, verb=verb, **changes)


# -- all of it ---------------------------------------------------------------------------------


def a_snapshot(
    now_s: float = 600,
    *,
    jobs: Sequence[Job] | None = None,
    attempts: Sequence[Attempt] = (),
    instances: Sequence[Instance] = (),
    silent_regions: Iterable[str] = (),
    reports: Sequence[Report] = (),
    head: Head | None = None,
    head_unread: bool = False,
    boxes: Iterable[str] = (),
    offers: Sequence[Offer] = OFFERS,
    quotes: Sequence[Quote] = (),
    mail_s: float | None = None,
    **changes: Any,
) -> Snapshot:
    """Two regions that answer, unless told otherwise; `head` is that of the (first) job."""
    jobs = (a_job(),) if jobs is None else jobs
    regions: dict[str, tuple[Instance, ...] | None] = {
        region: tuple(i for i in instances if i.pool.region == region)
        for region in ("us-east-1", "eu-west-1")
    }
    by_pool: dict[Pool, tuple[Quote, ...]] = {}
    for quote in quotes:
        by_pool[quote.pool] = (*by_pool.get(quote.pool, ()), quote)
    heads: Mapping[str, Head | None] = {job.id: None for job in jobs[1:]}
    if jobs and not head_unread:
        heads = {**heads, jobs[0].id: head}
    fields: dict[str, Any] = {"epoch": 1, "installation": INSTALLATION, "limits": Limits()}
    return Snapshot(
        now=at(now_s),
        jobs=tuple(jobs),
        attempts=tuple(attempts),
        instances={**regions, **{region: None for region in silent_regions}},
        reports={report.attempt: report for report in reports},
        mail_at=at_or_none(mail_s),
        heads=heads,
        boxes=frozenset(boxes),
        offers=tuple(offers),
        quotes=by_pool,
        **{**fields, **changes},
    )


def a_running_snapshot(now_s: float = 600, **changes: Any) -> Snapshot:
    """One job with one healthy attempt: listed, reporting, holding HEAD at step 100."""
    attempt = changes.pop("attempt", None) or an_attempt()
    fields: dict[str, Any] = {
        "attempts": (attempt,),
        "instances": (an_instance(attempt),),
        "reports": (a_report(attempt.id, now_s - 10),),
        "head": a_head(attempt=attempt.id),
    }
    return a_snapshot(now_s, **{**fields, **changes})


# -- what comes of it --------------------------------------------------------------------------


def decided(snapshot: Snapshot) -> Plan:
    return decide(snapshot, policies())


def after(phase: Any, snapshot: Snapshot) -> Draft:
    """The draft after one phase only."""
    draft = Draft(snapshot)
    phase(draft)
    return draft


def applied(snapshot: Snapshot, plan: Plan, *, now_s: float | None = None) -> Snapshot:
    """The next round's snapshot: what the plan wrote down is there, its orders are posted."""
    jobs = {job.id: job for job in (*snapshot.jobs, *plan.jobs)}
    attempts = {attempt.id: attempt for attempt in (*snapshot.attempts, *plan.attempts)}
    for posted in plan.orders:
        old = attempts[posted.order.attempt]
        attempts[old.id] = dataclasses.replace(old, order_posted_n=posted.order.n)
    done = set(plan.commands_done)
    return dataclasses.replace(
        snapshot,
        now=snapshot.now if now_s is None else at(now_s),
        jobs=tuple(jobs.values()),
        attempts=tuple(sorted(attempts.values(), key=lambda a: (a.job_id, a.generation))),
        refusals=(*snapshot.refusals, *plan.refusals),
        alerted=snapshot.alerted | {alert.key for alert in plan.alerts},
        commands=tuple(command for command in snapshot.commands if command.id not in done),
    )


def attempt_after(plan: Plan, snapshot: Snapshot, generation: int = 1, job: str = JOB) -> Attempt:
    """The attempt as the round left it, changed or not."""
    known = {attempt.id: attempt for attempt in (*snapshot.attempts, *plan.attempts)}
    return known[attempt_id(job, generation)]


def job_after(plan: Plan, snapshot: Snapshot, job: str = JOB) -> Job:
    return {job.id: job for job in (*snapshot.jobs, *plan.jobs)}[job]


def kinds(plan: Plan) -> list[str]:
    """The kinds of the round's events, in their order."""
    return [event.kind for event in plan.events]
