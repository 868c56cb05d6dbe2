"""EC2's actions on instances, over the simulated market."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from spotrunner.core.model import Market
from spotrunner.lab.endpoint.call import Action, Answer, Call, tags, tags_for, whole_seconds
from spotrunner.lab.endpoint.filters import filters_of
from spotrunner.sim.values import ApiError, InstanceRecord, Region, RunRequest, Stage
from spotrunner.sim.world import World

# -- RunInstances ------------------------------------------------------------------------------


def _run(call: Call) -> Answer:
    request = _run_request(call)
    records = call.world.ask(World.run_instances, request)
    return _reservation(records, _around(call))


# Parameters of RunInstances that the world has no field for: they are part of what a token stands
# for, and of nothing else.
_RUN_OTHER = frozenset(
    {
        "Monitoring.Enabled",
        "EbsOptimized",
        "Placement.Tenancy",
        "MetadataOptions.HttpEndpoint",
        "BlockDeviceMappings.DeviceName",
        "BlockDeviceMappings.Ebs.VolumeType",
        "BlockDeviceMappings.Ebs.DeleteOnTermination",
        "BlockDeviceMappings.Ebs.Encrypted",
        "BlockDeviceMappings.Ebs.Iops",
        "BlockDeviceMappings.Ebs.Throughput",
        "NetworkInterfaces.DeviceIndex",
        "NetworkInterfaces.AssociatePublicIpAddress",
        "NetworkInterfaces.DeleteOnTermination",
    }
)
_RUN = _RUN_OTHER | frozenset(
    {
        "ImageId",
        "InstanceType",
        "MinCount",
        "MaxCount",
        "SubnetId",
        "SecurityGroupIds",
        "UserData",
        "ClientToken",
        "InstanceInitiatedShutdownBehavior",
        "Placement.AvailabilityZone",
        "TagSpecifications.ResourceType",
        "TagSpecifications.Tags.Key",
        "TagSpecifications.Tags.Value",
        "InstanceMarketOptions.MarketType",
        "InstanceMarketOptions.SpotOptions.MaxPrice",
        "InstanceMarketOptions.SpotOptions.SpotInstanceType",
        "InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior",
        "IamInstanceProfile.Name",
        "IamInstanceProfile.Arn",
        "MetadataOptions.HttpTokens",
        "MetadataOptions.HttpPutResponseHopLimit",
        "MetadataOptions.InstanceMetadataTags",
        "BlockDeviceMappings.Ebs.VolumeSize",
        "NetworkInterfaces.SubnetId",
        "NetworkInterfaces.Groups",
    }
)


def _run_request(call: Call) -> RunRequest:
    params = call.params
    metadata = params.get("MetadataOptions", {})
    if metadata.get("HttpEndpoint", "enabled") != "enabled":
        raise ApiError("UnsupportedOperation", "Every instance here has a metadata service")
    if params.get("Placement", {}).get("Tenancy", "default") != "default":
        raise ApiError("UnsupportedOperation", "There is only shared tenancy here")
    subnet_id, groups = _network(params)
    return RunRequest(
        region=call.region,
        instance_type=params.get("InstanceType", "m1.small"),
        image_id=_needed(params, "ImageId"),
        market=_market(params.get("InstanceMarketOptions", {})),
        min_count=params["MinCount"],
        max_count=params["MaxCount"],
        subnet_id=subnet_id,
        zone=params.get("Placement", {}).get("AvailabilityZone"),
        client_token=params.get("ClientToken"),
        max_price_usd_micros=_max_price(params.get("InstanceMarketOptions", {})),
        user_data=_user_data(params.get("UserData", "")),
        tags=tags_for(params, "instance"),
        spot_request_tags=tags_for(params, "spot-instances-request"),
        security_group_ids=groups,
        instance_profile=_profile(params.get("IamInstanceProfile", {})),
        shutdown_behavior=params.get("InstanceInitiatedShutdownBehavior", "stop"),
        http_tokens=metadata.get("HttpTokens", "optional"),
        hop_limit=metadata.get("HttpPutResponseHopLimit", 1),
        instance_metadata_tags=metadata.get("InstanceMetadataTags") == "enabled",
        **_disk(params),
        other=json.dumps(params, sort_keys=True, default=str),
    )


def _needed(params: Mapping[str, Any], name: str) -> str:
    if name not in params:
        raise ApiError("MissingParameter", f"The request must contain the parameter {name}")
    return str(params[name])


def _market(options: Mapping[str, Any]) -> Market:
    if not options:
        return Market.ON_DEMAND
    if options.get("MarketType") != "spot":
        raise ApiError("InvalidParameterValue", "MarketType must be spot")
    spot = options.get("SpotOptions", {})
    if spot.get("SpotInstanceType", "one-time") != "one-time":
        raise ApiError("InvalidParameterCombination", "Only one-time spot requests can be had")
    if spot.get("InstanceInterruptionBehavior", "terminate") != "terminate":
        raise ApiError(
            "InvalidParameterCombination",
            "A one-time spot request's interruption behavior must be terminate",
        )
    return Market.SPOT


def _max_price(options: Mapping[str, Any]) -> int | None:
    text = options.get("SpotOptions", {}).get("MaxPrice")
    if text is None:
        return None
    try:
        return round(float(text) * 1e6)
    except (ValueError, OverflowError):
        raise ApiError("InvalidParameterValue", f"Invalid value '{text}' for spotPrice.") from None


def _network(params: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """Subnet and groups, which an interface names where there is one."""
    interfaces = params.get("NetworkInterfaces", [])
    if not interfaces:
        return params.get("SubnetId"), tuple(params.get("SecurityGroupIds", ()))
    if len(interfaces) > 1 or "SubnetId" in params or "SecurityGroupIds" in params:
        raise ApiError(
            "InvalidParameterCombination",
            "Network interfaces and an instance-level subnet ID or security groups may not be"
            " specified on the same request",
        )
    return interfaces[0].get("SubnetId"), tuple(interfaces[0].get("Groups", ()))


def _user_data(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ApiError(
            "InvalidUserData.Malformed", "Invalid BASE64 encoding of user data"
        ) from None


def _profile(profile: Mapping[str, str]) -> str | None:
    if "Arn" in profile:
        return profile["Arn"].rsplit("/", 1)[-1]
    return profile.get("Name")


def _disk(params: Mapping[str, Any]) -> dict[str, Any]:
    """The one disk that may be asked for."""
    mappings = params.get("BlockDeviceMappings", ())
    if not mappings:
        return {}
    if len(mappings) > 1:
        raise ApiError("UnsupportedOperation", "Only one disk can be asked for here")
    size_gib = mappings[0].get("Ebs", {}).get("VolumeSize")
    disk: dict[str, Any] = {"disk_device": _needed(mappings[0], "DeviceName")}
    return disk if size_gib is None else {**disk, "disk_gib": int(size_gib)}


# -- what is there -----------------------------------------------------------------------------


def _describe(call: Call) -> Answer:
    records = call.world.ask(
        World.describe, call.region, call.params.get("InstanceIds", ()), filters_of(call.params)
    )
    around = _around(call)
    return {
        "Reservations": [
            _reservation(tuple(group), around)
            for _, group in groupby(records, key=lambda record: record.reservation_id)
        ]
    }


@dataclass(frozen=True, kw_only=True)
class _Around:
    """What an instance's description says of its surroundings."""

    place: Region
    account: str
    root_of: Callable[[str], str]  # an image's root disk


def _around(call: Call) -> _Around:
    def root_of(image_id: str) -> str:
        return call.world.ask(lambda world, _: world.images.root_device(call.region, image_id))

    return _Around(place=call.place(), account=call.world.setup.account, root_of=root_of)


def _reservation(records: tuple[InstanceRecord, ...], around: _Around) -> Answer:
    return {
        "ReservationId": records[0].reservation_id,
        "OwnerId": around.account,
        "Groups": [],
        "Instances": [_instance(record, around) for record in records],
    }


def _instance(record: InstanceRecord, around: _Around) -> Answer:
    request = record.request
    spot = record.market is Market.SPOT
    answer: Answer = {
        "InstanceId": record.id,
        "ImageId": request.image_id,
        "State": {"Code": record.stage.code, "Name": record.stage.value},
        "StateTransitionReason": record.reason.transition if record.reason else "",
        "StateReason": _state_reason(record),
        "AmiLaunchIndex": record.launch_index,
        "ProductCodes": [],
        "InstanceType": record.pool.instance_type,
        "InstanceLifecycle": "spot" if spot else None,
        "SpotInstanceRequestId": record.spot_request_id,
        "LaunchTime": record.launched_at,
        "Placement": {
            "AvailabilityZone": record.pool.zone,
            "AvailabilityZoneId": record.zone_id,
            "GroupName": "",
            "Tenancy": "default",
        },
        "Monitoring": {"State": "disabled"},
        "ClientToken": record.client_token,
        "Architecture": "x86_64",
        "EbsOptimized": False,
        "EnaSupport": True,
        "Hypervisor": "xen",
        "RootDeviceName": around.root_of(request.image_id),
        "RootDeviceType": "ebs",
        "VirtualizationType": "hvm",
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        "MetadataOptions": _metadata_options(request),
        "Tags": tags(record.tags),
        **_attached(record, around),
    }
    return answer


def _state_reason(record: InstanceRecord) -> Answer | None:
    if record.reason is None:
        return None
    return {"Code": record.reason.code, "Message": record.reason.message}


def _metadata_options(request: RunRequest) -> Answer:
    return {
        "State": "applied",
        "HttpTokens": request.http_tokens,
        "HttpPutResponseHopLimit": request.hop_limit,
        "HttpEndpoint": "enabled",
        "HttpProtocolIpv6": "disabled",
        "InstanceMetadataTags": "enabled" if request.instance_metadata_tags else "disabled",
    }


def _disks(record: InstanceRecord, root: str) -> list[Answer]:
    """The root, and a second one where the request named another than the root."""
    names = dict.fromkeys([root, record.request.disk_device or root])
    return [
        {
            "DeviceName": name,
            "Ebs": {
                "AttachTime": record.launched_at,
                "DeleteOnTermination": True,
                "Status": "attached",
                "VolumeId": f"vol-{number}{record.id.removeprefix('i-')[1:]}",
            },
        }
        for number, name in enumerate(names)
    ]


def _attached(record: InstanceRecord, around: _Around) -> Answer:
    """Network, disks and profile, which a terminated instance has no more."""
    place, root = around.place, around.root_of(record.request.image_id)
    if record.stage is Stage.TERMINATED:
        return {"PrivateDnsName": "", "PublicDnsName": "", "SecurityGroups": []}
    groups = record.request.security_group_ids or place.security_group_ids[:1]
    profile = record.request.instance_profile
    arn = f"arn:aws:iam::{around.account}:instance-profile/{profile}"
    return {
        "PrivateDnsName": f"ip-{record.private_ip.replace('.', '-')}.ec2.internal",
        "PublicDnsName": "",
        "PrivateIpAddress": record.private_ip,
        "SubnetId": record.subnet_id,
        "VpcId": place.vpc_id,
        "SourceDestCheck": True,
        "BlockDeviceMappings": _disks(record, root),
        "SecurityGroups": [{"GroupId": id_, "GroupName": group_name(place, id_)} for id_ in groups],
        "IamInstanceProfile": {"Arn": arn, "Id": "AIPA" + "0" * 17} if profile else None,
    }


def group_name(place: Region, group_id: str) -> str:
    number = place.security_group_ids.index(group_id)
    return "default" if number == 0 else f"group-{number}"


def _describe_status(call: Call) -> Answer:
    records: Iterable[InstanceRecord] = call.world.ask(
        World.describe, call.region, call.params.get("InstanceIds", ()), filters_of(call.params)
    )
    if not call.params.get("IncludeAllInstances", False):
        records = [record for record in records if record.stage is Stage.RUNNING]
    return {"InstanceStatuses": [_status(record) for record in records]}


def _status(record: InstanceRecord) -> Answer:
    check: Answer = {
        "Status": "ok" if record.stage is Stage.RUNNING else "not-applicable",
        "Details": [],
    }
    return {
        "InstanceId": record.id,
        "AvailabilityZone": record.pool.zone,
        "AvailabilityZoneId": record.zone_id,
        "Events": [],
        "InstanceState": {"Code": record.stage.code, "Name": record.stage.value},
        "InstanceStatus": check,
        "SystemStatus": check,
    }


# -- changes -----------------------------------------------------------------------------------


def _terminate(call: Call) -> Answer:
    changes = call.world.ask(World.terminate, call.region, call.params["InstanceIds"])
    return {
        "TerminatingInstances": [
            {
                "InstanceId": id_,
                "PreviousState": {"Code": before.code, "Name": before.value},
                "CurrentState": {"Code": after.code, "Name": after.value},
            }
            for id_, before, after in changes
        ]
    }


def _create_tags(call: Call) -> Answer:
    ids = call.params["Resources"]
    for id_ in ids:
        if not id_.startswith("i-"):
            raise ApiError("InvalidID", f"The ID '{id_}' is not valid")
    pairs = {tag["Key"]: tag.get("Value", "") for tag in call.params["Tags"]}
    call.world.ask(World.create_tags, call.region, ids, pairs)
    return {}


_CONSOLE_BYTES = 64 * 1024


def _console_output(call: Call) -> Answer:
    id_ = call.params["InstanceId"]
    call.world.ask(World.describe, call.region, [id_])
    text = call.console(id_)[-_CONSOLE_BYTES:]
    return {
        "InstanceId": id_,
        "Timestamp": whole_seconds(call.world.now()),
        "Output": base64.b64encode(text).decode(),
    }


_FILTERS = frozenset({"Filters.Name", "Filters.Values"})

ACTIONS: Mapping[str, Action] = {
    "RunInstances": Action(perform=_run, accepts=_RUN),
    "DescribeInstances": Action(
        perform=_describe,
        accepts=_FILTERS | {"InstanceIds"},
        lists="Reservations",
        ids="InstanceIds",
    ),
    "DescribeInstanceStatus": Action(
        perform=_describe_status,
        accepts=_FILTERS | {"InstanceIds", "IncludeAllInstances"},
        lists="InstanceStatuses",
        ids="InstanceIds",
    ),
    "TerminateInstances": Action(perform=_terminate, accepts=frozenset({"InstanceIds"})),
    "CreateTags": Action(
        perform=_create_tags, accepts=frozenset({"Resources", "Tags.Key", "Tags.Value"})
    ),
    "GetConsoleOutput": Action(
        perform=_console_output, accepts=frozenset({"InstanceId", "Latest"})
    ),
}
