"""Words and numbers that policies explain themselves with."""

from __future__ import annotations

import math

from spotrunner.core.money import usd
from spotrunner.core.situation import Candidate

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def span(seconds: float) -> str:
    """As people say it: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`; endless is `any amount`."""
    if math.isinf(seconds):
        return "any amount"
    whole = int(max(0.0, seconds))
    if whole < 2 * _MINUTE_S:
        return f"{whole} s"
    if whole < 2 * _HOUR_S:
        return f"{whole // _MINUTE_S} min"
    if whole < 2 * _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"


def named(candidate: Candidate) -> str:
    """`spot in us-east-1a at 0.92 USD/h`."""
    offer = candidate.offer
    return f"{offer.market.value} in {offer.pool.zone} at {usd(offer.price_usd_micros_hour)}/h"
