"""AWS as the lab plays it, and keys that open nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from spotrunner.adapters.aws.clock import ServerClock
from spotrunner.adapters.aws.session import Aws
from spotrunner.lab.endpoint.ec2 import Awkwardness
from spotrunner.lab.endpoint.server import LabEndpoint
from spotrunner.sim.cloud import VirtualClock
from spotrunner.sim.values import Manners
from spotrunner.sim.world import World
from tests.contracts.clouds import START, a_setup
from tests.contracts.conftest import set_keys


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A lab in virtual time, and the clients of one control host."""

    endpoint: LabEndpoint
    world: World
    clock: VirtualClock
    server_clock: ServerClock
    aws: Aws


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)


@pytest.fixture
def lab() -> Iterator[Lab]:
    clock, server_clock = VirtualClock(START), ServerClock()
    world = World(a_setup(Manners(throttled=False)), seed=7)
    wire = Awkwardness(halves=True, throttled_share=0.0)
    with LabEndpoint(world, clock, awkwardness=wire) as endpoint:
        aws = Aws(endpoint_url=endpoint.url, clock=server_clock)
        yield Lab(endpoint=endpoint, world=world, clock=clock, server_clock=server_clock, aws=aws)
        aws.close()
