"""When to stop a trainer, when to kill it, and when the power goes off: arithmetic only."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from spotrunner.agent.words import Config


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How long the trainer's save and our commit took the last time; None before the first."""

    save_s: float | None = None
    commit_s: float | None = None


def stop_at(deadline: dt.datetime, measured: Measured, config: Config) -> dt.datetime:
    """The latest moment to ask for the last save: three times what it takes, and some more."""
    return (
        deadline - dt.timedelta(seconds=3 * _save_and_commit_s(measured, config)) - _safety(config)
    )


def kill_at(
    deadline: dt.datetime, told_at: dt.datetime, measured: Measured, config: Config
) -> dt.datetime:
    """When to stop waiting for a trainer that was told to stop at `told_at`: what it saved last
    must still be committed before the deadline. It always gets the least grace."""
    commit_s = config.unmeasured_s if measured.commit_s is None else measured.commit_s
    latest = deadline - dt.timedelta(seconds=2 * commit_s) - _safety(config) / 2
    return max(latest, told_at + dt.timedelta(seconds=config.least_grace_s))


def in_free_hour(announced_at: dt.datetime, launched_at: dt.datetime, config: Config) -> bool:
    """An instance that EC2 takes in its first hour costs nothing, unless it ends itself first."""
    return announced_at <= launched_at + dt.timedelta(seconds=config.first_hour_notice_s)


def _save_and_commit_s(measured: Measured, config: Config) -> float:
    known_s = (measured.save_s or 0.0) + (measured.commit_s or 0.0)
    if measured.save_s is None or measured.commit_s is None:
        return max(known_s, config.unmeasured_s)
    return known_s


def _safety(config: Config) -> dt.timedelta:
    return dt.timedelta(seconds=config.safety_s)
