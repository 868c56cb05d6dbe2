"""Baked images over EC2's wire: made, listed, copied, removed, and chosen for a launch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from spotrunner.adapters.aws.cloud import Ec2Cloud
from spotrunner.adapters.aws.images import AwsImages, name_of
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.aws.sites import BAKED_KEPT_S, AwsSites
from spotrunner.core.baked import BakedImage, Driver, Label, Need, Recipe
from spotrunner.core.catalogue import Architecture
from spotrunner.lab.endpoint.ec2 import Awkwardness
from spotrunner.lab.endpoint.server import LabEndpoint
from spotrunner.ports import Image, Misconfigured, NotFound
from spotrunner.sim.cloud import SimSites, VirtualClock
from spotrunner.sim.faults import Fault
from spotrunner.sim.setups import G4DN, P3
from spotrunner.sim.values import LIGHT, ApiError
from spotrunner.sim.world import World
from tests.contracts.clouds import START, a_setup, a_template
from tests.contracts.conftest import set_keys

REGION, OTHER = "us-east-1", "eu-west-1"
UBUNTU = "ami-00000000000000000"
TF = "tensorflow/tensorflow:2.17.0-gpu"
NEED = Need(container=TF, disk_gib=100)
LABEL = Label(
    installation="i1",
    bake="bake:7f3a",
    digest="sha256:" + "ab" * 32,
    recipe=Recipe(
        container=TF,
        base=f"{REGION}/{UBUNTU}",
        driver=Driver.OPEN,
        architecture=Architecture.X86_64,
        agent_sha256="0" * 64,
    ),
)
LONG_S = 60


class Hand:
    at = 0.0

    def __call__(self) -> float:
        return self.at


@dataclass(kw_only=True)
class Ground:
    aws: Aws
    world: World
    clock: VirtualClock
    instance: str

    @property
    def images(self) -> AwsImages:
        return AwsImages(self.aws)

    def baked(self, label: Label = LABEL) -> BakedImage:
        made = self.images.make(REGION, self.instance, label)
        self.clock.advance(LONG_S)
        return self.images.one(REGION, made)


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    set_keys(monkeypatch)
    clock, world = VirtualClock(START), World(a_setup(LIGHT), seed=7)
    wire = Awkwardness(halves=True, throttled_share=0.0)
    with LabEndpoint(world, clock, awkwardness=wire) as endpoint:
        aws = Aws(endpoint_url=endpoint.url)
        instance = Ec2Cloud(aws).launch(a_template(SimSites(world))).instance_id
        clock.advance(LONG_S)
        yield Ground(aws=aws, world=world, clock=clock, instance=instance)
        aws.close()


def test_an_image_says_by_its_tags_what_is_on_it(ground: Ground) -> None:
    image = ground.baked()
    assert (image.label, image.state, image.region) == (LABEL, "available", REGION)
    assert (image.root_device, image.disk_gib) == ("/dev/sda1", 100)
    assert ground.images.baked(REGION, "i1") == (image,)
    assert ground.images.baked(REGION, "i2") == ()
    assert ground.images.made(REGION, LABEL) == image
    (snapshot,) = image.snapshot_ids
    assert 0 < ground.images.used_bytes(REGION, [snapshot])[snapshot] <= 100 * 2**30
    assert ground.images.used_bytes(REGION, []) == {}


def test_a_name_says_what_it_is_and_is_one_that_ec2_takes() -> None:
    assert name_of(LABEL) == "spotrunner i1 7f3a tensorflow/tensorflow-2.17.0-gpu"
    long = dataclasses.replace(LABEL.recipe, container="a" * 300 + "@sha256:" + "ab" * 32)
    assert len(name_of(dataclasses.replace(LABEL, recipe=long))) == 128


def test_an_image_is_made_once(ground: Ground) -> None:
    ground.baked()
    with pytest.raises(Misconfigured, match="already in use"):
        ground.images.make(REGION, ground.instance, LABEL)


def test_a_copy_is_made_once_and_has_the_same_tags(ground: Ground) -> None:
    image = ground.baked()
    copied = ground.images.copy(image, OTHER, "one")
    assert ground.images.copy(image, OTHER, "one") == copied
    assert ground.images.one(OTHER, copied).state == "pending"
    ground.clock.advance(LONG_S)
    (there,) = ground.images.baked(OTHER, "i1")
    assert (there.id, there.state, there.label) == (copied, "available", LABEL)


def test_what_is_removed_is_gone_with_its_snapshots(ground: Ground) -> None:
    image = ground.baked()
    ground.images.remove(image)
    assert ground.images.baked(REGION, "i1") == ()
    assert ground.aws.ec2(REGION).describe_snapshots(OwnerIds=["self"])["Snapshots"] == []
    ground.images.remove(image)
    with pytest.raises(NotFound):
        ground.images.one(REGION, image.id)


def test_a_snapshot_that_stays_is_told_with_how_to_delete_it(ground: Ground) -> None:
    image = ground.baked()
    (snapshot,) = image.snapshot_ids
    denied = ApiError("UnauthorizedOperation", "You are not authorized.", 403)
    ground.world.script(Fault(action="DeleteSnapshot", error=denied))
    with pytest.raises(Misconfigured) as told:
        ground.images.remove(image)
    assert f"{snapshot} (missing-permissions)" in str(told.value)
    assert f"delete-snapshot --region {REGION} --snapshot-id {snapshot}" in str(told.value)


def test_a_base_says_how_large_it_is(ground: Ground) -> None:
    base = ground.images.base(REGION, UBUNTU)
    assert (base.root_device, base.disk_gib) == ("/dev/sda1", 45)
    assert base.architecture is Architecture.X86_64
    with pytest.raises(Misconfigured, match=r"no image ami-01234567 in us-east-1"):
        ground.images.base(REGION, "ami-01234567")


def test_the_console_is_what_an_instance_printed_last(ground: Ground) -> None:
    assert ground.images.console(REGION, ground.instance) == ""


# -- chosen for a launch -----------------------------------------------------------------------


def test_a_launch_takes_the_baked_image_that_has_its_container(ground: Ground) -> None:
    image = ground.baked()
    sites = AwsSites(ground.aws, installation="i1")
    assert sites.image(REGION, G4DN, None, NEED) == Image(
        id=image.id, root_device="/dev/sda1", baked=True
    )
    public = Image(id=UBUNTU, root_device="/dev/sda1")
    assert sites.image(REGION, G4DN) == public
    assert sites.image(REGION, G4DN, None, dataclasses.replace(NEED, disk_gib=99)) == public
    assert sites.image(REGION, G4DN, None, Need(container="busybox:1", disk_gib=100)) == public
    assert AwsSites(ground.aws).image(REGION, G4DN, None, NEED) == public
    assert AwsSites(ground.aws, installation="i2").image(REGION, G4DN, None, NEED) == public
    assert not sites.image(OTHER, G4DN, None, NEED).baked


def test_what_people_named_wins(ground: Ground) -> None:
    ground.baked()
    amis = {REGION: {"g4dn": UBUNTU}}
    sites = AwsSites(ground.aws, amis=amis, installation="i1")
    assert sites.image(REGION, G4DN, None, NEED).id == UBUNTU
    assert AwsSites(ground.aws, installation="i1").image(REGION, G4DN, UBUNTU, NEED).id == UBUNTU


def test_a_v100_trains_from_what_was_baked_with_its_driver(ground: Ground) -> None:
    ground.baked()
    with pytest.raises(Misconfigured, match="spotrunner bake --for p3 --ami us-east-1=ami-"):
        AwsSites(ground.aws, installation="i1").image(REGION, P3, None, NEED)
    recipe = dataclasses.replace(LABEL.recipe, driver=Driver.PROPRIETARY)
    own = ground.baked(dataclasses.replace(LABEL, bake="bake:8c", recipe=recipe))
    sites = AwsSites(ground.aws, installation="i1")
    assert sites.image(REGION, P3, None, NEED).id == own.id
    assert sites.image(REGION, G4DN, None, NEED).id != own.id


def test_what_was_removed_is_forgotten_within_a_minute(ground: Ground) -> None:
    image, hand = ground.baked(), Hand()
    sites = AwsSites(ground.aws, installation="i1", monotonic=hand)
    assert sites.image(REGION, G4DN, None, NEED).id == image.id
    ground.images.remove(image)
    hand.at = BAKED_KEPT_S - 1
    assert sites.image(REGION, G4DN, None, NEED).id == image.id
    hand.at = BAKED_KEPT_S + 1
    assert sites.image(REGION, G4DN, None, NEED).id == UBUNTU
