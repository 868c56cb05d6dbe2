"""Find instances that carry our tag and that nobody owns: they cost the most, for nothing.

The cloud's own listing is the evidence. An orphan of a job we know is adopted into the ledger and
told to stop, since it may hold unsaved steps; it is terminated when its paid time is over.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

from spotrunner.core.baked import LONGEST_S as BAKE_S
from spotrunner.core.charges import extras_usd_micros_hour
from spotrunner.core.draft import Draft
from spotrunner.core.ids import generation_of, is_bake, job_of
from spotrunner.core.model import Attempt, EndReason, Instance, Job, Market, Offer, Pool
from spotrunner.core.money import is_priced, seconds_between
from spotrunner.core.states import AttemptState


def reap(draft: Draft) -> None:
    for instance in draft.all_instances():
        if _is_orphan(draft, instance):
            _reap_one(draft, instance)
    _price_adopted(draft)
    _clear_mail(draft)


def _is_orphan(draft: Draft, instance: Instance) -> bool:
    if not instance.billed:
        return False
    age_s = (draft.now - instance.launched_at).total_seconds()
    if instance.installation != draft.snapshot.installation:
        return False
    if age_s < _left_alone_s(draft, instance):
        return False
    owner = draft.attempts.get(instance.attempt_id or "")
    if owner is None or not owner.state.live:
        return True
    # One attempt holds one instance; a second one with its tag is nobody's.
    return owner.instance_id not in (None, instance.id)


def _left_alone_s(draft: Draft, instance: Instance) -> float:
    """An image is made on a bake's instance while somebody watches; it ends itself in time, and
    only one that does not is an orphan."""
    if is_bake(instance.attempt_id):
        return BAKE_S + draft.limits.orphan_stop_s
    return draft.limits.orphan_min_age_s


def _reap_one(draft: Draft, instance: Instance) -> None:
    attempt = draft.attempts.get(instance.attempt_id or "")
    job = draft.jobs.get(instance.job_id or "")
    if attempt is not None and not attempt.state.live:
        why = "its instance turned up after it was given up"
        draft.wind_down(attempt, EndReason.ORPHANED, why)
    elif attempt is None and job is not None and instance.attempt_id is not None:
        draft.mark(
            _adopted(draft, instance, job, instance.attempt_id),
            "adopted",
            "an instance of this job has no attempt on record",
            instance=instance.id,
        )
    else:
        why = f"no live attempt owns {instance.id}"
        draft.terminate(instance.pool.region, instance.id, why)
        draft.strays.append(instance)


def _clear_mail(draft: Draft) -> None:
    """The letters of ended attempts go to their jobs, so that `mail/` lists the living only. A
    job that is not in the snapshot is over."""
    ended = [box for box in sorted(draft.snapshot.boxes) if not _is_live(draft, box)]
    for box in ended[: draft.limits.archives_a_round]:
        draft.archive(box, job_of(box))


def _is_live(draft: Draft, box: str) -> bool:
    attempt = draft.attempts.get(box)
    if attempt is None:
        return job_of(box) in draft.jobs
    return attempt.state.live


def _adopted(draft: Draft, instance: Instance, job: Job, attempt_id: str) -> Attempt:
    """A record for an instance that our store knows nothing of (restored from a backup)."""
    stop_s, age_s = draft.limits.orphan_stop_s, seconds_between(instance.launched_at, draft.now)
    return Attempt(
        id=attempt_id,
        job_id=job.id,
        generation=generation_of(attempt_id) or 0,
        state=AttemptState.TERMINATING,
        offer=_offer(draft, instance.pool, instance.market),
        intent_at=instance.launched_at,
        paid_until=draft.now + dt.timedelta(seconds=stop_s),
        # What it was paid for before is not known. It may not hear us, and no order ever pays for
        # more than a step ahead: so much is reserved until it has ended.
        first_paid_s=age_s + draft.step_s(job),
        step_before=draft.head_step(job.id),
        extras_usd_micros_hour=extras_usd_micros_hour(instance.pool.region, job.spec.disk_gib),
        instance_id=instance.id,
        launched_at=instance.launched_at,
        ending=EndReason.ORPHANED,
        ending_at=draft.now,
    )


def _offer(draft: Draft, pool: Pool, market: Market) -> Offer:
    """The pool's offer now; one without a known price is booked like the dearest that we know, and
    stays without a price as long as we know none."""
    offers = draft.snapshot.offers
    for offer in offers:
        if offer.pool == pool and offer.market is market:
            return offer
    dearest = max((offer.dearest_usd_micros_hour for offer in offers), default=0)
    return Offer(
        pool=pool,
        market=market,
        price_usd_micros_hour=dearest,
        dearest_usd_micros_hour=dearest,
    )


def _price_adopted(draft: Draft) -> None:
    for attempt in draft.live():
        if not is_priced(attempt.offer):
            offer = _offer(draft, attempt.offer.pool, attempt.offer.market)
            draft.update(dataclasses.replace(attempt, offer=offer))
