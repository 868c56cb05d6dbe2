"""Times as job files, options and the API write them, and as people read them. Pure."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

Json = dict[str, Any]

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[Tt ](?P<time>\d\d:\d\d(?::\d\d)?)(?P<fraction>\.\d{1,6})?"
    r" ?(?P<zone>[Zz]|[+-]\d\d(?::?\d\d)?)?"
)


def seconds(text: str) -> int | None:
    """`90m`, `8h`, `1h30m` or `1d` in seconds; None for anything else, and for nothing."""
    parts = re.findall(r"([0-9]+)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(int(number) * _UNITS_S[unit] for number, unit in parts) or None


def duration(seconds: float) -> str:
    """`45s`, `12m`, `3h 5m`, `2d 4h`: the two largest units, rounded down; minutes alone."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86_400:
        return two(whole // 3600, "h", whole % 3600 // 60, "m")
    return two(whole // 86_400, "d", whole % 86_400 // 3600, "h")


def two(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large}{unit} {small}{small_unit}" if small else f"{large}{unit}"


def instant(text: str) -> dt.datetime | None:
    """`2026-11-22T18:00Z` or `2026-11-22 19:00:00+01:00` in UTC; None where it is no time. Raises
    ValueError for one without a zone, which could be a day off, with how to write it."""
    if _DATE.fullmatch(text):
        raise ValueError(
            f"{text} has no time of day and no zone: write {text}T18:00Z for 18:00 UTC"
        )
    parts = _TIME.fullmatch(text)
    if parts is None:
        return None
    if parts["zone"] is None:
        raise ValueError(
            f"{text} has no time zone: write {text}Z if it is UTC, or its distance from UTC, as in"
            f" {text}+01:00"
        )
    try:
        at = dt.datetime.fromisoformat(f"{parts['date']}T{parts['time']}{_offset(parts['zone'])}")
        return at.astimezone(dt.timezone.utc)
    except (ValueError, OverflowError):
        return None  # a 30th of February, an hour 25, a time before all calendars


def _offset(zone: str) -> str:
    """As Python 3.10 reads it."""
    if zone in "Zz":
        return "+00:00"
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return f"{zone[0]}{digits[:2]}:{digits[2:]}"


def minute(at: dt.datetime) -> str:
    """`2026-11-22T18:00Z`, as a job file may say it."""
    return f"{at.astimezone(dt.timezone.utc):%Y-%m-%dT%H:%MZ}"


def when(at: dt.datetime | None) -> str | None:
    """As the API writes it, and adapters/codec."""
    if at is None:
        return None
    text = at.astimezone(dt.timezone.utc).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")
