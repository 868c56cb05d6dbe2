"""Keep up with a steady pace of work through the whole of the time; spot whenever there is some.
Uniform Progress of "Can't Be Late" (NSDI'24), the best published rule without a model."""

from __future__ import annotations

from spotrunner.core.policy import NEVER, Choice, stay
from spotrunner.core.policy.cheapest import why_none
from spotrunner.core.policy.greedy import cheapest_spot, safety_net, seconds_to_net
from spotrunner.core.policy.guard import fallback, soon
from spotrunner.core.policy.words import named, span
from spotrunner.core.situation import Situation

# On-demand is left for spot only so many changeovers ahead of the pace, or the two would alternate.
AHEAD_CHANGEOVERS = 2


class UniformProgress:
    name = "uniform_progress"
    needs_deadline = True

    def choose(self, situation: Situation) -> Choice:
        net = safety_net(situation)
        if net is not None:
            return net
        if situation.is_on_spot:
            return stay(situation, "it runs on spot", seconds_to_net(situation))
        ahead_s = _ahead_s(situation)
        margin_s = AHEAD_CHANGEOVERS * situation.changeover_s * _pace(situation)
        if situation.is_on_demand and ahead_s <= margin_s:
            why = f"on-demand until it is {span(margin_s)} ahead of its pace"
            return stay(situation, why, _seconds_to_margin(situation, margin_s - ahead_s))
        spot = cheapest_spot(situation)
        if spot is not None:
            return Choice(take=spot, why=f"{named(spot)}: there is some")
        if situation.is_on_demand:
            return stay(situation, f"on-demand until there is spot: {why_none(situation)}")
        return _without_spot(situation, ahead_s)


def _without_spot(situation: Situation, ahead_s: float) -> Choice:
    take = fallback(situation)
    if ahead_s < 0 and take is not None:
        return Choice(take=take, why=f"on-demand: it is {span(-ahead_s)} of work behind its pace")
    pace = _pace(situation)
    behind_after_s = soon(max(0.0, ahead_s) / pace) if pace > 0 else NEVER
    return Choice(
        take=None,
        why=f"it waits for spot, {span(ahead_s)} of work ahead of its pace",
        look_s=min(behind_after_s, seconds_to_net(situation)),
    )


def _pace(situation: Situation) -> float:
    """Seconds of work a second; none, where nobody knows how much work there is."""
    if situation.left_s is None or situation.work_s is None:
        return 0.0
    return situation.work_s / max(1.0, situation.elapsed_s + situation.left_s)


def _ahead_s(situation: Situation) -> float:
    """Seconds of work beyond those that the pace asks for by now."""
    if situation.work_s is None or situation.work_left_s is None:
        return 0.0
    return situation.work_s - situation.work_left_s - situation.elapsed_s * _pace(situation)


def _seconds_to_margin(situation: Situation, missing_s: float) -> float:
    gain = 1 - _pace(situation)
    if gain <= 0:
        return NEVER
    return soon((missing_s + situation.pending_s) / gain)
