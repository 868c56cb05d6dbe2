"""The slack rule: wait for spot while the slack is large for the work that is left, and leave
on-demand only for spot that has proved itself.

Slack is how long the job could still stand idle and be in time on-demand. Four thresholds are the
whole policy; docs/policy.md says what each of them is worth.
"""

from __future__ import annotations

from spotrunner.core.policy import NEVER, Choice, stay
from spotrunner.core.policy.guard import fallback, has_time_for, rescue, seconds_to_rescue, soon
from spotrunner.core.policy.words import named, span
from spotrunner.core.situation import Candidate, Situation

# Waiting is over when the slack is less than one changeover and this share of the work left. More
# work needs more slack: it will lose its place more often.
WAIT_SHARE = 0.13
# On-demand is left for spot that has been up for so many changeovers: half of all that comes up is
# gone again within an hour, and much of it at once.
OLD_CHANGEOVERS = 1.0
# A healthy spot instance is left only for work that is cheaper by so much, with the move paid.
MOVE_GAIN = 0.2


class Deadline:
    name = "deadline"
    needs_deadline = True

    def choose(self, situation: Situation) -> Choice:
        needed = rescue(situation)
        if needed is not None:
            return needed
        look_s = seconds_to_rescue(situation)
        slack = f"{span(situation.slack_s)} of slack"
        if situation.is_on_spot:
            better = cheaper_place(situation, MOVE_GAIN)
            if better is not None:
                return Choice(take=better, why=f"{named(better)} pays for the move")
            return stay(situation, f"it runs on spot, with {slack}", look_s)
        spot = next((it for it in situation.spot if _is_worth_it(it, situation)), None)
        if spot is not None:
            return Choice(take=spot, why=f"{named(spot)}, with {slack}")
        if situation.is_on_demand:
            return stay(situation, _why_not_spot(situation, slack), _seconds_to_old(situation))
        return _wait_or_on_demand(situation, slack, look_s)


def _wait_or_on_demand(situation: Situation, slack: str, look_s: float) -> Choice:
    enough_s = situation.changeover_s + WAIT_SHARE * (situation.work_left_s or 0.0)
    take = fallback(situation)
    if take is not None and _is_all_dearer(situation):
        return Choice(take=take, why="on-demand: the work costs no less on any spot offer")
    if situation.slack_s >= enough_s:
        why = f"it waits for spot: {slack}, on-demand at {span(enough_s)}"
        return Choice(take=None, why=why, look_s=min(look_s, soon(situation.slack_s - enough_s)))
    if take is None:
        return Choice(take=None, why=f"neither spot nor on-demand can be had, {slack}")
    return Choice(take=take, why=f"on-demand: no spot, and {slack} are less than {span(enough_s)}")


def _is_worth_it(spot: Candidate, situation: Situation) -> bool:
    if not has_time_for(situation, spot) or _is_dearer(spot, situation):
        return False
    return situation.on is None or (
        _seconds_young(spot, situation) <= 0
        # with the launch there, and the launches that its losses will bring
        and spot.usd_micros_work_hour < situation.on.usd_micros_work_hour
    )


def _is_all_dearer(situation: Situation) -> bool:
    spot = [it for it in situation.candidates if it.is_spot]
    return bool(spot) and all(_is_dearer(it, situation) for it in spot)


def _is_dearer(spot: Candidate, situation: Situation) -> bool:
    """Than on-demand, even if it is never lost: on a type that is slow for its price."""
    base = situation.on if situation.is_on_demand else fallback(situation)
    return base is not None and _usd_micros_work_hour(spot) >= _usd_micros_work_hour(base)


def _usd_micros_work_hour(candidate: Candidate) -> float:
    return candidate.offer.price_usd_micros_hour / candidate.speed


def _seconds_young(spot: Candidate, situation: Situation) -> float:
    """How long it takes until this run has proved itself. One that nobody sees is tried: a launch
    that is refused costs nothing."""
    if not spot.sight.up:
        return 0.0
    return OLD_CHANGEOVERS * situation.changeover_s - spot.sight.age_s


def _seconds_to_old(situation: Situation) -> float:
    young = [_seconds_young(it, situation) for it in situation.spot if it.sight.up]
    return min((soon(each) for each in young if each > 0), default=NEVER)


def _why_not_spot(situation: Situation, slack: str) -> str:
    if not situation.spot:
        return f"on-demand: no spot can be had, {slack}"
    if not any(has_time_for(situation, it) for it in situation.spot):
        return f"on-demand: {slack} do not pay for a launch that may fail"
    old_s = OLD_CHANGEOVERS * situation.changeover_s
    return f"on-demand until spot has been up for {span(old_s)}, with {slack}"


# -- moves -------------------------------------------------------------------------------------


def cheaper_place(situation: Situation, gain: float) -> Candidate | None:
    """Spot that is up now and whose work, with the launch there, costs less by `gain`, a share,
    than where the job runs; None as well while the slack would not bear a failure."""
    on = situation.on
    if on is None:
        return None
    most_usd_micros = on.usd_micros_work_hour * (1 - gain)
    twice_s = 2 * max(situation.changeover_s, situation.look_s)
    for it in situation.spot:
        if it.usd_micros_work_hour >= most_usd_micros:
            return None
        if it.sight.up and it.offer != on.offer and situation.slack_s >= twice_s:
            return it if has_time_for(situation, it) else None
    return None
