"""On-demand from the beginning to the end: the price that every saving is measured against."""

from __future__ import annotations

from spotrunner.core.money import usd
from spotrunner.core.policy import Choice, stay
from spotrunner.core.policy.guard import fallback, rescue, seconds_to_rescue
from spotrunner.core.situation import Situation


class OnDemand:
    name = "on_demand"
    needs_deadline = False

    def choose(self, situation: Situation) -> Choice:
        needed = rescue(situation)
        if needed is not None:
            return needed
        if situation.is_on_demand:
            return stay(situation, "it runs on-demand", seconds_to_rescue(situation))
        take = fallback(situation)
        if take is None:
            return stay(situation, "no on-demand offer can be taken now")
        price = usd(take.offer.price_usd_micros_hour)
        return Choice(take=take, why=f"on-demand at {price}/h, as the job asks")
