"""The ledger against the feed: bills by hand, in micro-dollars."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core.datafeed import Row
from spotrunner.core.model import Attempt, Market, Quote
from spotrunner.core.reconciled import Compared, Reading, Reconciliation, Standing, compare
from spotrunner.core.states import AttemptState
from tests.build import a_pool, a_quote, an_attempt, an_offer, at

HOUR_S, DAY_S = 3600, 86_400
NOW = at(5 * DAY_S)


def lived(
    seconds: float, *prices: int, generation: int = 1, launched_s: float = 0, **changes: Any
) -> Attempt:
    """An attempt that ended after so many seconds, with the price of each hour of them."""
    return an_attempt(
        generation,
        AttemptState.ENDED,
        launched_s=launched_s,
        ended_at=at(launched_s + seconds),
        hour_prices_usd_micros=prices,
        **changes,
    )


def row(
    at_s: float, price: int, charge: int, generation: int = 1, *, coarse: int = 1, **changes: Any
) -> Row:
    fields: dict[str, Any] = {
        "file": "a-file",
        "line": 3,
        "at": at(at_s),
        "instance_id": f"i-digits-7f3a.{generation}",
        "instance_type": "g4dn.xlarge",
        "market_usd_micros_hour": price,
        "charge_usd_micros": charge,
        "coarse_usd_micros": coarse,
        "version": 1,
    }
    return Row(**{**fields, **changes})


def only(found: Reconciliation) -> Compared:
    (instance,) = found.instances
    return instance


# -- what agrees -------------------------------------------------------------------------------


def test_an_hour_and_a_half_at_two_prices_agrees_to_the_micro_dollar() -> None:
    rows = [row(0, 160_000, 160_000), row(HOUR_S, 200_000, 100_000)]
    found = compare(rows, [lived(5400, 160_000, 200_000)], NOW)
    assert only(found) == Compared(
        instance_id="i-digits-7f3a.1",
        instance_type="g4dn.xlarge",
        attempt="digits-7f3a.1",
        feed_usd_micros=260_000,
        ledger_usd_micros=260_000,
        left_out_usd_micros=0,
        difference_usd_micros=0,
        unexplained_usd_micros=0,
        standing=Standing.AGREES,
        why="",
        readings=(Reading.UNKNOWN, Reading.UNKNOWN),
    )
    assert found.covered_fraction == 1.0
    assert found.is_right


@pytest.mark.parametrize(
    ("charge", "coarse", "standing"),
    [
        (160_000, 1, Standing.AGREES),
        (160_002, 1, Standing.AGREES),  # our own rounding up, and its last digit
        (160_003, 1, Standing.DIFFERS),
        (160_500, 500, Standing.AGREES),  # printed as 0.160 or 0.161
        (161_000, 500, Standing.DIFFERS),
    ],
)
def test_the_digits_that_the_feed_prints_are_no_difference(
    charge: int, coarse: int, standing: Standing
) -> None:
    found = compare([row(0, 160_000, charge, coarse=coarse)], [lived(HOUR_S, 160_000)], NOW)
    assert only(found).standing is standing


@given(
    prices=st.lists(st.integers(1, 40_000_000), min_size=1, max_size=8),
    last_s=st.integers(60, HOUR_S),
)
def test_a_feed_with_our_own_prices_and_seconds_always_agrees(
    prices: list[int], last_s: int
) -> None:
    seconds = [HOUR_S] * (len(prices) - 1) + [last_s]
    rows = [
        row(hour * HOUR_S, price, round(part * price / HOUR_S))
        for hour, (price, part) in enumerate(zip(prices, seconds, strict=True))
    ]
    found = compare(rows, [lived(sum(seconds), *prices)], NOW)
    assert only(found).standing is Standing.AGREES
    assert abs(found.difference_usd_micros) <= len(prices) + 1


# -- the first hour ----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[], [row(0, 160_000, 0)]])
def test_what_was_free_is_free_in_the_feed(rows: list[Row]) -> None:
    found = only(compare(rows, [lived(3000, 160_000, free=True)], NOW))
    assert (found.standing, found.ledger_usd_micros) == (Standing.AGREES, 0)
    assert found.why == "free: EC2 took it in its first hour, and the feed charges nothing"


def test_what_the_ledger_has_free_and_the_feed_charges_is_found() -> None:
    found = compare([row(0, 160_000, 133_333)], [lived(3000, 160_000, free=True)], NOW)
    assert only(found).standing is Standing.DIFFERS
    assert found.unexplained_usd_micros == 133_333
    assert not found.is_right
    assert found.findings[0] == (
        "digits-7f3a.1 (i-digits-7f3a.1): the feed has 0.1333 USD, the ledger 0.0000 USD:"
        " the ledger has it free, since EC2 took it in its first hour"
    )


def test_what_the_feed_has_free_and_the_ledger_charges_is_found() -> None:
    found = only(compare([row(0, 160_000, 0)], [lived(3000, 160_000)], NOW))
    assert (found.standing, found.difference_usd_micros) == (Standing.DIFFERS, -133_334)
    assert found.why == "the feed charges nothing, as for what EC2 takes in its first hour"


# -- what is explained -------------------------------------------------------------------------


def test_an_instance_is_charged_from_when_it_runs() -> None:
    found = compare([row(10, 160_000, 158_667)], [lived(HOUR_S, 160_000)], NOW)
    assert only(found).standing is Standing.EXPLAINED
    assert only(found).why == (
        "charged for 29 s less: EC2 counts from when the instance runs, the ledger from its launch"
    )
    assert (found.unexplained_usd_micros, found.difference_usd_micros) == (0, -1_333)
    assert found.findings[0] == "1 instance with a difference that is explained: -0.0013 USD in all"


@pytest.mark.parametrize(
    ("seconds", "standing"), [(120, Standing.EXPLAINED), (122, Standing.DIFFERS)]
)
def test_no_start_takes_longer_than_two_minutes(seconds: int, standing: Standing) -> None:
    charge = (HOUR_S - seconds) * 160_000 // HOUR_S
    found = only(compare([row(100, 160_000, charge)], [lived(HOUR_S, 160_000)], NOW))
    assert found.standing is standing


@pytest.mark.parametrize(
    ("charge", "standing"), [(80_000, Standing.EXPLAINED), (240_000, Standing.DIFFERS)]
)
def test_an_estimate_explains_only_that_the_ledger_has_more(
    charge: int, standing: Standing
) -> None:
    attempt = lived(HOUR_S, 160_000, estimated=True)
    found = only(compare([row(0, 160_000, charge)], [attempt], NOW))
    assert found.standing is standing
    assert ("marked estimated" in found.why) is (standing is Standing.EXPLAINED)


def test_no_start_explains_that_nothing_is_charged() -> None:
    found = only(compare([row(0, 160_000, 0)], [lived(100, 160_000)], NOW))
    assert found.standing is Standing.DIFFERS


# -- AWS's two texts ---------------------------------------------------------------------------

# 0.16 USD an hour, and 0.32 from the middle of the second hour on.
RISING = {a_pool(): (a_quote(-DAY_S, 160_000), a_quote(1.5 * HOUR_S, 320_000))}
THREE_HOURS = lived(3 * HOUR_S, 160_000, 160_000, 320_000)


def test_a_bill_at_the_price_of_each_hours_start() -> None:
    rows = [
        row(0, 160_000, 160_000),
        row(HOUR_S, 160_000, 160_000),
        row(2 * HOUR_S, 320_000, 320_000),
    ]
    found = compare(rows, [THREE_HOURS], NOW, quotes=RISING)
    assert only(found).readings == (Reading.SAME, Reading.HOUR_START, Reading.SAME)
    assert only(found).standing is Standing.AGREES
    assert found.findings == (
        "AWS charges the price at the start of an instance-hour for all of it (1 hour in which it"
        " changed): so does the ledger",
    )


@pytest.mark.parametrize(
    "second_hour",
    [
        [row(HOUR_S, 160_000, 240_000)],
        [row(HOUR_S, 160_000, 80_000), row(1.5 * HOUR_S, 320_000, 160_000)],
    ],
)
def test_a_bill_at_the_price_in_effect(second_hour: list[Row]) -> None:
    rows = [row(0, 160_000, 160_000), *second_hour, row(2 * HOUR_S, 320_000, 320_000)]
    found = compare(rows, [THREE_HOURS], NOW, quotes=RISING)
    assert only(found).readings == (Reading.SAME, Reading.IN_EFFECT, Reading.SAME)
    assert only(found).standing is Standing.EXPLAINED
    assert only(found).why == (
        "charged by the second at the price in effect; the ledger books each hour's first price"
    )
    assert (found.difference_usd_micros, found.unexplained_usd_micros) == (80_000, 0)
    assert found.findings[-1] == (
        "AWS charges the price in effect, by the second (1 hour in which it changed): the ledger"
        " books the price at the start of each instance-hour"
    )


def test_the_price_in_effect_explains_no_hour_that_is_missing() -> None:
    rows = [row(HOUR_S, 160_000, 240_000), row(2 * HOUR_S, 320_000, 320_000)]
    found = compare(rows, [THREE_HOURS], NOW, quotes=RISING)
    assert only(found).readings == (Reading.IN_EFFECT, Reading.SAME)
    assert (only(found).standing, found.unexplained_usd_micros) == (Standing.DIFFERS, 80_000)
    assert only(found).why == "the feed has nothing for 1 of its 3 hours"


def test_an_hour_whose_prices_nobody_read_hinders_no_explanation() -> None:
    quotes = {a_pool(): (a_quote(HOUR_S, 160_000), a_quote(1.5 * HOUR_S, 320_000))}
    rows = [row(0, 160_000, 160_000), row(HOUR_S, 160_000, 240_000)]
    found = only(compare(rows, [lived(2 * HOUR_S, 160_000, 160_000)], NOW, quotes=quotes))
    assert found.readings == (Reading.UNKNOWN, Reading.IN_EFFECT)
    assert found.standing is Standing.EXPLAINED


def test_in_a_part_of_an_hour_the_start_takes_seconds_away() -> None:
    """0.16 USD an hour, and 0.24 after a quarter; it lived for half an hour, and ran 100 s late."""
    quotes = {a_pool(): (a_quote(-DAY_S, 160_000), a_quote(900, 240_000))}
    rows = [row(100, 160_000, 1700 * 160_000 // HOUR_S)]
    found = only(compare(rows, [lived(1800, 160_000)], NOW, quotes=quotes))
    assert found.readings == (Reading.HOUR_START,)


def test_a_bill_by_neither_text_is_found() -> None:
    rows = [row(0, 160_000, 160_000), row(HOUR_S, 320_000, 320_000)]
    found = compare(rows, [lived(2 * HOUR_S, 160_000, 160_000)], NOW, quotes=RISING)
    assert only(found).readings == (Reading.SAME, Reading.NEITHER)
    assert found.unexplained_usd_micros == 160_000
    assert only(found).why == (
        "the feed's price at 2026-11-01 13:00 UTC is 0.3200 USD an hour, the ledger's 0.1600 USD"
    )
    assert found.findings[-1] == (
        "AWS charged 1 instance-hour neither at the first price nor at the price in effect (and 0"
        " at the first, 0 at that in effect)"
    )


def test_both_texts_in_one_bill_are_told() -> None:
    quotes = {a_pool(): (*RISING[a_pool()], a_quote(2.5 * HOUR_S, 160_000))}
    rows = [
        row(0, 160_000, 160_000),
        row(HOUR_S, 160_000, 160_000),
        row(2 * HOUR_S, 320_000, 240_000),
    ]
    found = compare(rows, [THREE_HOURS], NOW, quotes=quotes)
    assert found.findings[-1] == (
        "AWS charged 1 instance-hour at the first price and 1 at the price in effect: both of its"
        " texts"
    )


def test_two_prices_in_one_hour_tell_it_where_nobody_read_any() -> None:
    rows = [row(0, 160_000, 80_000), row(1800, 320_000, 160_000)]
    found = only(compare(rows, [lived(HOUR_S, 160_000)], NOW))
    assert found.readings == (Reading.IN_EFFECT,)


def test_a_change_that_is_too_small_to_tell_tells_nothing() -> None:
    quotes: dict[Any, tuple[Quote, ...]] = {
        a_pool(): (a_quote(-DAY_S, 160_000), a_quote(1800, 160_001))
    }
    found = compare([row(0, 160_000, 160_000)], [lived(HOUR_S, 160_000)], NOW, quotes=quotes)
    assert only(found).readings == (Reading.SAME,)
    assert found.findings == (
        "no price changed inside an instance-hour: the feed tells nothing of AWS's two texts",
    )


# -- what is not there yet ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours_ago", "standing"), [(23, Standing.AWAITED), (25, Standing.DIFFERS)]
)
def test_a_missing_row_is_a_finding_after_a_day(hours_ago: int, standing: Standing) -> None:
    found = compare([], [lived(HOUR_S, 160_000)], at(HOUR_S * (1 + hours_ago)))
    assert only(found).standing is standing
    is_missed = standing is Standing.DIFFERS
    assert found.unexplained_usd_micros == (160_000 if is_missed else 0)
    assert found.left_out_usd_micros == (0 if is_missed else 160_000)
    assert found.covered_fraction == 0.0
    assert only(found).why == (
        "the feed has nothing for 1 of its 1 hour"
        if is_missed
        else "not yet in the feed: its files may come a day late"
    )


def test_of_what_still_runs_the_hours_that_are_there_are_compared() -> None:
    attempt = an_attempt(
        launched_s=0,
        hour_prices_usd_micros=(160_000, 160_000, 160_000),
        running_price_usd_micros=200_000,
    )
    rows = [row(0, 160_000, 160_000), row(HOUR_S, 160_000, 160_000)]
    # a part of the hour that still runs: it comes again, whole
    early = row(3 * HOUR_S, 200_000, 10_000)
    found = compare([*rows, early], [attempt], at(3.5 * HOUR_S))
    assert only(found).standing is Standing.AGREES
    assert (found.feed_usd_micros, found.ledger_usd_micros) == (320_000, 580_000)
    assert found.left_out_usd_micros == 260_000
    assert found.covered_fraction == pytest.approx(320 / 580)


def test_what_is_older_than_the_feed_is_not_missed() -> None:
    attempts = [lived(HOUR_S, 160_000), lived(HOUR_S, 160_000, generation=2, launched_s=DAY_S)]
    rows = [row(DAY_S, 160_000, 160_000, generation=2)]
    found = compare(rows, attempts, NOW, feed_begin=at(DAY_S))
    assert [it.standing for it in found.instances] == [Standing.BEFORE, Standing.AGREES]
    assert found.is_right
    assert "older than its first file" in found.findings[0]


def test_files_that_were_not_read_are_awaited() -> None:
    found = compare([], [lived(HOUR_S, 160_000)], NOW, whole_until=at(1800))
    assert only(found).standing is Standing.AWAITED


def test_however_far_files_were_read_the_last_day_may_lack_some() -> None:
    now = at(3 * HOUR_S)
    found = compare([], [lived(HOUR_S, 160_000)], now, whole_until=now)
    assert only(found).standing is Standing.AWAITED


def test_a_row_a_little_before_its_hour_is_of_that_hour() -> None:
    rows = [row(-1, 160_000, 160_000), row(HOUR_S - 1, 160_000, 160_000)]
    found = compare(rows, [lived(2 * HOUR_S, 160_000, 160_000)], NOW)
    assert len(only(found).readings) == 2


# -- what one side does not know ---------------------------------------------------------------


def test_an_instance_that_the_ledger_does_not_know_is_money_that_somebody_spent() -> None:
    found = compare([row(0, 160_000, 160_000)], [], NOW)
    assert only(found).standing is Standing.FEED_ONLY
    assert (found.unexplained_usd_micros, found.is_right) == (160_000, False)
    assert found.findings[0] == (
        "i-digits-7f3a.1: the feed has 0.1600 USD for a g4dn.xlarge that this ledger knows nothing"
        " of, from 2026-11-01 12:00 UTC on: another installation's, somebody else's in this"
        " account, or one of ours that was lost; CloudTrail says who launched it"
    )


def test_a_type_that_we_never_launch_is_somebody_elses() -> None:
    found = compare([row(0, 14_200, 14_200, instance_type="c7a.medium")], [], NOW)
    assert only(found).standing is Standing.EXPLAINED
    assert only(found).why == "not ours: spotrunner launches no c7a.medium"
    assert (found.feed_usd_micros, found.unexplained_usd_micros) == (14_200, 0)


def test_a_strange_instance_counts_from_since_on_and_ours_with_all_its_hours() -> None:
    rows = [row(n * HOUR_S, 160_000, 160_000, generation) for generation in (1, 2) for n in (0, 1)]
    found = compare(rows, [lived(2 * HOUR_S, 160_000, 160_000)], NOW, since=at(HOUR_S))
    assert [it.feed_usd_micros for it in found.instances] == [320_000, 160_000]
    assert found.instances[0].standing is Standing.AGREES


def test_a_charge_after_the_end_is_found() -> None:
    rows = [row(0, 160_000, 160_000), row(HOUR_S, 160_000, 160_000)]
    found = compare(rows, [lived(HOUR_S, 160_000)], NOW)
    assert only(found).why == "the feed charges 0.1600 USD after its end"
    assert found.unexplained_usd_micros == 160_000


@pytest.mark.parametrize(("charge", "told"), [(240_000, "1800 s more"), (80_000, "1800 s less")])
def test_a_difference_of_time_is_told_in_seconds(charge: int, told: str) -> None:
    found = compare([row(0, 160_000, charge)], [lived(HOUR_S, 160_000)], NOW)
    assert only(found).why == f"the feed charges for some {told}"


def test_a_price_that_differs_only_in_the_digits_that_are_printed_is_no_other_price() -> None:
    found = compare([row(0, 160_000, 80_000, coarse=500)], [lived(HOUR_S, 160_400)], NOW)
    assert only(found).why == "the feed charges for some 1809 s less"


def test_what_ran_on_demand_or_was_never_seen_is_told_and_not_compared() -> None:
    paid = an_offer(price=526_000, dearest=526_000, market=Market.ON_DEMAND)
    unseen = an_attempt(
        2, AttemptState.ENDED, launched_s=None, cost_usd_micros=70_000, ended_at=at(900)
    )
    found = compare([], [lived(HOUR_S, 526_000, offer=paid), unseen], NOW)
    assert found.instances == ()
    assert (found.on_demand_usd_micros, found.unseen_usd_micros) == (526_000, 70_000)
    assert found.covered_fraction is None
    assert found.findings[:2] == (
        "0.5260 USD on demand are in no spot data feed",
        "0.0700 USD are booked for attempts whose instance nobody ever saw",
    )


# -- sums --------------------------------------------------------------------------------------


def test_two_errors_do_not_hide_each_other() -> None:
    attempts = [lived(HOUR_S, 160_000, generation=n, launched_s=n * DAY_S) for n in (1, 2)]
    rows = [row(DAY_S, 160_000, 190_000, 1), row(2 * DAY_S, 160_000, 130_000, 2)]
    found = compare(rows, attempts, NOW)
    assert (found.difference_usd_micros, found.unexplained_usd_micros) == (0, 60_000)
    assert not found.is_right


@pytest.mark.parametrize(("count", "is_right"), [(2, True), (3, False)])
def test_many_small_differences_are_one_that_counts(count: int, is_right: bool) -> None:
    attempts = [lived(HOUR_S, 160_000, generation=n) for n in range(1, count + 1)]
    rows = [row(0, 160_000, 164_000, n) for n in range(1, count + 1)]
    assert compare(rows, attempts, NOW).is_right is is_right


charges = st.integers(0, 400_000)


@given(st.lists(st.tuples(charges, st.integers(0, 5 * HOUR_S), st.booleans()), max_size=6))
def test_no_money_is_lost_between_the_columns(drawn: list[tuple[int, int, bool]]) -> None:
    rows = [row(s, 160_000, charge, n) for n, (charge, s, _) in enumerate(drawn)]
    attempts = [
        lived(2 * HOUR_S, 160_000, 160_000, generation=n)
        for n, (_, _, known) in enumerate(drawn)
        if known
    ]
    found = compare(rows, attempts, NOW)
    assert found.feed_usd_micros == sum(it.charge_usd_micros for it in rows)
    assert found.difference_usd_micros == (
        found.feed_usd_micros - found.ledger_usd_micros + found.left_out_usd_micros
    )
    assert found.unexplained_usd_micros <= sum(
        abs(it.difference_usd_micros) for it in found.instances
    )


def test_rows_come_in_any_order() -> None:
    rows = [row(HOUR_S, 160_000, 160_000), row(0, 160_000, 160_000)]
    found = compare(rows, [lived(2 * HOUR_S, 160_000, 160_000)], NOW)
    assert only(found).standing is Standing.AGREES
