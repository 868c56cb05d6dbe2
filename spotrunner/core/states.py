"""The states of a job and of an attempt, and the only arrows between them.

`advance` is the one way to change a state: it returns the changed value or raises with the story.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from spotrunner.core.model import Attempt, Job


class JobState(str, enum.Enum):
    QUEUED = "queued"
    ACTIVE = "active"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class AttemptState(str, enum.Enum):
    PENDING = "pending"
    REQUESTED = "requested"
    STARTING = "starting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    TERMINATING = "terminating"
    ENDED = "ended"

    @property
    def live(self) -> bool:
        """True while an instance of it exists or may exist."""
        return self is not AttemptState.ENDED


_J, _A = JobState, AttemptState

JOB_ARROWS: Mapping[tuple[JobState, JobState], str] = {
    (_J.QUEUED, _J.ACTIVE): "an attempt was placed",
    (_J.QUEUED, _J.PAUSED): "the budget, the window, the price or the user keeps it from a start",
    (_J.QUEUED, _J.CANCELLED): "the user cancelled it",
    (_J.QUEUED, _J.SUCCEEDED): "HEAD says done (a store restored from a backup)",
    (_J.QUEUED, _J.FAILED): "its attempts failed (a store restored from a backup)",
    (_J.ACTIVE, _J.PAUSED): "the budget, the window, the price or the user stops it",
    (_J.ACTIVE, _J.SUCCEEDED): "HEAD says done",
    (_J.ACTIVE, _J.FAILED): "too many failures, or attempts without progress",
    (_J.ACTIVE, _J.CANCELLED): "the user cancelled it",
    (_J.PAUSED, _J.ACTIVE): "the budget pays a step again",
    (_J.PAUSED, _J.QUEUED): "the reason to pause is gone",
    (_J.PAUSED, _J.SUCCEEDED): "HEAD says done: the last attempt finished while it was stopping",
    (_J.PAUSED, _J.FAILED): "the last attempt failed while it was stopping",
    (_J.PAUSED, _J.CANCELLED): "the user cancelled it",
}

ATTEMPT_ARROWS: Mapping[tuple[AttemptState, AttemptState], str] = {
    (_A.PENDING, _A.REQUESTED): "EC2 accepted the launch, or an instance with our token was found",
    (_A.PENDING, _A.TERMINATING): "the job no longer wants it; its launch may still turn up",
    (_A.PENDING, _A.ENDED): "EC2 refused it, or nothing of it was seen in time",
    (_A.REQUESTED, _A.STARTING): "EC2 lists its instance, or its agent reported",
    (_A.REQUESTED, _A.TERMINATING): "the job no longer wants it",
    (_A.REQUESTED, _A.ENDED): "its instance ended, or was never seen in time",
    (_A.STARTING, _A.RUNNING): "its trainer made a step",
    (_A.STARTING, _A.INTERRUPTED): "EC2 gave notice",
    (_A.STARTING, _A.TERMINATING): "it is no longer wanted, or failed",
    (_A.STARTING, _A.ENDED): "its instance ended",
    (_A.RUNNING, _A.INTERRUPTED): "EC2 gave notice",
    (_A.RUNNING, _A.TERMINATING): "it is no longer wanted, or is finished",
    (_A.RUNNING, _A.ENDED): "its instance ended without a notice",
    (_A.INTERRUPTED, _A.TERMINATING): "its grace is over",
    (_A.INTERRUPTED, _A.ENDED): "its instance ended",
    (_A.TERMINATING, _A.ENDED): "its instance ended",
    (_A.ENDED, _A.TERMINATING): "an instance turned up after the attempt was given up",
}

_V = TypeVar("_V", bound="Job | Attempt")


class IllegalArrow(Exception):
    """A state was to change along an arrow that the table does not have: a bug, with its story."""


def advance(value: _V, to: JobState | AttemptState, **changes: Any) -> _V:
    """`value` in state `to`, with `changes` to other fields.

    Staying in a state is always legal. Raises IllegalArrow for an arrow that is not in the table.
    """
    arrows: Mapping[Any, str] = ATTEMPT_ARROWS if isinstance(to, AttemptState) else JOB_ARROWS
    if value.state is not to and (value.state, to) not in arrows:
        raise IllegalArrow(
            f"{type(value).__name__} {value.id} cannot go from {value.state.value} to {to.value}"
            f" (changes: {changes}); it is {value}"
        )
    changed: dict[str, Any] = {**changes, "state": to}
    return dataclasses.replace(value, **changed)
