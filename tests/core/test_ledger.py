"""The bill by hand: every figure below is written out as what AWS would charge."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotrunner.core.ledger import Entry, entries
from spotrunner.core.model import Attempt, EndedBy, EndReason, InstanceState, Market
from spotrunner.core.money import accrued, is_free, on_demand_cost
from spotrunner.core.settle import settle
from spotrunner.core.states import AttemptState
from tests.build import (
    JOB,
    a_quote,
    a_snapshot,
    after,
    an_attempt,
    an_instance,
    an_offer,
    at,
    pending,
)

SHANGHAI = "Asia/Shanghai"
# 100 GiB of gp3 in us-east-1 at 0.08 USD a GiB and month of 30 days, 11,111.1 rounded up; and the
# public address at 0.005 USD an hour.
EXTRAS = 11_112 + 5_000
# 40 GB of data at 0.02 USD, and 1.5 GB of checkpoints.
DATA, CHECKPOINTS = 800_000, 30_000


def cents(found: tuple[Entry, ...]) -> list[tuple[dt.date, int, int, int, int]]:
    return [
        (
            entry.day,
            entry.lived_s,
            entry.instance_usd_micros,
            entry.extras_usd_micros,
            entry.transfer_usd_micros,
        )
        for entry in found
    ]


# -- by hand -----------------------------------------------------------------------------------


def the_night() -> Attempt:
    """Launched on 1 November at 23:20 in Shanghai (15:20 UTC), it powered itself off 25 h 10 min
    later, on 3 November at 00:30."""
    return an_attempt(
        intent_s=12_000 - 5,
        launched_s=12_000,
        paid_until_s=12_000 + 25 * 3600 + 900,
        extras_usd_micros_hour=EXTRAS,
        transfer_usd_micros=DATA,
        traffic_usd_micros=CHECKPOINTS,
    )


def the_bill(ended_by: EndedBy = EndedBy.ITSELF, lived_s: int = 25 * 3600 + 600) -> Attempt:
    """As `settle` books it. The price rises at 15:50 UTC, within the first instance-hour, and falls
    within the third."""
    quotes = (a_quote(-3600, 120_000), a_quote(13_800, 180_000), a_quote(12_000 + 9000, 150_000))
    night = the_night()
    gone = an_instance(night, InstanceState.ENDED, ended_s=12_000 + lived_s, ended_by=ended_by)
    snapshot = a_snapshot(12_000 + lived_s + 60, attempts=[night], instances=[gone], quotes=quotes)
    return after(settle, snapshot).attempts[night.id]


def test_a_night_over_two_midnights_with_prices_that_change_within_an_hour() -> None:
    """Each instance-hour at the price of its start: a change within it counts from the next on.

    Its hours are 15:20 (0.12 USD), 16:20 and 17:20 (0.18), and from 18:20 on 23 at 0.15, of which
    the last is the 26th, with 600 s. Midnights in Shanghai are at 16:00 UTC.
    """
    bill = the_bill()
    first = -(-2_400 * 120_000 // 3600)  # 40 minutes at 0.12
    upto_second = (
        3600 * 120_000 + 2 * 3600 * 180_000 + (24 * 3600 + 2_400 - 3 * 3600) * 150_000
    ) / 3600
    whole = (3600 * 120_000 + 2 * 3600 * 180_000 + 22 * 3600 * 150_000 + 600 * 150_000) / 3600
    assert (first, upto_second, whole) == (80_000, 3_730_000.0, 3_805_000.0)
    # Disk and address: 2,400 s are 10,741.3; 24 h 40 min are 397,429.3; 25 h 10 min are 405,485.3.
    assert [-(-EXTRAS * s // 3600) for s in (2_400, 88_800, 90_600)] == [10_742, 397_430, 405_486]
    assert cents(entries(bill, SHANGHAI, at(10**6))) == [
        (dt.date(2026, 11, 1), 2_400, 80_000, 10_742, DATA + CHECKPOINTS),
        (dt.date(2026, 11, 2), 86_400, 3_730_000 - 80_000, 397_430 - 10_742, 0),
        (dt.date(2026, 11, 3), 1_800, 3_805_000 - 3_730_000, 405_486 - 397_430, 0),
    ]
    assert bill.cost_usd_micros == 3_805_000 + 405_486 + 800_000 + 30_000
    assert not bill.estimated


def test_what_it_would_have_been_on_demand_stands_beside_it() -> None:
    """0.526 USD an hour; disk, address and bytes cost the same there."""
    found = entries(the_bill(), SHANGHAI, at(10**6))
    # 350,666.7, 12,974,666.7 and 13,237,666.7, each sum rounded up.
    assert [entry.on_demand_usd_micros for entry in found] == [
        350_667 + 10_742 + 830_000,
        12_974_667 - 350_667 + 397_430 - 10_742,
        13_237_667 - 12_974_667 + 405_486 - 397_430,
    ]


def test_taken_by_ec2_in_its_first_hour_the_instance_is_free_and_nothing_else() -> None:
    """Disk, address and bytes are charged whoever ends it: 3,540 s, the last 1,140 on the 2nd."""
    bill = the_bill(EndedBy.EC2, lived_s=3_540)
    assert bill.free
    # 2,400 s are 10,741.3; 3,540 s are 15,843.5.
    assert cents(entries(bill, SHANGHAI, at(10**6))) == [
        (dt.date(2026, 11, 1), 2_400, 0, 10_742, 830_000),
        (dt.date(2026, 11, 2), 1_140, 0, 15_844 - 10_742, 0),
    ]
    assert bill.cost_usd_micros == 15_844 + 830_000


@pytest.mark.parametrize(
    ("ended_by", "lived_s", "instance"),
    [
        (EndedBy.EC2, 3_600, 120_000),  # a whole hour is none that is free
        (EndedBy.ITSELF, 3_540, 118_000),
        (EndedBy.US, 3_540, 118_000),
        (EndedBy.EC2, 3_599, 0),
        (EndedBy.PRICE, 3_599, 0),
    ],
)
def test_the_first_hour_is_free_only_where_ec2_takes_it(
    ended_by: EndedBy, lived_s: int, instance: int
) -> None:
    found = entries(the_bill(ended_by, lived_s), SHANGHAI, at(10**6))
    assert sum(entry.instance_usd_micros for entry in found) == instance


def test_a_minute_is_the_least_and_is_the_launchs_day() -> None:
    """Launched ten seconds before midnight, it lived for 30: a minute of 0.12 USD an hour is
    2,000, a minute of disk and address 268.5."""
    live = dataclasses.replace(the_night(), launched_at=at(14_390), transfer_usd_micros=0)
    ended = an_ended(live, lived_s=30, prices=(120_000,), traffic_usd_micros=0)
    assert cents(entries(ended, SHANGHAI, at(10**6))) == [
        (dt.date(2026, 11, 1), 10, 2_000, 269, 0),
        (dt.date(2026, 11, 2), 20, 0, 0, 0),
    ]


@pytest.mark.parametrize(
    ("begin", "end", "hours"),
    [
        # 2026-03-29, when Berlin's clocks go forward, and 2026-10-25, when they go back
        ("2026-03-28T22:00Z", "2026-03-30T00:00Z", [1, 23, 2]),
        ("2026-10-24T21:00Z", "2026-10-26T01:00Z", [1, 25, 2]),
        ("2026-06-01T21:00Z", "2026-06-03T00:00Z", [1, 24, 2]),
    ],
)
def test_a_day_in_berlin_has_23_24_or_25_hours(begin: str, end: str, hours: list[int]) -> None:
    launched_at = dt.datetime.fromisoformat(begin.replace("Z", "+00:00"))
    ended_at = dt.datetime.fromisoformat(end.replace("Z", "+00:00"))
    lived_s = int((ended_at - launched_at).total_seconds())
    live = an_attempt(extras_usd_micros_hour=36_000)
    live = dataclasses.replace(live, launched_at=launched_at, intent_at=launched_at)
    ended = an_ended(live, lived_s=lived_s, prices=(100_000,) * (lived_s // 3600))
    found = entries(ended, "Europe/Berlin", at(10**8))
    assert [entry.lived_s for entry in found] == [3600 * each for each in hours]
    assert [entry.instance_usd_micros for entry in found] == [100_000 * each for each in hours]
    assert [entry.extras_usd_micros for entry in found] == [36_000 * each for each in hours]


# -- what is special ---------------------------------------------------------------------------


def test_what_lives_is_booked_up_to_now() -> None:
    """With the last price that is known."""
    live = dataclasses.replace(the_night(), running_price_usd_micros=120_000)
    (entry,) = entries(live, SHANGHAI, at(12_000 + 1_800))
    assert (entry.instance_usd_micros, entry.extras_usd_micros) == (60_000, 8_056)
    assert entry.cost_usd_micros == accrued(live, at(12_000 + 1_800))


def test_an_end_at_midnight_opens_no_other_day() -> None:
    ended = an_ended(the_night(), lived_s=2_400, prices=(120_000,))
    assert [entry.day.day for entry in entries(ended, SHANGHAI, at(10**6))] == [1]
    later = an_ended(the_night(), lived_s=2_401, prices=(120_000,))
    assert [entry.day.day for entry in entries(later, SHANGHAI, at(10**6))] == [1, 2]


def test_what_nobody_ever_saw_is_booked_on_the_day_on_which_it_was_wanted() -> None:
    lost = dataclasses.replace(
        pending(intent_s=14_300),
        state=AttemptState.ENDED,
        ended_at=at(17_000),
        cost_usd_micros=280_534,
        estimated=True,
    )
    (entry,) = entries(lost, SHANGHAI, at(10**6))
    assert (entry.day, entry.cost_usd_micros) == (dt.date(2026, 11, 1), 280_534)
    assert entry.estimated
    refused = dataclasses.replace(lost, cost_usd_micros=0, estimated=False)
    assert entries(refused, SHANGHAI, at(10**6)) == ()
    assert entries(pending(), SHANGHAI, at(600)) == ()


def test_each_line_says_whose_it_is() -> None:
    (entry,) = entries(an_attempt(offer=an_offer("eu-west-1a")), "UTC", at(600))
    assert (entry.attempt, entry.job_id) == (f"{JOB}.1", JOB)
    assert (entry.region, entry.market, entry.estimated) == ("eu-west-1", Market.SPOT, False)


# -- whatever it was ---------------------------------------------------------------------------

zones = st.sampled_from(
    ["UTC", SHANGHAI, "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia"]
)
prices = st.integers(1, 3_000_000)


def an_ended(
    live: Attempt, *, lived_s: float, prices: tuple[int, ...], **changes: object
) -> Attempt:
    """With the bill of its life."""
    assert live.launched_at is not None
    ended = dataclasses.replace(
        live,
        state=AttemptState.ENDED,
        ended_at=live.launched_at + dt.timedelta(seconds=lived_s),
        end_reason=EndReason.DONE,
        hour_prices_usd_micros=prices,
        **changes,  # type: ignore[arg-type]
    )
    return dataclasses.replace(ended, cost_usd_micros=accrued(ended, at(10**8)))


@st.composite
def lives(draw: st.DrawFn) -> tuple[Attempt, dt.datetime]:
    """An attempt, and a time to look at it."""
    live = an_attempt(
        launched_s=draw(st.floats(0, 400 * 86_400)),
        extras_usd_micros_hour=draw(st.integers(0, 100_000)),
        transfer_usd_micros=draw(st.integers(0, 10**6)),
        traffic_usd_micros=draw(st.integers(0, 10**6)),
        running_price_usd_micros=draw(st.none() | prices),
        hour_prices_usd_micros=tuple(draw(st.lists(prices, max_size=8))),
        offer=an_offer(market=draw(st.sampled_from(list(Market)))),
    )
    assert live.launched_at is not None
    lived_s = draw(st.floats(0, 4 * 86_400) | st.floats(0, 120))
    looked_at = live.launched_at + dt.timedelta(seconds=lived_s)
    if draw(st.booleans()):
        return live, looked_at
    by = draw(st.sampled_from(list(EndedBy)))
    ended = an_ended(
        live,
        lived_s=lived_s,
        prices=live.hour_prices_usd_micros,
        free=is_free(live.offer.market, live.launched_at, looked_at, by),
        estimated=draw(st.booleans()),
    )
    return ended, looked_at + dt.timedelta(seconds=draw(st.floats(0, 10**6)))


@settings(deadline=None)
@given(life=lives(), tz=zones)
def test_the_lines_sum_to_the_bill_to_the_micro_dollar(
    life: tuple[Attempt, dt.datetime], tz: str
) -> None:
    attempt, now = life
    found = entries(attempt, tz, now)
    assert sum(entry.cost_usd_micros for entry in found) == accrued(attempt, now)
    assert sum(entry.on_demand_usd_micros for entry in found) == on_demand_cost(attempt, now)
    assert all(entry.estimated is attempt.estimated for entry in found)


@settings(deadline=None)
@given(life=lives(), tz=zones)
def test_each_day_once_in_its_order_and_nothing_negative(
    life: tuple[Attempt, dt.datetime], tz: str
) -> None:
    attempt, now = life
    found = entries(attempt, tz, now)
    listed = [entry.day for entry in found]
    assert listed == sorted(set(listed))
    for entry in found:
        assert min(entry.instance_usd_micros, entry.extras_usd_micros) >= 0
        assert min(entry.transfer_usd_micros, entry.on_demand_usd_micros) >= 0
    assert attempt.launched_at is not None
    lived_s = ((attempt.ended_at or now) - attempt.launched_at).total_seconds()
    assert lived_s <= sum(entry.lived_s for entry in found) <= lived_s + 2


@settings(deadline=None)
@given(life=lives(), tz=zones, later_s=st.integers(0, 3 * 86_400))
def test_a_day_that_is_over_costs_what_it_cost(
    life: tuple[Attempt, dt.datetime], tz: str, later_s: int
) -> None:
    """As long as no price of its hours is learned since."""
    attempt, now = life
    before = entries(attempt, tz, now)
    after_ = entries(attempt, tz, now + dt.timedelta(seconds=later_s))
    assert after_[: len(before) - 1] == before[:-1]
