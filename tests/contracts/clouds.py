"""Clouds to hold to the contract: the simulated one, EC2's wire over it, and a real account.

The first two share a world whose clock is moved by hand, so nothing waits and everything can be
scripted; on a real account only what a user can do is done.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from spotrunner.adapters.aws.cloud import Ec2Cloud
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.aws.sites import AwsSites
from spotrunner.core.ids import TAG_ATTEMPT, TAG_INSTALLATION, TAG_JOB, job_of
from spotrunner.core.model import InstanceState, LaunchRequest, Market, Pool
from spotrunner.lab.endpoint.ec2 import Awkwardness
from spotrunner.lab.endpoint.server import LabEndpoint
from spotrunner.ports import Cloud, Launched, Sites
from spotrunner.sim.cloud import SimCloud, SimSites, VirtualClock
from spotrunner.sim.setups import plain_setup
from spotrunner.sim.values import Image, Manners, Setup
from spotrunner.sim.world import World

T = TypeVar("T")

START = dt.datetime(2026, 11, 2, 9, 0, tzinfo=dt.timezone.utc)
POOL = Pool(region="us-east-1", zone="us-east-1a", instance_type="g4dn.xlarge")

LONGEST_WAIT_S = 600


@dataclass(kw_only=True)
class Account:
    """A cloud and what surrounds it. `world` is None where nothing can be scripted."""

    cloud: Cloud
    template: LaunchRequest
    now: Callable[[], dt.datetime]
    pause: Callable[[], object]
    world: World | None = None
    launched: list[str] = field(default_factory=list)

    @property
    def region(self) -> str:
        return self.template.pool.region

    @property
    def script(self) -> World:
        """The world, to make things go wrong in; skips the test where there is none."""
        if self.world is None:
            pytest.skip("a real account does not go wrong on demand")
        return self.world

    def request(self, **changes: Any) -> LaunchRequest:
        return dataclasses.replace(self.template, **changes)

    def launch(self, **changes: Any) -> Launched:
        launched = self.cloud.launch(self.request(**changes))
        self.launched.append(launched.instance_id)
        return launched

    def until(self, look: Callable[[], T | None]) -> T:
        """What `look` returns once it is not None; fails the test when that takes too long."""
        give_up_at = self.now() + dt.timedelta(seconds=LONGEST_WAIT_S)
        while self.now() < give_up_at:
            found = look()
            if found is not None:
                return found
            self.pause()
        pytest.fail(f"not seen in {LONGEST_WAIT_S} s")


# Should everything else fail, the instance ends itself.
USER_DATA = "#!/bin/bash\nshutdown -h +20\n"


def a_template(sites: Sites) -> LaunchRequest:
    site, image = sites.site(POOL.region), sites.image(POOL.region, POOL.instance_type)
    return LaunchRequest(
        client_token="i1.digits-7f3a.1",
        pool=POOL,
        market=Market.SPOT,
        image_id=image.id,
        root_device=image.root_device,
        subnet_id=site.subnets[POOL.zone],
        user_data=USER_DATA,
        disk_gib=100,
        tags=_tags("i1", "digits-7f3a.1"),
        security_group_ids=site.security_group_ids,
        instance_profile=site.instance_profile,
    )


def a_setup(manners: Manners) -> Setup:
    """The plain market, with a second image in each region: its root disk has another name."""
    setup = plain_setup(START, manners=manners)
    regions = tuple(
        dataclasses.replace(region, images=(*region.images, _amazon_linux(number)))
        for number, region in enumerate(setup.regions)
    )
    return dataclasses.replace(setup, regions=regions)


def _amazon_linux(number: int) -> Image:
    return Image(id=f"ami-a{number:016x}", name="al2023", root_device="/dev/xvda")


# -- the three ---------------------------------------------------------------------------------

# Everything lags, nothing is left to chance.
SLOW = Manners(
    pending_s=(10.0, 20.0),
    listed_s=(5.0, 10.0),
    filtered_s=(10.0, 30.0),
    known_s=(0.0, 0.0),
    stale_s=(1.0, 4.0),
    shutting_down_s=(20.0, 40.0),
    unannounced_share=0.0,
    throttled=False,
)


@contextmanager
def simulated() -> Iterator[Account]:
    clock = VirtualClock(START)
    world = World(a_setup(SLOW), seed=7)
    yield Account(
        cloud=SimCloud(world, clock),
        template=a_template(SimSites(world)),
        now=clock.now,
        pause=lambda: clock.advance(1),
        world=world,
    )


@contextmanager
def emulated() -> Iterator[Account]:
    """EC2's wire, in the same virtual time. Its listings come in pages; none is throttled."""
    clock = VirtualClock(START)
    world = World(a_setup(SLOW), seed=7)
    wire = Awkwardness(halves=True, throttled_share=0.0)
    with LabEndpoint(world, clock, awkwardness=wire) as endpoint:
        aws = Aws(endpoint_url=endpoint.url)
        yield Account(
            cloud=Ec2Cloud(aws),
            template=a_template(AwsSites(aws, instance_profile="spotrunner-agent")),
            now=clock.now,
            pause=lambda: clock.advance(1),
            world=world,
        )
        aws.close()


@dataclass(frozen=True, kw_only=True)
class RealAccount:
    """What `scripts/aws-smoke` chose."""

    region: str
    zone: str
    subnet_id: str
    image_id: str
    root_device: str
    installation: str


@contextmanager
def real(chosen: RealAccount) -> Iterator[Account]:
    """A t3.micro in a real account, terminated at the end whatever happens."""
    aws, attempt = Aws(), f"smoke-{uuid.uuid4().hex[:8]}.1"
    cloud = Ec2Cloud(aws)
    template = LaunchRequest(
        client_token=f"{chosen.installation}.{attempt}",
        pool=Pool(region=chosen.region, zone=chosen.zone, instance_type="t3.micro"),
        market=Market.SPOT,
        image_id=chosen.image_id,
        root_device=chosen.root_device,
        subnet_id=chosen.subnet_id,
        user_data=USER_DATA,
        disk_gib=8,
        tags=_tags(chosen.installation, attempt),
    )
    started, pause = time.monotonic(), threading.Event()
    account = Account(
        cloud=cloud,
        template=template,
        now=lambda: START + dt.timedelta(seconds=time.monotonic() - started),
        pause=lambda: pause.wait(5),
    )
    try:
        yield account
    finally:
        cloud.terminate(chosen.region, account.launched)
        aws.close()


def sweep(cloud: Cloud, chosen: RealAccount) -> list[str]:
    """Terminate what bears the installation's tag until none of it lives, and return what does.
    Listings lag, so it goes on looking for a minute after it has seen the last."""
    pause, empty_looks = threading.Event(), 0
    living: list[str] = []
    for _ in range(60):
        found = cloud.instances(chosen.region, chosen.installation)
        living = [instance.id for instance in found if instance.state is not InstanceState.ENDED]
        cloud.terminate(chosen.region, living)
        empty_looks = 0 if living else empty_looks + 1
        if empty_looks == 6:
            break
        pause.wait(10)
    return living


def _tags(installation: str, attempt: str) -> tuple[tuple[str, str], ...]:
    return (
        ("Name", f"spotrunner {attempt}"),
        (TAG_INSTALLATION, installation),
        (TAG_JOB, job_of(attempt)),
        (TAG_ATTEMPT, attempt),
    )
