"""What an attempt costs, and what it may still come to. Integer micro-dollars.

Source of the billing rules: AWS, "Billing for interrupted Spot Instances" and "Amazon EC2 Spot
pricing": by the second, 60 seconds the least; a spot instance that EC2 takes within its first hour
is free. Disk, address and transfer (core/charges) are charged whoever ends the instance.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence

from spotrunner.core.model import Attempt, EndedBy, Limits, Market, Offer, Pool, Quote
from spotrunner.core.states import AttemptState

HOUR_S = 3600
MINIMUM_S = 60
# From a launch until it runs: EC2 tells only the former.
START_S = 60


# -- the bill ----------------------------------------------------------------------------------


def billed_price(
    quotes: Mapping[Pool, Sequence[Quote]], offer: Offer, launched_at: dt.datetime, hour: int
) -> int | None:
    """The price that instance-hour `hour` (0 is the first) is charged at, micro-dollars; None where
    no quote tells.

    Source: AWS, "New Amazon EC2 Spot pricing" (2017): the price at the start of each instance-hour
    holds for that hour. AWS's whitepaper on spot says "the price in effect", by the second. The
    former is booked; the dearer of the two is what is reserved (`exposure`), and `spotrunner
    reconcile` says which of them the account's own data feed shows.

    EC2 tells of the launch, and charges from when it runs, some seconds later: of a price that
    moves just then, the dearer.
    """
    if offer.market is Market.ON_DEMAND:
        return offer.dearest_usd_micros_hour
    begin = launched_at + dt.timedelta(hours=hour)
    at_launch = price_at(quotes, offer.pool, begin)
    runs = price_at(quotes, offer.pool, begin + dt.timedelta(seconds=START_S))
    return None if at_launch is None or runs is None else max(at_launch, runs)


def price_at(quotes: Mapping[Pool, Sequence[Quote]], pool: Pool, at: dt.datetime) -> int | None:
    """The spot price in force at a time, micro-dollars an hour; None before the first quote."""
    price = None
    for quote in quotes.get(pool, ()):
        if quote.at > at:
            break
        price = quote.price_usd_micros_hour
    return price


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


# -- what an attempt has cost ------------------------------------------------------------------


def accrued(attempt: Attempt, now: dt.datetime) -> int:
    """What the attempt has cost so far, or in the end."""
    if attempt.cost_usd_micros is not None:
        return attempt.cost_usd_micros
    if attempt.launched_at is None:
        return 0
    return instance_cost(attempt, now) + extras_cost(attempt, now) + moved_cost(attempt)


def instance_cost(attempt: Attempt, until: dt.datetime) -> int:
    """The instance alone, as EC2 charges it: an hour whose price is not known yet counts with the
    last one that is. Once it has ended, at what its end made of it."""
    if attempt.launched_at is None or attempt.free:
        return 0
    return billed(_lived_s(attempt, until), attempt.hour_prices_usd_micros, _then(attempt))


def _lived_s(attempt: Attempt, until: dt.datetime) -> int:
    assert attempt.launched_at is not None
    end = min(until, attempt.ended_at) if attempt.ended_at else until
    return max(0, seconds_between(attempt.launched_at, end))


def _then(attempt: Attempt) -> int:
    """The price of the hours that are not over. What has ended and still has such an hour never
    learned its price: when in doubt, the dearer."""
    if attempt.state is AttemptState.ENDED:
        return attempt.offer.dearest_usd_micros_hour
    return attempt.running_price_usd_micros or attempt.offer.price_usd_micros_hour


def extras_cost(attempt: Attempt, until: dt.datetime) -> int:
    """Its disk and its address."""
    if attempt.launched_at is None or attempt.extras_usd_micros_hour == 0:
        return 0
    return billed(_lived_s(attempt, until), (), attempt.extras_usd_micros_hour)


def moved_cost(attempt: Attempt) -> int:
    """Bytes from and to other regions."""
    if attempt.launched_at is None:
        return 0
    return attempt.transfer_usd_micros + attempt.traffic_usd_micros


def on_demand_cost(attempt: Attempt, now: dt.datetime) -> int:
    """What the attempt's time would have cost on demand, interruptions not forgiven; disk, address
    and transfer are the same there."""
    if attempt.launched_at is None:
        return 0
    instance = billed(_lived_s(attempt, now), (), attempt.offer.dearest_usd_micros_hour)
    return instance + extras_cost(attempt, now) + moved_cost(attempt)


# -- what it may still come to -----------------------------------------------------------------


def bill_end(attempt: Attempt, limits: Limits) -> dt.datetime:
    """When the attempt's bill ends at the latest, whoever is dead by then: by its last order, or by
    the fail-safe timer of its first paid step, which starts with the user-data and so a little
    after the bill. EC2 may date a launch `clock_s` before we wanted it: so much of what was
    reserved for it is given back only now."""
    start = attempt.launched_at or attempt.intent_at
    timer = start + dt.timedelta(seconds=attempt.first_paid_s)
    clock_s = 0 if attempt.launched_at is None else limits.clock_s
    told = attempt.paid_until - dt.timedelta(seconds=clock_s)
    return max(told, timer) + dt.timedelta(seconds=limits.boot_slack_s)


def late_s(attempt: Attempt, limits: Limits) -> int:
    """How many seconds lie between the earliest and the latest time at which an attempt may have
    been launched, as far as we know."""
    return start_late_s(limits) if attempt.launched_at is None else 0


def start_late_s(limits: Limits) -> int:
    """From a little before it is wanted, by EC2's clock, to a little after."""
    return limits.clock_s + limits.boot_slack_s


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
    return exposure_until(attempt, end if seen_at is None else max(end, seen_at))


def exposure_until(attempt: Attempt, until: dt.datetime) -> int:
    """The most that a living attempt can have come to at `until`: what days are charged with."""
    seconds = seconds_between(attempt.launched_at or attempt.intent_at, until)
    dearest = attempt.offer.dearest_usd_micros_hour
    instance = billed(seconds, attempt.hour_prices_usd_micros, dearest)
    extras = billed(seconds, (), attempt.extras_usd_micros_hour)
    traffic = max(attempt.traffic_usd_micros, attempt.traffic_reserved_usd_micros)
    return instance + extras + attempt.transfer_usd_micros + traffic


def is_priced(offer: Offer) -> bool:
    """An adopted instance may run in a pool whose price nobody knows yet: its offer has none."""
    return offer.dearest_usd_micros_hour > 0


def dearest_usd_micros_hour(attempt: Attempt) -> int:
    """What an hour of it can come to at most, with its disk and its address."""
    return attempt.offer.dearest_usd_micros_hour + attempt.extras_usd_micros_hour


def start_s(limits: Limits) -> int:
    """What a cap has to pay at the dearest price before anything is launched: a boot, and the late
    start of its timer."""
    return limits.boot_allowance_s + limits.boot_slack_s


def usd(micros: int) -> str:
    """For people: dollars with as many decimals as a bill of this size needs."""
    dollars = micros / 1_000_000
    return f"{dollars:.2f} USD" if abs(dollars) >= 1 else f"{dollars:.4f} USD"
