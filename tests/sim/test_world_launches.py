"""What the simulated EC2 makes of a launch: tokens, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from spotrunner.core.model import Market, Pool, Refused
from spotrunner.sim.setups import G5, P3
from tests.sim.worlds import POOL, a_request, a_world, at, launched, refused

# -- tokens ------------------------------------------------------------------------------------


def test_a_token_gives_the_same_instance_and_never_a_second() -> None:
    world = a_world()
    first = launched(world, client_token="t")
    assert launched(world, 500, client_token="t") == first
    world.terminate(at(600), POOL.region, [first])
    assert launched(world, 700, client_token="t") == first
    assert len(world.truth(at(700))) == 1


def test_a_token_with_any_other_byte_is_a_mismatch() -> None:
    world = a_world()
    launched(world, client_token="t", user_data="#!/bin/sh\n")
    error = refused(world, client_token="t", user_data="#!/bin/sh\n\n")
    assert error.code == "IdempotentParameterMismatch"


def test_a_token_holds_in_its_zone_only() -> None:
    world = a_world()
    other = Pool(region="us-east-1", zone="us-east-1b", instance_type=POOL.instance_type)
    first = launched(world, client_token="t")
    (second,) = world.run_instances(at(0), a_request(world, other, client_token="t"))
    assert second.id != first


def test_a_token_is_forgotten_a_day_after_the_end() -> None:
    world = a_world()
    first = launched(world, client_token="t")
    world.terminate(at(100), POOL.region, [first])
    day = 86_400
    assert launched(world, 100 + day, client_token="t") == first
    assert launched(world, 131 + day, client_token="t") != first


def test_a_refused_launch_does_not_use_up_its_token() -> None:
    world = a_world()
    world.refuse(POOL, Market.SPOT, Refused.CAPACITY)
    refused(world, client_token="t")
    launched(world, client_token="t")


# -- what EC2 refuses --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "status"),
    [
        ({"instance_type": "p9.large"}, "InvalidParameterValue", 400),
        ({"image_id": "ami-0"}, "InvalidAMIID.NotFound", 400),
        ({"subnet_id": "subnet-0"}, "InvalidSubnetID.NotFound", 400),
        ({"security_group_ids": ("sg-0",)}, "InvalidGroup.NotFound", 400),
        ({"instance_profile": "nobody"}, "InvalidParameterValue", 400),
        ({"user_data": "x" * 16_385}, "InvalidUserData.Malformed", 400),
        ({"client_token": "x" * 65}, "InvalidParameterValue", 400),
        ({"max_price_usd_micros": 149_999}, "SpotMaxPriceTooLow", 400),
        ({"max_price_usd_micros": 1000}, "InvalidParameterValue", 400),
        ({"min_count": 2, "max_count": 1}, "InvalidParameterValue", 400),
        ({"min_count": 21, "max_count": 21}, "MaxSpotInstanceCountExceeded", 400),
        ({"instance_type": P3}, "Unsupported", 400),
    ],
)
def test_what_cannot_be_had_as_asked(changes: dict[str, Any], code: str, status: int) -> None:
    error = refused(a_world(), **changes)
    assert (error.code, error.http_status) == (code, status)


def test_a_pool_has_so_many_places() -> None:
    world = a_world(default_slots=3)
    got = world.run_instances(at(0), a_request(world, min_count=1, max_count=5))
    assert [record.launch_index for record in got] == [0, 1, 2]
    error = refused(world, 5)
    assert (error.code, error.http_status) == ("InsufficientInstanceCapacity", 500)
    world.terminate(at(60), POOL.region, [got[0].id])
    assert refused(world, 89).code == "InsufficientInstanceCapacity"
    launched(world, 90)


def test_all_or_nothing_when_least_and_most_are_equal() -> None:
    world = a_world(default_slots=3)
    assert refused(world, min_count=4, max_count=4).code == "InsufficientInstanceCapacity"
    assert world.truth(at(0)) == ()


def test_quotas_count_vcpus_by_market_until_the_power_is_off() -> None:
    world = a_world(quotas={("us-east-1", "G and VT", Market.SPOT): 8})
    first = launched(world)
    launched(world, instance_type=G5)
    assert refused(world).code == "MaxSpotInstanceCountExceeded"
    launched(world, market=Market.ON_DEMAND)
    world.terminate(at(60), POOL.region, [first])
    assert refused(world, 61).code == "MaxSpotInstanceCountExceeded"
    launched(world, 90)


def test_on_demand_capacity_errors_name_the_zones_that_have_some() -> None:
    world = a_world()
    world.set_capacity(at(0), POOL, False, market=Market.ON_DEMAND)
    error = refused(world, market=Market.ON_DEMAND)
    assert "(us-east-1a)" in error.message
    assert "choosing us-east-1b, us-east-1d." in error.message


def test_without_a_zone_ec2_chooses_one() -> None:
    world = a_world()
    world.set_capacity(at(0), POOL, False)
    (record,) = world.run_instances(at(0), a_request(world, subnet_id=None))
    assert record.pool.zone == "us-east-1b"


@pytest.mark.parametrize(
    ("meaning", "code"),
    [
        (Refused.CAPACITY, "InsufficientInstanceCapacity"),
        (Refused.PRICE, "SpotMaxPriceTooLow"),
        (Refused.QUOTA, "MaxSpotInstanceCountExceeded"),
        (Refused.OFFERING, "Unsupported"),
        (Refused.PERMISSION, "UnauthorizedOperation"),
        (Refused.CONFIG, "InvalidParameterValue"),
    ],
)
def test_a_script_refuses_by_meaning_as_often_as_told(meaning: Refused, code: str) -> None:
    world = a_world()
    world.refuse(POOL, Market.SPOT, meaning, times=2)
    assert [refused(world).code, refused(world).code] == [code, code]
    launched(world)
