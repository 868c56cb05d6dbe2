"""What an instance tells of itself: its way to the first step, its figures, and what to change."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping, Sequence

from spotrunner.core.advice import Advice, advise, clock_trouble
from spotrunner.core.diagnosis import Diagnosis
from spotrunner.core.figures import Copying
from spotrunner.core.legs import start_of
from spotrunner.core.milestones import merged
from spotrunner.core.model import Attempt, Report
from spotrunner.core.saving import Saving
from spotrunner.web.deps import Deps
from spotrunner.web.moments import Json, when
from spotrunner.web.money import usd


def of_attempt(attempt: Attempt, report: Report | None, now: dt.datetime) -> Json:
    """Kept for good, also after the instance is gone."""
    diagnosis = (report.diagnosis if report else None) or attempt.diagnosis
    return {
        "start": _start(attempt, report, now),
        "image_digest": (report.image_digest if report else "") or attempt.image_digest or None,
        "diagnosis": _diagnosis(diagnosis) if diagnosis else None,
        "save_every_s": attempt.order.save_every_s if attempt.order else None,
        "handles_save_signal": attempt.handles_save_signal,
    }


def instances(deps: Deps, attempts: Sequence[Attempt], reports: Mapping[str, Report]) -> list[Json]:
    """Those that live, as far as they have told anything; the newest last."""
    return [
        _instance(deps, attempt, reports[attempt.id])
        for attempt in attempts
        if attempt.state.live and attempt.id in reports
    ]


def saving(told: Saving) -> Json:
    return {
        "auto": told.auto,
        "every_s": told.every_s,
        "keep_last": told.keep_last,
        "keep_every_steps": told.keep_every_steps,
    }


def _instance(deps: Deps, attempt: Attempt, report: Report) -> Json:
    plain = json.loads(deps.encode(report))
    return {
        "attempt": attempt.id,
        "generation": attempt.generation,
        "at": when(report.at),
        "figures": plain["figures"],
        "clock": plain["clock"],
        "clock_trouble": clock_trouble(report.clock) if report.clock else None,
        "copying": _copying(report.copying) if report.copying else None,
        "restarts": report.restarts,
        "stalled": report.is_stalled,
        "advice": [_advice(each) for each in advise(report)],
    }


def _start(attempt: Attempt, report: Report | None, now: dt.datetime) -> Json | None:
    """What the agent has told is newer than what the daemon has written down of it."""
    known = attempt.milestones
    milestones = merged(known, report.milestones) if report else known
    if report is not None and attempt.first_step_at is None:
        attempt = dataclasses.replace(attempt, first_step_at=report.first_step_at)
    start = start_of(attempt, milestones, now)
    if start is None:
        return None
    return {
        "over": start.over,
        "s": start.span_s,
        "cost_usd": usd(start.usd_micros),
        "baked": start.baked,
        "legs": [
            {"leg": spent.leg.value, "s": spent.span_s, "over": spent.over} for spent in start.legs
        ],
    }


def _copying(copying: Copying) -> Json:
    left = None if copying.total_bytes is None else copying.total_bytes - copying.bytes
    return {
        "source": copying.source,
        "bytes": copying.bytes,
        "total_bytes": copying.total_bytes,
        "files": copying.files,
        "total_files": copying.total_files,
        "bytes_s": copying.bytes_s,
        "left_s": left / copying.bytes_s if left is not None and copying.bytes_s else None,
    }


def _diagnosis(diagnosis: Diagnosis) -> Json:
    return {"what": diagnosis.what, "why": diagnosis.why, "change": diagnosis.change}


def _advice(advice: Advice) -> Json:
    told = {"what": advice.what, "why": advice.why, "change": advice.change}
    return {"rule": advice.rule.value, **told}
