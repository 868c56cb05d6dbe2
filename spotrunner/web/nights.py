"""The keys of a job file that say when: how long, until when, in which hours, in whose zone.

Values stay the words of the file, since a file is sent on as it was written; what they mean depends
on the zone and on when the job is submitted (`deadline_at`, `window`).
"""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationInfo,
    field_validator,
)

from spotrunner.core.located import Problem
from spotrunner.core.model import Limits
from spotrunner.core.windows import (
    NEVER,
    Window,
    clock_min,
    closes_at,
    days_of,
    next_clock,
    opens_at,
    zone_problem,
)
from spotrunner.web import moments

UTC = "UTC"
MAX_TIME_S = 365 * 86_400
UNATTENDED_S = (1800, 86_400)
EVERY_DAY = "mon-sun"
# What opens once a week opens twice in it: the clock may be changed on one of them.
_AHEAD = dt.timedelta(days=15)

# 7:05 to 24:00, as YAML 1.1 reads them without quotes: minutes.
_UNQUOTED = range(60, 24 * 60 + 1)
_CLOCK = re.compile(r"\d{1,2}:\d\d")


# -- what a value must be ----------------------------------------------------------------------


def _zone(value: str) -> str:
    if (problem := zone_problem(value)) is not None:
        raise ValueError(problem)
    return value


def _start(value: Any) -> str:
    return _clock(value)


def _stop(value: Any) -> str:
    return _clock(value, stop=True)


def _clock(value: Any, *, stop: bool = False) -> str:
    _refuse_unquoted(value)
    if not isinstance(value, str):
        raise ValueError(f'expected a time of day in quotes, such as "22:00", found {value!r}')
    clock_min(value, stop=stop)
    return value


def _refuse_unquoted(value: Any) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and value in _UNQUOTED:
        raise ValueError(
            f'without quotes YAML makes {value} of a time of day: put it in quotes, "{_of(value)}"'
        )


def _of(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _days(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or not all(isinstance(it, str) for it in value):
        raise ValueError(f"expected a list of days, such as [mon-fri] or [sat, sun], found {value}")
    days_of(value)
    return value


def _written(value: Any) -> Any:
    """YAML makes a time of what looks like one: the text again."""
    return value.isoformat() if isinstance(value, (dt.date, dt.datetime)) else value


def _deadline(value: Any) -> str:
    _refuse_unquoted(value)
    text = value.strip() if isinstance(value, str) else ""
    if _CLOCK.fullmatch(text):
        clock_min(text)
        return text
    after_s = moments.seconds(text)
    if after_s is None and moments.instant(text) is None:
        raise ValueError(
            "expected a time with its zone, such as 2026-11-22T18:00Z, a time of day in quotes,"
            ' such as "07:00", or how long from the submission on, such as 12h or 1h30m, found'
            f" {value!r}"
        )
    return _within_a_year(text, after_s)


def _duration(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    after_s = moments.seconds(text)
    if after_s is None:
        raise ValueError(f"expected a duration such as 8h, 90m or 1h30m, found {value!r}")
    return _within_a_year(text, after_s)


def _within_a_year(text: str, after_s: int | None) -> str:
    if after_s is not None and after_s > MAX_TIME_S:
        raise ValueError(f"expected at most {MAX_TIME_S // 86_400}d, found {text}")
    return text


def _unattended(value: Any) -> str:
    text = _duration(value)
    least_s, most_s = UNATTENDED_S
    if not least_s <= (moments.seconds(text) or 0) <= most_s:
        raise ValueError(f"expected {least_s // 60}m to {most_s // 3600}h, found {text}")
    return text


Zone = Annotated[str, AfterValidator(_zone)]
Duration = Annotated[str, BeforeValidator(_duration)]
Deadline = Annotated[str, BeforeValidator(_deadline), BeforeValidator(_written)]
Unattended = Annotated[str, BeforeValidator(_unattended)]


class WindowFile(BaseModel):
    """The hours of each of these days in which the job may run; `tz` None: the job's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: Annotated[str, BeforeValidator(_start)]
    stop: Annotated[str, BeforeValidator(_stop)]
    tz: Zone | None = None
    days: Annotated[tuple[str, ...], BeforeValidator(_days)] = (EVERY_DAY,)

    @field_validator("stop")
    @classmethod
    def _is_another_time(cls, stop: str, info: ValidationInfo) -> str:
        start = info.data.get("start")
        if start is not None and clock_min(start) == clock_min(stop, stop=True):
            raise ValueError(
                f'it starts and stops at {stop}: leave the window out for all day, or write "00:00"'
                ' to "24:00" for whole days'
            )
        return stop


# -- what it means -----------------------------------------------------------------------------


def seconds(text: str | None) -> int | None:
    """Of a duration, where there is one."""
    return None if text is None else moments.seconds(text)


def deadline_at(text: str | None, tz: str, now: dt.datetime) -> dt.datetime | None:
    """Of a checked deadline: a time of day is the next such of this zone."""
    if text is None:
        return None
    if _CLOCK.fullmatch(text):
        return next_clock(clock_min(text), tz, now)
    after_s = moments.seconds(text)
    return moments.instant(text) if after_s is None else now + dt.timedelta(seconds=after_s)


def window(file: WindowFile | None, tz: str) -> Window | None:
    """`tz` is the job's zone."""
    if file is None:
        return None
    return Window(
        start_min=clock_min(file.start),
        stop_min=clock_min(file.stop, stop=True),
        tz=file.tz or tz,
        days=days_of(file.days),
    )


def too_short(window: Window, now: dt.datetime, limits: Limits) -> Problem | None:
    """A window in which no start is ever worth its money (core/place): the job would wait for ever.
    A round sees it open only a moment after it has opened."""
    longest_s, needs_s = _longest_s(window, now), 2 * limits.changeover_s
    if longest_s > needs_s:
        return None
    return Problem(
        key="window",
        message=f"it is open for {moments.duration(longest_s)} at a stretch, and a start needs more"
        f" than {moments.duration(needs_s)} before it closes: the job would never start",
        hint="make it longer, or leave it out",
    )


def _longest_s(window: Window, now: dt.datetime) -> float:
    """The longest stretch that it is open in the next days, a changed clock included."""
    longest, at = dt.timedelta(), now
    while at < now + _AHEAD:
        opens = opens_at(window, at)
        closes = closes_at(window, opens)
        assert closes is not None, f"{window} is not open when it opens, at {opens}"
        if closes == NEVER:
            return math.inf
        longest, at = max(longest, closes - opens), closes
    return longest.total_seconds()
