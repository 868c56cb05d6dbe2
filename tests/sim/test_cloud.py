"""The cloud's ports over the simulated market: what the contract suite cannot ask for, since only
a script brings it about."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from spotrunner.core.model import EndedBy, InstanceState, LaunchRequest, Market, Refused
from spotrunner.ports import (
    LaunchRefused,
    NotFound,
    OutcomeUnknown,
    PortError,
    Throttled,
    TokenMismatch,
    Unavailable,
)
from spotrunner.sim.cloud import SimCloud, SimPrices, SimSites, VirtualClock
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.setups import G5, P3
from spotrunner.sim.values import ApiError, Manners
from spotrunner.sim.world import World
from tests.sim.worlds import EXACT, POOL, START, a_world

REGION = POOL.region


class Account:
    """A world with its ports and its clock."""

    def __init__(self, manners: Manners = EXACT) -> None:
        self.world: World = a_world(manners)
        self.clock = VirtualClock(START)
        self.cloud = SimCloud(self.world, self.clock)
        self.prices = SimPrices(self.world, self.clock)
        self.sites = SimSites(self.world)

    def request(self, **changes: Any) -> LaunchRequest:
        site = self.sites.site(REGION)
        image = self.sites.image(REGION, POOL.instance_type)
        request = LaunchRequest(
            client_token="i1.digits-7f3a.1",
            pool=POOL,
            market=Market.SPOT,
            image_id=image.id,
            root_device=image.root_device,
            subnet_id=site.subnets[POOL.zone],
            user_data="#!/bin/bash\n",
            disk_gib=100,
            tags=(
                ("spotrunner:installation", "i1"),
                ("spotrunner:job", "digits-7f3a"),
                ("spotrunner:attempt", "digits-7f3a.1"),
            ),
            security_group_ids=site.security_group_ids,
            instance_profile=site.instance_profile,
        )
        return dataclasses.replace(request, **changes)


def test_a_launch_is_listed_with_its_owner_and_its_end() -> None:
    account = Account()
    launched = account.cloud.launch(account.request())
    assert launched.at == START
    account.clock.advance(60)
    (found,) = account.cloud.instances(REGION, "i1")
    assert found == account.cloud.by_id(REGION, launched.instance_id)
    assert (found,) == account.cloud.by_token(REGION, "i1.digits-7f3a.1")
    assert (found.state, found.attempt_id) == (InstanceState.RUNNING, "digits-7f3a.1")
    assert account.cloud.instances(REGION, "i2") == ()

    account.cloud.terminate(REGION, [launched.instance_id, "i-00000000000000000"])
    account.clock.advance(60)
    (found,) = account.cloud.instances(REGION, "i1")
    assert (found.state, found.ended_by) == (InstanceState.ENDED, EndedBy.US)
    assert found.ended_at == START.replace(minute=1)


def test_an_instance_that_ends_itself_was_launched_to_terminate() -> None:
    account = Account()
    launched = account.cloud.launch(account.request(market=Market.ON_DEMAND))
    account.clock.advance(60)
    account.world.shutdown_from_inside(account.clock.now(), launched.instance_id)
    account.clock.advance(60)
    found = account.cloud.by_id(REGION, launched.instance_id)
    assert (found.state, found.ended_by) == (InstanceState.ENDED, EndedBy.ITSELF)


@pytest.mark.parametrize("meaning", [m for m in Refused if m is not Refused.CONFIG])
def test_a_refusal_keeps_its_meaning(meaning: Refused) -> None:
    account = Account()
    account.world.refuse(POOL, Market.SPOT, meaning)
    with pytest.raises(LaunchRefused) as caught:
        account.cloud.launch(account.request())
    assert caught.value.meaning is meaning


def test_zones_that_ec2_names_come_through() -> None:
    account = Account()
    account.world.set_capacity(START, POOL, False, market=Market.ON_DEMAND)
    with pytest.raises(LaunchRefused) as caught:
        account.cloud.launch(account.request(market=Market.ON_DEMAND))
    assert caught.value.hint_zones == ("us-east-1b", "us-east-1d")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(lose=Lose.BEFORE), OutcomeUnknown),
        (Fault(lose=Lose.AFTER), OutcomeUnknown),
        (Fault(error=ApiError("InternalError", "no", 500)), OutcomeUnknown),
        (Fault(error=ApiError("RequestLimitExceeded", "slow", 503)), Throttled),
        (Fault(error=ApiError("IdempotentParameterMismatch", "other", 400)), TokenMismatch),
    ],
)
def test_what_a_failed_launch_may_have_done(fault: Fault, error: type[PortError]) -> None:
    account = Account()
    account.world.script(fault)
    with pytest.raises(error):
        account.cloud.launch(account.request())
    account.cloud.launch(account.request())
    assert len(account.world.truth(START)) == 1


def test_a_read_that_gets_no_answer_is_unavailable() -> None:
    account = Account()
    account.world.script(Fault(action="*", lose=Lose.BEFORE, times=4))
    for read in (
        lambda: account.cloud.instances(REGION, "i1"),
        lambda: account.cloud.terminate(REGION, ["i-00000000000000000"]),
        lambda: account.prices.on_demand(REGION, [G5]),
        lambda: account.prices.quotes(REGION, [G5], START),
    ):
        with pytest.raises(Unavailable):
            read()


def test_an_unknown_id_is_not_found() -> None:
    account = Account()
    with pytest.raises(NotFound):
        account.cloud.by_id(REGION, "i-00000000000000000")


def test_prices_name_what_is_offered_and_what_is_only_priced() -> None:
    account = Account()
    offered = account.prices.offered("eu-west-1", [G5, P3])
    assert {pool.instance_type for pool in offered} == {G5}
    assert account.prices.on_demand("eu-west-1", [G5, P3, "p9.large"]) == {
        G5: 1_123_000,
        P3: 3_305_000,
    }


def test_quotes_come_oldest_first() -> None:
    account = Account()
    account.world.set_price(account.clock.advance(60), POOL, 160_000)
    account.clock.advance(60)
    quotes = account.prices.quotes(REGION, [POOL.instance_type], START)
    ours = [quote.price_usd_micros_hour for quote in quotes if quote.pool == POOL]
    assert ours == [150_000, 160_000]
    assert [quote.at for quote in quotes] == sorted(quote.at for quote in quotes)
