"""What users ask of one job: it is written down here, and a round does it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body

from spotrunner.core.model import Command, CommandVerb, Job, Pause
from spotrunner.core.states import JobState
from spotrunner.web import errors
from spotrunner.web.ahead import goes_on
from spotrunner.web.changes import Change, changed, checked
from spotrunner.web.deps import Deps
from spotrunner.web.find import find_job
from spotrunner.web.moments import Json, when
from spotrunner.web.money import account_of, purse_of, usd

# What decides whether a job is to stand still, while no round has seen it yet.
_STANDS = {CommandVerb.PAUSE: True, CommandVerb.RESUME: False}


class WishCalls:
    """Calls below `/jobs/{job}`."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def router(self) -> APIRouter:
        router = APIRouter()
        for call in (self.cancel, self.checkpoint, self.pause, self.resume, self.extend):
            router.add_api_route(f"/{call.__name__}", call, methods=["POST"])
        return router

    def cancel(self, job: str) -> Json:
        return self._write(self._open(job), CommandVerb.CANCEL)

    def checkpoint(self, job: str) -> Json:
        return self._write(self._open(job), CommandVerb.CHECKPOINT)

    def pause(self, job: str) -> Json:
        """Until somebody resumes it, whatever else would let it go on."""
        return self._write(self._open(job), CommandVerb.PAUSE)

    def resume(self, job: str) -> Json:
        """Only the user's own pause ends so: what pauses by itself ends by itself."""
        found = self._open(job)
        if not self._stands_by_user(found):
            raise errors.one(errors.CONFLICT, self._not_by_user(found))
        return self._write(found, CommandVerb.RESUME)

    def extend(self, job: str, body: Annotated[dict[str, Any] | None, Body()] = None) -> Json:
        """Another `budget`, in USD, or another `deadline`, both as a job file has them; a time of
        day is one of the job's zone. `warnings` are what is not as one may expect."""
        found, now = self._open(job), self._deps.clock.now()
        change = Change.parse(body or {})
        spec = changed(found.spec, change, now)
        told = checked(self._deps, found, spec)
        if told.wrong:
            raise errors.refused(told.wrong)
        # First where a daemon finds it whose store was lost: a cap is never forgotten.
        self._deps.objects.put(f"jobs/{found.id}/spec.json", self._deps.encode(spec))
        command = self._deps.store.add_command(
            found.id,
            CommandVerb.EXTEND,
            now,
            budget_usd_micros=spec.budget_usd_micros if change.budget is not None else None,
            deadline_at=spec.deadline_at if change.deadline is not None else None,
        )
        self._deps.wake()
        return {
            **_view(command),
            "budget_usd": usd(spec.budget_usd_micros),
            "deadline_at": when(spec.deadline_at),
            "warnings": errors.plain_all(told.warnings),
        }

    # -- inside --------------------------------------------------------------------------------

    def _open(self, word: str) -> Job:
        """Raises ApiError."""
        job = find_job(self._deps.store, word)
        if job.state.over:
            raise errors.one(errors.CONFLICT, f"{job.id} is over: it {_ended(job)}")
        return job

    def _write(self, job: Job, verb: CommandVerb) -> Json:
        command = self._deps.store.add_command(job.id, verb, self._deps.clock.now())
        self._deps.wake()
        return _view(command)

    def _stands_by_user(self, job: Job) -> bool:
        """Now, or from the next round on: who asks twice in a second means the second wish."""
        stands = job.state is JobState.PAUSED and job.pause is Pause.USER
        for command in self._deps.store.commands():
            if command.job_id == job.id:
                stands = _STANDS.get(command.verb, stands)
        return stands

    def _not_by_user(self, job: Job) -> str:
        if job.state is not JobState.PAUSED or job.pause is Pause.USER or job.pause is None:
            return f"{job.id} is not paused: it is {job.state.value}"
        account = account_of(self._deps, job, self._deps.store.attempts([job.id]))
        by = {Pause.PRICE: "the price", Pause.WINDOW: "its window", Pause.BUDGET: "a budget"}
        how = goes_on(self._deps, job, purse_of(self._deps, account, job))
        return f"{job.id} is paused by {by[job.pause]}: it goes on {how}"


def _ended(job: Job) -> str:
    return "was cancelled" if job.state is JobState.CANCELLED else job.state.value


def _view(command: Command) -> Json:
    return {
        "id": command.job_id,
        "command": command.id,
        "verb": command.verb.value,
        "at": when(command.at),
    }
