"""Numbers and times as people read them. Pure."""

from __future__ import annotations

import datetime as dt
import re


def usd(amount: float | None) -> str | None:
    """Dollars with as many decimals as a bill of this size needs."""
    if amount is None:
        return None
    return f"${amount:.2f}" if abs(amount) >= 1 or amount == 0 else f"${amount:.4f}"


def usd_hour(amount: float | None) -> str | None:
    return None if amount is None else f"{amount:.4f}"


def percent(fraction: float | None) -> str | None:
    return None if fraction is None else f"{100 * fraction:.0f}%"


def duration(seconds: float | None) -> str | None:
    """`45s`, `12m`, `3h 5m`, `2d 4h`: the two largest units, rounded down."""
    if seconds is None:
        return None
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86_400:
        return _two(whole // 3600, "h", whole % 3600 // 60, "m")
    return _two(whole // 86_400, "d", whole % 86_400 // 3600, "h")


def _two(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large}{unit} {small}{small_unit}" if small else f"{large}{unit}"


def instant(text: str | None) -> dt.datetime | None:
    """The API's ISO 8601 in UTC."""
    return None if text is None else dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


def clock(text: str | None) -> str | None:
    """A time of the API as `11-21 08:03:05` UTC."""
    at = instant(text)
    return None if at is None else f"{at:%m-%d %H:%M:%S}"


def since(text: str | None, now: str | None) -> str | None:
    """How long ago, both by the daemon's clock."""
    then, at = instant(text), instant(now)
    return None if then is None or at is None else duration((at - then).total_seconds())


def size(size_bytes: int) -> str:
    if size_bytes < 1024:
        return f"{size_bytes} bytes"
    if size_bytes < 2**20:
        return f"{size_bytes / 1024:.1f} KiB"
    return f"{size_bytes / 2**20:.1f} MiB"


def progress(step: int | None, total: int | None) -> str | None:
    """`150/2300 (6%)`; None before anything is known of it."""
    if step is None or not (step or total):
        return None
    return f"{step}/{total} ({100 * step // total}%)" if total else str(step)


_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> int | None:
    """`90m`, `8h`, `1h30m` or `1d` in seconds; None for anything else, and for nothing."""
    parts = re.findall(r"(\d+)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(int(number) * _UNITS_S[unit] for number, unit in parts) or None


def state(name: str, detail: str | None) -> str:
    """`active (train)`."""
    return f"{name} ({detail})" if detail else name


def checkpoint(step: int | None, at: str | None, now: str) -> str | None:
    """`step 150, 12s ago`; None before the first."""
    if not step:
        return None
    ago = since(at, now)
    return f"step {step}, {ago} ago" if ago else f"step {step}"


def count(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
