from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from spotrunner.core.hazard import MEASURED, run_hours
from spotrunner.core.market import (
    candidates,
    cooldown_s,
    cooling,
    expected,
    horizon_h,
    move_usd_micros,
    quota_family,
    spot_and_on_demand,
    start_usd_micros,
    within_budget,
)
from spotrunner.core.model import DataSource, JobSpec, Limits, Market, Offer, Refusal, Refused
from spotrunner.core.money import price_at
from spotrunner.core.sight import Sight
from spotrunner.core.situation import Candidate
from tests.build import EXTRAS, a_pool, a_purse, a_quote, a_refusal, a_spec, an_offer, at

LIMITS = Limits()
OFFERS = (
    an_offer("us-east-1b", price=170_000),
    an_offer("us-east-1a"),
    an_offer("us-east-1a", market=Market.ON_DEMAND, price=526_000),
    an_offer("us-east-1a", "g5.xlarge", price=300_000, dearest=1_006_000),
    an_offer("us-east-1a", "p3.2xlarge", price=900_000, dearest=3_060_000),
    an_offer("eu-west-1a", price=180_000),
)
SPEC = a_spec(instance_types=("g4dn.xlarge", "g5.xlarge", "p3.2xlarge"))


def free(*refusals: Refusal, now_s: float = 10) -> list[str]:
    found = candidates(SPEC, OFFERS, refusals, at(now_s), LIMITS)
    return [str(c.offer.pool) for c in found if c.left_out is None and c.is_spot]


def test_the_cheapest_comes_first() -> None:
    assert free() == [
        "us-east-1a/g4dn.xlarge",
        "us-east-1b/g4dn.xlarge",
        "eu-west-1a/g4dn.xlarge",
        "us-east-1a/g5.xlarge",
        "us-east-1a/p3.2xlarge",
    ]


def test_only_the_jobs_types_and_regions_are_candidates() -> None:
    spec = a_spec(instance_types=("g5.xlarge",), regions=("us-east-1",))
    found = candidates(spec, OFFERS, (), at(0), LIMITS)
    assert [str(c.offer.pool) for c in found] == ["us-east-1a/g5.xlarge"]


@pytest.mark.parametrize(
    ("market", "offered"),
    [(Market.SPOT, {Market.SPOT, Market.ON_DEMAND}), (Market.ON_DEMAND, {Market.ON_DEMAND})],
)
def test_a_spot_job_may_fall_back_and_an_on_demand_job_sees_no_spot(
    market: Market, offered: set[Market]
) -> None:
    spec = dataclasses.replace(SPEC, market=market)
    found = candidates(spec, OFFERS, (), at(0), LIMITS)
    assert {each.offer.market for each in found} == offered


# -- bids --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bid", "left_out"),
    [
        (None, None),
        (160_000, None),
        (159_999, "its 0.1600 USD/h are above max_price, 0.1600 USD/h"),
        (1_000, "its 0.1600 USD/h are above max_price, 0.0010 USD/h"),
    ],
)
def test_what_costs_more_than_the_bid_is_left_out(bid: int | None, left_out: str | None) -> None:
    spec = a_spec(max_price_usd_micros=bid)
    (found,) = candidates(spec, [an_offer()], (), at(0), LIMITS)
    assert found.left_out == left_out


def test_a_bid_is_for_spot_only() -> None:
    spec = a_spec(max_price_usd_micros=1_000)
    offers = [an_offer(market=Market.ON_DEMAND, price=526_000)]
    assert [each.left_out for each in candidates(spec, offers, (), at(0), LIMITS)] == [None]


# -- another region ----------------------------------------------------------------------------

SHORT = "two zones of us-east-1 had no capacity just now: another region is tried first"
THREE = tuple(an_offer(f"us-east-1{zone}") for zone in "abc")


def two_refused(at_s: float = 0, **changes: Any) -> tuple[Refusal, ...]:
    return tuple(a_refusal(f"us-east-1{zone}", at_s=at_s, **changes) for zone in "ab")


def left_out(refusals: Sequence[Refusal], offers: Sequence[Offer], now_s: float = 10) -> set[str]:
    found = candidates(a_spec(), offers, refusals, at(now_s), LIMITS)
    return {each.offer.pool.zone for each in found if each.left_out == SHORT}


@pytest.mark.parametrize(
    ("refusals", "short"),
    [
        (two_refused(), {"us-east-1c"}),
        (two_refused()[:1], set()),  # one zone says nothing of the others
        (two_refused()[:1] * 2, set()),  # nor does one that refuses twice
        (two_refused(market=Market.ON_DEMAND), set()),  # nor on-demand of spot
        (two_refused(meaning=Refused.PRICE), set()),
    ],
)
def test_after_two_zones_the_next_try_is_another_region(
    refusals: Sequence[Refusal], short: set[str]
) -> None:
    assert left_out(refusals, (*THREE, an_offer("eu-west-1a"))) == short


def test_with_one_region_only_its_third_zone_is_tried() -> None:
    assert left_out(two_refused(), THREE) == set()
    refusals = (*two_refused(), a_refusal("eu-west-1a"))
    assert left_out(refusals, (*THREE, an_offer("eu-west-1a"))) == set()


def test_a_short_region_is_tried_again_after_the_cool_down() -> None:
    offers = (*THREE, an_offer("eu-west-1a"))
    ends_s = LIMITS.capacity_cooldown_s
    assert left_out(two_refused(), offers, ends_s - 1) == {"us-east-1c"}
    assert left_out(two_refused(), offers, ends_s) == set()


# -- expected cost of work ---------------------------------------------------------------------

ALWAYS = Sight(up=True, was_up=True, age_s=10**6, share=0.98)
YOUNG = Sight(up=True, was_up=True, age_s=400, share=0.2)


def worth(offer: Offer | None = None, sight: Sight = ALWAYS, **changes: Any) -> float:
    fields: dict[str, Any] = {"speed": 1.0, "work_left_s": 8 * 3600, "changeover_s": 360}
    return expected(offer or an_offer(), sight, MEASURED, **{**fields, **changes})


def test_on_demand_pays_one_changeover_over_the_work() -> None:
    offer = an_offer(market=Market.ON_DEMAND, price=500_000)
    assert worth(offer) == pytest.approx(500_000 * (1 + 0.1 / 8))


def test_where_it_runs_the_launch_is_paid_already() -> None:
    offer = an_offer(market=Market.ON_DEMAND, price=500_000)
    assert worth(offer, runs=True, move_usd_micros=10**6) == 500_000


def test_a_young_pool_pays_its_launches_more_often() -> None:
    hours = run_hours(MEASURED, 400, 0.2, 8.0)
    assert hours < 1.5
    assert worth(sight=YOUNG) == pytest.approx(160_000 * (1 + 0.1 / hours))
    assert worth(sight=YOUNG) > worth(sight=ALWAYS)


def test_twice_the_speed_is_half_the_price() -> None:
    assert worth(speed=2.0) == pytest.approx(worth() / 2)


def test_losses_are_caught_up_at_another_price() -> None:
    hours = run_hours(MEASURED, 400, 0.2, 8.0)
    more = worth(sight=YOUNG, catch_up_usd_micros_hour=263_000) - worth(sight=YOUNG)
    assert more == pytest.approx(0.1 * 263_000 / hours)


def test_moving_the_data_is_paid_with_every_launch() -> None:
    hours = run_hours(MEASURED, 400, 0.2, 8.0)
    more = worth(sight=YOUNG, move_usd_micros=2_000_000) - worth(sight=YOUNG)
    assert more == pytest.approx(2_000_000 / hours)


def test_data_of_another_region_costs_by_the_gigabyte() -> None:
    data = (
        DataSource(source="s3://a/b/", target="b", bytes=100 * 10**9, region="us-east-1"),
        DataSource(source="s3://a/c/", target="c", bytes=50 * 10**9, region="eu-west-1"),
        DataSource(source="s3://a/d/", target="d"),
    )
    spec = a_spec(data=data)
    assert move_usd_micros(spec, "us-east-1") == 1_000_000
    assert move_usd_micros(spec, "eu-west-1") == 2_000_000
    assert move_usd_micros(spec, "sa-east-1") == 3_000_000


@pytest.mark.parametrize(
    ("work_s", "hours"), [(None, 8), (60, 0.05), (360, 0.1), (7200, 2), (10**6, 12)]
)
def test_a_launch_is_spread_over_the_work_that_is_left(work_s: float | None, hours: float) -> None:
    assert horizon_h(work_s) == hours


@pytest.mark.parametrize(
    ("meaning", "left"),
    [
        # this pool only
        (Refused.CAPACITY, 4),
        (Refused.PRICE, 4),
        (Refused.OFFERING, 4),
        # this region's G types: neither the P one nor the other region
        (Refused.QUOTA, 2),
        # this region's g4dn.xlarge: an image that is missing for one type leaves the others
        (Refused.CONFIG, 3),
        # everything in the region
        (Refused.PERMISSION, 1),
    ],
)
def test_a_refusal_keeps_away_from_what_it_concerns(meaning: Refused, left: int) -> None:
    assert len(free(a_refusal(meaning=meaning))) == left


@pytest.mark.parametrize("meaning", list(Refused))
def test_a_cool_down_ends(meaning: Refused) -> None:
    until_s = cooldown_s(meaning, LIMITS)
    assert len(free(a_refusal(meaning=meaning), now_s=until_s - 1)) < 5
    assert len(free(a_refusal(meaning=meaning), now_s=until_s)) == 5


@pytest.mark.parametrize("meaning", [Refused.CAPACITY, Refused.QUOTA])
def test_a_refusal_of_on_demand_says_nothing_of_spot(meaning: Refused) -> None:
    assert len(free(a_refusal(meaning=meaning, market=Market.ON_DEMAND))) == 5


def test_what_only_a_person_can_mend_waits_longer_than_weather() -> None:
    assert cooldown_s(Refused.QUOTA, LIMITS) > cooldown_s(Refused.CAPACITY, LIMITS)
    assert cooldown_s(Refused.PERMISSION, LIMITS) > cooldown_s(Refused.CAPACITY, LIMITS)


def test_why_a_pool_is_left_out_names_the_time_and_the_reason() -> None:
    found = candidates(SPEC, OFFERS, (a_refusal(),), at(10), LIMITS)
    assert found[0].left_out == "cooling down until 12:10:00: no"


def test_of_equal_prices_the_zone_that_ec2_named_comes_first_while_it_is_news() -> None:
    offers = tuple(an_offer(f"us-east-1{zone}", price=526_000) for zone in "abd")
    hint = dataclasses.replace(a_refusal("us-east-1a"), hint_zones=("us-east-1d",))
    for now_s, zones in ((10, ["d", "b"]), (LIMITS.capacity_cooldown_s, ["a", "b", "d"])):
        found = candidates(a_spec(), offers, (hint,), at(now_s), LIMITS)
        assert [c.offer.pool.zone[-1] for c in found if c.left_out is None] == zones


# 900 s of boot and 120 s of slack at 0.526 USD an hour, with disk and address, and the roundings
BOOT = -(-1020 * (526_000 + EXTRAS) // 3600) + 2


@pytest.mark.parametrize(
    ("left", "left_out"),
    [
        (None, None),
        (BOOT, None),
        (BOOT - 1, "the budget does not pay a first step of it"),
        (0, "the budget does not pay a first step of it"),
    ],
)
def test_what_the_budget_pays_no_boot_of_is_left_out(
    left: int | None, left_out: str | None
) -> None:
    assert start_usd_micros(a_spec(), an_offer(), LIMITS) == BOOT
    assert within(left, Candidate(offer=an_offer())).left_out == left_out


def test_an_earlier_reason_stays() -> None:
    candidate = Candidate(offer=an_offer("us-east-1a"), left_out="cooling down")
    assert within(0, candidate) == candidate


def test_the_start_that_is_asked_for_can_be_longer_than_a_boot() -> None:
    longer = -(-(2700 + 120) * (526_000 + EXTRAS) // 3600) + 2
    for left, is_left_out in ((longer, False), (longer - 1, True)):
        found = within(left, Candidate(offer=an_offer()), least_s=2700)
        assert (found.left_out is not None) is is_left_out


def test_bringing_the_data_is_due_at_once() -> None:
    """50 GB from another region at 0.02 USD each."""
    far = DataSource(source="s3://d/x/", target="x", bytes=50 * 10**9, region="eu-west-1")
    spec = a_spec(data=(far,))
    assert start_usd_micros(spec, an_offer(), LIMITS) == BOOT + 1_000_000
    for left, is_left_out in ((BOOT + 1_000_000, False), (BOOT + 999_999, True)):
        found = within(left, Candidate(offer=an_offer()), spec)
        assert (found.left_out is not None) is is_left_out


def within(
    left: int | None,
    candidate: Candidate,
    spec: JobSpec | None = None,
    least_s: int = LIMITS.boot_allowance_s,
) -> Candidate:
    return within_budget(candidate, spec or a_spec(), a_purse(left), at(0), LIMITS, least_s)


def test_only_what_still_cools_keeps_away() -> None:
    old, new = a_refusal(at_s=0), a_refusal("us-east-1b", at_s=500)
    quota = a_refusal("eu-west-1a", meaning=Refused.QUOTA)
    assert cooling((old, new, quota), at(599), LIMITS) == (old, new, quota)
    assert cooling((old, new, quota), at(600), LIMITS) == (new, quota)


def test_of_two_reasons_the_latest_is_named() -> None:
    refusals = (a_refusal(meaning=Refused.PERMISSION), a_refusal(at_s=100))
    found = candidates(SPEC, OFFERS, refusals, at(110), LIMITS)
    assert found[0].left_out == "cooling down until 12:11:40: no"
    assert "13:00:00" in str(found[1].left_out)


def test_quotas_count_by_letter() -> None:
    assert quota_family(a_pool(instance_type="g6e.xlarge")) == "g"
    assert quota_family(a_pool(instance_type="p4d.24xlarge")) == "p"


@pytest.mark.parametrize(("at_s", "price"), [(-1, None), (0, 1), (99, 1), (100, 2), (10**6, 3)])
def test_a_quote_holds_until_the_next(at_s: float, price: int | None) -> None:
    quotes = {a_pool(): (a_quote(0, 1), a_quote(100, 2), a_quote(200, 3))}
    assert price_at(quotes, a_pool(), at(at_s)) == price


def test_a_pool_offers_what_has_a_price() -> None:
    known, unquoted, unbounded = a_pool(), a_pool("us-east-1b"), a_pool("eu-west-1a")
    quotes = {known: (a_quote(0, 100),), unbounded: (a_quote(0, 100, "eu-west-1a"),)}
    prices = {("us-east-1", "g4dn.xlarge"): 500}
    offers = spot_and_on_demand([known, unquoted, unbounded], quotes, prices, at(0))
    assert [(str(o.pool), o.market, o.price_usd_micros_hour) for o in offers] == [
        ("us-east-1a/g4dn.xlarge", Market.SPOT, 100),
        ("us-east-1a/g4dn.xlarge", Market.ON_DEMAND, 500),
        ("us-east-1b/g4dn.xlarge", Market.ON_DEMAND, 500),
    ]
    assert {o.dearest_usd_micros_hour for o in offers} == {500}


def test_a_spot_price_above_on_demand_bounds_itself() -> None:
    quotes = {a_pool(): (a_quote(0, 900),)}
    offers = spot_and_on_demand([a_pool()], quotes, {("us-east-1", "g4dn.xlarge"): 500}, at(0))
    assert offers[0].dearest_usd_micros_hour == 900
