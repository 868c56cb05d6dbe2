"""The HTTP API. It acts on nothing but the store and the home bucket: what a user asks for is
written down, and a round of the daemon does it.

Every answer is JSON; errors are those of web/errors. A job may be named by its id or, where only
one is meant, by its name. `watch=1` says that somebody looks on, so that reports and logs come
faster for a minute.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from spotrunner.core.model import Attempt, Job
from spotrunner.ports import Store
from spotrunner.web import errors, fitting, hold, logs, offers, submit, views
from spotrunner.web.budget import BudgetCalls
from spotrunner.web.checks import check
from spotrunner.web.deps import MIB, Deps
from spotrunner.web.find import find_attempts, find_job
from spotrunner.web.guard import MAX_BODY_BYTES, Guard
from spotrunner.web.moments import Json, when
from spotrunner.web.notify import NotifyCalls
from spotrunner.web.prices import PriceCalls
from spotrunner.web.reconcile import ReconcileCalls
from spotrunner.web.report import ReportCalls
from spotrunner.web.schema import to_spec
from spotrunner.web.secrets import parse_values
from spotrunner.web.wishes import WishCalls

__all__ = ["Deps", "create_app"]

WATCHED_FOR = dt.timedelta(seconds=60)
# A job's whole story; a longer one is read page by page.
EVENTS_A_PAGE = 10_000
# A list is for people; a program that wants more says so.
JOBS_A_CALL = 200
MAX_JOBS_A_CALL = 10_000


def create_app(deps: Deps) -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    errors.add_handlers(app)
    app.include_router(_Jobs(deps).router(), prefix="/v1")
    app.include_router(PriceCalls(deps).router(), prefix="/v1")
    app.include_router(ReconcileCalls(deps, deps.data_feed).router(), prefix="/v1")
    app.include_router(fitting.router(deps), prefix="/v1")
    app.include_router(BudgetCalls(deps).router(), prefix="/v1")
    app.include_router(ReportCalls(deps).router(), prefix="/v1")
    app.include_router(hold.HoldCalls(deps).router(), prefix="/v1")
    app.include_router(NotifyCalls(deps).router(), prefix="/v1")
    app.include_router(_Job(deps).router(), prefix="/v1/jobs/{job}")
    app.include_router(WishCalls(deps).router(), prefix="/v1/jobs/{job}")
    app.add_middleware(
        Guard,
        token=deps.token,
        uploads=frozenset({"/v1/jobs"}),
        max_upload_bytes=deps.max_workdir_bytes + 2 * MIB,
    )
    return app


class _Jobs:
    """Calls about all jobs, and new ones."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/status", self.status)
        router.add_api_route("/round", self.round, methods=["POST"])
        router.add_api_route("/offers", self.offers, methods=["POST"])
        router.add_api_route("/jobs", self.jobs)
        router.add_api_route("/jobs", self.submit, methods=["POST"])
        return router

    def status(self) -> Json:
        counts = self._deps.store.job_counts()
        return {
            "now": when(self._deps.clock.now()),
            "version": version("spotrunner"),
            "jobs": {state.value: count for state, count in counts.items()},
            **hold.held(self._deps),
            **self._deps.status(),
        }

    def round(self) -> Json:
        if not self._deps.round(hold.ROUND_TIMEOUT_S):
            message = f"no round was over within {hold.ROUND_TIMEOUT_S:g} s"
            raise errors.one(errors.UNAVAILABLE, message, hint="the daemon's log says why")
        return {"now": when(self._deps.clock.now())}

    async def offers(self, request: Request, allow_late: bool = False) -> Json:
        """`allow_late`, as with a submission: what cannot be in time is a warning."""
        return await run_in_threadpool(self._offers, await request.body(), allow_late)

    def _offers(self, body: bytes, allow_late: bool) -> Json:
        file = submit.parse(body)
        spec = to_spec(file, None, self._deps.clock.now())
        checked = check(self._deps, spec, allow_late, file.raises_budget)
        if checked.wrong:
            raise errors.refused(checked.wrong)
        warnings = errors.plain_all((*file.warnings, *checked.warnings))
        return {**offers.table(self._deps, checked.spec), "warnings": warnings, "errors": []}

    def jobs(
        self,
        limit: Annotated[int, Query(ge=1, le=MAX_JOBS_A_CALL)] = JOBS_A_CALL,
        all_: Annotated[bool, Query(alias="all")] = False,
        open_: Annotated[bool, Query(alias="open")] = False,
    ) -> Json:
        """The newest first: at most `limit` of them, or `all`; of those that are not over with
        `open`. `total` is how many there are."""
        store, reports = self._deps.store, self._deps.mailbox.reports()
        jobs, total = _listed(store, None if all_ else limit, open_)
        attempts: dict[str, list[Attempt]] = {job.id: [] for job in jobs}
        for attempt in store.attempts(list(attempts)):
            attempts[attempt.job_id].append(attempt)
        return {
            "now": when(self._deps.clock.now()),
            "jobs": [views.summary(self._deps, job, attempts[job.id], reports) for job in jobs],
            "total": total,
        }

    async def submit(self, request: Request, allow_late: bool = False) -> Json:
        """A form: `job` is the job file's fields as JSON, `workdir` the packed workdir if there is
        one, `workdir_sha256` its digest, where the sender wants it checked, `secrets` the values of
        those that the job file takes from the sender's shell, as JSON."""
        async with request.form(max_files=1, max_fields=3, max_part_size=MAX_BODY_BYTES) as form:
            return await run_in_threadpool(self._submit, dict(form), allow_late)

    def _submit(self, form: dict[str, UploadFile | str], allow_late: bool) -> Json:
        fields, workdir = form.get("job"), form.get("workdir")
        sha256 = form.get("workdir_sha256")
        if not isinstance(fields, str):
            raise errors.one(errors.UNPROCESSABLE, "the form has no field `job`")
        if isinstance(workdir, str):
            raise errors.one(errors.UNPROCESSABLE, "expected a file", "workdir")
        upload = workdir.file if workdir is not None else None
        file = submit.parse(fields)
        digest = str(sha256) if sha256 else None
        try:
            values = parse_values(str(form.get("secrets", "{}")))
        except ValueError as error:
            raise errors.one(errors.UNPROCESSABLE, str(error), "secrets") from None
        job, warnings = submit.submit(self._deps, file, upload, digest, allow_late, values)
        line = views.summary(self._deps, job, (), {})
        return {**line, "warnings": errors.plain_all(warnings)}


def _listed(store: Store, limit: int | None, only_open: bool) -> tuple[Sequence[Job], int]:
    """The newest first, and how many there are in all. Reads no more jobs than it lists: there may
    be years of them."""
    if only_open:
        found = [job for job in reversed(store.open_jobs()) if not job.state.over]
        return found[:limit], len(found)
    return store.jobs(newest=limit)[::-1], sum(store.job_counts().values())


class _Job:
    """What there is to see of one job."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("", self.show)
        router.add_api_route("/events", self.events)
        router.add_api_route("/logs", self.logs)
        return router

    def show(self, job: str, watch: bool = False) -> Json:
        return views.detail(self._deps, self._found(job, watch))

    def events(self, job: str, after: int = 0, watch: bool = False) -> Json:
        """`after` of the answer is what the next call gives."""
        found = self._found(job, watch)
        told = self._deps.store.events(found.id, after)
        page = told[:EVENTS_A_PAGE]
        return {
            "events": [views.event(number, each) for number, each in page],
            "after": page[-1][0] if page else after,
            "more": len(told) > len(page),
            "over": found.state.over,
        }

    def logs(self, job: str, attempt: str = "", after: str = "", watch: bool = False) -> Json:
        """`attempt` is an id or a generation, empty for all; `after` as with events. `over`: there
        will be no more."""
        found = self._found(job, watch)
        try:
            cursor = logs.parse(after)
        except ValueError as error:
            raise errors.one(errors.UNPROCESSABLE, str(error), "after") from None
        attempts = find_attempts(self._deps.store.attempts([found.id]), attempt)
        page = logs.read(self._deps.objects, attempts, cursor)
        live = any(each.state.live for each in attempts)
        return {
            "chunks": [{"attempt": it.attempt, "text": it.text} for it in page.chunks],
            "after": logs.dump(page.cursor),
            "more": page.more,
            "over": not page.more and not live and (found.state.over or bool(attempt)),
        }

    def _found(self, word: str, watch: bool) -> Job:
        job, now = find_job(self._deps.store, word), self._deps.clock.now()
        if watch and not job.state.over:
            self._deps.store.watch(job.id, now + WATCHED_FOR)
            if job.watched_until is None or job.watched_until <= now:
                self._deps.wake()  # so that its agent hears of it now
        return job
