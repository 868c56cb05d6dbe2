"""What RunInstances is asked for, and what is made of what EC2 lists."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest
from botocore.validate import ParamValidator

from spotrunner.adapters.aws.cloud import parse_instance, run_instances_arguments
from spotrunner.adapters.aws.session import Aws
from spotrunner.core.model import (
    EndedBy,
    Instance,
    InstanceState,
    LaunchRequest,
    Market,
    Pool,
)

POOL = Pool(region="us-east-1", zone="us-east-1a", instance_type="g4dn.xlarge")
NOON = dt.datetime(2026, 11, 3, 12, tzinfo=dt.timezone.utc)
REQUEST = LaunchRequest(
    client_token="i1.digits-7f3a.4",
    pool=POOL,
    market=Market.SPOT,
    image_id="ami-0123456789abcdef0",
    root_device="/dev/xvda",
    subnet_id="subnet-0123456789abcdef0",
    user_data="#!/bin/bash\n",
    disk_gib=100,
    tags=(("Name", "spotrunner digits-7f3a.4"), ("spotrunner:job", "digits-7f3a")),
    security_group_ids=("sg-1", "sg-2"),
    instance_profile="spotrunner-agent",
)
TAGS = [
    {"Key": "Name", "Value": "spotrunner digits-7f3a.4"},
    {"Key": "spotrunner:job", "Value": "digits-7f3a"},
]


def test_a_spot_instance_is_asked_for_with_all_that_protects_us() -> None:
    assert run_instances_arguments(REQUEST) == {
        "ClientToken": "i1.digits-7f3a.4",
        "ImageId": "ami-0123456789abcdef0",
        "InstanceType": "g4dn.xlarge",
        "MinCount": 1,
        "MaxCount": 1,
        "UserData": "#!/bin/bash\n",
        "InstanceInitiatedShutdownBehavior": "terminate",
        "InstanceMarketOptions": {
            "MarketType": "spot",
            "SpotOptions": {
                "SpotInstanceType": "one-time",
                "InstanceInterruptionBehavior": "terminate",
            },
        },
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": "enabled",
        },
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": "subnet-0123456789abcdef0",
                "AssociatePublicIpAddress": True,
                "DeleteOnTermination": True,
                "Groups": ["sg-1", "sg-2"],
            }
        ],
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/xvda",
                "Ebs": {"VolumeSize": 100, "VolumeType": "gp3", "DeleteOnTermination": True},
            }
        ],
        "IamInstanceProfile": {"Name": "spotrunner-agent"},
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": TAGS}
            for kind in ("instance", "volume", "network-interface", "spot-instances-request")
        ],
    }


def test_on_demand_has_no_spot_request() -> None:
    arguments = run_instances_arguments(dataclasses.replace(REQUEST, market=Market.ON_DEMAND))
    assert "InstanceMarketOptions" not in arguments
    kinds = [each["ResourceType"] for each in arguments["TagSpecifications"]]
    assert kinds == ["instance", "volume", "network-interface"]
    assert arguments["InstanceInitiatedShutdownBehavior"] == "terminate"


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (150_000, "0.150000"),
        (1_500, "0.001500"),
        (12_345_678, "12.345678"),
        (3_000_000, "3.000000"),
    ],
)
def test_a_bid_is_sent_in_decimal_dollars_and_with_spot_only(micros: int, text: str) -> None:
    bid = dataclasses.replace(REQUEST, max_price_usd_micros=micros)
    plain, with_bid = run_instances_arguments(REQUEST), run_instances_arguments(bid)
    assert with_bid["InstanceMarketOptions"]["SpotOptions"].pop("MaxPrice") == text
    assert with_bid == plain
    on_demand = dataclasses.replace(bid, market=Market.ON_DEMAND)
    assert "MaxPrice" not in str(run_instances_arguments(on_demand))


def test_what_is_not_given_is_left_to_ec2() -> None:
    bare = dataclasses.replace(REQUEST, security_group_ids=(), instance_profile=None)
    arguments = run_instances_arguments(bare)
    assert "Groups" not in arguments["NetworkInterfaces"][0]
    assert "IamInstanceProfile" not in arguments
    arn = "arn:aws:iam::123456789012:instance-profile/agents/spotrunner"
    arguments = run_instances_arguments(dataclasses.replace(REQUEST, instance_profile=arn))
    assert arguments["IamInstanceProfile"] == {"Arn": arn}


@pytest.mark.parametrize("market", Market)
def test_botocore_knows_every_argument(market: Market) -> None:
    aws = Aws()
    shape = aws.ec2("us-east-1").meta.service_model.operation_model("RunInstances").input_shape
    request = dataclasses.replace(REQUEST, market=market, max_price_usd_micros=150_000)
    arguments = run_instances_arguments(request)
    validator: Any = ParamValidator()
    assert not validator.validate(arguments, shape).has_errors()
    aws.close()


# -- what is listed ----------------------------------------------------------------------------


def listed(**changes: Any) -> Any:
    """One instance of DescribeInstances."""
    return {
        "InstanceId": "i-0123456789abcdef0",
        "InstanceType": "g4dn.xlarge",
        "Placement": {"AvailabilityZone": "us-east-1a"},
        "State": {"Code": 16, "Name": "running"},
        "LaunchTime": NOON,
        "ClientToken": "i1.digits-7f3a.4",
        "InstanceLifecycle": "spot",
        "StateTransitionReason": "",
        "Tags": [
            {"Key": "spotrunner:installation", "Value": "i1"},
            {"Key": "spotrunner:job", "Value": "digits-7f3a"},
            {"Key": "spotrunner:attempt", "Value": "digits-7f3a.4"},
        ],
        **changes,
    }


RUNNING = Instance(
    id="i-0123456789abcdef0",
    pool=POOL,
    market=Market.SPOT,
    state=InstanceState.RUNNING,
    launched_at=NOON,
    client_token="i1.digits-7f3a.4",
    installation="i1",
    job_id="digits-7f3a",
    attempt_id="digits-7f3a.4",
)


def test_a_running_instance_is_read_whole() -> None:
    assert parse_instance("us-east-1", listed()) == RUNNING


def test_a_stranger_has_no_tags_no_token_and_no_lifecycle() -> None:
    found = listed(ClientToken="")
    del found["Tags"], found["InstanceLifecycle"]
    stranger = parse_instance("us-east-1", found)
    assert (stranger.client_token, stranger.installation, stranger.attempt_id) == (None,) * 3
    assert stranger.market is Market.ON_DEMAND


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("pending", InstanceState.PENDING),
        ("running", InstanceState.RUNNING),
        ("shutting-down", InstanceState.ENDING),
        ("stopping", InstanceState.ENDING),
        ("stopped", InstanceState.ENDING),
        ("terminated", InstanceState.ENDED),
    ],
)
def test_every_state_of_ec2_has_one_of_ours(name: str, state: InstanceState) -> None:
    assert parse_instance("us-east-1", listed(State={"Name": name})).state is state


def test_the_states_are_all_that_botocore_knows() -> None:
    aws = Aws()
    shape: Any = aws.ec2("us-east-1").meta.service_model.shape_for("InstanceStateName")
    for name in shape.enum:
        parse_instance("us-east-1", listed(State={"Name": name}))
    aws.close()


@pytest.mark.parametrize(
    ("code", "transition", "by", "at"),
    [
        (
            "Client.UserInitiatedShutdown",
            "User initiated (2026-11-03 13:14:15 GMT)",
            EndedBy.US,
            NOON.replace(hour=13, minute=14, second=15),
        ),
        ("Server.SpotInstanceTermination", "Server.SpotInstanceTermination", EndedBy.EC2, None),
        ("Client.InstanceInitiatedShutdown", "", EndedBy.ITSELF, None),
        (None, "", EndedBy.UNKNOWN, None),
    ],
)
def test_an_end_is_told_as_far_as_ec2_tells(
    code: str | None, transition: str, by: EndedBy, at: dt.datetime | None
) -> None:
    found = listed(State={"Name": "terminated"}, StateTransitionReason=transition)
    if code is not None:
        found["StateReason"] = {"Code": code, "Message": code}
    instance = parse_instance("us-east-1", found)
    assert (instance.ended_by, instance.ended_at) == (by, at)


def test_what_lives_has_no_end() -> None:
    found = listed(StateReason={"Code": "pending"}, State={"Name": "pending"})
    instance = parse_instance("us-east-1", found)
    assert (instance.ended_by, instance.ended_at) == (None, None)
