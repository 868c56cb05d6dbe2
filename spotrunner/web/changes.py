"""What may be changed of a job that is there: its budget and its deadline, and what comes of it.

A change is refused only where it could not do what it is for; whatever it cannot undo (what is
spent, and paid for ahead) is told.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from spotrunner.core.amounts import cents_up, to_usd_micros
from spotrunner.core.located import Document, Problem, located
from spotrunner.core.look import Progress
from spotrunner.core.market import OVER_BUDGET, start_usd_micros
from spotrunner.core.model import Attempt, Job, JobSpec, Offer, Pause
from spotrunner.core.money import usd
from spotrunner.core.purse import Balance, Purse, Scope
from spotrunner.web import errors, nights, promise, timing
from spotrunner.web.ahead import clock, situation_of
from spotrunner.web.deps import Deps
from spotrunner.web.moments import duration
from spotrunner.web.money import account_of, purse_of
from spotrunner.web.schema import BY_DEADLINE, BY_DEFAULT, Budget
from spotrunner.web.views import committed_step


class Change(BaseModel):
    """As job files have them; None: as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    budget: Budget | None = None
    deadline: nights.Deadline | None = None

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Change:
        """Raises ApiError with all that is wrong."""
        try:
            change = cls.model_validate({k: it for k, it in body.items() if it is not None})
        except ValidationError as error:
            # There is no file here, only its keys.
            there = Document(values={}, lines={(key,): 0 for key in body})
            found = located(error.errors(), there, cls)
            raise errors.refused([dataclasses.replace(it, line=None) for it in found]) from None
        if change == cls():
            message = "nothing is to be changed: give a budget, a deadline or both"
            raise errors.one(errors.UNPROCESSABLE, message)
        return change


def changed(spec: JobSpec, change: Change, now: dt.datetime) -> JobSpec:
    if change.budget is not None:
        spec = dataclasses.replace(spec, budget_usd_micros=to_usd_micros(change.budget))
    if change.deadline is not None:
        at = nights.deadline_at(change.deadline, spec.tz, now)
        spec = dataclasses.replace(spec, deadline_at=at)
    return spec


@dataclass(frozen=True, kw_only=True)
class Checked:
    """`wrong` refuses the change; `warnings` are what it does not do."""

    wrong: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def checked(deps: Deps, job: Job, spec: JobSpec) -> Checked:
    """The job with this spec instead of its own."""
    return _Check(deps, job, spec).all()


class _Check:
    def __init__(self, deps: Deps, job: Job, spec: JobSpec) -> None:
        self._deps = deps
        self._now = deps.clock.now()
        self._old = job
        self._spec = spec
        self._job = dataclasses.replace(job, spec=spec)
        if spec.budget_usd_micros != job.spec.budget_usd_micros:
            # As a round takes it: it may try at once, with the smallest step.
            self._job = dataclasses.replace(self._job, extended_at=self._now)
        self._attempts = deps.store.attempts([job.id])
        self._reports = deps.mailbox.reports()
        self._step = committed_step(self._attempts, self._reports)
        self._outlook = deps.outlook(spec.regions, spec.instance_types)
        account = account_of(deps, job, self._attempts)
        account.books.change(self._job)
        self._purse = purse_of(deps, account, self._job)
        self._situation = situation_of(
            self._job, self._attempts, self._reports, self._step, self._outlook, self._purse
        )

    def all(self) -> Checked:
        wrong: list[Problem] = []
        warnings: list[Problem] = []
        if self._spec.deadline_at != self._old.spec.deadline_at:
            past = timing.out_of_time(self._spec, self._now)
            wrong += [past] if past else []
            warnings += [] if past else self._deadline()
        if self._spec.budget_usd_micros != self._old.spec.budget_usd_micros:
            short = self._short() if self._old.pause is Pause.BUDGET else None
            wrong += [short] if short else []
            warnings += [] if short else self._budget()
        warnings += self._conflict()
        return Checked(wrong=tuple(wrong), warnings=tuple(warnings))

    # -- the budget ----------------------------------------------------------------------------

    def _short(self) -> Problem | None:
        """A budget that pays no first step leaves a paused job where it is."""
        own, offers = _own(self._purse), self._offers()
        if own is None or not offers:
            return None
        spec, limits = self._spec, self._deps.limits
        offer = min(offers, key=lambda it: start_usd_micros(spec, it, limits))
        needs = start_usd_micros(spec, offer, limits)
        if own.left_usd_micros >= needs:
            return None
        held = own.accrued_usd_micros + own.reserved_usd_micros
        return Problem(
            key="budget",
            message=f"with {usd(own.cap.usd_micros)} it does not start again: {usd(held)} are spent"
            f" or reserved, and a first step on {offer.pool} needs {usd(needs)} in reserve",
            hint=f"give it at least {usd(cents_up(held + needs))}",
        )

    def _offers(self) -> list[Offer]:
        """Those that only the budget may keep it from; all, where there is none."""
        there = self._situation.candidates
        free = [each.offer for each in there if each.left_out in (None, OVER_BUDGET)]
        return free or [each.offer for each in there]

    def _budget(self) -> Iterator[Problem]:
        own, tightest = _own(self._purse), self._purse.tightest
        if own is not None and own.left_usd_micros < 0:
            yield self._excess(own)
        elif tightest is not None and tightest.cap.scope is not Scope.JOB and self._all_unpaid():
            message = (
                f"it does not go on by that: {tightest.cap} has"
                f" {usd(max(0, tightest.left_usd_micros))} left"
            )
            yield Problem(key="budget", message=message, hint="spotrunner budget shows all caps")

    def _excess(self, own: Balance) -> Problem:
        """What is reserved is paid for: the instance has its orders already."""
        ends = _paid_until(self._attempts)
        until = f", at {clock(ends, self._now)}" if ends and ends > self._now else ""
        return Problem(
            key="budget",
            message=f"{usd(own.accrued_usd_micros)} are spent and {usd(own.reserved_usd_micros)}"
            f" reserved already, {usd(-own.left_usd_micros)} more than the budget: nothing more is"
            f" paid, and it stops with a checkpoint at the end of what is paid for{until}",
        )

    def _all_unpaid(self) -> bool:
        there = self._situation.candidates
        return bool(there) and all(each.left_out == OVER_BUDGET for each in there)

    # -- the deadline --------------------------------------------------------------------------

    def _deadline(self) -> Iterator[Problem]:
        spec, situation = self._spec, self._situation
        if spec.policy == BY_DEFAULT:
            yield Problem(
                key="deadline",
                message=f"its policy {BY_DEFAULT} pays no heed to a deadline, and no job changes"
                " its policy: nothing is done to keep this one, you are only told if it will be"
                " missed",
                hint="to have it kept, cancel this job and submit it anew with the deadline in its"
                f" job file (policy {BY_DEADLINE}): that one begins again at step 0",
            )
        if situation.work_left_s is None or situation.left_s is None:
            message = "nobody knows yet how long its work takes: its first steps will tell"
            yield Problem(key="deadline", message=message)
            return
        start_s = situation.changeover_s if situation.on is None else situation.pending_s
        late_s = situation.work_left_s + start_s - situation.left_s
        if late_s > 0:
            message = f"even on-demand it would be {duration(late_s)} late"
            yield Problem(key="deadline", message=message)

    def _conflict(self) -> Iterator[Problem]:
        """As at the submission, with what is left: the deadline is kept by on-demand, which is not
        taken where a cap does not pay it to the end."""
        if self._spec.policy == BY_DEFAULT:
            return
        progress = Progress(attempts=self._attempts, reports=self._reports, step=self._step)
        needed = promise.needs(self._job, self._outlook, progress)
        bound = min(self._purse.balances, key=_unspent, default=None)
        if needed is None or bound is None or _unspent(bound) >= needed.on_demand_usd_micros:
            return
        enough = cents_up(bound.accrued_usd_micros + needed.on_demand_usd_micros)
        yield Problem(
            key="deadline",
            message=f"it cannot be promised: {needed}, and {bound.cap} has"
            f" {usd(max(0, _unspent(bound)))} for it",
            hint=f"{usd(enough)} would do" if bound.cap.scope is Scope.JOB else "",
        )


def _unspent(balance: Balance) -> int:
    """What is reserved pays for the work too."""
    return balance.cap.usd_micros - balance.accrued_usd_micros


def _own(purse: Purse) -> Balance | None:
    return next((each for each in purse.balances if each.cap.scope is Scope.JOB), None)


def _paid_until(attempts: Sequence[Attempt]) -> dt.datetime | None:
    return max((it.paid_until for it in attempts if it.state.live), default=None)
