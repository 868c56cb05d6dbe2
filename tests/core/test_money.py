from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core.model import EndedBy, Limits, Market
from spotrunner.core.money import (
    accrued,
    bill_end,
    billed,
    billed_price,
    exposure,
    hour_index,
    is_free,
    on_demand_cost,
    seconds_between,
    usd,
)
from spotrunner.core.states import AttemptState
from tests.build import (
    ON_DEMAND,
    SPOT,
    a_pool,
    a_quote,
    an_attempt,
    an_offer,
    at,
    pending,
)

LIMITS = Limits()
prices = st.integers(1, 100_000_000)


# -- the bill ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "hours", "then", "micros"),
    [
        (3600, (), 526_000, 526_000),
        (1800, (), 526_000, 263_000),
        (1, (), 360_000, 6_000),  # 60 seconds at the least
        (60, (), 360_000, 6_000),
        (61, (), 360_000, 6_100),
        (5400, (100_000,), 200_000, 200_000),  # the second hour at its own price
        (5400, (100_000, 300_000), 999_999, 250_000),
        (1800, (100_000, 300_000), 999_999, 50_000),  # a price of an hour that never came
        (61, (), 1, 1),  # rounded up: many small bills never sum to less
    ],
)
def test_the_bill_is_by_the_second_with_each_hours_price(
    seconds: int, hours: tuple[int, ...], then: int, micros: int
) -> None:
    assert billed(seconds, hours, then) == micros


@given(seconds=st.integers(0, 10**6), more=st.integers(0, 10**5), price=prices)
def test_longer_is_never_cheaper(seconds: int, more: int, price: int) -> None:
    assert billed(seconds + more, (price // 2,), price) >= billed(seconds, (price // 2,), price)


@pytest.mark.parametrize(
    ("market", "lived_s", "by", "free"),
    [
        (Market.SPOT, 3599, EndedBy.EC2, True),
        (Market.SPOT, 3600, EndedBy.EC2, False),
        (Market.SPOT, 10, EndedBy.US, False),
        (Market.SPOT, 10, EndedBy.ITSELF, False),
        (Market.SPOT, 10, EndedBy.UNKNOWN, False),
        (Market.SPOT, 10, None, False),
        (Market.ON_DEMAND, 10, EndedBy.EC2, False),
    ],
)
def test_only_what_ec2_takes_of_spot_in_its_first_hour_is_free(
    market: Market, lived_s: int, by: EndedBy | None, free: bool
) -> None:
    assert is_free(market, at(0), at(lived_s), by) is free


@pytest.mark.parametrize(("age_s", "hour"), [(-5, 0), (0, 0), (3599, 0), (3600, 1), (7200, 2)])
def test_instance_hours_count_from_the_launch(age_s: int, hour: int) -> None:
    assert hour_index(at(0), at(age_s)) == hour


def test_a_begun_second_counts() -> None:
    assert seconds_between(at(0), at(1.01)) == 2


def test_what_an_attempt_has_cost_so_far() -> None:
    attempt = an_attempt(launched_s=0)
    assert accrued(attempt, at(1800)) == SPOT // 2
    assert accrued(pending(), at(1800)) == 0
    ended = an_attempt(1, AttemptState.ENDED, cost_usd_micros=77)
    assert accrued(ended, at(10**6)) == 77


def test_disk_and_address_are_billed_beside_the_instance_and_bytes_once() -> None:
    attempt = an_attempt(
        launched_s=0,
        extras_usd_micros_hour=16_112,
        transfer_usd_micros=40_000,
        traffic_usd_micros=5_000,
    )
    assert accrued(attempt, at(1800)) == SPOT // 2 + 16_112 // 2 + 40_000 + 5_000
    assert accrued(attempt, at(3)) == -(-SPOT // 60) + -(-16_112 // 60) + 45_000, "a minute"
    taken = dataclasses.replace(attempt, state=AttemptState.ENDED, ended_at=at(1800), free=True)
    assert accrued(taken, at(9000)) == 16_112 // 2 + 45_000


def test_on_demand_would_have_cost_the_same_time() -> None:
    attempt = an_attempt(1, AttemptState.ENDED, launched_s=0, ended_at=at(3600))
    assert on_demand_cost(attempt, at(9000)) == ON_DEMAND
    assert on_demand_cost(pending(), at(9000)) == 0
    free = dataclasses.replace(
        attempt, free=True, extras_usd_micros_hour=16_112, transfer_usd_micros=40_000
    )
    assert on_demand_cost(free, at(9000)) == ON_DEMAND + 16_112 + 40_000


# -- reservations ------------------------------------------------------------------------------


def test_a_launch_reserves_its_step_and_the_start_of_its_timer_at_the_dearest_price() -> None:
    assert exposure(pending(paid_until_s=1800), LIMITS) == billed(1800 + 120, (), ON_DEMAND)


def test_the_late_timer_stays_reserved_when_the_launch_is_known() -> None:
    """An agent that never starts leaves the end to the timer, which started after the bill."""
    attempt = an_attempt(launched_s=20, paid_until_s=1800)
    assert bill_end(attempt, LIMITS) == at(20 + 1800 + 120)
    assert exposure(attempt, LIMITS) == billed(1800 + 120, (), ON_DEMAND)


@pytest.mark.parametrize("early_s", range(6))
@pytest.mark.parametrize("paid_until_s", [900, 1800, 5400])
def test_ec2_may_date_a_launch_before_we_wanted_it(early_s: int, paid_until_s: int) -> None:
    """Its clock tells whole seconds, and ours may be a little ahead: it is reserved already."""
    first: dict[str, Any] = {"first_paid_s": 900, "intent_s": 0}
    wanted = exposure(pending(paid_until_s=paid_until_s, **first), LIMITS)
    known = an_attempt(launched_s=-early_s, paid_until_s=paid_until_s, **first)
    assert exposure(known, LIMITS) <= wanted


def test_an_extension_moves_the_end_of_the_bill() -> None:
    assert bill_end(an_attempt(paid_until_s=7200), LIMITS) == at(7200 + 120 - 5)


def test_hours_with_a_known_price_count_with_it_the_rest_at_the_dearest() -> None:
    attempt = an_attempt(launched_s=0, paid_until_s=5400, hour_prices_usd_micros=(SPOT,))
    assert exposure(attempt, LIMITS) == SPOT + billed(1800 + 115, (), ON_DEMAND)


def test_disk_address_and_bytes_are_reserved_with_it() -> None:
    """Of the bytes, what has been paid for in advance or what came, whichever is more."""
    attempt = an_attempt(
        launched_s=0,
        paid_until_s=3485,
        extras_usd_micros_hour=16_112,
        transfer_usd_micros=40_000,
        traffic_usd_micros=5_000,
        traffic_reserved_usd_micros=7_000,
    )
    assert exposure(attempt, LIMITS) == ON_DEMAND + 16_112 + 40_000 + 7_000
    more = dataclasses.replace(attempt, traffic_usd_micros=9_000)
    assert exposure(more, LIMITS) == exposure(attempt, LIMITS) + 2_000


def test_what_outstays_its_time_counts_on() -> None:
    attempt = an_attempt(launched_s=0, paid_until_s=1800)
    assert exposure(attempt, LIMITS, at(600)) == exposure(attempt, LIMITS)
    assert exposure(attempt, LIMITS, at(3600)) == ON_DEMAND


def test_an_end_replaces_the_reservation_by_the_bill() -> None:
    ended = an_attempt(1, AttemptState.ENDED, cost_usd_micros=77)
    assert exposure(ended, LIMITS, at(10**6)) == 77


@given(
    intent_s=st.integers(0, 100),
    late_s=st.integers(0, 900),
    paid_s=st.integers(900, 20_000),
    hours=st.lists(st.integers(1, ON_DEMAND), max_size=4),
    lived_s=st.integers(0, 20_000),
    price=st.integers(1, ON_DEMAND),
)
def test_no_bill_is_above_its_reservation(
    intent_s: int, late_s: int, paid_s: int, hours: list[int], lived_s: int, price: int
) -> None:
    launched_s = intent_s + late_s
    attempt = an_attempt(
        intent_s=intent_s,
        launched_s=launched_s,
        paid_until_s=intent_s + paid_s,
        first_paid_s=min(paid_s, 1800),
        hour_prices_usd_micros=tuple(hours),
    )
    longest_s = (bill_end(attempt, LIMITS) - at(launched_s)).total_seconds()
    bill = billed(min(lived_s, int(longest_s)), hours, price)
    assert bill <= exposure(attempt, LIMITS)


@pytest.mark.parametrize(
    ("micros", "text"),
    [(12_345_678, "12.35 USD"), (1_000_000, "1.00 USD"), (149_034, "0.1490 USD")],
)
def test_people_read_dollars(micros: int, text: str) -> None:
    assert usd(micros) == text


@pytest.mark.parametrize(
    ("moves_s", "price"), [(-1, 200_000), (0, 200_000), (30, 200_000), (60, 200_000), (61, SPOT)]
)
def test_of_a_price_that_moves_while_it_starts_the_dearer_is_booked(
    moves_s: int, price: int
) -> None:
    """EC2 tells of the launch, and charges from when it runs."""
    rises = {a_pool(): (a_quote(-9999, SPOT), a_quote(3600 + moves_s, 200_000))}
    assert billed_price(rises, an_offer(), at(0), 1) == price
    falls = {a_pool(): (a_quote(-9999, 200_000), a_quote(3600 + moves_s, SPOT))}
    assert billed_price(falls, an_offer(), at(0), 1) == (SPOT if moves_s <= 0 else 200_000)
