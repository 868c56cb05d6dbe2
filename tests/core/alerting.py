"""Alerts as a round tells them: for their tests."""

from __future__ import annotations

from typing import Any

from spotrunner.core.alert import Alert, AlertKind
from spotrunner.core.model import (
    Job,
    Snapshot,
)
from spotrunner.core.plan import Plan
from spotrunner.core.states import JobState
from tests.build import (
    JOB,
    a_job,
    a_running_snapshot,
    a_spec,
    decided,
)

ID = f"{JOB}.1"
OTHER = "other-0000"


def told(snapshot: Snapshot) -> tuple[Alert, ...]:
    return decided(snapshot).alerts


def only(snapshot: Snapshot, kind: AlertKind) -> Alert:
    (alert,) = [alert for alert in told(snapshot) if alert.kind is kind]
    return alert


def told_kinds(plan: Plan) -> list[str]:
    return [alert.kind.value for alert in plan.alerts]


def owned(state: JobState = JobState.ACTIVE, *, id: str = JOB, **spec: Any) -> Job:
    """Alice's; what is told of it goes to two channels."""
    told = a_spec(**{"owner": "alice", "alerts": ("phone", "mail"), **spec})
    return a_job(state, id=id, spec=told)


def a_running_job(now_s: float = 600, **changes: Any) -> Snapshot:
    return a_running_snapshot(now_s, **{"jobs": [owned()], **changes})
