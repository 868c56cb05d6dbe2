"""Take the cheapest offer that can be had now."""

from __future__ import annotations

from collections.abc import Sequence

from spotrunner.core.market import Candidate
from spotrunner.core.money import usd
from spotrunner.core.policy import Choice


class Cheapest:
    name = "cheapest"

    def choose(self, candidates: Sequence[Candidate]) -> Choice:
        free = [candidate.offer for candidate in candidates if candidate.left_out is None]
        if not free:
            return Choice(offer=None, why=_why_none(candidates))
        offer = free[0]
        saved = 1 - offer.price_usd_micros_hour / offer.dearest_usd_micros_hour
        return Choice(
            offer=offer,
            why=f"the cheapest of {len(free)} offers at {usd(offer.price_usd_micros_hour)}/h,"
            f" {saved:.0%} below on-demand",
        )


def _why_none(candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "no pool of the job's types and regions has a known price"
    reasons = sorted({str(candidate.left_out) for candidate in candidates})
    return f"none of {len(candidates)} offers can be taken: " + "; ".join(reasons[:3])
