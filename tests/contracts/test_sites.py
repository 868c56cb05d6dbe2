"""What ports.Sites promises: over the simulated account, and over EC2's wire in the lab."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.aws.sites import AwsSites
from spotrunner.lab.endpoint.ec2 import Awkwardness
from spotrunner.lab.endpoint.server import LabEndpoint
from spotrunner.ports import Image, Misconfigured, Site, Sites
from spotrunner.sim.cloud import SimSites, VirtualClock
from spotrunner.sim.setups import G4DN, P3
from spotrunner.sim.values import Manners
from spotrunner.sim.world import World
from tests.contracts.clouds import POOL, START, a_setup
from tests.contracts.conftest import set_keys

REGION = POOL.region
UBUNTU = Image(id="ami-00000000000000000", root_device="/dev/sda1")
AMAZON_LINUX = Image(id="ami-a0000000000000000", root_device="/dev/xvda")


@pytest.fixture(params=["sim", "lab"])
def sites(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sites]:
    world = World(a_setup(Manners(throttled=False)), seed=7)
    if request.param == "sim":
        yield SimSites(world)
        return
    set_keys(monkeypatch)
    wire = Awkwardness(halves=True, throttled_share=0.0)
    with LabEndpoint(world, VirtualClock(START), awkwardness=wire) as endpoint:
        aws = Aws(endpoint_url=endpoint.url)
        yield AwsSites(aws, instance_profile="spotrunner-agent")
        aws.close()


def test_a_site_has_a_subnet_in_each_zone(sites: Sites) -> None:
    zones = ("us-east-1a", "us-east-1b", "us-east-1d")
    assert sites.site(REGION) == Site(
        region=REGION,
        subnets={zone: f"subnet-{0:08x}{index:09x}" for index, zone in enumerate(zones)},
        security_group_ids=(),
        instance_profile="spotrunner-agent",
    )


def test_an_image_comes_with_the_name_of_its_root_disk(sites: Sites) -> None:
    assert sites.image(REGION, G4DN) == UBUNTU


def test_an_image_that_a_job_names_counts(sites: Sites) -> None:
    for kind in (G4DN, P3):
        assert sites.image(REGION, kind, AMAZON_LINUX.id) == AMAZON_LINUX
        assert sites.image(REGION, kind, UBUNTU.id) == UBUNTU


@pytest.mark.parametrize("region", [REGION, "eu-west-1"])
def test_an_image_that_is_not_there_is_named(sites: Sites, region: str) -> None:
    """Ids are of one region: that of another is as wrong as one that never was."""
    wrong = AMAZON_LINUX.id if region != REGION else "ami-0123456789abcdef0"
    with pytest.raises(Misconfigured, match=rf"there is no image {wrong} in {region}"):
        sites.image(region, G4DN, wrong)


def test_a_type_without_a_public_image_says_so(sites: Sites) -> None:
    with pytest.raises(Misconfigured, match=f"{P3} needs an image of your own"):
        sites.image(REGION, P3)
