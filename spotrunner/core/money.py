"""What an attempt costs, what it may still come to, and what a cap leaves. Integer micro-dollars.

Source of the billing rules: AWS, "Billing for interrupted Spot Instances" and "Amazon EC2 Spot
pricing": by the second, 60 seconds the least; the price at the start of an instance-hour holds for
that hour; a spot instance that EC2 takes within its first hour is free.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

from spotrunner.core.model import Attempt, EndedBy, Limits, Market
from spotrunner.core.states import AttemptState

HOUR_S = 3600
MINIMUM_S = 60


def billed(seconds: int, hour_prices: Sequence[int], then: int) -> int:
    """What `seconds` of an instance's life cost: hour i at `hour_prices[i]`, later ones at `then`
    (micro-dollars an hour). Rounded up at the end, so that many small bills never sum to less."""
    left, total = max(seconds, MINIMUM_S), 0
    for price in hour_prices:
        part = min(left, HOUR_S)
        total += part * price
        left -= part
    return -(-(total + left * then) // HOUR_S)


def is_free(
    market: Market, launched_at: dt.datetime, ended_at: dt.datetime, ended_by: EndedBy | None
) -> bool:
    """The first-hour rule."""
    lived_s = (ended_at - launched_at).total_seconds()
    return market is Market.SPOT and ended_by is EndedBy.EC2 and lived_s < HOUR_S


def hour_index(launched_at: dt.datetime, at: dt.datetime) -> int:
    """The instance-hour that `at` lies in, counted from 0."""
    return max(0, int((at - launched_at).total_seconds()) // HOUR_S)


def accrued(attempt: Attempt, now: dt.datetime) -> int:
    """What the attempt has cost so far, or in the end."""
    if attempt.cost_usd_micros is not None:
        return attempt.cost_usd_micros
    if attempt.launched_at is None:
        return 0
    seconds = int((now - attempt.launched_at).total_seconds())
    return billed(seconds, attempt.hour_prices_usd_micros, attempt.offer.price_usd_micros_hour)


def on_demand_cost(attempt: Attempt, now: dt.datetime) -> int:
    """What the attempt's time would have cost on demand, interruptions not forgiven."""
    if attempt.launched_at is None:
        return 0
    end = attempt.ended_at or now
    seconds = int((end - attempt.launched_at).total_seconds())
    return billed(seconds, (), attempt.offer.dearest_usd_micros_hour)


def exposure(attempt: Attempt, limits: Limits) -> int:
    """The most that the attempt can come to while it obeys `paid_until`: what a cap must hold.

    Hours whose price is known count with it, the others with the dearest price. Before EC2 says
    when the launch was, the time it takes from the bill's start to the fail-safe timer's comes on
    top.
    """
    if attempt.cost_usd_micros is not None:
        return attempt.cost_usd_micros
    if attempt.state is AttemptState.ENDED:
        return 0
    start = attempt.launched_at or attempt.intent_at
    slack_s = 0 if attempt.launched_at else limits.boot_slack_s
    seconds = int((attempt.paid_until - start).total_seconds()) + slack_s
    dearest = attempt.offer.dearest_usd_micros_hour
    return billed(seconds, attempt.hour_prices_usd_micros, dearest)


def cap_left(
    budget_usd_micros: int | None, attempts: Iterable[Attempt], limits: Limits
) -> int | None:
    """What a job's budget leaves beyond everything accrued and reserved; None without a budget."""
    if budget_usd_micros is None:
        return None
    return budget_usd_micros - sum(exposure(attempt, limits) for attempt in attempts)


def affordable_s(left_usd_micros: int | None, dearest_usd_micros_hour: int, wanted_s: int) -> int:
    """How many of `wanted_s` seconds the rest of a cap pays at the dearest price."""
    if left_usd_micros is None:
        return wanted_s
    return max(0, min(wanted_s, left_usd_micros * HOUR_S // dearest_usd_micros_hour))


def usd(micros: int) -> str:
    """For people: dollars with as many decimals as a bill of this size needs."""
    dollars = micros / 1_000_000
    return f"{dollars:.2f} USD" if dollars >= 1 else f"{dollars:.4f} USD"
