"""What a deadline still allows. Policies differ in how they spend the slack; this is where it ends:
on-demand while that is still in time, whatever else looks better.
"""

from __future__ import annotations

from spotrunner.core.policy import NEVER, Choice, stay
from spotrunner.core.policy.words import span
from spotrunner.core.situation import Candidate, Situation

# Sums of seconds differ from themselves by less than this.
EPSILON_S = 1e-6
# A place that is slower than the fallback uses up slack while it runs. It is entered only where the
# slack lasts for so many changeovers there, or the launch would be all that it pays for.
SLOW_CHANGEOVERS = 4


def rescue(situation: Situation) -> Choice | None:
    """Where the job must be now because of its deadline. None: there is time to choose, until the
    next look at least."""
    if situation.left_s is None or is_safe(situation):
        return None
    if situation.left_s > 0 and situation.slack_s >= burnt_s(situation) - EPSILON_S:
        return None
    if _is_quicker_here(situation):
        return stay(situation, "on-demand would be later than going on here")
    why = _why(situation)
    take = fallback(situation)
    if take is not None and (not situation.is_on_demand or _is_faster(take, situation.on)):
        return Choice(take=take, why=f"on-demand: {why}")
    return _second_best(situation, why)


def seconds_to_rescue(situation: Situation) -> float:
    """After how long `rescue` may speak up, if nothing happens until then."""
    if situation.left_s is None or is_safe(situation):
        return NEVER
    slack_s, look_s = situation.slack_s, situation.look_s
    on, pending_s = situation.on, situation.pending_s
    if on is None:
        return soon(slack_s - look_s)
    slower = max(0.0, 1 - on.speed)
    if slack_s < pending_s + slower * look_s:
        return soon(slack_s - look_s)
    return NEVER if slower == 0 else soon(pending_s + (slack_s - pending_s) / slower - look_s)


def burnt_s(situation: Situation) -> float:
    """How much of the slack is gone at the next look, if the job stays where it is."""
    if situation.on is None:
        return situation.look_s
    pending_s = min(situation.pending_s, situation.look_s)
    return pending_s + max(0.0, 1 - situation.on.speed) * (situation.look_s - pending_s)


def is_safe(situation: Situation) -> bool:
    """It runs on-demand, as fast as the plan counts on or at least fast enough to be in time: there
    it meets its deadline, if that can be met."""
    on, left_s, work_left_s = situation.on, situation.left_s, situation.work_left_s
    if on is None or not situation.is_on_demand:
        return False
    if _is_fast(on) or left_s is None or work_left_s is None:
        return True
    return situation.pending_s + work_left_s / on.speed + situation.look_s <= left_s


def fallback(situation: Situation) -> Candidate | None:
    """The on-demand offer to go to: the cheapest that is as fast as the plan counts on, else the
    fastest. None where none can be had now."""
    free = [it for it in situation.candidates if not it.is_spot and it.left_out is None]
    fast = (it for it in free if _is_fast(it))
    return next(fast, None) or max(free, key=lambda it: it.speed, default=None)


def has_time_for(situation: Situation, spot: Candidate) -> bool:
    """A launch there may be refused, or taken away before its first step: there is still time to
    go on-demand then."""
    least_s = max(situation.changeover_s, situation.look_s)
    slow_s = max(0.0, 1 - spot.speed) * SLOW_CHANGEOVERS * least_s
    return situation.slack_s >= least_s + slow_s - EPSILON_S


def soon(seconds: float) -> float:
    """When to look again. Up to a second later than computed: asked at the very moment, a policy
    would give the old answer and want to be asked again at once."""
    return seconds if seconds == NEVER else max(0.0, seconds) // 1 + 1


def _is_quicker_here(situation: Situation) -> bool:
    """On-demand would be late, and the rest of the work is done here before the deadline, or before
    a launch makes its first step."""
    on, left_s, work_left_s = situation.on, situation.left_s, situation.work_left_s
    if on is None or left_s is None or work_left_s is None or situation.slack_s >= -EPSILON_S:
        return False
    rest_s = situation.pending_s + work_left_s / on.speed
    return rest_s <= max(left_s, situation.changeover_s)


def _second_best(situation: Situation, why: str) -> Choice:
    """On-demand is refused. Spot may make it; waiting does not."""
    if situation.on is not None:
        return stay(situation, f"no faster on-demand can be had, so it stays: {why}")
    spot = max(situation.spot, key=lambda it: it.speed, default=None)
    if spot is None:
        return stay(situation, f"no offer can be taken now, and {why}")
    return Choice(take=spot, why=f"no on-demand can be had, and spot is more than nothing: {why}")


def _why(situation: Situation) -> str:
    assert situation.left_s is not None
    if situation.left_s <= 0:
        return f"the deadline passed {span(-situation.left_s)} ago"
    if situation.slack_s < -EPSILON_S:
        return f"even so it will be {span(-situation.slack_s)} late"
    return f"only {span(situation.slack_s)} of slack are left"


def _is_fast(candidate: Candidate) -> bool:
    return candidate.speed >= 1 - EPSILON_S


def _is_faster(candidate: Candidate, than: Candidate | None) -> bool:
    return than is None or candidate.speed > than.speed + EPSILON_S
