"""What people are told without having asked: one value, and its words."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass


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
    """What happened, why, what it costs and the command to type, each on its line."""
    return "\n".join(part for part in (subject(alert), body(alert)) if part)


def subject(alert: Alert) -> str:
    """What happened, on one line, for services that show it apart."""
    return _line(alert.title)


def body(alert: Alert) -> str:
    """All of the text but what happened."""
    parts = map(_line, (alert.why, alert.cost, alert.command))
    return "\n".join(part for part in parts if part)


def _line(part: str) -> str:
    return " ".join(part.split())
