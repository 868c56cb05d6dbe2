"""ports.Cloud over EC2."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from spotrunner.adapters.aws.ends import SpotEnds
from spotrunner.adapters.aws.errors import by_meaning, ended_by, launch_by_meaning
from spotrunner.adapters.aws.session import Aws
from spotrunner.core.ids import TAG_ATTEMPT, TAG_INSTALLATION, TAG_JOB
from spotrunner.core.model import Instance, InstanceState, LaunchRequest, Market, Pool
from spotrunner.ports import Launched, NotFound

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef, SpotInstanceRequestTypeDef

# EC2's limit for ids in one call.
TERMINATED_AT_ONCE = 1_000
# A page; above it EC2 refuses.
LISTED_AT_ONCE = 1_000


class Ec2Cloud:
    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._ends = SpotEnds(self._spot_requests)

    def launch(self, request: LaunchRequest) -> Launched:
        client = self._aws.launcher(request.pool.region)
        with launch_by_meaning():
            answer = client.run_instances(**run_instances_arguments(request))
        (instance,) = answer["Instances"]
        return Launched(instance_id=instance["InstanceId"], at=instance["LaunchTime"])

    def instances(self, region: str, installation: str) -> tuple[Instance, ...]:
        return self._listed(region, f"tag:{TAG_INSTALLATION}", installation)

    def by_token(self, region: str, client_token: str) -> tuple[Instance, ...]:
        return self._listed(region, "client-token", client_token)

    def by_id(self, region: str, instance_id: str) -> Instance:
        with by_meaning():
            answer = self._aws.ec2(region).describe_instances(InstanceIds=[instance_id])
        for reservation in answer["Reservations"]:
            for instance in reservation["Instances"]:
                return self._ends.named(region, [parse_instance(region, instance)])[0]
        raise NotFound(f"no instance {instance_id} in {region}")

    def terminate(self, region: str, instance_ids: Sequence[str]) -> None:
        for start in range(0, len(instance_ids), TERMINATED_AT_ONCE):
            some = list(instance_ids[start : start + TERMINATED_AT_ONCE])
            try:
                self._terminate(region, some)
            except NotFound:
                # One unknown id, and EC2 ends none of them.
                self._terminate_each(region, some)

    def _terminate_each(self, region: str, instance_ids: Sequence[str]) -> None:
        if len(instance_ids) == 1:
            return
        for instance_id in instance_ids:
            self.terminate(region, [instance_id])

    def _terminate(self, region: str, instance_ids: list[str]) -> None:
        with by_meaning():
            self._aws.ec2(region).terminate_instances(InstanceIds=instance_ids)

    def _listed(self, region: str, name: str, value: str) -> tuple[Instance, ...]:
        return self._ends.named(region, list(self._described(region, name, value)))

    def _described(self, region: str, name: str, value: str) -> Iterator[Instance]:
        with by_meaning():
            pages = self._aws.ec2(region).get_paginator("describe_instances")
            for page in pages.paginate(
                Filters=[{"Name": name, "Values": [value]}],
                PaginationConfig={"PageSize": LISTED_AT_ONCE},
            ):
                for reservation in page["Reservations"]:
                    for instance in reservation["Instances"]:
                        yield parse_instance(region, instance)

    def _spot_requests(
        self, region: str, instance_ids: Sequence[str]
    ) -> Iterator[SpotInstanceRequestTypeDef]:
        with by_meaning():
            pages = self._aws.aside(region).get_paginator("describe_spot_instance_requests")
            for page in pages.paginate(
                Filters=[{"Name": "instance-id", "Values": list(instance_ids)}],
                PaginationConfig={"PageSize": LISTED_AT_ONCE},
            ):
                yield from page["SpotInstanceRequests"]


# -- the request -------------------------------------------------------------------------------


def run_instances_arguments(request: LaunchRequest) -> dict[str, Any]:
    """The arguments of boto3's run_instances: of the request alone, so that the same request is
    the same bytes to EC2 whenever it is sent."""
    spot = request.market is Market.SPOT
    resources = ["instance", "volume", "network-interface"]
    if spot:
        resources.append("spot-instances-request")
    tags = [{"Key": key, "Value": value} for key, value in request.tags]
    arguments: dict[str, Any] = {
        "ClientToken": request.client_token,
        "ImageId": request.image_id,
        "InstanceType": request.pool.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "UserData": request.user_data,
        # A one-time spot instance ends however it stops; on demand it would stay, and cost.
        "InstanceInitiatedShutdownBehavior": "terminate",
        "NetworkInterfaces": [_network_interface(request)],
        "BlockDeviceMappings": [_root_disk(request)],
        # Hop limit 1: the agent on the host reaches IMDS, a trainer in a container does not.
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": "enabled",
        },
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in resources],
    }
    if request.instance_profile is not None:
        arguments["IamInstanceProfile"] = _profile(request.instance_profile)
    if spot:
        arguments["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {
                "SpotInstanceType": "one-time",
                "InstanceInterruptionBehavior": "terminate",
                **_bid(request),
            },
        }
    return arguments


def _bid(request: LaunchRequest) -> dict[str, str]:
    """Without one, which is the rule, we pay the going price, never above on-demand, and no price
    ends the instance."""
    micros = request.max_price_usd_micros
    if micros is None:
        return {}
    return {"MaxPrice": f"{micros // 1_000_000}.{micros % 1_000_000:06d}"}


def _network_interface(request: LaunchRequest) -> dict[str, Any]:
    """A public address is the way out to S3 and the image registries: it costs less than NAT."""
    interface: dict[str, Any] = {
        "DeviceIndex": 0,
        "SubnetId": request.subnet_id,
        "AssociatePublicIpAddress": True,
        "DeleteOnTermination": True,
    }
    if request.security_group_ids:
        interface["Groups"] = list(request.security_group_ids)
    return interface


def _root_disk(request: LaunchRequest) -> dict[str, Any]:
    return {
        "DeviceName": request.root_device,
        "Ebs": {"VolumeSize": request.disk_gib, "VolumeType": "gp3", "DeleteOnTermination": True},
    }


def _profile(name: str) -> dict[str, str]:
    return {"Arn": name} if name.startswith("arn:") else {"Name": name}


# -- the answer --------------------------------------------------------------------------------

_STATES = {
    "pending": InstanceState.PENDING,
    "running": InstanceState.RUNNING,
    "shutting-down": InstanceState.ENDING,
    "stopping": InstanceState.ENDING,
    "stopped": InstanceState.ENDING,
    "terminated": InstanceState.ENDED,
}
# "User initiated (2026-11-03 12:00:00 GMT)": the only place where EC2 tells the time of an end.
_TRANSITION_TIME = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")


def parse_instance(region: str, found: InstanceTypeDef) -> Instance:
    """What DescribeInstances says of one instance."""
    state = _STATES[found["State"]["Name"]]
    over = state in (InstanceState.ENDING, InstanceState.ENDED)
    tags = {tag.get("Key"): tag.get("Value") for tag in found.get("Tags", ())}
    return Instance(
        id=found["InstanceId"],
        pool=Pool(
            region=region,
            zone=found["Placement"]["AvailabilityZone"],
            instance_type=found["InstanceType"],
        ),
        market=Market.SPOT if found.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND,
        state=state,
        launched_at=found["LaunchTime"],
        client_token=found.get("ClientToken") or None,
        installation=tags.get(TAG_INSTALLATION),
        job_id=tags.get(TAG_JOB),
        attempt_id=tags.get(TAG_ATTEMPT),
        ended_at=_ended_at(found.get("StateTransitionReason", "")) if over else None,
        ended_by=ended_by(found.get("StateReason", {}).get("Code", "")) if over else None,
    )


def _ended_at(transition_reason: str) -> dt.datetime | None:
    match = _TRANSITION_TIME.search(transition_reason)
    if match is None:
        return None
    return dt.datetime.fromisoformat(match[1]).replace(tzinfo=dt.timezone.utc)
