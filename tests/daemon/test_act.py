"""Acts in a bounded time: a call that hangs holds up nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from spotrunner.adapters.mail import ObjectMailbox
from spotrunner.adapters.memory import MemoryObjects
from spotrunner.adapters.store.memory import MemoryStore
from spotrunner.core.model import Attempt, LaunchRequest
from spotrunner.core.plan import Plan, Terminate
from spotrunner.daemon.act import Actor
from spotrunner.sim.cloud import SimCloud, VirtualClock
from spotrunner.sim.setups import plain_setup
from spotrunner.sim.world import World
from tests.build import T0, a_snapshot


class HangingCloud(SimCloud):
    """Ends nothing in one region: calls there wait until the test is over."""

    def __init__(self, world: World, clock: VirtualClock) -> None:
        super().__init__(world, clock)
        self.over = threading.Event()
        self.asked: list[str] = []

    def terminate(self, region: str, instance_ids: Sequence[str]) -> None:
        self.asked += instance_ids
        if region == "eu-west-1":
            self.over.wait(60)


@pytest.fixture
def cloud() -> Iterator[HangingCloud]:
    cloud = HangingCloud(World(plain_setup(T0), 0), VirtualClock(T0))
    yield cloud
    cloud.over.set()


def no_request(attempt: Attempt) -> LaunchRequest:
    raise AssertionError(f"nothing is launched here, {attempt.id} neither")


def test_a_region_that_hangs_costs_a_round_its_time_and_no_more(cloud: HangingCloud) -> None:
    clock = VirtualClock(T0)
    acts = [
        Terminate(region="eu-west-1", instance_id=f"i-{number:017x}", why="over")
        for number in range(40)
    ]
    acts.insert(0, Terminate(region="us-east-1", instance_id="i-00000000000000aaa", why="over"))
    with ThreadPoolExecutor(16) as executor:
        actor = Actor(
            store=MemoryStore(),
            cloud=cloud,
            mailbox=ObjectMailbox(MemoryObjects(clock)),
            request_for=no_request,
            clock=clock,
            executor=executor,
            round_s=0.3,
        )
        # It returns although no call to the region ever does, and has left workers to others.
        assert actor.act(Plan(terminations=tuple(acts)), a_snapshot(), epoch=1) is False
        assert "i-00000000000000aaa" in cloud.asked
        assert len(cloud.asked) < 16
        assert executor.submit(lambda: "free").result(10) == "free"
        cloud.over.set()
