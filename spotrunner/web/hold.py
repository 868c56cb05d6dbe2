"""The call that holds everything: what runs is paid on, and nothing is launched."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from spotrunner.core.model import Attempt, Job
from spotrunner.core.states import AttemptState, JobState
from spotrunner.core.windows import closes_at
from spotrunner.web.ahead import clock
from spotrunner.web.deps import Deps
from spotrunner.web.moments import Json, when

# As far as a job can be paid ahead at most.
MOST_S = 86_400
# A round reads all regions and acts for some seconds.
ROUND_TIMEOUT_S = 120.0

_LAUNCHED = (AttemptState.PENDING, AttemptState.REQUESTED)


class HoldBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    for_s: Annotated[StrictInt, Field(ge=60, le=MOST_S)]


class HoldCalls:
    """`/hold`."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/hold", self.hold, methods=["POST"])
        router.add_api_route("/hold", self.go_on, methods=["DELETE"])
        return router

    def hold(self, body: HoldBody) -> Json:
        """Answers when a round has paid ahead; `round_over` false: none was over in time, and what
        is paid is what was paid before."""
        until = self._deps.clock.now() + dt.timedelta(seconds=body.for_s)
        self._deps.store.hold(until)
        is_over = self._deps.round(ROUND_TIMEOUT_S)
        return {
            "held_until": when(until),
            "brake": self._deps.mailbox.brake(),
            "round_over": is_over,
            **_payment(self._deps, until),
        }

    def go_on(self) -> Json:
        """Also after a panic, whose brake lies in the bucket; `brake` is what it said."""
        brake = self._deps.mailbox.brake()
        self._deps.store.hold(None)
        self._deps.mailbox.release_brake()
        self._deps.wake()
        return {"held_until": None, "brake": brake}


def held(deps: Deps) -> Json:
    """What keeps launches away now, for the status."""
    until = deps.store.held_until()
    lasts = until is not None and deps.clock.now() < until
    return {"held_until": when(until) if lasts else None, "brake": deps.mailbox.brake()}


# -- who is paid through it --------------------------------------------------------------------


def _payment(deps: Deps, until: dt.datetime) -> Json:
    """The jobs that have an instance: `paid` those that it is paid for to the end of the hold, and
    the time that a stop takes, `unpaid` the others. One that is to stop anyway is in neither."""
    jobs = {job.id: job for job in deps.store.open_jobs() if _goes_on(job)}
    last: dict[str, Attempt] = {}
    for attempt in deps.store.attempts(list(jobs)):
        if attempt.state.live:
            last[attempt.job_id] = _longer(last.get(attempt.job_id), attempt)
    enough = until + dt.timedelta(seconds=deps.limits.stop_s)
    paid: list[Json] = []
    unpaid: list[Json] = []
    for id, attempt in last.items():
        line = {"id": id, "paid_until": when(attempt.paid_until)}
        if _serves(attempt) and attempt.paid_until >= enough:
            paid.append(line)
        else:
            unpaid.append({**line, "why": _why(jobs[id], attempt, until, deps.clock.now())})
    return {"paid": paid, "unpaid": unpaid}


def _goes_on(job: Job) -> bool:
    return not job.state.over and job.state is not JobState.PAUSED


def _serves(attempt: Attempt) -> bool:
    return attempt.state in (*_LAUNCHED, AttemptState.STARTING, AttemptState.RUNNING)


def _longer(one: Attempt | None, other: Attempt) -> Attempt:
    """During a change of places a job has two: the one that it can count on for longer."""
    found: Sequence[Attempt] = [it for it in (one, other) if it is not None]
    return max(found, key=lambda it: (_serves(it), it.paid_until))


def _why(job: Job, attempt: Attempt, until: dt.datetime, now: dt.datetime) -> str:
    closes = closes_at(job.spec.window, now) if job.spec.window else None
    if not _serves(attempt):
        return f"its instance ends ({attempt.state.value}), and no other is launched"
    if closes is not None and closes <= until:
        return f"its window closes at {clock(closes, now)}"
    if attempt.state in _LAUNCHED:
        return "its instance has not reported yet, and only what reports is paid on"
    return attempt.end_detail or "its caps pay no more, or it has not reported lately"
