"""When an attempt reached what on its way to the first step."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Milestones:
    """The time at which each leg was over; None for what has not happened. The request is the
    attempt's `sent_at`, the launch its `launched_at`, and the last is its `first_step_at`."""

    booted_at: dt.datetime | None = None  # the first line of the user-data
    agent_at: dt.datetime | None = None  # the agent's first instruction
    image_at: dt.datetime | None = None  # the container's image is there
    data_at: dt.datetime | None = None  # workdir and data sets are there
    head_at: dt.datetime | None = None  # HEAD was taken over: until then a replacement waits
    restored_at: dt.datetime | None = None  # the checkpoint is there; the trainer starts
    # the machine image had the container's image on it already (`spotrunner bake`)
    baked: bool = False


NOTHING_REACHED = Milestones()


def merged(known: Milestones, told: Milestones) -> Milestones:
    """What was reached first stays: a leg may be gone through twice."""
    names = [field.name for field in fields(Milestones)]
    return Milestones(**{name: getattr(known, name) or getattr(told, name) for name in names})
