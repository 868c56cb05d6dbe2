"""Spot whenever there is some, else wait; on-demand to the end once the deadline asks for it. The
baseline of "Can't Be Late" (NSDI'24), with its own counting in whole looks."""

from __future__ import annotations

import math

from spotrunner.core.policy import NEVER, Choice, stay
from spotrunner.core.policy.cheapest import why_none
from spotrunner.core.policy.guard import fallback, rescue, soon
from spotrunner.core.policy.words import named, span
from spotrunner.core.situation import Candidate, Situation


class Greedy:
    name = "greedy"
    needs_deadline = False

    def choose(self, situation: Situation) -> Choice:
        net = safety_net(situation)
        if net is not None:
            return net
        if situation.is_on_spot:
            return stay(situation, "it runs on spot", seconds_to_net(situation))
        spot = cheapest_spot(situation)
        if spot is None:
            why = f"it waits for spot, {why_none(situation)}"
            return Choice(take=None, why=why, look_s=seconds_to_net(situation))
        return Choice(take=spot, why=f"{named(spot)}: there is some", look_s=NEVER)


def cheapest_spot(situation: Situation) -> Candidate | None:
    """By the price of what it does now. The published rules know nothing of hazards."""
    spot = situation.spot
    return min(spot, key=lambda it: it.offer.price_usd_micros_hour / it.speed, default=None)


# -- the paper's safety net --------------------------------------------------------------------


def safety_net(situation: Situation) -> Choice | None:
    """On-demand, once no whole look is left beyond the work and two changeovers (one, where it runs
    on spot already). None without a deadline, and before."""
    if situation.left_s is None or situation.work_left_s is None:
        return rescue(situation)
    left_s = _floor(situation.left_s, situation.look_s)
    if _need_s(situation, 1) >= left_s:
        on = situation.on
        if on is not None and situation.is_on_spot and situation.pending_s <= 0 and on.speed >= 1:
            return stay(situation, "it runs on spot, and the deadline bears no other changeover")
        return rescue(situation) or _on_demand(situation)
    if _need_s(situation, 2) >= left_s and not situation.is_on_spot:
        return _on_demand(situation)
    return None


def seconds_to_net(situation: Situation) -> float:
    """After how long the net catches the job, if it makes no progress until then. (It cannot catch
    one that runs on spot and makes progress as fast as planned.)"""
    if situation.left_s is None or situation.work_left_s is None:
        return NEVER
    on = situation.on
    if on is not None and situation.pending_s <= 0 and on.speed >= 1:
        return NEVER
    changeovers = 2 if on is None else 1
    needed_s = _need_s(situation, changeovers) + situation.look_s
    return soon(situation.left_s - needed_s)


def _on_demand(situation: Situation) -> Choice:
    if situation.is_on_demand:
        return stay(situation, "on-demand to the end, for the deadline's sake")
    take = fallback(situation)
    why = f"{span(situation.slack_s)} of slack are left"
    if take is not None:
        return Choice(take=take, why=f"on-demand to the end: {why}")
    if situation.on is not None:
        return stay(situation, f"no on-demand can be had, so it stays: {why}")
    spot = cheapest_spot(situation)
    return Choice(take=spot, why=f"no on-demand can be had: {why}")


def _need_s(situation: Situation, changeovers: int) -> float:
    assert situation.work_left_s is not None
    needed_s = situation.work_left_s + changeovers * situation.changeover_s
    return math.ceil(needed_s / situation.look_s - 1e-9) * situation.look_s


def _floor(seconds: float, look_s: float) -> float:
    return math.floor(seconds / look_s + 1e-9) * look_s
