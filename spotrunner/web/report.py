"""The call that sums the ledger up: what was spent, on what, and what it would have been on
demand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from fastapi import APIRouter

from spotrunner.core.ledger import entries
from spotrunner.core.money import HOUR_S
from spotrunner.core.windows import local_day
from spotrunner.ports import Booked
from spotrunner.web import errors, moments
from spotrunner.web.by import By
from spotrunner.web.deps import Deps
from spotrunner.web.moments import Json, when
from spotrunner.web.money import usd

SINCE_DAYS = 7


class ReportCalls:
    """`/report`."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/report", self.report)
        return router

    def report(self, since: str = f"{SINCE_DAYS}d", by: By = By.JOB) -> Json:
        """From the day `since` on (a day of the budgets' zone, or how long ago): what has ended as
        it was booked, what lives so far. Days come in their order, all else the dearest first."""
        now = self._deps.clock.now()
        day = _day(since, self._deps.caps.tz, now)
        lines = self._lines(day, now)
        groups: dict[str, list[Booked]] = {}
        for line in lines:
            groups.setdefault(_key(line, by), []).append(line)
        rows = [_row(key, found) for key, found in groups.items()]
        rows.sort(key=lambda row: row["key"] if by is By.DAY else (-row["cost_usd"], row["key"]))
        return {
            "now": when(now),
            "since": str(day),
            "tz": self._deps.caps.tz,
            "by": by.value,
            "rows": rows,
            "total": _row(None, lines),
        }

    def _lines(self, since: dt.date, now: dt.datetime) -> list[Booked]:
        """What ends between the two readings is in both: as booked it is right."""
        live = self._live(since, now)
        booked = self._deps.store.booked(since)
        ended = {line.entry.attempt for line in booked}
        return [*booked, *(line for line in live if line.entry.attempt not in ended)]

    def _live(self, since: dt.date, now: dt.datetime) -> list[Booked]:
        store = self._deps.store
        jobs = {job.id: job.spec for job in store.open_jobs()}
        return [
            Booked(entry=entry, owner=jobs[it.job_id].owner, sweep=jobs[it.job_id].sweep)
            for it in store.attempts(list(jobs))
            if it.state.live
            for entry in entries(it, self._deps.caps.tz, now)
            if entry.day >= since
        ]


def _day(text: str, tz: str, now: dt.datetime) -> dt.date:
    """Raises ApiError."""
    today, ago_s = local_day(tz, now), moments.seconds(text)
    try:
        if ago_s is not None:
            return local_day(tz, now - dt.timedelta(seconds=ago_s))
        day = dt.date.fromisoformat(text)
    except (ValueError, OverflowError):
        message = f"expected a day (2026-11-01) or how long ago (7d), found {text}"
        raise errors.one(errors.UNPROCESSABLE, message, "since") from None
    if day > today:
        message = f"{text} is not past yet: it is {today} in {tz}"
        raise errors.one(errors.UNPROCESSABLE, message, "since")
    return day


def _key(line: Booked, by: By) -> str:
    entry = line.entry
    return {
        By.JOB: entry.job_id,
        By.DAY: str(entry.day),
        By.REGION: entry.region,
        By.OWNER: line.owner,
        By.SWEEP: line.sweep,
        By.ATTEMPT: entry.attempt,
    }[by]


def _row(key: str | None, lines: Sequence[Booked]) -> Json:
    found = [line.entry for line in lines]
    cost = sum(entry.cost_usd_micros for entry in found)
    on_demand = sum(entry.on_demand_usd_micros for entry in found)
    return {
        "key": key,
        "attempts": len({entry.attempt for entry in found}),
        "hours": sum(entry.lived_s for entry in found) / HOUR_S,
        "cost_usd": usd(cost),
        "instance_usd": usd(sum(entry.instance_usd_micros for entry in found)),
        "extras_usd": usd(sum(entry.extras_usd_micros for entry in found)),
        "transfer_usd": usd(sum(entry.transfer_usd_micros for entry in found)),
        "ondemand_usd": usd(on_demand),
        "saved_fraction": 1 - cost / on_demand if on_demand else None,
        "estimated": any(entry.estimated for entry in found),
    }
