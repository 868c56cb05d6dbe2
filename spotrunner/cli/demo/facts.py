"""What came of the demo: every figure from what the API, EC2's bill, the trainers' own progress
lines and the two result files say. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spotrunner.cli.demo.progress import Steps
from spotrunner.cli.words import instant
from spotrunner.core.model import EndReason

HOUR_S = 3600
INTERRUPTED = EndReason.INTERRUPTED.value


@dataclass(frozen=True, kw_only=True)
class Interruption:
    """What EC2 did to an attempt, on the lab's clock."""

    attempt: str
    notice: bool
    at: dt.datetime


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the demo saw. `job` is the API's answer for the job after its end."""

    job: Mapping[str, Any]
    interruptions: Sequence[Interruption]
    steps: Mapping[str, Steps]  # by attempt
    steps_total: int
    # of the cheapest type that was offered, an hour
    cheapest_ondemand_usd: float
    checkpoint_interval_steps: int
    result: Mapping[str, Any]
    reference: Mapping[str, Any]
    leftovers: Sequence[str]
    role_keys: int
    phases_s: Mapping[str, float]


def facts(told: Told) -> dict[str, Any]:
    """The one object of `--json`."""
    attempts = [_attempt(attempt) for attempt in told.job["attempts"]]
    redone = {one.attempt: _redone(told, one.attempt) for one in told.interruptions}
    first = next((one for one in told.interruptions if one.notice), None)
    ondemand_usd = _ondemand_usd(told)
    return {
        "job": told.job["job"]["id"],
        "state": told.job["job"]["state"],
        "attempts": attempts,
        "cost_usd": told.job["cost_usd"],
        "ondemand_usd": round(ondemand_usd, 6),
        "saved_fraction": round(1 - told.job["cost_usd"] / ondemand_usd, 4),
        # By what became of the attempts: that EC2 was asked to take one proves nothing.
        "interruptions": sum(attempt["ended"] == INTERRUPTED for attempt in attempts),
        "steps_total": told.steps_total,
        "steps_redone": sum(redone.values()),
        "steps_redone_by_attempt": redone,
        "checkpoint_interval_steps": told.checkpoint_interval_steps,
        "notice_to_commit_s": _seconds(told, first, "safe_at"),
        "notice_to_next_step_s": _next_step_s(told, first),
        "weights_sha256": told.result["weights_sha256"],
        "reference_sha256": told.reference["weights_sha256"],
        "metrics": told.result["metrics"],
        "role_keys_of_one_instance": told.role_keys,
        "leftover_instances": list(told.leftovers),
        "phases_s": {name: round(seconds, 1) for name, seconds in told.phases_s.items()},
    }


def problems(found: Mapping[str, Any], noticed: Sequence[str]) -> list[str]:
    """Why this demo did not show what it is there to show; empty when it did. `noticed` are the
    attempts that EC2 gave notice to."""
    wrong = []
    if found["state"] != "succeeded":
        wrong.append(f"the job is {found['state']}")
    if found["weights_sha256"] != found["reference_sha256"]:
        wrong.append("the final weights differ from those of the uninterrupted run")
    if found["leftover_instances"]:
        wrong.append(f"left over: {', '.join(found['leftover_instances'])}")
    if found["interruptions"] < 2:
        wrong.append(f"{found['interruptions']} interruptions instead of two")
    if found["notice_to_commit_s"] is None:
        wrong.append("no commit followed the notice")
    if found["notice_to_next_step_s"] is None:
        wrong.append("no instance made a step after the notice")
    if found["role_keys_of_one_instance"] < 2:
        wrong.append("the instance that outlived an hour never got new keys for its role")
    for attempt, redone in found["steps_redone_by_attempt"].items():
        most = 0 if attempt in noticed else found["checkpoint_interval_steps"]
        if redone > most:
            wrong.append(f"{redone} steps after {attempt} were made twice, {most} may be")
    return wrong


def _ondemand_usd(told: Told) -> float:
    """One instance of the cheapest type, on demand, from the first launch to the job's end."""
    launches = [instant(each["from"]) for each in told.job["attempts"]]
    ended_at = instant(told.job["job"]["ended_at"])
    assert ended_at is not None, "the job is over"
    first = min(at for at in launches if at is not None)
    return (ended_at - first).total_seconds() / HOUR_S * told.cheapest_ondemand_usd


def _attempt(attempt: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": attempt["id"],
        "pool": attempt["pool"],
        "market": attempt["market"],
        "price_usd_hour": attempt["price_usd_hour"],
        "from": attempt["from"],
        "to": attempt["to"],
        "ended": attempt["end_reason"],
        "cost_usd": attempt["cost_usd"],
    }


def _redone(told: Told, attempt: str) -> int:
    """Steps that the attempt made and that the next one which trained made again."""
    mine = told.steps.get(attempt)
    order = [each["id"] for each in told.job["attempts"]]
    later = [name for name in order[order.index(attempt) + 1 :] if name in told.steps]
    if mine is None or not later:
        return 0
    return max(0, mine.last - told.steps[later[0]].first)


def _seconds(told: Told, interruption: Interruption | None, key: str) -> float | None:
    if interruption is None:
        return None
    attempt = next(each for each in told.job["attempts"] if each["id"] == interruption.attempt)
    at = instant(attempt[key])
    return None if at is None else round((at - interruption.at).total_seconds(), 1)


def _next_step_s(told: Told, interruption: Interruption | None) -> float | None:
    """From the notice to the first step of the replacement."""
    if interruption is None:
        return None
    order = [each["id"] for each in told.job["attempts"]]
    after = told.job["attempts"][order.index(interruption.attempt) + 1 :]
    starts = [instant(each["first_step_at"]) for each in after if each["first_step_at"]]
    first = starts[0] if starts else None
    return None if first is None else round((first - interruption.at).total_seconds(), 1)
