"""How attempts end: what EC2 says of it, what it cost, and what is to be believed where nobody says
anything any more."""

from __future__ import annotations

import dataclasses
import datetime as dt

from spotrunner.core.draft import Draft
from spotrunner.core.model import (
    Attempt,
    EndedBy,
    EndReason,
    Instance,
    Market,
    Phase,
    Refusal,
    Refused,
)
from spotrunner.core.money import accrued, bill_end, exposure, hour_index, is_free, usd
from spotrunner.core.retire import is_moved, unpaid_reason
from spotrunner.core.states import AttemptState, advance

# What an agent's last word means for its attempt.
LAST_WORDS = {
    Phase.DONE: EndReason.DONE,
    Phase.FAILED: EndReason.FAILED,
    Phase.FAULT: EndReason.FAULT,
    Phase.UNPAID: EndReason.UNPAID,
    Phase.FENCED: EndReason.SUPERSEDED,
    Phase.STOPPED: EndReason.CANCELLED,
}


def follow_ending(draft: Draft, attempt: Attempt, instance: Instance) -> None:
    """Shutting down: it will not come back, and a replacement need not wait for its end."""
    if attempt.state in (AttemptState.INTERRUPTED, AttemptState.TERMINATING):
        return
    reason = _end_reason(draft, attempt, instance.ended_by)
    draft.wind_down(attempt, reason, f"its instance is shutting down ({_by(instance.ended_by)})")
    if instance.ended_by is not None and instance.ended_by.interruption:
        _avoid_taken(draft, attempt, instance.ended_by)


def end(draft: Draft, attempt: Attempt, ended_at: dt.datetime | None, by: EndedBy | None) -> None:
    is_news = attempt.ending in (None, EndReason.FAULT)
    # A notice was the news, but for one thing: that it was the price, whose cool-down is another.
    if is_news and (by is EndedBy.PRICE or (by is EndedBy.EC2 and attempt.notice is None)):
        _avoid_taken(draft, attempt, by)
    elif by is EndedBy.FAULT and attempt.first_step_at is None:
        # A launch that is accepted and then finds no capacity ends like this.
        avoid(draft, attempt, "an instance ended here by a fault of EC2's before it could work")
    at = ended_at or _unseen_end(draft, attempt)
    if ended_at is None and at > _last_sign(draft, attempt) + _s(draft.limits.silent_s):
        attempt = dataclasses.replace(attempt, estimated=True)
    ended = _closed(draft, attempt, at, by)
    why = f"{_by(by)}; cost {usd(ended.cost_usd_micros or 0)}"
    _mark_ended(draft, ended, why)


def miss(draft: Draft, attempt: Attempt) -> None:
    """No listing shows it. That proves something only together with time since its last sign."""
    report = draft.report(attempt)
    if attempt.instance_id is None and attempt.sent_at is None and report is None:
        _miss_unsent(draft, attempt)
        return
    sign = attempt.launched_at or attempt.sent_at or attempt.intent_at
    if report is not None:
        sign = max(sign, report.at)
    if draft.now < sign + _s(draft.limits.lost_s):
        return
    if draft.snapshot.instances.get(attempt.offer.pool.region) is None:
        return
    if attempt.instance_id is None:
        if attempt.state is not AttemptState.TERMINATING:
            draft.wind_down(attempt, EndReason.LOST, "nothing of its launch was seen in time")
        _give_up(draft, draft.attempts[attempt.id])
    elif attempt.instance_id in draft.snapshot.not_found:
        _give_up(draft, attempt)


def avoid(
    draft: Draft, attempt: Attempt, message: str, meaning: Refused = Refused.CAPACITY
) -> None:
    draft.refuse(
        Refusal(
            pool=attempt.offer.pool,
            market=attempt.offer.market,
            at=draft.now,
            meaning=meaning,
            message=message,
        )
    )


def _avoid_taken(draft: Draft, attempt: Attempt, by: EndedBy) -> None:
    if by is EndedBy.PRICE:
        message = "EC2 ended an attempt here: the spot price rose above max_price"
        avoid(draft, attempt, message, Refused.PRICE)
    else:
        avoid(draft, attempt, "EC2 interrupted an attempt here without notice")


def _closed(draft: Draft, attempt: Attempt, at: dt.datetime, by: EndedBy | None) -> Attempt:
    """With its final bill. Where EC2 does not say who ended it, it may have been free: the dearer
    case is booked, and called an estimate if the first hour leaves a doubt."""
    launched_at = attempt.launched_at or attempt.intent_at
    is_spot = attempt.offer.market is Market.SPOT
    in_doubt = by in (None, EndedBy.UNKNOWN) and is_spot and hour_index(launched_at, at) == 0
    ended = advance(
        attempt,
        AttemptState.ENDED,
        ended_at=at,
        end_reason=_end_reason(draft, attempt, by),
        free=is_free(attempt.offer.market, launched_at, at, by),
        estimated=attempt.estimated or in_doubt,
    )
    return dataclasses.replace(ended, cost_usd_micros=accrued(ended, at))


def _mark_ended(draft: Draft, ended: Attempt, why: str) -> None:
    cost = ended.cost_usd_micros or 0
    draft.mark(
        ended,
        "ended",
        why + (", estimated" if ended.estimated and cost else ""),
        reason=ended.end_reason.value if ended.end_reason else None,
        cost_usd=cost / 1_000_000,
    )


def _reason(attempt: Attempt, by: EndedBy | None) -> EndReason:
    if by is not None and by.interruption:
        # What finished before EC2 took it has finished.
        finished = attempt.ending in (EndReason.DONE, EndReason.FAILED, EndReason.CANCELLED)
        return attempt.ending if finished and attempt.ending else EndReason.INTERRUPTED
    if attempt.notice is not None and attempt.ending in (None, EndReason.SUPERSEDED):
        # It handed over and ended itself before EC2 could: the interruption was the reason.
        return EndReason.INTERRUPTED
    return attempt.ending or EndReason.FAULT


def _end_reason(draft: Draft, attempt: Attempt, by: EndedBy | None) -> EndReason:
    """As `_reason`; one that powered itself off before anybody ordered it to may have moved, or
    have used up what its budget paid."""
    if by is EndedBy.ITSELF and attempt.ending is None:
        if is_moved(draft, attempt):
            return EndReason.MOVED
        if attempt.end_detail:
            return unpaid_reason(attempt)
    return _reason(attempt, by)


def _by(by: EndedBy | None) -> str:
    return {
        EndedBy.EC2: "EC2 took the instance",
        EndedBy.PRICE: "EC2 took the instance, because its spot price rose above max_price",
        EndedBy.US: "we ended the instance",
        EndedBy.ITSELF: "the instance powered itself off",
        EndedBy.FAULT: "EC2 reports a fault of its own",
    }.get(by or EndedBy.UNKNOWN, "the instance has ended")


def _miss_unsent(draft: Draft, attempt: Attempt) -> None:
    """The store says so before EC2 is asked, so EC2 never was: nothing can turn up, nothing is
    owed."""
    expired = draft.now >= attempt.intent_at + _s(draft.limits.intent_s)
    if expired or attempt.state is AttemptState.TERMINATING:
        _end_unseen(draft, attempt, 0, "its launch was never sent")


def _give_up(draft: Draft, attempt: Attempt) -> None:
    """End it without an instance to show for it. If one turns up, the reaper opens it again."""
    if attempt.instance_id is not None:
        _end_unseen(draft, attempt, None, "EC2 does not know its instance any more")
    elif draft.now >= bill_end(attempt, draft.limits):
        # Until here its reservation was kept.
        cost = 0 if _would_have_shown(draft, attempt) else exposure(attempt, draft.limits)
        _end_unseen(draft, attempt, cost, "it never showed up")


def _last_sign(draft: Draft, attempt: Attempt) -> dt.datetime:
    """Of life. What ended within minutes of it ended then, as near as anybody needs to know."""
    report = draft.report(attempt)
    signs = [attempt.launched_at or attempt.intent_at, report.at if report else None]
    signs.append(attempt.notice.at if attempt.notice else None)
    return max(sign for sign in signs if sign is not None)


def _unseen_end(draft: Draft, attempt: Attempt) -> dt.datetime:
    """When an instance that nobody can show any more ended at the latest: its own last word
    decides, unless it may have idled after that, else the end of its paid time."""
    # A round may have been held up between its `now` and its reading: by a host that slept, for
    # hours. What is ended then may have ended just before it was read.
    read_at = draft.snapshot.read_at or draft.now
    report = draft.report(attempt)
    if report is not None:
        read_at = max(read_at, report.at)
    latest = min(max(draft.now, read_at), bill_end(attempt, draft.limits))
    if report is not None and report.phase in LAST_WORDS and attempt.notice is None:
        latest = min(latest, report.at + _s(draft.limits.done_s))
    return latest


def _would_have_shown(draft: Draft, attempt: Attempt) -> bool:
    """Was a listing read while it would have shown an instance, alive or ended? We may have been
    away for longer than EC2 remembers."""
    if draft.report(attempt) is not None or attempt.first_step_at is not None:
        return False
    looked_at = attempt.ending_at if attempt.ending is EndReason.LOST else draft.now
    assert looked_at is not None
    return looked_at <= attempt.paid_until + _s(draft.limits.listed_s)


def _end_unseen(draft: Draft, attempt: Attempt, cost: int | None, why: str) -> None:
    """`cost` None: that of its life, as far as anybody can say."""
    at = _unseen_end(draft, attempt)
    ended = advance(
        attempt,
        AttemptState.ENDED,
        ended_at=at if cost is None else draft.now,
        end_reason=attempt.ending or EndReason.LOST,
        estimated=cost != 0,
    )
    cost = accrued(ended, at) if cost is None else cost
    _mark_ended(draft, dataclasses.replace(ended, cost_usd_micros=cost), why)


def _s(seconds: int) -> dt.timedelta:
    return dt.timedelta(seconds=seconds)
