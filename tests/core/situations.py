"""Situations for policies: a test names only what it is about.

By default a job of 10 hours, nothing done, a changeover of 10 minutes, looks every minute, one spot
offer that nobody has looked at and one on-demand offer; the test says how much slack there is.
"""

from __future__ import annotations

from typing import Any

from spotrunner.core.model import Market
from spotrunner.core.sight import Sight
from spotrunner.core.situation import Candidate, Situation
from tests.build import ON_DEMAND, SPOT, an_offer

WORK_S = 36_000.0
CHANGEOVER_S = 600.0
LOOK_S = 60.0


def spot(zone: str = "us-east-1a", price: int = SPOT, **changes: Any) -> Candidate:
    fields: dict[str, Any] = {"usd_micros_work_hour": price / changes.get("speed", 1.0)}
    return Candidate(offer=an_offer(zone, price=price), **{**fields, **changes})


def up(age_s: float) -> Sight:
    return Sight(up=True, was_up=True, age_s=age_s)


def refused(zone: str = "us-east-1a") -> Candidate:
    down = Sight(up=False, was_up=False, age_s=0)
    return spot(zone, left_out="refused just now", sight=down)


def on_demand(price: int = ON_DEMAND, **changes: Any) -> Candidate:
    offer = an_offer(price=price, market=Market.ON_DEMAND)
    fields: dict[str, Any] = {"usd_micros_work_hour": price / changes.get("speed", 1.0)}
    return Candidate(offer=offer, **{**fields, **changes})


def no_on_demand() -> Candidate:
    return on_demand(left_out="no capacity just now")


def a_situation(
    slack_s: float | None,
    *candidates: Candidate,
    on: Candidate | None = None,
    done_s: float = 0.0,
    **changes: Any,
) -> Situation:
    """`slack_s` None: no deadline. The candidates are given cheapest first."""
    work_left_s = WORK_S - done_s
    left_s = None if slack_s is None else slack_s + work_left_s + CHANGEOVER_S
    fields: dict[str, Any] = {
        "candidates": candidates or (spot(), on_demand()),
        "elapsed_s": 0.0,
        "left_s": left_s,
        "work_s": WORK_S,
        "work_left_s": work_left_s,
        "changeover_s": CHANGEOVER_S,
        "look_s": LOOK_S,
        "on": on,
    }
    return Situation(**{**fields, **changes})
