"""On-demand from the beginning to the end: the price that every saving is measured against."""

from __future__ import annotations

from spotrunner.core.money import usd
from spotrunner.core.policy import Choice, stay
from spotrunner.core.situation import Situation


class OnDemand:
    name = "on_demand"
    needs_deadline = False

    def choose(self, situation: Situation) -> Choice:
        if situation.is_on_demand:
            return stay(situation, "it runs on-demand")
        take = situation.on_demand
        if take is None:
            return stay(situation, "no on-demand offer can be taken now")
        price = usd(take.offer.price_usd_micros_hour)
        return Choice(take=take, why=f"on-demand at {price}/h, as the job asks")
