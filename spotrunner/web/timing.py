"""Whether a job's deadline can be met at all, before anything is paid for it."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence

from spotrunner.core.located import Problem
from spotrunner.core.look import open_until
from spotrunner.core.model import JobSpec, Limits, Offer
from spotrunner.core.speed import speeds
from spotrunner.core.windows import NEVER, after_open_s
from spotrunner.web.moments import duration, minute
from spotrunner.web.nights import MAX_TIME_S

_MINUTE_S = 60


def out_of_time(spec: JobSpec, now: dt.datetime) -> Problem | None:
    """A deadline that is over already, or so far off that it must be a slip; None else."""
    deadline_at = spec.deadline_at
    if deadline_at is None or now < deadline_at <= now + dt.timedelta(seconds=MAX_TIME_S):
        return None
    if deadline_at > now:
        message = f"expected at most {MAX_TIME_S // 86_400}d from now, found {minute(deadline_at)}"
        return Problem(key="deadline", message=message)
    ago = duration((now - deadline_at).total_seconds())
    message = f"{minute(deadline_at)} was {ago} ago: it is {minute(now)} now"
    return Problem(key="deadline", message=message)


def late(
    spec: JobSpec, on_demand: Sequence[Offer], now: dt.datetime, limits: Limits
) -> Problem | None:
    """A deadline that is missed even if the job starts as soon as it may, on-demand, on the fastest
    of its types that has a price; None where it can be met, or nobody can tell. Only the time in
    which its window is open counts."""
    if spec.deadline_at is None or spec.work_s is None or not on_demand:
        return None
    known = speeds(spec, {})
    fastest = max((offer.pool.instance_type for offer in on_demand), key=lambda it: known[it])
    work_s = spec.work_s * known[spec.instance_types[0]] / known[fastest]
    needs_s = work_s + limits.changeover_s
    left_s = open_until(spec, now, spec.deadline_at)
    if needs_s <= left_s:
        return None
    has = "" if spec.window is None else " that its window is open until then"
    return Problem(
        key="deadline",
        message=f"even on-demand it would be {duration(needs_s - left_s)} late: {duration(work_s)}"
        f" of work on {fastest}, the fastest that it may take, and {duration(limits.changeover_s)}"
        # The deadline was counted from a moment ago.
        f" to start, in {duration(round(left_s))}{has}",
        hint=f"{_enough(spec, needs_s, now)}name a faster type, or add --allow-late",
    )


def _enough(spec: JobSpec, needs_s: float, now: dt.datetime) -> str:
    """A deadline that would do."""
    # Up to a whole minute and one more, so that what is named is still enough when it is sent.
    enough_s = (math.ceil(needs_s / _MINUTE_S) + 1) * _MINUTE_S
    if spec.window is None:
        in_time = now + dt.timedelta(seconds=enough_s)
        return f"give it {_written(enough_s)} (until {minute(in_time)}), "
    in_time = after_open_s(spec.window, now, enough_s)
    return "" if in_time == NEVER else f"give it until {minute(in_time)}, "


def _written(seconds: int) -> str:
    """`8h5m`, as a job file says it."""
    hours, rest_s = divmod(seconds, 3600)
    minutes = rest_s // _MINUTE_S
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes or not hours else "")
