"""The simulated EC2 is as awkward as the real one: it lags, loses answers and throttles."""

from __future__ import annotations

import dataclasses

import pytest

from spotrunner.core.model import Market, Pool
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.setups import G5
from spotrunner.sim.steps import Steps
from spotrunner.sim.values import ApiError, Kind, LostAnswer, Manners, Stage
from tests.sim.worlds import (
    EXACT,
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
