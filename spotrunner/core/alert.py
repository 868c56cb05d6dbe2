"""What people are told without having asked: one value, and its words."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass

# -- limits, in letters and lines: an alert is read on a telephone, and services refuse long ones
LONGEST_TITLE = 200
LONGEST_WHY = 800
LAST_LINES = 5


class AlertKind(str, enum.Enum):
    """What an alert is about; the settings leave kinds out by these words."""

    CAP = "cap"  # a share of a cap is spent
    FORECAST = "forecast"  # the job will reach its cap before it ends
    DEADLINE = "deadline"  # the job will not end by its deadline
    INTERRUPTED = "interrupted"
    PAUSED = "paused"
    RESUMED = "resumed"
    FAILED = "failed"
    SUCCEEDED = "succeeded"
    ORPHAN = "orphan"  # an instance of ours that nobody owned was ended
    CAPACITY = "capacity"  # a job has found no instance for a while
    PRICES = "prices"  # prices are old: decisions are made half blind
    SUMMARY = "summary"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """`key` is unique for ever: whatever has been said under it is not said again, also after a
    restart. `channels` are names; empty means the owner's, and where the owner has none the
    default ones. What there is nothing to say of (`why`, `cost`, `command`) is empty."""

    key: str
    at: dt.datetime
    kind: AlertKind
    job_id: str | None
    owner: str
    channels: tuple[str, ...]
    title: str
    why: str
    cost: str
    command: str


def text(alert: Alert) -> str:
    """What happened, why, what it costs and the command to type, in lines of their own."""
    return "\n".join(part for part in (subject(alert), body(alert)) if part)


def subject(alert: Alert) -> str:
    """What happened, on one line, for services that show it apart."""
    return cut(_line(alert.title), LONGEST_TITLE)


def body(alert: Alert) -> str:
    """All of the text but what happened."""
    parts = (_reason(alert.why), _line(alert.cost), _line(alert.command))
    return "\n".join(part for part in parts if part)


def cut(words: str, most: int) -> str:
    """Their beginning, where they are longer."""
    return words if len(words) <= most else words[: most - 1].rstrip() + "…"


def _reason(why: str) -> str:
    """Its lines as they are. Of a long log the first, which says what happened, and the last ones,
    where the error is."""
    first, *rest = [line for line in map(_line, why.splitlines()) if line] or [""]
    if not rest:
        return cut(first, LONGEST_WHY)
    first, last = cut(first, LONGEST_TITLE), "\n".join(rest[-LAST_LINES:])
    room = LONGEST_WHY - len(first) - len("\n…\n")
    if len(last) > room:
        return f"{first}\n…{last[-room:]}"
    return f"{first}\n…\n{last}" if len(rest) > LAST_LINES else f"{first}\n{last}"


def _line(part: str) -> str:
    return " ".join(part.split())
