"""What ports.Cloud promises: over the simulated market, over EC2's wire in the lab, and (with
scripts/aws-smoke) over a real account."""

from __future__ import annotations

import pytest

from spotrunner.core.model import EndedBy, Instance, InstanceState, Market, Refused
from spotrunner.ports import (
    LaunchRefused,
    NotAuthorized,
    NotFound,
    OutcomeUnknown,
    Throttled,
    TokenMismatch,
    Unavailable,
)
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.refusals import server_error, throttled
from spotrunner.sim.values import ApiError, Stage
from tests.contracts.clouds import Account

NO_SUCH_ID = "i-00000000000000000"
FORBIDDEN = ApiError(
    "UnauthorizedOperation", "You are not authorized to perform this operation.", 403
)


def seen(account: Account, instance_id: str, *states: InstanceState) -> Instance:
    """The instance once EC2 shows it in one of these states."""

    def look() -> Instance | None:
        try:
            found = account.cloud.by_id(account.region, instance_id)
        except NotFound:
            return None
        return found if found.state in states else None

    return account.until(look)


def with_token(account: Account) -> tuple[Instance, ...]:
    return account.cloud.by_token(account.region, account.template.client_token)


# -- a launch ----------------------------------------------------------------------------------


def test_a_launch_is_listed_with_all_that_was_asked(account: Account) -> None:
    launched, request = account.launch(), account.request()
    installation = dict(request.tags)["spotrunner:installation"]
    found = seen(account, launched.instance_id, InstanceState.RUNNING)
    account.until(lambda: found in account.cloud.instances(account.region, installation) or None)
    account.until(lambda: with_token(account) == (found,) or None)
    assert found == Instance(
        id=launched.instance_id,
        pool=request.pool,
        market=Market.SPOT,
        state=InstanceState.RUNNING,
        launched_at=launched.at,
        client_token=request.client_token,
        installation=installation,
        job_id=dict(request.tags)["spotrunner:job"],
        attempt_id=dict(request.tags)["spotrunner:attempt"],
    )
    assert account.cloud.instances(account.region, installation + "x") == ()
    assert account.cloud.by_token(account.region, request.client_token + "x") == ()


def test_the_same_request_again_is_the_same_instance(account: Account) -> None:
    first = account.launch()
    assert account.launch() == first
    seen(account, first.instance_id, InstanceState.RUNNING)
    assert account.launch() == first
    account.until(lambda: with_token(account) or None)
    assert [found.id for found in with_token(account)] == [first.instance_id]


def test_the_same_request_after_the_end_launches_nothing_new(account: Account) -> None:
    account.script.script(Fault(dies="Server.InternalError"))
    first = account.launch()
    seen(account, first.instance_id, InstanceState.ENDED)
    assert account.launch() == first


def test_a_token_with_other_bytes_is_a_mismatch(account: Account) -> None:
    first = account.launch()
    with pytest.raises(TokenMismatch):
        account.launch(user_data="#!/bin/bash\nshutdown -h +19\n")
    with pytest.raises(TokenMismatch):
        account.launch(tags=account.template.tags[:-1])
    account.until(lambda: with_token(account) or None)
    assert [found.id for found in with_token(account)] == [first.instance_id]


def test_another_token_is_another_instance(account: Account) -> None:
    _ = account.script
    first = account.launch()
    second = account.launch(client_token="i1.digits-7f3a.2")
    assert first.instance_id != second.instance_id


def test_an_instance_on_demand_is_no_spot_instance(account: Account) -> None:
    _ = account.script
    launched = account.launch(market=Market.ON_DEMAND)
    found = seen(account, launched.instance_id, InstanceState.PENDING, InstanceState.RUNNING)
    assert found.market is Market.ON_DEMAND


def test_a_listing_lags(account: Account) -> None:
    """What is not listed may be there: nobody may take absence for an end."""
    _ = account.script
    launched = account.launch()
    assert with_token(account) == ()
    assert account.cloud.instances(account.region, "i1") == ()
    account.until(lambda: with_token(account) or None)
    account.until(lambda: account.cloud.instances(account.region, "i1") or None)
    (found,) = account.cloud.instances(account.region, "i1")
    assert found.id == launched.instance_id


def test_a_listing_has_every_page(account: Account) -> None:
    world, region = account.script, account.region
    launched = {
        account.launch(client_token=f"i1.digits-7f3a.{number}").instance_id for number in range(7)
    }
    assert len(world.truth(account.now())) == 7
    listed = account.until(
        lambda: found if len(found := account.cloud.instances(region, "i1")) == 7 else None
    )
    assert {found.id for found in listed} == launched


# -- an answer that is lost --------------------------------------------------------------------


def test_a_launch_whose_answer_is_lost_is_found_by_its_token(account: Account) -> None:
    account.script.script(Fault(lose=Lose.AFTER))
    with pytest.raises(OutcomeUnknown):
        account.launch()
    found = account.until(lambda: with_token(account) or None)
    again = account.launch()
    assert [instance.id for instance in found] == [again.instance_id]
    assert len(account.script.truth(account.now())) == 1


@pytest.mark.parametrize("fault", [Fault(lose=Lose.BEFORE), Fault(error=server_error())])
def test_a_launch_that_did_not_happen_looks_the_same(account: Account, fault: Fault) -> None:
    account.script.script(fault)
    with pytest.raises(OutcomeUnknown):
        account.launch()
    account.launch()
    assert len(account.script.truth(account.now())) == 1


def test_a_throttled_launch_launched_nothing(account: Account) -> None:
    account.script.script(Fault(error=throttled()))
    with pytest.raises(Throttled):
        account.launch()
    assert account.script.truth(account.now()) == ()


@pytest.mark.parametrize("how", [Fault(action="*", lose=Lose.BEFORE, times=2)])
def test_a_read_without_an_answer_is_unavailable(account: Account, how: Fault) -> None:
    for read in (account.cloud.instances, account.cloud.by_token, account.cloud.by_id):
        account.script.script(how)
        with pytest.raises(Unavailable):
            read(account.region, "i-1")
        account.script.faults.clear()


def test_a_read_that_is_throttled_says_so(account: Account) -> None:
    for read in (account.cloud.instances, account.cloud.by_token, account.cloud.by_id):
        account.script.script(Fault(action="*", error=throttled(), times=2))
        with pytest.raises(Throttled):
            read(account.region, "i-1")
        account.script.faults.clear()


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("market", Market)
@pytest.mark.parametrize("meaning", Refused)
def test_a_refusal_has_its_meaning(account: Account, meaning: Refused, market: Market) -> None:
    account.script.refuse(account.template.pool, market, meaning)
    with pytest.raises(LaunchRefused) as caught:
        account.launch(market=market)
    assert caught.value.meaning is meaning
    assert account.script.truth(account.now()) == ()
    account.launch(market=market)


def test_a_refusal_for_capacity_names_zones_that_have_some(account: Account) -> None:
    pool = account.template.pool
    account.script.set_capacity(account.now(), pool, False, market=Market.ON_DEMAND)
    with pytest.raises(LaunchRefused) as caught:
        account.launch(market=Market.ON_DEMAND)
    assert caught.value.meaning is Refused.CAPACITY
    assert caught.value.hint_zones == ("us-east-1b", "us-east-1d")


def test_a_refused_token_is_not_spent(account: Account) -> None:
    """Still each try elsewhere takes a token of its own; this is for the same one again."""
    pool = account.template.pool
    account.script.set_capacity(account.now(), pool, False)
    with pytest.raises(LaunchRefused):
        account.launch()
    account.script.set_capacity(account.now(), pool, True)
    account.launch()


@pytest.mark.parametrize(
    "changes",
    [
        {"image_id": "ami-00000000000000bad"},
        {"subnet_id": "subnet-00000000000000bad"},
        {"security_group_ids": ("sg-00000000000000bad",)},
        {"instance_profile": "nobody"},
        {"user_data": "#" * 16_385},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_what_cannot_be_launched_as_asked_is_config(
    account: Account, changes: dict[str, object]
) -> None:
    _ = account.script
    with pytest.raises(LaunchRefused) as caught:
        account.launch(**changes)
    assert caught.value.meaning is Refused.CONFIG


def test_a_read_that_is_not_allowed_says_so(account: Account) -> None:
    account.script.script(Fault(action="*", error=FORBIDDEN, times=2))
    with pytest.raises(NotAuthorized):
        account.cloud.instances(account.region, "i1")
    with pytest.raises(NotAuthorized):
        account.cloud.terminate(account.region, [NO_SUCH_ID])


# -- ends --------------------------------------------------------------------------------------


def test_an_end_by_us_takes_its_time_and_is_told_as_ours(account: Account) -> None:
    launched = account.launch()
    seen(account, launched.instance_id, InstanceState.RUNNING)
    account.cloud.terminate(account.region, [launched.instance_id])
    found = seen(account, launched.instance_id, InstanceState.ENDING, InstanceState.ENDED)
    assert found.ended_by is EndedBy.US
    account.cloud.terminate(account.region, [launched.instance_id])
    found = seen(account, launched.instance_id, InstanceState.ENDED)
    assert found.ended_by is EndedBy.US
    assert found.ended_at is not None
    assert launched.at <= found.ended_at
    account.cloud.terminate(account.region, [launched.instance_id])


def test_a_terminate_is_not_yet_an_end(account: Account) -> None:
    _ = account.script
    launched = account.launch()
    seen(account, launched.instance_id, InstanceState.RUNNING)
    account.cloud.terminate(account.region, [launched.instance_id])
    found = account.cloud.by_id(account.region, launched.instance_id)
    assert found.state is not InstanceState.ENDED


def test_unknown_ids_hinder_no_end(account: Account) -> None:
    launched = account.launch()
    seen(account, launched.instance_id, InstanceState.RUNNING)
    account.cloud.terminate(account.region, [])
    account.cloud.terminate(account.region, [NO_SUCH_ID])
    account.cloud.terminate(account.region, [NO_SUCH_ID, launched.instance_id, NO_SUCH_ID])
    seen(account, launched.instance_id, InstanceState.ENDING, InstanceState.ENDED)


@pytest.mark.parametrize("instance_id", [NO_SUCH_ID, "digits"])
def test_an_unknown_id_is_not_found(account: Account, instance_id: str) -> None:
    with pytest.raises(NotFound):
        account.cloud.by_id(account.region, instance_id)


@pytest.mark.parametrize("by", [EndedBy.EC2, EndedBy.ITSELF, EndedBy.FAULT])
def test_who_ended_it_is_told(account: Account, by: EndedBy) -> None:
    world, launched = account.script, account.launch()
    seen(account, launched.instance_id, InstanceState.RUNNING)
    if by is EndedBy.EC2:
        world.interrupt(account.now(), launched.instance_id, notice=False)
    elif by is EndedBy.ITSELF:
        world.shutdown_from_inside(account.now(), launched.instance_id)
    else:
        world.fail(account.now(), launched.instance_id)
    assert seen(account, launched.instance_id, InstanceState.ENDED).ended_by is by


# -- bids --------------------------------------------------------------------------------------


def test_a_bid_below_the_price_is_refused(account: Account) -> None:
    with pytest.raises(LaunchRefused) as caught:
        account.launch(max_price_usd_micros=2_000)
    assert caught.value.meaning is Refused.PRICE


def test_a_bid_below_the_price_is_refused_with_the_price_it_takes(account: Account) -> None:
    _ = account.script
    with pytest.raises(LaunchRefused, match=r"price of 0\.149999 .* price of 0\.15\b") as caught:
        account.launch(max_price_usd_micros=149_999)
    assert caught.value.meaning is Refused.PRICE
    assert account.script.truth(account.now()) == ()
    account.launch(max_price_usd_micros=150_000)


def test_a_bid_that_ec2_takes_for_none_is_config(account: Account) -> None:
    _ = account.script
    with pytest.raises(LaunchRefused) as caught:
        account.launch(max_price_usd_micros=1_000)
    assert caught.value.meaning is Refused.CONFIG


def test_a_bid_is_part_of_what_a_token_stands_for(account: Account) -> None:
    _ = account.script
    first = account.launch(max_price_usd_micros=200_000)
    with pytest.raises(TokenMismatch):
        account.launch()
    with pytest.raises(TokenMismatch):
        account.launch(max_price_usd_micros=200_001)
    assert account.launch(max_price_usd_micros=200_000) == first


def test_on_demand_knows_no_bid(account: Account) -> None:
    _ = account.script
    account.launch(market=Market.ON_DEMAND, max_price_usd_micros=1)


def outbid(account: Account) -> str:
    """An instance that runs, and that EC2 has just announced to take for the price."""
    world, launched = account.script, account.launch(max_price_usd_micros=200_000)
    seen(account, launched.instance_id, InstanceState.RUNNING)
    world.set_price(account.now(), account.template.pool, 200_001)
    return launched.instance_id


def test_an_end_by_price_says_so(account: Account) -> None:
    instance_id = outbid(account)
    announced_at = account.now()
    found = seen(account, instance_id, InstanceState.ENDING, InstanceState.ENDED)
    assert found.ended_by is EndedBy.PRICE
    assert found.ended_by.interruption
    assert (account.now() - announced_at).total_seconds() >= 120, "the notice is kept"
    assert seen(account, instance_id, InstanceState.ENDED).ended_by is EndedBy.PRICE
    (listed,) = account.cloud.instances(account.region, "i1")
    assert listed.ended_by is EndedBy.PRICE
    assert [each.ended_by for each in with_token(account)] == [EndedBy.PRICE]


def test_until_it_is_taken_an_outbid_instance_runs(account: Account) -> None:
    instance_id = outbid(account)
    account.pause()
    found = account.cloud.by_id(account.region, instance_id)
    assert (found.state, found.ended_by) == (InstanceState.RUNNING, None)


def test_who_ends_an_outbid_instance_first_ended_it(account: Account) -> None:
    instance_id = outbid(account)
    account.cloud.terminate(account.region, [instance_id])
    found = seen(account, instance_id, InstanceState.ENDING, InstanceState.ENDED)
    assert found.ended_by is EndedBy.US


def test_capacity_that_goes_is_no_end_by_price(account: Account) -> None:
    world, launched = account.script, account.launch(max_price_usd_micros=200_000)
    seen(account, launched.instance_id, InstanceState.RUNNING)
    world.interrupt(account.now(), launched.instance_id)
    assert seen(account, launched.instance_id, InstanceState.ENDED).ended_by is EndedBy.EC2


@pytest.mark.parametrize("error", [throttled(), server_error(), FORBIDDEN], ids=lambda e: e.code)
def test_where_the_reason_cannot_be_asked_for_it_is_ec2_until_it_can(
    account: Account, error: ApiError
) -> None:
    instance_id, world = outbid(account), account.script
    account.until(lambda: world.truth(account.now())[0].stage is Stage.TERMINATED or None)
    for _ in range(5):  # listings show what was
        account.pause()
    fault = Fault(action="DescribeSpotInstanceRequests", error=error, times=2)
    account.script.script(fault)
    assert account.cloud.by_id(account.region, instance_id).ended_by is EndedBy.EC2
    account.script.faults.clear()
    assert account.cloud.by_id(account.region, instance_id).ended_by is EndedBy.PRICE
    account.script.script(fault)
    assert account.cloud.by_id(account.region, instance_id).ended_by is EndedBy.PRICE


# -- deaths ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dies", ["Server.InsufficientInstanceCapacity", "Client.InternalError"])
def test_a_death_before_it_ran_is_a_fault(account: Account, dies: str) -> None:
    account.script.script(Fault(dies=dies))
    launched = account.launch()
    found = seen(account, launched.instance_id, InstanceState.ENDED)
    assert found.ended_by is EndedBy.FAULT
