"""ports.Sites: what the account has in a region that a launch must name.

A region's subnets are those with the tag `spotrunner:subnet` (any value); without one, those of
the default VPC, one a zone. Nothing is looked up again for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from spotrunner.adapters.aws.errors import by_meaning
from spotrunner.adapters.aws.images import AwsImages
from spotrunner.adapters.aws.session import Aws
from spotrunner.core.baked import BakedImage, Need, choose
from spotrunner.core.catalogue import TYPES, InstanceType, family_of
from spotrunner.core.ids import TAG_SUBNET
from spotrunner.ports import Image, Misconfigured, NotFound, Site

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import SubnetTypeDef

# Subnets and groups rarely change; images come out about every two weeks.
KEPT_S = 600.0
# What was baked is taken soon, and what was removed is soon not launched from any more.
BAKED_KEPT_S = 60.0

# AWS's Deep Learning AMI with the driver, docker and NVIDIA's container toolkit: Ubuntu 22.04 with
# Python 3.10, open kernel modules (Turing and later).
IMAGE_NAME = "base-oss-nvidia-driver-gpu-ubuntu-22.04"
IMAGE_PARAMETER = "/aws/service/deeplearning/ami/{architecture}/" + IMAGE_NAME + "/latest/ami-id"

T = TypeVar("T")


class AwsSites:
    """`security_groups` are names or ids; `amis` is region -> instance type or family -> image.
    Images that were baked are this installation's, and none are looked for without one."""

    def __init__(
        self,
        aws: Aws,
        *,
        instance_profile: str | None = None,
        security_groups: Sequence[str] = (),
        amis: Mapping[str, Mapping[str, str]] | None = None,
        installation: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._aws = aws
        self._instance_profile = instance_profile
        self._security_groups = tuple(security_groups)
        self._amis = amis or {}
        self._installation = installation
        self._own = AwsImages(aws)
        self._baked: _Kept[tuple[BakedImage, ...]] = _Kept(monotonic, BAKED_KEPT_S)
        self._sites: _Kept[Site] = _Kept(monotonic)
        self._parameters: _Kept[str] = _Kept(monotonic)
        self._images: _Kept[Image] = _Kept(monotonic)

    def site(self, region: str) -> Site:
        return self._sites.get((region,), lambda: self._look_up(region))

    def image(
        self,
        region: str,
        instance_type: str,
        named: str | None = None,
        need: Need | None = None,
    ) -> Image:
        chosen = named or self._named(region, instance_type)
        if chosen is None and need is not None:
            baked = self._choose(region, instance_type, need)
            if baked is not None:
                return Image(id=baked.id, root_device=baked.root_device, baked=True)
        id_ = chosen or self._public(region, instance_type)
        return self._images.get((region, id_), lambda: self._described(region, id_))

    def _named(self, region: str, instance_type: str) -> str | None:
        """What people chose wins over what we know."""
        named = self._amis.get(region, {})
        return named.get(instance_type) or named.get(family_of(instance_type))

    def _choose(self, region: str, instance_type: str, need: Need) -> BakedImage | None:
        known, installation = TYPES.get(instance_type), self._installation
        if known is None or installation is None:
            return None
        baked = self._baked.get((region,), lambda: self._own.baked(region, installation))
        return choose(baked, known, need)

    def _public(self, region: str, instance_type: str) -> str:
        known = TYPES.get(instance_type)
        if known is None:
            raise Misconfigured(f"{instance_type} is not known here: {_how_to_name(region)}")
        if known.needs_own_image:
            raise Misconfigured(_no_public_image(region, known))
        parameter = IMAGE_PARAMETER.format(architecture=known.architecture.value)
        return self._parameters.get((region, parameter), lambda: self._parameter(region, parameter))

    def _look_up(self, region: str) -> Site:
        client = self._aws.ec2(region)
        with by_meaning():
            pages = client.get_paginator("describe_subnets").paginate()
            every = [subnet for page in pages for subnet in page["Subnets"]]
        vpc, subnets = choose_subnets(region, every)
        return Site(
            region=region,
            subnets=subnets,
            security_group_ids=_groups(client, region, vpc, self._security_groups),
            instance_profile=self._instance_profile,
        )

    def _described(self, region: str, id_: str) -> Image:
        try:
            with by_meaning():
                images = self._aws.ec2(region).describe_images(ImageIds=[id_])["Images"]
        except NotFound:
            images = []
        root_device = images[0].get("RootDeviceName") if images else None
        if root_device is None:
            raise Misconfigured(
                f"there is no image {id_} in {region} that this account may use: each region has"
                " image ids of its own, and a private image has to be shared"
            )
        return Image(id=id_, root_device=root_device)

    def _parameter(self, region: str, name: str) -> str:
        try:
            with by_meaning():
                return self._aws.ssm(region).get_parameter(Name=name)["Parameter"]["Value"]
        except NotFound as error:
            raise Misconfigured(
                f"AWS has no public parameter {name} in {region}, so the image of the Deep Learning"
                f" AMI is not known there; AWS may have renamed it (`aws ssm get-parameters-by-path"
                f" --recursive --path /aws/service/deeplearning/ami` lists what there is):"
                f" {_how_to_name(region)}"
            ) from error


# -- look-ups ----------------------------------------------------------------------------------


def choose_subnets(region: str, every: Sequence[SubnetTypeDef]) -> tuple[str, Mapping[str, str]]:
    """The VPC, and of each zone the subnet with the most addresses left. Raises Misconfigured."""
    tagged = [s for s in every if any(tag.get("Key") == TAG_SUBNET for tag in s.get("Tags", ()))]
    found = tagged or [subnet for subnet in every if subnet.get("DefaultForAz")]
    vpcs = sorted({subnet["VpcId"] for subnet in found})
    if not vpcs:
        raise Misconfigured(
            f"{region} has no default VPC and no subnet with the tag {TAG_SUBNET}: tag one a zone,"
            " or make a default VPC (aws ec2 create-default-vpc)"
        )
    if len(vpcs) > 1:
        raise Misconfigured(
            f"the subnets in {region} with the tag {TAG_SUBNET} are of several VPCs"
            f" ({', '.join(vpcs)}): tag those of one"
        )
    found.sort(key=lambda subnet: (subnet.get("AvailableIpAddressCount", 0), subnet["SubnetId"]))
    return vpcs[0], {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in found}


def _groups(client: EC2Client, region: str, vpc: str, wanted: Sequence[str]) -> tuple[str, ...]:
    """Their ids. None wanted: EC2 takes the VPC's default group, which lets nothing in."""
    if not wanted:
        return ()
    with by_meaning():
        pages = client.get_paginator("describe_security_groups").paginate(
            Filters=[{"Name": "vpc-id", "Values": [vpc]}]
        )
        found = [group for page in pages for group in page["SecurityGroups"]]
    ids = {group["GroupName"]: group["GroupId"] for group in found}
    ids.update({group["GroupId"]: group["GroupId"] for group in found})
    missing = [name for name in wanted if name not in ids]
    if missing:
        raise Misconfigured(
            f"no security group {', '.join(missing)} in {vpc} of {region}: make it there, or mend"
            " `security_groups` in the daemon's settings"
        )
    return tuple(dict.fromkeys(ids[name] for name in wanted))


class _Kept(Generic[T]):
    """Answers by what was asked, until they are old; an error is not kept."""

    def __init__(self, monotonic: Callable[[], float], kept_s: float = KEPT_S) -> None:
        self._monotonic = monotonic
        self._kept_s = kept_s
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, ...], tuple[float, T]] = {}

    def get(self, question: tuple[str, ...], ask: Callable[[], T]) -> T:
        with self._lock:
            kept = self._answers.get(question)
        if kept is not None and self._monotonic() < kept[0]:
            return kept[1]
        answer = ask()
        with self._lock:
            self._answers[question] = (self._monotonic() + self._kept_s, answer)
        return answer


# -- sentences ---------------------------------------------------------------------------------


def _no_public_image(region: str, known: InstanceType) -> str:
    return (
        f"{known.name} needs an image of your own: its {known.gpu.name} GPU needs NVIDIA's"
        " proprietary driver, which no current Deep Learning AMI has (the last was Base Proprietary"
        f" (Amazon Linux 2) 71.6 of January 2026); {_how_to_name(region, known.family)}"
    )


def _how_to_name(region: str, family: str | None = None) -> str:
    for_it = f" --for {family}" if family else ""
    return (
        f"name one in the settings, amis: {{{region}: {{{family or 'TYPE OR FAMILY'}: ami-…}}}}, or"
        f" bake one (spotrunner bake{for_it} --ami {region}=ami-…)"
    )
