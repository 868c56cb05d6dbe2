"""The simulated market, told as short stories: life and interruptions."""

from __future__ import annotations

import datetime as dt

import pytest

from spotrunner.core.model import Market, Pool
from spotrunner.sim.faults import Fault
from spotrunner.sim.setups import P3, lab_setup
from spotrunner.sim.steps import Steps
from spotrunner.sim.values import ApiError, Kind, Manners, Stage
from spotrunner.sim.world import World
from tests.sim.worlds import (
    LAGGING,
    POOL,
    START,
    a_request,
    a_world,
    at,
    launched,
    refused,
    stage_of,
)

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
