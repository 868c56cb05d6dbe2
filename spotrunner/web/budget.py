"""The call that shows every cap in force, and how the open jobs will fare under them."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter

from spotrunner.core.model import Attempt, Job
from spotrunner.core.purse import Cap, Scope
from spotrunner.web.ahead import forecast_view, goes_on, situation_of, unknown_words
from spotrunner.web.deps import Deps
from spotrunner.web.moments import Json, when
from spotrunner.web.money import Account, account, balance_view, purse_of
from spotrunner.web.views import committed_step, costs


class BudgetCalls:
    """`/budget`."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/budget", self.budget)
        return router

    def budget(self) -> Json:
        """Every cap: of the installation, of owners, of sweeps and of jobs; in all, or (`day`) of
        today in the zone `tz`. Of the jobs that are open, how each will go on."""
        found = account(self._deps)
        # A round looks a little way into yesterday too; people want today.
        caps = {cap for cap in self._caps(found) if cap.end is None or cap.end > found.now}
        return {
            "now": when(found.now),
            "tz": self._deps.caps.tz,
            "caps": [balance_view(found.books.balance(cap)) for cap in sorted(caps, key=_order)],
            "jobs": list(self._jobs(found)),
        }

    # -- caps ----------------------------------------------------------------------------------

    def _caps(self, found: Account) -> Iterator[Cap]:
        caps = self._deps.caps
        yield from found.books.bounded(Scope.INSTALLATION, "", caps.installation, found.now)
        for owner in {*caps.owners, *found.spent.by_owner}:
            yield from found.books.bounded(Scope.OWNER, owner, caps.owner(owner), found.now)
        for job in found.jobs.values():
            yield from found.books.caps_of(job, found.now)

    # -- jobs ----------------------------------------------------------------------------------

    def _jobs(self, found: Account) -> Iterator[Json]:
        """The market is looked at once for all of them."""
        jobs = [job for job in found.jobs.values() if not job.state.over]
        regions = {region for job in jobs for region in job.spec.regions}
        types = {name for job in jobs for name in job.spec.instance_types}
        outlook = self._deps.outlook(sorted(regions), sorted(types)) if jobs else None
        reports = self._deps.mailbox.reports() if jobs else {}
        for job in jobs:
            assert outlook is not None
            attempts, purse = found.attempts[job.id], purse_of(self._deps, found, job)
            step = committed_step(attempts, reports)
            situation = situation_of(job, attempts, reports, step, outlook, purse)
            ahead = forecast_view(self._deps, job, situation, purse)
            stands = goes_on(self._deps, job, purse)
            if stands:
                stands = f"goes on {stands}"
            told = ahead["words"] if ahead else stands or unknown_words(situation)
            yield {**self._job(job, attempts), "forecast": ahead, "words": told}

    def _job(self, job: Job, attempts: tuple[Attempt, ...]) -> Json:
        return {
            "id": job.id,
            "state": job.state.value,
            "pause": job.pause.value if job.pause else None,
            "owner": job.spec.owner,
            "sweep": job.spec.sweep,
            **costs(self._deps, job, attempts),
        }


def _order(cap: Cap) -> tuple[int, str, bool]:
    """From the widest to the narrowest, what counts in all before what counts today."""
    scopes = (Scope.INSTALLATION, Scope.OWNER, Scope.SWEEP, Scope.JOB)
    return scopes.index(cap.scope), cap.name, cap.day is not None
