"""Numbers and times as people read them. Pure."""

from __future__ import annotations

import datetime as dt

from spotrunner.web import moments


def usd(amount: float | None) -> str | None:
    """Dollars with as many decimals as a bill of this size needs."""
    if amount is None:
        return None
    sign, size = "-" if amount < 0 else "", abs(amount)
    return f"{sign}${size:.2f}" if size >= 1 or size == 0 else f"{sign}${size:.4f}"


def about(text: str | None, is_estimated: bool) -> str | None:
    """`~$0.40` for what nobody can know exactly any more."""
    return f"~{text}" if text and is_estimated else text


def usd_hour(amount: float | None) -> str | None:
    return None if amount is None else f"{amount:.4f}"


def percent(fraction: float | None) -> str | None:
    return None if fraction is None else f"{100 * fraction:.0f}%"


def duration(seconds: float | None) -> str | None:
    """`45s`, `12m`, `3h 5m`, `2d 4h`: the two largest units, rounded down."""
    return None if seconds is None else moments.duration(seconds)


def exact(seconds: float | None) -> str | None:
    """The same, with the seconds of minutes: `4m 10s`."""
    if seconds is None or not 60 <= seconds < 3600:
        return duration(seconds)
    return moments.two(int(seconds) // 60, "m", int(seconds) % 60, "s")


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


def seconds(text: str) -> int | None:
    """`90m`, `8h`, `1h30m` or `1d` in seconds; None for anything else, and for nothing."""
    return moments.seconds(text)


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
