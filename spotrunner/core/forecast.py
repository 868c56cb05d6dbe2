"""What a job will cost and when it will be done, if it goes on as it does now."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from spotrunner.core.charges import extras_usd_micros_hour
from spotrunner.core.model import JobSpec, Limits
from spotrunner.core.money import HOUR_S
from spotrunner.core.purse import Balance, Cap
from spotrunner.core.situation import Candidate, Situation
from spotrunner.core.windows import NEVER, after_open_s


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """`done_at` and `more_usd_micros` are of the work that is left, at today's price of the place
    where the job runs, else of the best one. `cap` is the one that stops it before, at `cap_at`
    with the share `cap_progress` of all its work done; None where none does."""

    done_at: dt.datetime
    more_usd_micros: int
    cap: Cap | None = None
    cap_at: dt.datetime | None = None
    cap_progress: float | None = None


def forecast(
    situation: Situation,
    spec: JobSpec,
    balances: Sequence[Balance],
    now: dt.datetime,
    limits: Limits,
) -> Forecast | None:
    """None where nobody knows the work that is left, or nothing is offered."""
    place = situation.on or next(iter(situation.spot or situation.candidates), None)
    if place is None or situation.work_left_s is None or situation.work_s is None:
        return None
    start_s = situation.pending_s if situation.on is not None else situation.changeover_s
    needs_s = start_s + situation.work_left_s / place.speed
    price = _price(place, spec)
    found = Forecast(
        done_at=_after(spec, now, needs_s), more_usd_micros=int(price * needs_s / HOUR_S)
    )
    stop = _first_stop(place, spec, balances, now, limits)
    if stop is None or stop[1] >= found.done_at:
        return found
    cap, cap_at, paid_s = stop
    worked_s = max(0.0, paid_s - start_s) * place.speed
    done_s = situation.work_s - situation.work_left_s + worked_s
    return Forecast(
        done_at=found.done_at,
        more_usd_micros=found.more_usd_micros,
        cap=cap,
        cap_at=cap_at,
        cap_progress=min(1.0, done_s / situation.work_s) if situation.work_s else 1.0,
    )


def _price(place: Candidate, spec: JobSpec) -> int:
    extras = extras_usd_micros_hour(place.offer.pool.region, spec.disk_gib)
    return place.offer.price_usd_micros_hour + extras


def _first_stop(
    place: Candidate,
    spec: JobSpec,
    balances: Sequence[Balance],
    now: dt.datetime,
    limits: Limits,
) -> tuple[Cap, dt.datetime, float] | None:
    """The cap that ends first, when, and how many seconds it pays until then. The last step has to
    fit in at the dearest price, so a job stops a little before its cap is spent."""
    price = _price(place, spec)
    dearest = price - place.offer.price_usd_micros_hour + place.offer.dearest_usd_micros_hour
    last = dearest * limits.boot_allowance_s // HOUR_S
    stops = []
    for each in balances:
        left = max(0, each.cap.usd_micros - each.accrued_usd_micros - last)
        pays_s = left * HOUR_S / price
        at = _after(spec, now, pays_s)
        if _is_in_force(each.cap, now) and (each.cap.end is None or at < each.cap.end):
            stops.append((each.cap, at, pays_s))
    return min(stops, key=lambda it: it[1], default=None)


def _is_in_force(cap: Cap, now: dt.datetime) -> bool:
    """Of the caps by day, today's alone: the next midnight gives the next one."""
    return cap.begin is None or cap.begin <= now


def _after(spec: JobSpec, now: dt.datetime, seconds: float) -> dt.datetime:
    if spec.window is not None:
        return after_open_s(spec.window, now, seconds)
    return now + dt.timedelta(seconds=seconds) if seconds < 10 * 365 * 86_400 else NEVER
