"""How a job will go on: when it will be done and for how much, or what ends its pause."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from spotrunner.core.forecast import Forecast, forecast
from spotrunner.core.look import Outlook, Progress, look
from spotrunner.core.model import Attempt, Job, Pause, PriceLimit, Report
from spotrunner.core.money import usd as usd_words
from spotrunner.core.purse import Cap, Purse, Scope
from spotrunner.core.situation import Situation
from spotrunner.core.states import JobState
from spotrunner.core.windows import NEVER, opens_at
from spotrunner.web.deps import Deps
from spotrunner.web.moments import Json, when
from spotrunner.web.money import usd


def situation_of(
    job: Job,
    attempts: Sequence[Attempt],
    reports: Mapping[str, Report],
    step: int,
    outlook: Outlook,
    purse: Purse,
) -> Situation:
    """`step` is HEAD's, or the last that is known to be committed."""
    on = attempts[-1] if attempts and attempts[-1].state.live else None
    progress = Progress(attempts=attempts, reports=reports, step=step, purse=purse)
    return look(job, progress, outlook, on)


def clock(at: dt.datetime, now: dt.datetime) -> str:
    """`03:40 UTC`, with its date where that is not today's."""
    return f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%m-%d %H:%M} UTC"


# -- the forecast ------------------------------------------------------------------------------


def forecast_view(deps: Deps, job: Job, situation: Situation, purse: Purse) -> Json | None:
    """If it goes on as it does now; None of a job that stands still, but for its window, and where
    nobody can tell."""
    now = deps.clock.now()
    if job.state.over or (job.state is JobState.PAUSED and job.pause is not Pause.WINDOW):
        return None
    found = forecast(situation, job.spec, purse.balances, now, deps.limits)
    if found is None:
        return None
    return {
        "done_at": None if found.done_at == NEVER else when(found.done_at),
        "more_usd": usd(found.more_usd_micros),
        "cap": str(found.cap) if found.cap else None,
        "cap_at": when(found.cap_at),
        "cap_progress": found.cap_progress,
        "words": _forecast_words(found, now),
    }


def _forecast_words(found: Forecast, now: dt.datetime) -> str:
    if found.cap is not None and found.cap_at is not None:
        which = "the cap" if found.cap.scope is Scope.JOB else str(found.cap)
        at = "now" if found.cap_at <= now else f"at {clock(found.cap_at, now)}"
        return f"will reach {which} {at}, {100 * (found.cap_progress or 0):.0f} % done"
    if found.done_at == NEVER:
        return "will not be done within ten years"
    cost = usd_words(found.more_usd_micros)
    return f"will be done at {clock(found.done_at, now)} for about {cost} more"


def unknown_words(situation: Situation) -> str:
    """Why there is no forecast."""
    if situation.work_left_s is None:
        return "nobody knows yet how long it takes: its steps will tell, or `work` in a job file"
    return "nothing is offered to it now"


# -- how a paused job goes on ------------------------------------------------------------------


def goes_on(deps: Deps, job: Job, purse: Purse) -> str:
    """What ends the pause of a job, and when; empty for a job that is not paused."""
    if job.state is not JobState.PAUSED:
        return ""
    if job.pause is Pause.BUDGET:
        return _by_budget(job, _blocking(purse), deps)
    if job.pause is Pause.WINDOW and job.spec.window is not None:
        now = deps.clock.now()
        return f"at {clock(opens_at(job.spec.window, now), now)}, when its window opens"
    if job.pause is Pause.PRICE and job.spec.price_limit is not None:
        return f"when an offer costs at most {_resume_words(job.spec.price_limit)}"
    return f"by spotrunner resume {job.id}"


def _blocking(purse: Purse) -> Cap | None:
    """The tightest; but where a cap in all is spent, too, no other day changes anything."""
    spent = [it for it in purse.balances if it.cap.day is None and it.left_usd_micros <= 0]
    tightest = min(spent, key=lambda it: it.left_usd_micros, default=purse.tightest)
    return tightest.cap if tightest else None


def _by_budget(job: Job, cap: Cap | None, deps: Deps) -> str:
    if cap is None or cap.scope is Scope.JOB:
        return f"with a higher budget: spotrunner extend {job.id} --budget USD"
    if cap.scope is Scope.SWEEP:
        return f"when {cap} is raised: by the newest job of the sweep that names one"
    if cap.end is not None:
        until = clock(cap.end, deps.clock.now())
        return f"at {until}, when another day pays, or when {cap} is raised in the settings"
    return f"when {cap} is raised in the daemon's settings"


def _resume_words(limit: PriceLimit) -> str:
    if limit.resume_usd_micros is not None:
        return f"{usd_words(limit.resume_usd_micros)} an hour"
    return f"{100 * (limit.resume_share or 0):.4g} % of on-demand"
