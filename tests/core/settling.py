"""Snapshots as `settle` leaves them: for the tests of what it and its parts learn."""

from __future__ import annotations

from typing import Any

from spotrunner.core.draft import Draft
from spotrunner.core.model import (
    Attempt,
    EndedBy,
    InstanceState,
    Limits,
    Snapshot,
)
from spotrunner.core.settle import settle
from tests.build import (
    JOB,
    a_running_snapshot,
    after,
    an_attempt,
    an_instance,
)

LIMITS = Limits()
ID = f"{JOB}.1"


def settled(snapshot: Snapshot) -> Draft:
    return after(settle, snapshot)


def attempt_of(snapshot: Snapshot, generation: int = 1) -> Attempt:
    return settled(snapshot).attempts[f"{JOB}.{generation}"]


def an_end(
    attempt: Attempt | None = None,
    *,
    ended_s: float = 1805,
    by: EndedBy | None = EndedBy.EC2,
    now_s: float = 1900,
    **changes: Any,
) -> Snapshot:
    """The attempt's instance has ended."""
    attempt = attempt or an_attempt()
    instance = an_instance(attempt, InstanceState.ENDED, ended_s=ended_s, ended_by=by)
    return a_running_snapshot(now_s, attempt=attempt, instances=(instance,), **changes)
