"""What the time from the request of an instance to its first step was spent on."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass

from spotrunner.core.milestones import Milestones
from spotrunner.core.model import Attempt
from spotrunner.core.money import HOUR_S


class Leg(str, enum.Enum):
    """In the order in which they usually end."""

    REQUEST = "request"  # until EC2 launched it
    BOOT = "boot"  # until the user-data ran
    AGENT = "agent"  # until the agent had been fetched and ran
    IMAGE = "image"  # until the container's image was there
    DATA = "data"  # until workdir and data sets were
    WAIT = "wait"  # until it held HEAD: a replacement waits for whom it replaces
    RESTORE = "restore"  # until the checkpoint was there
    FIRST_STEP = "first step"  # until the trainer had loaded, compiled, and made one


_UNORDERED = (Leg.IMAGE, Leg.DATA)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """`over` is False for the leg that lasts."""

    leg: Leg
    span_s: float
    over: bool = True


@dataclass(frozen=True, kw_only=True)
class Start:
    """The way of one attempt to its first step, as far as it has come. `usd_micros` is what its
    instance cost meanwhile; `baked`: the machine image had the container's image on it."""

    legs: tuple[Spent, ...]
    span_s: float
    usd_micros: int
    baked: bool
    over: bool


def start_of(attempt: Attempt, milestones: Milestones, now: dt.datetime) -> Start | None:
    """None before it was asked for. `milestones` are the newest that are known of it."""
    begun_at = attempt.sent_at
    if begun_at is None:
        return None
    reached = _reached(attempt, milestones)
    legs, at = [], begun_at
    for leg, over_at in sorted(reached.items(), key=lambda it: it[1]):
        legs.append(Spent(leg=leg, span_s=_between(at, over_at)))
        at = max(at, over_at)
    over = attempt.first_step_at is not None
    until = at
    if not over and attempt.ended_at is None:
        lasting = _lasting(reached, agent_runs=milestones.agent_at is not None)
        legs.append(Spent(leg=lasting, span_s=_between(at, now), over=False))
        until = max(at, now)
    return Start(
        legs=tuple(legs),
        span_s=_between(begun_at, until),
        usd_micros=_cost(attempt, until),
        baked=milestones.baked,
        over=over,
    )


def _reached(attempt: Attempt, milestones: Milestones) -> dict[Leg, dt.datetime]:
    times = {
        Leg.REQUEST: attempt.launched_at,
        Leg.BOOT: milestones.booted_at or milestones.agent_at,
        Leg.AGENT: milestones.agent_at if milestones.booted_at else None,
        Leg.IMAGE: milestones.image_at,
        Leg.DATA: milestones.data_at,
        Leg.WAIT: milestones.head_at,
        Leg.RESTORE: milestones.restored_at,
        Leg.FIRST_STEP: attempt.first_step_at,
    }
    return {leg: at for leg, at in times.items() if at is not None}


def _lasting(reached: dict[Leg, dt.datetime], *, agent_runs: bool) -> Leg:
    """The first that is not over: what lies before a leg that is over, is over itself; but image
    and data come in any order, and an agent that runs has been fetched."""
    order = list(Leg)
    last = max((order.index(leg) for leg in reached if leg not in _UNORDERED), default=-1)
    if agent_runs:
        last = max(last, order.index(Leg.AGENT))
    return next(leg for leg in order[last + 1 :] if leg not in reached)


def _between(start: dt.datetime, end: dt.datetime) -> float:
    return max(0.0, (end - start).total_seconds())


def _cost(attempt: Attempt, until: dt.datetime) -> int:
    """From the launch on, which is when EC2 begins to charge."""
    if attempt.launched_at is None:
        return 0
    hour = attempt.offer.price_usd_micros_hour + attempt.extras_usd_micros_hour
    return round(_between(attempt.launched_at, until) * hour / HOUR_S)
