"""What an attempt costs, what it may still come to, and what a cap leaves. Integer micro-dollars.

Source of the billing rules: AWS, "Billing for interrupted Spot Instances" and "Amazon EC2 Spot
pricing": by the second, 60 seconds the least; the price at the start of an instance-hour holds for
that hour; a spot instance that EC2 takes within its first hour is free.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence

from spotrunner.core.model import Attempt, EndedBy, Limits, Market, Offer
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
    is_taken = ended_by is not None and ended_by.interruption
    return market is Market.SPOT and is_taken and lived_s < HOUR_S


def hour_index(launched_at: dt.datetime, at: dt.datetime) -> int:
    """The instance-hour that `at` lies in, counted from 0."""
    return max(0, int((at - launched_at).total_seconds()) // HOUR_S)


def seconds_between(start: dt.datetime, end: dt.datetime) -> int:
    """Whole seconds, a begun one counted: that is how EC2 counts them."""
    return math.ceil((end - start).total_seconds())


def accrued(attempt: Attempt, now: dt.datetime) -> int:
    """What the attempt has cost so far, or in the end."""
    if attempt.cost_usd_micros is not None:
        return attempt.cost_usd_micros
    if attempt.launched_at is None:
        return 0
    seconds = seconds_between(attempt.launched_at, now)
    return billed(seconds, attempt.hour_prices_usd_micros, attempt.offer.price_usd_micros_hour)


def on_demand_cost(attempt: Attempt, now: dt.datetime) -> int:
    """What the attempt's time would have cost on demand, interruptions not forgiven."""
    if attempt.launched_at is None:
        return 0
    seconds = seconds_between(attempt.launched_at, attempt.ended_at or now)
    return billed(seconds, (), attempt.offer.dearest_usd_micros_hour)


def bill_end(attempt: Attempt, limits: Limits) -> dt.datetime:
    """When the attempt's bill ends at the latest, whoever is dead by then: by its last order, or by
    the fail-safe timer of its first paid step, which starts with the user-data and so a little
    after the bill."""
    start = attempt.launched_at or attempt.intent_at
    timer = start + dt.timedelta(seconds=attempt.first_paid_s)
    return max(attempt.paid_until, timer) + dt.timedelta(seconds=limits.boot_slack_s)


def exposure(attempt: Attempt, limits: Limits, seen_at: dt.datetime | None = None) -> int:
    """The most that the attempt can come to: what a cap must hold.

    Hours that are over count with their price, all other time with the dearest. An instance that
    EC2 showed alive at `seen_at`, after the end of its time, counts on.
    """
    if attempt.cost_usd_micros is not None:
        return attempt.cost_usd_micros
    if attempt.state is AttemptState.ENDED:
        return 0
    end = bill_end(attempt, limits)
    end = end if seen_at is None else max(end, seen_at)
    seconds = seconds_between(attempt.launched_at or attempt.intent_at, end)
    dearest = attempt.offer.dearest_usd_micros_hour
    return billed(seconds, attempt.hour_prices_usd_micros, dearest)


def cap_left(
    budget_usd_micros: int | None,
    attempts: Sequence[Attempt],
    limits: Limits,
    seen_at: Mapping[str, dt.datetime],
) -> int | None:
    """What a job's budget leaves beyond everything accrued and reserved; None without a budget.
    While the price of a living attempt is unknown, nothing is left. `seen_at`, by attempt, is when
    EC2 last showed its instance alive."""
    if budget_usd_micros is None:
        return None
    if any(attempt.state.live and not is_priced(attempt.offer) for attempt in attempts):
        return 0
    return budget_usd_micros - sum(
        exposure(attempt, limits, seen_at.get(attempt.id)) for attempt in attempts
    )


def is_priced(offer: Offer) -> bool:
    """An adopted instance may run in a pool whose price nobody knows yet: its offer has none."""
    return offer.dearest_usd_micros_hour > 0


def affordable_s(left_usd_micros: int | None, dearest_usd_micros_hour: int, wanted_s: int) -> int:
    """How many of `wanted_s` seconds the rest of a cap pays at the dearest price."""
    if left_usd_micros is None:
        return wanted_s
    assert dearest_usd_micros_hour > 0, "what has no price cannot be paid for"
    return max(0, min(wanted_s, left_usd_micros * HOUR_S // dearest_usd_micros_hour))


def start_s(limits: Limits) -> int:
    """What a cap has to pay at the dearest price before anything is launched: a boot, and the late
    start of its timer."""
    return limits.boot_allowance_s + limits.boot_slack_s


def first_paid_s(left_usd_micros: int | None, offer: Offer, limits: Limits) -> int:
    """The first paid step of a launch: a full one, or what the rest of a cap pays of it."""
    slack_s = limits.boot_slack_s
    wanted_s = limits.step_s + slack_s
    return affordable_s(left_usd_micros, offer.dearest_usd_micros_hour, wanted_s) - slack_s


def usd(micros: int) -> str:
    """For people: dollars with as many decimals as a bill of this size needs."""
    dollars = micros / 1_000_000
    return f"{dollars:.2f} USD" if dollars >= 1 else f"{dollars:.4f} USD"
