"""The account's own images through boto3: made, copied, launched from, ended, and refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from spotrunner.lab.endpoint.ec2 import Awkwardness
from spotrunner.lab.endpoint.server import LabEndpoint
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.setups import plain_setup
from spotrunner.sim.values import LIGHT
from spotrunner.sim.world import World
from tests.lab.clients import START, HandClock, client
from tests.lab.test_endpoint import launch

PUBLIC = f"ami-{0:017x}"
TAGS = [{"Key": "spotrunner:installation", "Value": "i1"}]
OURS = [{"Name": "tag:spotrunner:installation", "Values": ["i1"]}]
LONG_S = 60


class Account:
    def __init__(self, endpoint: LabEndpoint, world: World, clock: HandClock) -> None:
        self.endpoint, self.world, self.clock = endpoint, world, clock
        self.ec2 = client(endpoint.url, "ec2")
        self.instance = launch(self.ec2)["InstanceId"]
        self.clock.pass_s(LONG_S)

    def make(self, name: str = "ours", **more: Any) -> str:
        return str(
            self.ec2.create_image(
                **{
                    "InstanceId": self.instance,
                    "Name": name,
                    "NoReboot": True,
                    "TagSpecifications": [
                        {"ResourceType": kind, "Tags": TAGS} for kind in ("image", "snapshot")
                    ],
                    **more,
                }
            )["ImageId"]
        )

    def made(self) -> str:
        image = self.make()
        self.clock.pass_s(LONG_S)
        return image

    def listed(self, operation: str, member: str, **asked: Any) -> list[Any]:
        pages = self.ec2.get_paginator(operation).paginate(**asked)
        return [item for page in pages for item in page[member]]

    def snapshots(self, **asked: Any) -> list[Any]:
        return self.listed("describe_snapshots", "Snapshots", OwnerIds=["self"], **asked)

    def image(self, id_: str) -> Any:
        return self.ec2.describe_images(ImageIds=[id_])["Images"][0]


@pytest.fixture
def account() -> Iterator[Account]:
    clock, world = HandClock(), World(plain_setup(START, manners=LIGHT), seed=5)
    wire = Awkwardness(halves=True, throttled_share=0.0)
    with LabEndpoint(world, clock, awkwardness=wire) as endpoint:
        yield Account(endpoint, world, clock)


def refused(call: Any, **asked: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**asked)
    return str(caught.value.response["Error"]["Code"])


def test_an_image_is_pending_before_anything_can_be_launched_from_it(account: Account) -> None:
    made = account.make()
    assert account.image(made)["State"] == "pending"
    assert "SnapshotId" not in account.image(made)["BlockDeviceMappings"][0]["Ebs"]
    assert refused(lambda: launch(account.ec2, ImageId=made, ClientToken="t2")) == (
        "InvalidAMIID.Unavailable"
    )
    account.clock.pass_s(LONG_S)
    found = account.image(made)
    assert (found["State"], found["SourceInstanceId"]) == ("available", account.instance)
    assert (found["Public"], found["Tags"]) == (False, TAGS)
    ebs = found["BlockDeviceMappings"][0]["Ebs"]
    assert ebs["VolumeSize"] == 100
    launched = launch(account.ec2, ImageId=made, ClientToken="t3")
    assert (launched["ImageId"], launched["RootDeviceName"]) == (made, "/dev/sda1")


def test_listings_know_it_by_tag_owner_and_name(account: Account) -> None:
    made = account.made()

    def ids(**asked: Any) -> list[str]:
        found = account.listed("describe_images", "Images", **asked)
        return [image["ImageId"] for image in found]

    assert ids(Owners=["self"]) == [made]
    assert ids(Owners=["amazon"]) == [PUBLIC]
    assert ids() == [PUBLIC, made]
    assert ids(Filters=OURS) == [made]
    assert ids(Filters=[{"Name": "tag-key", "Values": ["spotrunner:*"]}]) == [made]
    assert ids(Filters=[{"Name": "tag:spotrunner:installation", "Values": ["i2"]}]) == []
    assert ids(Filters=[{"Name": "name", "Values": ["our*"]}]) == [made]


def test_a_listing_by_tag_lags(account: Account) -> None:
    made = account.make()
    assert account.listed("describe_images", "Images", Filters=OURS) == []
    assert account.image(made)["ImageId"] == made


def test_a_copy_takes_its_time_and_its_token_stands_for_it(account: Account) -> None:
    made, west = account.made(), client(account.endpoint.url, "ec2", "eu-west-1")
    asked: dict[str, Any] = {
        "SourceRegion": "us-east-1",
        "SourceImageId": made,
        "Name": "ours",
        "ClientToken": "copy-1",
        "CopyImageTags": True,
    }
    copied = west.copy_image(**asked)["ImageId"]
    assert west.copy_image(**asked)["ImageId"] == copied != made
    assert refused(west.copy_image, **{**asked, "Name": "other"}) == "IdempotentParameterMismatch"
    assert west.describe_images(ImageIds=[copied])["Images"][0]["State"] == "pending"
    account.clock.pass_s(LONG_S)
    (found,) = west.describe_images(ImageIds=[copied])["Images"]
    assert (found["State"], found["Tags"]) == ("available", TAGS)
    assert (found["SourceImageId"], found["SourceImageRegion"]) == (made, "us-east-1")
    assert refused(account.ec2.describe_images, ImageIds=[copied]) == "InvalidAMIID.NotFound"


def test_what_is_not_ready_cannot_be_copied(account: Account) -> None:
    west = client(account.endpoint.url, "ec2", "eu-west-1")
    source = {"SourceRegion": "us-east-1", "SourceImageId": account.make(), "Name": "copy"}
    assert refused(west.copy_image, **source) == "InvalidRequest"


def test_a_snapshot_says_how_far_it_is_and_what_it_holds(account: Account) -> None:
    account.make()
    listed = account.snapshots(Filters=OURS)
    assert [(it["State"], "FullSnapshotSizeInBytes" in it) for it in listed] == [("pending", False)]
    account.clock.pass_s(LONG_S)
    (snapshot,) = account.snapshots()
    assert (snapshot["State"], snapshot["Progress"]) == ("completed", "100%")
    assert 0 < snapshot["FullSnapshotSizeInBytes"] <= snapshot["VolumeSize"] * 2**30


def test_a_snapshot_outlives_its_image_unless_it_is_asked_to_go(account: Account) -> None:
    first, second = account.make("one"), account.make("two")
    account.clock.pass_s(LONG_S)
    snapshots = [account.image(it)["BlockDeviceMappings"][0]["Ebs"] for it in (first, second)]
    kept, gone = (it["SnapshotId"] for it in snapshots)
    assert refused(account.ec2.delete_snapshot, SnapshotId=kept) == "InvalidSnapshot.InUse"
    account.ec2.deregister_image(ImageId=first)
    answer = account.ec2.deregister_image(ImageId=second, DeleteAssociatedSnapshots=True)
    assert answer["DeleteSnapshotResults"] == [{"SnapshotId": gone, "ReturnCode": "success"}]
    left = account.snapshots()
    assert [it["SnapshotId"] for it in left] == [kept]
    account.ec2.delete_snapshot(SnapshotId=kept)
    assert account.snapshots() == []
    assert refused(account.ec2.delete_snapshot, SnapshotId=kept) == "InvalidSnapshot.NotFound"


def test_instances_of_an_image_that_is_gone_live_on(account: Account) -> None:
    made = account.made()
    id_ = launch(account.ec2, ImageId=made, ClientToken="t2")["InstanceId"]
    account.clock.pass_s(LONG_S)
    account.ec2.deregister_image(ImageId=made)
    (found,) = account.ec2.describe_instances(InstanceIds=[id_])["Reservations"][0]["Instances"]
    assert (found["State"]["Name"], found["ImageId"]) == ("running", made)
    assert refused(lambda: launch(account.ec2, ImageId=made, ClientToken="t3")) == (
        "InvalidAMIID.Unavailable"
    )


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"Name": "no:colons"}, "InvalidAMIName.Malformed"),
        ({"Name": "ours"}, "InvalidAMIName.Duplicate"),
        ({"InstanceId": "i-0123456789abcdef0"}, "InvalidInstanceID.NotFound"),
        ({"NoReboot": False}, "UnsupportedOperation"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sdb"}]}, "UnknownParameter"),
        (
            {"TagSpecifications": [{"ResourceType": "instance", "Tags": TAGS}]},
            "InvalidParameterValue",
        ),
    ],
)
def test_what_makes_no_image(account: Account, asked: dict[str, Any], code: str) -> None:
    account.make()
    assert refused(account.make, **{"name": "other", **asked}) == code


def test_an_instance_that_is_over_makes_no_image(account: Account) -> None:
    account.ec2.terminate_instances(InstanceIds=[account.instance])
    assert refused(account.make) == "IncorrectInstanceState"


def test_awss_own_images_are_not_ours_to_end(account: Account) -> None:
    assert refused(account.ec2.deregister_image, ImageId=PUBLIC) == "AuthFailure"
    assert refused(account.ec2.deregister_image, ImageId="ami-01234567") == "InvalidAMIID.NotFound"


def test_a_disk_has_to_hold_the_snapshot(account: Account) -> None:
    small = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 50, "VolumeType": "gp3"}}]
    made = account.made()
    assert refused(
        lambda: launch(account.ec2, ImageId=made, ClientToken="t2", BlockDeviceMappings=small)
    ) == ("InvalidBlockDeviceMapping")


def test_an_image_may_fail(account: Account) -> None:
    made = account.make()
    account.world.images.fail(made, "the volume was deleted")
    found = account.image(made)
    assert (found["State"], found["StateReason"]["Message"]) == ("failed", "the volume was deleted")


def test_a_lost_answer_leaves_the_image_under_its_name(account: Account) -> None:
    account.world.script(Fault(action="CreateImage", lose=Lose.AFTER))
    with pytest.raises(Exception, match="Connection was closed"):
        account.make()
    assert refused(account.make) == "InvalidAMIName.Duplicate"
