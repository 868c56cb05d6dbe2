"""Let jobs stand still, and go on: the user's word, the window, the price.

Only the job is changed here; `retire` then has its attempts save, commit and power off. What the
budget pauses is seen where it would be paid (core/keep, core/place).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from spotrunner.core.draft import Draft
from spotrunner.core.market import above_limit, candidates, is_too_dear
from spotrunner.core.model import Attempt, Job, JobSpec, Market, Pause
from spotrunner.core.retire import serves, stands_still
from spotrunner.core.situation import Candidate
from spotrunner.core.states import JobState, advance
from spotrunner.core.windows import is_open, opens_at, words

Reason = tuple[Pause, str]


def pause(draft: Draft) -> None:
    for job in list(draft.jobs.values()):
        # What its budget has paused does not run, whatever else keeps it from that.
        if job.state.over or job.pause is Pause.BUDGET:
            continue
        reason = _by_user(job) or _by_window(draft, job) or _by_price(draft, job)
        if reason is not None:
            halt(draft, job, *reason)
        elif stands_still(job):
            _go_on(draft, job)


def halt(draft: Draft, job: Job, kind: Pause, why: str) -> None:
    """Said when it begins; why it lasts may change."""
    paused = advance(job, JobState.PAUSED, pause=kind, reason=why)
    if job.pause is kind:
        draft.update(paused)
    else:
        draft.mark(paused, "paused", why, pause=kind.value)


def _go_on(draft: Draft, job: Job) -> None:
    why = {
        Pause.WINDOW: "its window is open",
        Pause.PRICE: "an offer is cheap enough again",
    }.get(job.pause or Pause.USER, "the user wants it to go on")
    draft.mark(advance(job, JobState.QUEUED, pause=None, reason=""), "resumed", why)


def _by_user(job: Job) -> Reason | None:
    return (Pause.USER, job.reason) if job.pause is Pause.USER else None


def _by_window(draft: Draft, job: Job) -> Reason | None:
    window = job.spec.window
    if window is None or is_open(window, draft.now):
        return None
    opens = opens_at(window, draft.now)
    return Pause.WINDOW, f"its window is closed ({words(window)}): it goes on at {_clock(opens)}"


def _clock(at: dt.datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


# -- the price ---------------------------------------------------------------------------------


def _by_price(draft: Draft, job: Job) -> Reason | None:
    """Nothing below the limit is to be had, and the place where it runs has been above it for long
    enough. Where another one is below, the job moves there instead (core/place)."""
    spec, waits = job.spec, job.pause is Pause.PRICE
    if spec.price_limit is None:
        return None
    offered = candidates(
        spec, draft.snapshot.offers, draft.refusals, draft.now, draft.limits, waits
    )
    if any(each.left_out is None for each in offered):
        return None
    serving = [attempt for attempt in draft.live(job.id) if serves(draft, attempt)]
    if serving:
        stops = all(is_above_for_long(draft, attempt) for attempt in serving)
    else:
        # What is below the limit and cannot be had now is no reason: it waits for its capacity.
        stops = bool(offered) and all(is_too_dear(spec, each.offer) for each in offered)
    return (Pause.PRICE, _price_words(spec, offered, waits)) if stops or waits else None


def _price_words(spec: JobSpec, offered: Sequence[Candidate], waits: bool) -> str:
    """By the limit that it has crossed, and then by the one that it waits for."""
    dear = [each.offer for each in offered if is_too_dear(spec, each.offer, waits)]
    if not dear:
        return "what is cheap enough cannot be had now"
    least = min(dear, key=lambda offer: offer.price_usd_micros_hour)
    return f"the cheapest offer is {least.pool}: {above_limit(spec, least, waits)}"


def is_above_for_long(draft: Draft, attempt: Attempt) -> bool:
    """The place where it runs has been above its job's limit for `pause_after`."""
    limit = draft.jobs[attempt.job_id].spec.price_limit
    if limit is None:
        return False
    since = _above_since(draft, attempt, limit.pause_at(attempt.offer))
    return since is not None and draft.now >= since + dt.timedelta(seconds=limit.after_s)


def _above_since(draft: Draft, attempt: Attempt, limit: int) -> dt.datetime | None:
    """None while it is not above; spot's price by its quotes, on-demand's has no history."""
    offer, launched_at = attempt.offer, attempt.launched_at or attempt.intent_at
    if offer.market is Market.ON_DEMAND:
        return launched_at if offer.dearest_usd_micros_hour > limit else None
    since = None
    for quote in reversed(draft.snapshot.quotes.get(offer.pool, ())):
        if quote.at > draft.now:
            continue
        if quote.price_usd_micros_hour <= limit:
            break
        since = quote.at
    return since
