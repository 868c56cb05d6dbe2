from __future__ import annotations

import dataclasses

import pytest

from spotrunner.core.market import (
    Candidate,
    candidates,
    cooldown_s,
    price_at,
    quota_family,
    spot_and_on_demand,
    within_budget,
)
from spotrunner.core.model import Limits, Market, Refusal, Refused
from tests.build import a_pool, a_quote, a_refusal, a_spec, an_offer, at

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
    return [str(c.offer.pool) for c in found if c.left_out is None]


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


def test_the_other_market_is_named_and_left_out() -> None:
    found = candidates(SPEC, OFFERS, (), at(0), LIMITS)
    other = [c for c in found if c.offer.market is Market.ON_DEMAND]
    assert [c.left_out for c in other] == ["the job asks for spot"]


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


# 900 s of boot and 120 s of slack at 0.526 USD an hour
BOOT = -(-1020 * 526_000 // 3600)


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
    candidate = Candidate(offer=an_offer("us-east-1a"))
    assert within_budget(candidate, left, LIMITS) == dataclasses.replace(
        candidate, left_out=left_out
    )


def test_an_earlier_reason_stays() -> None:
    candidate = Candidate(offer=an_offer("us-east-1a"), left_out="cooling down")
    assert within_budget(candidate, 0, LIMITS) == candidate


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
