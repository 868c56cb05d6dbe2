"""The simulated market, told as short stories."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest

from spotrunner.core.model import Market, Pool, Refused
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.setups import G5, P3, lab_setup
from spotrunner.sim.steps import Steps
from spotrunner.sim.values import ApiError, Kind, LostAnswer, Manners, Stage
from spotrunner.sim.world import World
from tests.sim.worlds import EXACT, POOL, START, a_request, a_world, at

LAGGING = Manners(
    pending_s=(10.0, 10.0),
    listed_s=(5.0, 5.0),
    filtered_s=(20.0, 20.0),
    known_s=(3.0, 3.0),
    stale_s=(4.0, 4.0),
    shutting_down_s=(30.0, 30.0),
    reclaim_late_s=(7.0, 7.0),
    rebalance_share=0.0,
    unannounced_share=0.0,
)


def launched(world: World, seconds: float = 0, **changes: Any) -> str:
    (record,) = world.run_instances(at(seconds), a_request(world, **changes))
    return record.id


def stage_of(world: World, seconds: float, instance_id: str) -> Stage:
    (record,) = world.describe(at(seconds), POOL.region, [instance_id])
    return record.stage


def refused(world: World, seconds: float = 0, **changes: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        launched(world, seconds, **changes)
    return caught.value


# -- life --------------------------------------------------------------------------------------


def test_an_instance_starts_runs_and_is_listed_for_an_hour_after_its_end() -> None:
    world = a_world()
    id_ = launched(world)
    assert stage_of(world, 9, id_) is Stage.PENDING
    assert stage_of(world, 10, id_) is Stage.RUNNING
    world.terminate(at(100), POOL.region, [id_])
    assert stage_of(world, 129, id_) is Stage.SHUTTING_DOWN
    assert stage_of(world, 130, id_) is Stage.TERMINATED
    assert stage_of(world, 3729, id_) is Stage.TERMINATED
    with pytest.raises(ApiError, match=r"InvalidInstanceID\.NotFound"):
        stage_of(world, 3730, id_)


def test_what_happened_is_told_once_and_in_order() -> None:
    world = a_world()
    id_ = launched(world)
    world.interrupt(at(60), id_)
    told = [(h.at, h.kind) for h in world.advance(at(1000))]
    assert told == [
        (at(10), Kind.STARTED),
        (at(60), Kind.NOTICE),
        (at(180), Kind.ENDING),
        (at(210), Kind.ENDED),
    ]
    assert world.advance(at(1000)) == ()


def test_nothing_happens_before_the_next_change() -> None:
    world = a_world()
    launched(world)
    assert world.next_change(at(0)) == at(10)
    assert world.advance(at(9.9)) == ()
    assert len(world.advance(at(10))) == 1


def test_a_time_that_is_past_counts_as_the_latest() -> None:
    world = a_world()
    id_ = launched(world)
    world.advance(at(50))
    assert stage_of(world, 0, id_) is Stage.RUNNING


def test_reasons_say_who_ended_it_in_awss_words() -> None:
    world = a_world()
    ids = [launched(world) for _ in range(4)]
    world.terminate(at(60), POOL.region, ids[:1])
    world.shutdown_from_inside(at(60), ids[1])
    world.interrupt(at(60), ids[2], notice=False)
    world.fail(at(60), ids[3])
    reasons = [r.reason for r in world.describe(at(100), POOL.region, ids)]
    assert [reason.code for reason in reasons if reason] == [
        "Client.UserInitiatedShutdown",
        "Client.InstanceInitiatedShutdown",
        "Server.SpotInstanceTermination",
        "Server.InternalError",
    ]
    assert reasons[0] is not None
    assert reasons[0].transition == "User initiated (2026-03-02 12:01:00 GMT)"


def test_ending_what_has_ended_changes_nothing() -> None:
    world = a_world()
    id_ = launched(world)
    world.interrupt(at(60), id_, notice=False)
    (change,) = world.terminate(at(70), POOL.region, [id_])
    assert change == (id_, Stage.SHUTTING_DOWN, Stage.SHUTTING_DOWN)
    (record,) = world.describe(at(95), POOL.region, [id_])
    assert record.reason is not None
    assert record.reason.code == "Server.SpotInstanceTermination"


def test_an_on_demand_instance_stops_from_inside_unless_told_to_terminate() -> None:
    world = a_world()
    kept = launched(world, market=Market.ON_DEMAND, shutdown_behavior="stop")
    gone = launched(world, market=Market.ON_DEMAND)
    for id_ in (kept, gone):
        world.shutdown_from_inside(at(60), id_)
    assert stage_of(world, 100, kept) is Stage.STOPPED
    assert stage_of(world, 100, gone) is Stage.TERMINATED
    world.terminate(at(200), POOL.region, [kept])
    assert stage_of(world, 200, kept) is Stage.TERMINATED


def test_a_launch_may_die_before_it_runs() -> None:
    world = a_world()
    world.script(Fault(dies="Server.InsufficientInstanceCapacity"))
    id_ = launched(world)
    (record,) = world.describe(at(10), POOL.region, [id_])
    assert record.stage is Stage.TERMINATED
    assert record.reason is not None
    assert record.reason.code == "Server.InsufficientInstanceCapacity"
    assert world.bill(at(5000))[0].usd_micros == 0


# -- interruptions -----------------------------------------------------------------------------


def test_a_notice_announces_one_fixed_time_120_seconds_away() -> None:
    world = a_world(LAGGING)
    id_ = launched(world)
    world.interrupt(at(60), id_)
    world.interrupt(at(100), id_)
    view = world.imds(at(150), id_)
    assert view is not None
    assert view.spot_action == ("terminate", at(180))
    assert stage_of(world, 190, id_) is Stage.RUNNING  # EC2 is 7 s late, and the listing 4 s
    assert stage_of(world, 191, id_) is Stage.SHUTTING_DOWN


def test_the_spot_request_shows_a_notice_while_the_instance_still_runs() -> None:
    world = a_world()
    id_ = launched(world)
    (request,) = world.spot_requests(at(50), POOL.region, filters={"instance-id": [id_]})
    assert (request.state, request.status_code) == ("active", "fulfilled")
    world.interrupt(at(60), id_)
    (request,) = world.spot_requests(at(60), POOL.region, [request.id])
    assert (request.state, request.status_code) == ("closed", "instance-terminated-no-capacity")
    assert stage_of(world, 100, id_) is Stage.RUNNING


def test_an_instance_that_we_end_shows_no_notice_any_more() -> None:
    world = a_world()
    id_ = launched(world)
    world.interrupt(at(60), id_)
    world.terminate(at(70), POOL.region, [id_])
    view = world.imds(at(70), id_)
    assert view is not None
    assert view.spot_action is None
    assert world.imds(at(300), id_) is None


def test_what_is_ending_already_is_not_taken_a_second_time() -> None:
    world = a_world()
    id_ = launched(world)
    world.interrupt(at(60), id_)
    world.terminate(at(170), POOL.region, [id_])  # still shutting down at the announced 180
    (record,) = world.describe(at(199), POOL.region, [id_])
    assert record.stage is Stage.SHUTTING_DOWN
    assert record.reason is not None
    assert record.reason.code == "Client.UserInitiatedShutdown"


def test_on_demand_is_never_interrupted() -> None:
    world = a_world()
    id_ = launched(world, market=Market.ON_DEMAND)
    with pytest.raises(ApiError):
        world.interrupt(at(60), id_)
    world.set_capacity(at(60), POOL, False, reclaim=True)
    assert stage_of(world, 600, id_) is Stage.RUNNING


def test_a_price_above_the_maximum_takes_the_instance_with_a_notice() -> None:
    world = a_world()
    id_ = launched(world, max_price_usd_micros=200_000)
    world.set_price(at(60), POOL, 200_000)
    world.set_price(at(120), POOL, 200_100)
    assert [h.at for h in world.advance(at(400)) if h.kind is Kind.NOTICE] == [at(120)]
    (request,) = world.spot_requests(at(120), POOL.region)
    assert request.status_code == "instance-terminated-by-price"
    assert stage_of(world, 400, id_) is Stage.TERMINATED


def test_weather_takes_the_instances_of_a_pool_and_a_pending_one_never_starts() -> None:
    dry = {POOL: Steps([(START, True), (at(100), False), (at(4000), True)])}
    world = a_world(capacity=dry)
    running, pending = launched(world), launched(world, 95)
    kinds = {(h.instance_id, h.kind): h.at for h in world.advance(at(400))}
    assert kinds[running, Kind.NOTICE] == at(100)
    assert kinds[running, Kind.ENDING] == at(220)
    assert (pending, Kind.STARTED) not in kinds
    (record,) = world.describe(at(400), POOL.region, [pending])
    assert record.reason is not None
    assert record.reason.code == "Server.InsufficientInstanceCapacity"
    assert refused(world, 400).code == "InsufficientInstanceCapacity"
    launched(world, 4000)


def test_a_script_overrules_the_weather_until_it_lets_go() -> None:
    dry = {POOL: Steps([(START, True), (at(100), False)])}
    world = a_world(capacity=dry)
    id_ = launched(world)
    world.set_capacity(at(50), POOL, True)
    assert stage_of(world, 500, id_) is Stage.RUNNING
    world.set_capacity(at(500), POOL, None)
    assert refused(world, 500).code == "InsufficientInstanceCapacity"


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


# -- awkwardness -------------------------------------------------------------------------------


def test_listings_lag_and_those_by_tag_or_token_lag_most() -> None:
    world = a_world(LAGGING)
    id_ = launched(world, client_token="t", tags=(("owner", "me"),))

    def seen(seconds: float, **filters: list[str]) -> list[str]:
        named = {name.replace("_", ":", 1): values for name, values in filters.items()}
        return [r.id for r in world.describe(at(seconds), POOL.region, filters=named)]

    assert (seen(4.9), seen(5)) == ([], [id_])
    assert (seen(19.9, tag_owner=["me"]), seen(20, tag_owner=["m*"])) == ([], [id_])
    assert seen(20, tag_owner=["you"]) == []
    by_token = world.describe(at(20), POOL.region, filters={"client-token": ["t"]})
    assert [record.id for record in by_token] == [id_]


def test_a_new_id_is_unknown_for_a_moment_also_to_terminate() -> None:
    world = a_world(LAGGING)
    id_ = launched(world)
    with pytest.raises(ApiError, match=f"The instance ID '{id_}' does not exist"):
        world.describe(at(2.9), POOL.region, [id_])
    with pytest.raises(ApiError, match=r"InvalidInstanceID\.NotFound"):
        world.terminate(at(2.9), POOL.region, [id_])
    world.terminate(at(3), POOL.region, [id_])


def test_one_unknown_id_refuses_the_whole_call() -> None:
    world = a_world()
    id_ = launched(world)
    with pytest.raises(ApiError, match=r"InvalidInstanceID\.NotFound"):
        world.terminate(at(60), POOL.region, [id_, "i-00000000000000000"])
    assert stage_of(world, 60, id_) is Stage.RUNNING
    with pytest.raises(ApiError, match=r"InvalidInstanceID\.Malformed"):
        world.describe(at(60), POOL.region, ["web-1"])


def test_a_filter_that_ec2_does_not_know_is_an_error() -> None:
    world = a_world()
    with pytest.raises(ApiError, match="The filter 'colour' is invalid"):
        world.describe(at(0), POOL.region, filters={"colour": ["red"]})


@pytest.mark.parametrize("lose", list(Lose))
def test_a_lost_answer_may_have_launched_or_not(lose: Lose) -> None:
    world = a_world()
    world.script(Fault(lose=lose, zone=POOL.zone))
    with pytest.raises(LostAnswer):
        launched(world, client_token="t")
    assert len(world.truth(at(0))) == (1 if lose is Lose.AFTER else 0)
    launched(world, client_token="t")
    assert len(world.truth(at(0))) == 1


def test_a_lost_answer_to_terminate_has_ended_it_all_the_same() -> None:
    world = a_world()
    id_ = launched(world)
    world.script(Fault(action="TerminateInstances", lose=Lose.AFTER))
    with pytest.raises(LostAnswer):
        world.terminate(at(60), POOL.region, [id_])
    assert stage_of(world, 60, id_) is Stage.SHUTTING_DOWN


def test_dice_lose_answers_refuse_capacity_and_break_servers() -> None:
    dice = dataclasses.replace
    with pytest.raises(LostAnswer):
        launched(a_world(dice(EXACT, lost_before_share=1.0)))
    losing = a_world(dice(EXACT, lost_after_share=1.0))
    with pytest.raises(LostAnswer):
        launched(losing)
    assert len(losing.truth(at(0))) == 1
    assert refused(a_world(dice(EXACT, server_error_share=1.0))).http_status == 500
    flaky = a_world(dice(EXACT, flaky_capacity_share=1.0))
    assert refused(flaky).code == "InsufficientInstanceCapacity"
    dying = a_world(dice(EXACT, pending_death_share=1.0))
    assert stage_of(dying, 10, launched(dying)) is Stage.TERMINATED


def test_weather_may_come_without_a_notice_and_with_a_recommendation_before() -> None:
    dry = {POOL: Steps([(START, True), (at(1000), False)])}
    world = a_world(
        dataclasses.replace(
            EXACT, unannounced_share=1.0, rebalance_share=1.0, rebalance_lead_s=(300.0, 300.0)
        ),
        capacity=dry,
    )
    id_ = launched(world)
    told = [(h.at, h.kind, h.abrupt) for h in world.advance(at(1000))]
    assert told[1:] == [(at(700), Kind.REBALANCE, False), (at(1000), Kind.ENDING, True)]
    view = world.imds(at(1000), id_)
    assert view is not None
    assert (view.rebalance_at, view.spot_action) == (at(700), None)


def test_faults_meet_only_the_calls_they_are_written_for() -> None:
    world = a_world()
    world.script(Fault(action="DescribeInstances", region="eu-west-1", lose=Lose.BEFORE))
    world.script(Fault(market=Market.ON_DEMAND, error=ApiError("InternalError", "no", 500)))
    launched(world)
    world.describe(at(0), "us-east-1")
    with pytest.raises(LostAnswer):
        world.describe(at(0), "eu-west-1")
    assert refused(world, market=Market.ON_DEMAND).code == "InternalError"


def test_launches_are_throttled_as_ec2_does_and_the_bucket_refills() -> None:
    world = a_world(Manners())
    for _ in range(5):
        launched(world)
    error = refused(world)
    assert (error.code, error.http_status) == ("RequestLimitExceeded", 503)
    launched(world, 1)
    (record,) = world.run_instances(
        at(1), a_request(world, Pool(region="eu-west-1", zone="eu-west-1a", instance_type=G5))
    )
    assert record.pool.region == "eu-west-1"


# -- prices and the bill -----------------------------------------------------------------------


def test_price_history_has_the_row_in_force_before_the_window_and_nothing_of_the_future() -> None:
    prices = {POOL: Steps([(at(n * 100), 100_000 + n) for n in range(10)])}
    world = a_world(prices=prices)
    rows = world.price_history(at(500), POOL.region, start=at(250), end=at(900))
    assert [(row.at, row.usd_micros) for row in rows] == [
        (at(500), 100_005),
        (at(400), 100_004),
        (at(300), 100_003),
        (at(200), 100_002),
    ]
    assert rows[0].zone_id == "use1-az4"


def test_spot_never_costs_more_than_on_demand() -> None:
    world = a_world()
    world.set_price(at(0), POOL, 9_000_000)
    (row,) = world.price_history(at(1), POOL.region, [POOL.instance_type], [POOL.zone])
    assert row.usd_micros == 526_000


def charged(world: World, seconds: float) -> int:
    return world.bill(at(seconds))[0].usd_micros


def test_a_minute_is_the_least_that_is_billed() -> None:
    world = a_world()
    id_ = launched(world)
    world.terminate(at(11), POOL.region, [id_])
    assert charged(world, 5000) == 150_000 // 60


def test_the_price_at_the_start_of_each_hour_holds_for_that_hour() -> None:
    world = a_world()
    id_ = launched(world)  # runs from 10 s on
    world.set_price(at(600), POOL, 300_000)
    world.terminate(at(3610 + 1800), POOL.region, [id_])
    assert charged(world, 9000) == 150_000 + 300_000 // 2


@pytest.mark.parametrize("notice", [True, False])
def test_what_ec2_takes_in_the_first_hour_is_free(notice: bool) -> None:
    world = a_world()
    id_ = launched(world)
    assert charged(world, 1810) == 75_000
    world.interrupt(at(3480 if notice else 3600), id_, notice=notice)
    (line,) = world.bill(at(9000))
    assert (line.usd_micros, line.free) == (0, True)


def test_a_second_after_the_first_hour_is_not_free() -> None:
    world = a_world()
    id_ = launched(world)
    world.interrupt(at(3490), id_)
    (line,) = world.bill(at(9000))
    assert (line.usd_micros, line.free) == (150_000, False)


@pytest.mark.parametrize("end", ["terminate", "shutdown"])
def test_what_ends_after_a_notice_by_our_hand_is_billed(end: str) -> None:
    world = a_world()
    id_ = launched(world)
    world.interrupt(at(1790), id_)
    if end == "terminate":
        world.terminate(at(1810), POOL.region, [id_])
    else:
        world.shutdown_from_inside(at(1810), id_)
    assert charged(world, 9000) == 75_000


# -- the same again ----------------------------------------------------------------------------


def test_the_same_seed_and_calls_give_the_same_world_and_another_seed_another() -> None:
    def story(seed: int) -> object:
        world = World(lab_setup(7, START, reclaims=True, manners=Manners()), seed)
        told: list[object] = []
        for hour in range(48):
            now = START + dt.timedelta(hours=hour)
            for zone in ("us-east-1a", "us-west-2b"):
                pool = Pool(region=zone[:-1], zone=zone, instance_type=POOL.instance_type)
                try:
                    told.append(world.run_instances(now, a_request(world, pool)))
                except ApiError as error:
                    told.append(error.code)
            told.append(world.advance(now))
        return told, world.bill(now)

    assert story(1) == story(1)
    assert story(1) != story(2)


def test_p3_is_offered_in_one_region_of_the_lab_and_priced_in_all() -> None:
    world = World(lab_setup(1, START), 1)
    regions = [region.name for region in world.setup.regions]
    assert len(regions) == 3
    assert all(len(region.zones) >= 2 for region in world.setup.regions)
    having = [r for r in regions if any(p.instance_type == P3 for p in world.pools.offered(r))]
    assert having == ["us-east-1"]
    assert all((r, P3) in world.setup.on_demand_usd_micros for r in regions)


@pytest.mark.parametrize("seed", range(5))
def test_the_lab_always_has_a_gpu_to_give(seed: int) -> None:
    world = World(lab_setup(seed, START), seed)
    for hours in range(0, 72, 3):
        now = START + dt.timedelta(hours=hours)
        open_in = {
            pool.region
            for region in world.setup.regions
            for pool in world.pools.offered(region.name)
            if pool.instance_type == POOL.instance_type
            and world.pools.has_capacity(pool, Market.SPOT, now)
        }
        assert len(open_in) >= 2
