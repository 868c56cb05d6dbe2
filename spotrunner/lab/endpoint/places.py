"""EC2's actions on what an account finds there: regions, zones, types, networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from spotrunner.lab.endpoint.call import Action, Answer, Call
from spotrunner.lab.endpoint.filters import filters_of, select
from spotrunner.lab.endpoint.instances import group_name
from spotrunner.sim.values import ApiError, Region, TypeFacts, Zone

T = TypeVar("T")
Fields = Mapping[str, Callable[[Any], str]]


def _only(
    things: Iterable[T], ids: Sequence[str], id_of: Callable[[T], str], code: str, what: str
) -> list[T]:
    """Those with these ids, all where none are given. Raises ApiError `code` for a missing one."""
    things = list(things)
    known = {id_of(thing) for thing in things}
    missing = [id_ for id_ in ids if id_ not in known]
    if missing:
        raise ApiError(code, f"The {what} '{missing[0]}' does not exist")
    return [thing for thing in things if not ids or id_of(thing) in ids]


# -- regions and zones -------------------------------------------------------------------------


def _regions(call: Call) -> Answer:
    call.admit()
    regions = _only(
        call.world.setup.regions,
        call.params.get("RegionNames", ()),
        lambda region: region.name,
        "InvalidParameterValue",
        "region",
    )
    fields: Fields = {
        "region-name": lambda region: region.name,
        "opt-in-status": lambda _: "opt-in-not-required",
    }
    return {
        "Regions": [
            {
                "RegionName": region.name,
                "Endpoint": f"ec2.{region.name}.amazonaws.com",
                "OptInStatus": "opt-in-not-required",
            }
            for region in select(regions, filters_of(call.params), fields)
        ]
    }


def _zones(call: Call) -> Answer:
    call.admit()
    zones = _only(
        call.place().zones,
        call.params.get("ZoneNames", ()),
        lambda zone: zone.name,
        "InvalidParameterValue",
        "availability zone",
    )
    zones = _only(
        zones,
        call.params.get("ZoneIds", ()),
        lambda zone: zone.id,
        "InvalidParameterValue",
        "availability zone id",
    )
    fields: Fields = {
        "zone-name": lambda zone: zone.name,
        "zone-id": lambda zone: zone.id,
        "state": lambda _: "available",
        "region-name": lambda _: call.region,
        "zone-type": lambda _: "availability-zone",
        "opt-in-status": lambda _: "opt-in-not-required",
    }
    chosen = select(zones, filters_of(call.params), fields)
    return {"AvailabilityZones": [_zone(zone, call.region) for zone in chosen]}


def _zone(zone: Zone, region: str) -> Answer:
    return {
        "ZoneName": zone.name,
        "ZoneId": zone.id,
        "State": "available",
        "RegionName": region,
        "GroupName": region,
        "NetworkBorderGroup": region,
        "ZoneType": "availability-zone",
        "OptInStatus": "opt-in-not-required",
        "Messages": [],
    }


# -- instance types ----------------------------------------------------------------------------


def _types(call: Call) -> Answer:
    call.admit()
    offered = call.world.ask(lambda world, _now: world.pools.offered(call.region))
    names = {pool.instance_type for pool in offered}
    facts = [each for each in call.world.setup.types if each.name in names]
    asked = call.params.get("InstanceTypes", ())
    missing = [name for name in asked if name not in names]
    if missing:
        raise ApiError(
            "InvalidInstanceType",
            f"The following supplied instance types do not exist: [{', '.join(missing)}]",
        )
    facts = [each for each in facts if not asked or each.name in asked]
    fields: Fields = {
        "instance-type": lambda each: each.name,
        "vcpu-info.default-vcpus": lambda each: str(each.vcpus),
        "memory-info.size-in-mib": lambda each: str(each.memory_mib),
        "processor-info.supported-architecture": lambda _: "x86_64",
        "bare-metal": lambda _: "false",
    }
    chosen = select(facts, filters_of(call.params), fields)
    return {"InstanceTypes": [_type(each) for each in chosen]}


def _type(facts: TypeFacts) -> Answer:
    gpu = {
        "Name": facts.gpu,
        "Manufacturer": "NVIDIA",
        "Count": facts.gpus,
        "MemoryInfo": {"SizeInMiB": facts.gpu_memory_mib},
    }
    total = {"Gpus": [gpu], "TotalGpuMemoryInMiB": facts.gpus * facts.gpu_memory_mib}
    return {
        "InstanceType": facts.name,
        "CurrentGeneration": not facts.name.startswith("p3"),
        "FreeTierEligible": False,
        "SupportedUsageClasses": ["on-demand", "spot"],
        "SupportedRootDeviceTypes": ["ebs"],
        "SupportedVirtualizationTypes": ["hvm"],
        "BareMetal": False,
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "VCpuInfo": {"DefaultVCpus": facts.vcpus},
        "MemoryInfo": {"SizeInMiB": facts.memory_mib},
        "GpuInfo": total if facts.gpu else None,
    }


def _offerings(call: Call) -> Answer:
    call.admit()
    kind = call.params.get("LocationType", "region")
    if kind == "outpost":
        raise ApiError("InvalidParameterValue", "There are no outposts")
    zone_ids = {zone.name: zone.id for zone in call.place().zones}
    offered = call.world.ask(lambda world, _now: world.pools.offered(call.region))
    where: Mapping[str, Callable[[str], str]] = {
        "region": lambda _: call.region,
        "availability-zone": lambda zone: zone,
        "availability-zone-id": lambda zone: zone_ids[zone],
    }
    pairs = sorted({(pool.instance_type, where[kind](pool.zone)) for pool in offered})
    fields: Fields = {"instance-type": lambda pair: pair[0], "location": lambda pair: pair[1]}
    return {
        "InstanceTypeOfferings": [
            {"InstanceType": name, "LocationType": kind, "Location": location}
            for name, location in select(pairs, filters_of(call.params), fields)
        ]
    }


# -- networks ----------------------------------------------------------------------------------


def _subnets(call: Call) -> Answer:
    call.admit()
    place = call.place()
    zones = _only(
        place.zones,
        call.params.get("SubnetIds", ()),
        lambda zone: zone.subnet_id,
        "InvalidSubnetID.NotFound",
        "subnet ID",
    )
    fields: Fields = {
        "subnet-id": lambda zone: zone.subnet_id,
        "availability-zone": lambda zone: zone.name,
        "availability-zone-id": lambda zone: zone.id,
        "vpc-id": lambda _: place.vpc_id,
        "state": lambda _: "available",
        "default-for-az": lambda _: "true",
        "map-public-ip-on-launch": lambda _: "true",
    }
    chosen = select(zones, filters_of(call.params), fields)
    return {"Subnets": [_subnet(zone, place, call.world.setup.account) for zone in chosen]}


def _subnet(zone: Zone, place: Region, account: str) -> Answer:
    number = place.zones.index(zone)
    return {
        "SubnetId": zone.subnet_id,
        "SubnetArn": f"arn:aws:ec2:{place.name}:{account}:subnet/{zone.subnet_id}",
        "VpcId": place.vpc_id,
        "OwnerId": account,
        "State": "available",
        "AvailabilityZone": zone.name,
        "AvailabilityZoneId": zone.id,
        "CidrBlock": f"172.31.{16 * number}.0/20",
        "AvailableIpAddressCount": 4091,
        "DefaultForAz": True,
        "MapPublicIpOnLaunch": True,
        "AssignIpv6AddressOnCreation": False,
        "Tags": [],
    }


def _vpcs(call: Call) -> Answer:
    call.admit()
    vpc_id = call.place().vpc_id
    vpcs = _only([vpc_id], call.params.get("VpcIds", ()), str, "InvalidVpcID.NotFound", "vpc ID")
    fields: Fields = {
        "vpc-id": str,
        "state": lambda _: "available",
        "is-default": lambda _: "true",
    }
    return {
        "Vpcs": [
            {
                "VpcId": id_,
                "OwnerId": call.world.setup.account,
                "State": "available",
                "IsDefault": True,
                "InstanceTenancy": "default",
                "CidrBlock": "172.31.0.0/16",
                "DhcpOptionsId": "dopt-" + "0" * 17,
                "Tags": [],
            }
            for id_ in select(vpcs, filters_of(call.params), fields)
        ]
    }


def _groups(call: Call) -> Answer:
    call.admit()
    place = call.place()
    groups = _only(
        place.security_group_ids,
        call.params.get("GroupIds", ()),
        str,
        "InvalidGroup.NotFound",
        "security group",
    )
    groups = _only(
        groups,
        call.params.get("GroupNames", ()),
        lambda id_: group_name(place, id_),
        "InvalidGroup.NotFound",
        "security group",
    )
    fields: Fields = {
        "group-id": str,
        "group-name": lambda id_: group_name(place, id_),
        "vpc-id": lambda _: place.vpc_id,
    }
    chosen = select(groups, filters_of(call.params), fields)
    account = call.world.setup.account
    return {
        "SecurityGroups": [
            {
                "GroupId": id_,
                "GroupName": group_name(place, id_),
                "Description": f"{group_name(place, id_)} VPC security group",
                "VpcId": place.vpc_id,
                "OwnerId": account,
                "SecurityGroupArn": f"arn:aws:ec2:{place.name}:{account}:security-group/{id_}",
                "IpPermissions": [],
                "IpPermissionsEgress": [
                    {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
                ],
                "Tags": [],
            }
            for id_ in chosen
        ]
    }


_FILTERS = frozenset({"Filters.Name", "Filters.Values"})

ACTIONS: Mapping[str, Action] = {
    "DescribeRegions": Action(perform=_regions, accepts=_FILTERS | {"RegionNames", "AllRegions"}),
    "DescribeAvailabilityZones": Action(
        perform=_zones, accepts=_FILTERS | {"ZoneNames", "ZoneIds", "AllAvailabilityZones"}
    ),
    "DescribeInstanceTypes": Action(
        perform=_types, accepts=_FILTERS | {"InstanceTypes"}, lists="InstanceTypes", most=100
    ),
    "DescribeInstanceTypeOfferings": Action(
        perform=_offerings, accepts=_FILTERS | {"LocationType"}, lists="InstanceTypeOfferings"
    ),
    "DescribeSubnets": Action(
        perform=_subnets, accepts=_FILTERS | {"SubnetIds"}, lists="Subnets", ids="SubnetIds"
    ),
    "DescribeVpcs": Action(
        perform=_vpcs, accepts=_FILTERS | {"VpcIds"}, lists="Vpcs", ids="VpcIds"
    ),
    "DescribeSecurityGroups": Action(
        perform=_groups,
        accepts=_FILTERS | {"GroupIds", "GroupNames"},
        lists="SecurityGroups",
        ids="GroupIds",
    ),
}
