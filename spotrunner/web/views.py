"""Jobs and attempts as the API shows them: USD as decimals, times as ISO 8601 in UTC.

The values of `envs` are never shown: people put secrets there.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence

from spotrunner.core.model import (
    Attempt,
    EndReason,
    Event,
    Head,
    Job,
    JobSpec,
    PriceLimit,
    Report,
)
from spotrunner.core.money import accrued, exposure, on_demand_cost
from spotrunner.core.windows import NEVER, Window, is_open, next_change, words
from spotrunner.ports import NotFound, Unavailable
from spotrunner.web import instance
from spotrunner.web.deps import Deps
from spotrunner.web.moments import Json as Json
from spotrunner.web.moments import when as when
from spotrunner.web.money import split
from spotrunner.web.money import usd as usd
from spotrunner.web.standing import standing

# -- a job -------------------------------------------------------------------------------------


def summary(
    deps: Deps, job: Job, attempts: Sequence[Attempt], reports: Mapping[str, Report]
) -> Json:
    """One line of a list."""
    trained = [attempt for attempt in attempts if attempt.first_step_at is not None]
    report = latest(attempts, reports)
    return {
        "id": job.id,
        "name": job.spec.name,
        "state": job.state.value,
        "over": job.state.over,
        "pause": job.pause.value if job.pause else None,
        "reason": job.reason,
        "owner": job.spec.owner,
        "sweep": job.spec.sweep,
        "submitted_at": when(job.submitted_at),
        "ended_at": when(job.ended_at),
        "attempt": attempts[-1].id if attempts else None,
        "phase": report.phase.value if report and not job.state.over else None,
        **_progress(report, committed_step(attempts, reports)),
        "recoveries": max(0, len(trained) - 1),
        "interruptions": sum(a.end_reason is EndReason.INTERRUPTED for a in attempts),
        **costs(deps, job, attempts),
    }


def costs(deps: Deps, job: Job, attempts: Sequence[Attempt]) -> Json:
    """`reserved_usd` is what the running attempts may still come to beyond their cost so far;
    `over_usd` by how much the two exceed a budget that was lowered. `estimated`: of an attempt
    nobody can say any more how it ended."""
    now = deps.clock.now()
    cost = sum(accrued(attempt, now) for attempt in attempts)
    held = sum(max(exposure(a, deps.limits, now), accrued(a, now)) for a in attempts)
    on_demand = sum(on_demand_cost(attempt, now) for attempt in attempts)
    budget = job.spec.budget_usd_micros
    return {
        "budget_usd": usd(budget),
        "cost_usd": usd(cost),
        "reserved_usd": usd(held - cost),
        "over_usd": None if budget is None else usd(max(0, held - budget)),
        "estimated": any(attempt.estimated for attempt in attempts),
        "ondemand_usd": usd(on_demand),
        "saved_fraction": 1 - cost / on_demand if on_demand else None,
    }


def latest(attempts: Sequence[Attempt], reports: Mapping[str, Report]) -> Report | None:
    """The report of the newest attempt that has made one."""
    found = (reports.get(attempt.id) for attempt in reversed(attempts))
    return next((report for report in found if report is not None), None)


def committed_step(attempts: Sequence[Attempt], reports: Mapping[str, Report]) -> int:
    """The last step that is known to be safe, without a look at HEAD."""
    report = latest(attempts, reports)
    known = [step for a in attempts for step in (a.step_before, a.step_after) if step]
    return max([0, *known, (report.committed_step or 0) if report else 0])


def _progress(report: Report | None, committed: int) -> Json:
    step = report.step if report and report.step is not None else committed
    return {
        "step": step,
        "total_steps": report.total_steps if report else None,
        "steps_per_s": report.steps_per_s if report else None,
        "committed_step": committed,
        "committed_at": when(report.committed_at) if report else None,
    }


def detail(deps: Deps, job: Job) -> Json:
    """Everything about one job. Reads HEAD and, for one that is over, its last report from S3;
    `trouble` says why they are missing when S3 does not answer."""
    attempts = deps.store.attempts([job.id])
    reports = deps.mailbox.reports()
    report = latest(attempts, reports)
    step = 0
    head: Head | None = None
    shown, trouble = (_report(deps, report) if report else None), ""
    try:
        head = deps.heads.read(job.id).head
        shown = shown or _archived(deps, job, attempts)
    except Unavailable as error:
        trouble = str(error)  # the store's part of the answer is still good
    line = summary(deps, job, attempts, reports)
    if shown is not None and report is None:
        line.update({key: shown.get(key) for key in ("total_steps", "committed_at")})
    if head is not None:
        line["committed_step"] = max(head.step, line["committed_step"])
        line["step"] = max(line["step"], head.step)
        step = head.step
    return {
        "now": when(deps.clock.now()),
        "job": {**line, **_of_spec(job.spec, deps.clock.now())},
        "attempts": [_attempt(deps, each, attempts, reports) for each in attempts],
        "instances": instance.instances(deps, attempts, reports),
        "report": shown,
        "head": _head(deps, head),
        "trouble": trouble,
        **standing(deps, job, attempts, reports, step or line["committed_step"]),
        **costs(deps, job, attempts),
        **split(deps, attempts),
    }


def _of_spec(spec: JobSpec, now: dt.datetime) -> Json:
    return {
        "image": spec.image,
        "run": spec.run,
        "setup": spec.setup,
        "instance_types": list(spec.instance_types),
        "regions": list(spec.regions),
        "market": spec.market.value,
        "disk_gib": spec.disk_gib,
        "retries": spec.retries,
        "workdir_sha256": spec.workdir_sha256,
        "policy": spec.policy,
        "deadline_at": when(spec.deadline_at),
        "work_s": spec.work_s,
        "speeds": dict(spec.speeds),
        "max_price_usd_hour": usd(spec.max_price_usd_micros),
        "sweep_budget_usd": usd(spec.sweep_budget_usd_micros),
        "window": _window(spec.window, now) if spec.window else None,
        "price_limit": _price_limit(spec.price_limit) if spec.price_limit else None,
        "unattended_s": spec.unattended_s,
        "alerts": list(spec.alerts),
        "data": [
            {
                "source": data.source,
                "target": data.target,
                "mode": data.mode.value,
                "bytes": data.bytes,
                "region": data.region,
            }
            for data in spec.data
        ],
        "envs": [name for name, _ in spec.envs],
        "secrets": [
            {"name": it.name, "source": it.source, "as": it.form.value} for it in spec.secrets
        ],
        "checkpoint": instance.saving(spec.saving),
        "stall_after_s": spec.stall_after_s,
        "as_root": spec.as_root,
    }


def _window(window: Window, now: dt.datetime) -> Json:
    """`changes_at` is when it closes, or opens; null for one that never does."""
    changes_at = next_change(window, now)
    return {
        "words": words(window),
        "open": is_open(window, now),
        "changes_at": None if changes_at == NEVER else when(changes_at),
    }


def _price_limit(limit: PriceLimit) -> Json:
    """An hour's price, or a share of on-demand's; the others are null."""
    return {
        "pause_above_usd_hour": usd(limit.pause_usd_micros),
        "resume_below_usd_hour": usd(limit.resume_usd_micros),
        "pause_above_fraction": limit.pause_share,
        "resume_below_fraction": limit.resume_share,
        "pause_after_s": limit.after_s,
    }


def _head(deps: Deps, head: Head | None) -> Json | None:
    if head is None:
        return None
    return {**json.loads(deps.encode(head)), "step": head.step}


def _report(deps: Deps, report: Report) -> Json:
    return _with_metrics(json.loads(deps.encode(report)))


def _archived(deps: Deps, job: Job, attempts: Sequence[Attempt]) -> Json | None:
    """The last report of a job whose letters have been moved to it."""
    for attempt in reversed(attempts):
        try:
            body = deps.objects.get(f"jobs/{job.id}/mail/reports/{attempt.id}/0.json").body
            return _with_metrics(json.loads(body))
        except (NotFound, ValueError):
            continue
    return None


def _with_metrics(report: Json) -> Json:
    """Pairs as an object."""
    return {**report, "metrics": {name: value for name, value in report.get("metrics", [])}}


# -- an attempt --------------------------------------------------------------------------------


def _attempt(
    deps: Deps, attempt: Attempt, others: Sequence[Attempt], reports: Mapping[str, Report]
) -> Json:
    now, report = deps.clock.now(), reports.get(attempt.id)
    pool, notice = attempt.offer.pool, attempt.notice
    return {
        "id": attempt.id,
        "generation": attempt.generation,
        "state": attempt.state.value,
        "live": attempt.state.live,
        "phase": report.phase.value if report else None,
        "pool": str(pool),
        "region": pool.region,
        "zone": pool.zone,
        "instance_type": pool.instance_type,
        "instance_id": attempt.instance_id,
        "market": attempt.offer.market.value,
        "price_usd_hour": usd(attempt.offer.price_usd_micros_hour),
        "ondemand_usd_hour": usd(attempt.offer.dearest_usd_micros_hour),
        "intent_at": when(attempt.intent_at),
        "from": when(attempt.launched_at),
        "to": when(attempt.ended_at),
        "first_step_at": when(attempt.first_step_at),
        "paid_until": when(attempt.paid_until),
        "ending": attempt.ending.value if attempt.ending else None,
        "end_reason": attempt.end_reason.value if attempt.end_reason else None,
        "end_detail": attempt.end_detail,
        "replaces": attempt.replaces,
        "step_before": attempt.step_before,
        "step_after": attempt.step_after,
        "notice": {"at": when(notice.at), "seen_at": when(notice.seen_at)} if notice else None,
        "safe_at": when(attempt.safe_at),
        "notice_to_commit_s": _since_notice(attempt, attempt.safe_at),
        "notice_to_next_step_s": _since_notice(attempt, _next_step_at(attempt, others)),
        "cost_usd": usd(accrued(attempt, now)),
        "ondemand_usd": usd(on_demand_cost(attempt, now)),
        **split(deps, [attempt]),
        "estimated": attempt.estimated,
        **instance.of_attempt(attempt, report, now),
    }


def _since_notice(attempt: Attempt, at: dt.datetime | None) -> float | None:
    if attempt.notice is None or at is None:
        return None
    return (at - attempt.notice.seen_at).total_seconds()


def _next_step_at(attempt: Attempt, others: Sequence[Attempt]) -> dt.datetime | None:
    """When training went on in a later attempt."""
    later = (other for other in others if other.generation > attempt.generation)
    return min((other.first_step_at for other in later if other.first_step_at), default=None)


# -- an event ----------------------------------------------------------------------------------


def event(number: int, told: Event) -> Json:
    return {
        "n": number,
        "at": when(told.at),
        "subject": told.subject,
        "kind": told.kind,
        "why": told.why,
        "data": dict(told.data),
    }
