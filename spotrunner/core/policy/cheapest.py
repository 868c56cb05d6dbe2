"""Take the offer whose work is expected to cost least; wait where none can be had. For jobs that
have all the time in the world."""

from __future__ import annotations

from spotrunner.core.money import usd
from spotrunner.core.policy import Choice, stay
from spotrunner.core.situation import Candidate, Situation


class Cheapest:
    name = "cheapest"
    needs_deadline = False

    def choose(self, situation: Situation) -> Choice:
        if situation.on is not None:
            return stay(situation, "it runs, and a move costs more than prices differ")
        free = [each for each in situation.candidates if each.left_out is None]
        wanted = [each for each in free if each.is_spot or _is_worth_it(each, situation)]
        if not wanted:
            return Choice(take=None, why=why_none(situation))
        best = wanted[0]
        return Choice(take=best, why=f"{_rank(best, len(wanted))}, {saving(best)}")


def _is_worth_it(on_demand: Candidate, situation: Situation) -> bool:
    """Spot close to the on-demand price, with its interruptions, can be the dearer one. But spot
    that is only away for a while is waited for."""
    spot = [each for each in situation.candidates if each.is_spot]
    return all(on_demand.usd_micros_work_hour <= each.usd_micros_work_hour for each in spot)


def _rank(best: Candidate, of: int) -> str:
    price = usd(best.offer.price_usd_micros_hour)
    return f"the cheapest of {of} offers at {price}/h" if of > 1 else f"the only offer at {price}/h"


# -- words that other policies use too ---------------------------------------------------------


def saving(candidate: Candidate) -> str:
    offer = candidate.offer
    if not candidate.is_spot:
        return "on-demand"
    saved = 1 - offer.price_usd_micros_hour / offer.dearest_usd_micros_hour
    return f"{saved:.0%} below on-demand"


def why_none(situation: Situation) -> str:
    """Why no spot offer can be had."""
    spot = [each for each in situation.candidates if each.is_spot] or situation.candidates
    if not spot:
        return "no pool of the job's types and regions has a known price"
    reasons = sorted({str(each.left_out) for each in spot if each.left_out is not None})
    return f"none of {len(spot)} offers can be taken: " + "; ".join(reasons[:3])
