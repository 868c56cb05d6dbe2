"""Machine images and snapshots of the account's own, over EC2. All methods raise PortError."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spotrunner.adapters.aws.errors import by_meaning
from spotrunner.adapters.aws.session import Aws
from spotrunner.core.baked import TAG_BAKE, BakedImage, Label, label_of, tags_of
from spotrunner.core.catalogue import Architecture
from spotrunner.core.ids import TAG_INSTALLATION
from spotrunner.ports import Misconfigured, NotFound

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, ImageTypeDef

# EC2's limit of what a name holds.
_NAME_LENGTH = 128
_CONSOLE_LINES = 25


@dataclass(frozen=True, kw_only=True)
class Base:
    """A machine image to add to."""

    id: str
    root_device: str
    disk_gib: int
    architecture: Architecture


@dataclass(frozen=True, kw_only=True)
class Bench:
    """An instance that an image is made on. `alive` while it may still become one."""

    id: str
    region: str
    label: Label
    alive: bool
    launched_at: dt.datetime


class AwsImages:
    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    # -- looking -------------------------------------------------------------------------------

    def baked(self, region: str, installation: str) -> tuple[BakedImage, ...]:
        """All that this installation's tags are on; a new one only after a while."""
        return self._listed(region, {"Name": f"tag:{TAG_INSTALLATION}", "Values": [installation]})

    def made(self, region: str, label: Label) -> BakedImage | None:
        """By its name, which EC2 gives to one image only; it may be pending."""
        found = self._listed(region, {"Name": "name", "Values": [name_of(label)]})
        return found[0] if found else None

    def one(self, region: str, image_id: str) -> BakedImage:
        """Raises NotFound where there is none, or none of ours."""
        with by_meaning():
            found = self._aws.ec2(region).describe_images(ImageIds=[image_id])["Images"]
        for image in _baked(region, found):
            return image
        raise NotFound(f"no image {image_id} of ours in {region}")

    def benches(self, region: str, installation: str) -> tuple[Bench, ...]:
        """Of this installation, as far as EC2 lists them already."""
        ours: FilterTypeDef = {"Name": f"tag:{TAG_INSTALLATION}", "Values": [installation]}
        by_bake: FilterTypeDef = {"Name": "tag-key", "Values": [TAG_BAKE]}
        with by_meaning():
            pages = self._aws.ec2(region).get_paginator("describe_instances")
            found = [
                instance
                for page in pages.paginate(Filters=[ours, by_bake])
                for reservation in page["Reservations"]
                for instance in reservation["Instances"]
            ]
        benches = []
        for instance in found:
            label = label_of({tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())})
            if label is not None:
                benches.append(
                    Bench(
                        id=instance["InstanceId"],
                        region=region,
                        label=label,
                        alive=instance["State"]["Name"] in ("pending", "running"),
                        launched_at=instance["LaunchTime"],
                    )
                )
        return tuple(benches)

    def base(self, region: str, image_id: str) -> Base:
        """Raises Misconfigured for one that cannot be added to."""
        try:
            with by_meaning():
                found = self._aws.ec2(region).describe_images(ImageIds=[image_id])["Images"]
        except NotFound:
            found = []
        if not found:
            raise Misconfigured(f"there is no image {image_id} in {region} that we may use")
        root = found[0].get("RootDeviceName", "")
        try:
            return Base(
                id=image_id,
                root_device=root,
                disk_gib=_disk_gib(found[0], root),
                architecture=Architecture(found[0]["Architecture"]),
            )
        except (KeyError, ValueError):
            raise Misconfigured(
                f"{image_id} has no disk of EBS, or another CPU than x86-64 and arm64"
            ) from None

    def used_bytes(self, region: str, snapshot_ids: Sequence[str]) -> Mapping[str, int]:
        """What is billed of each; one that EC2 does not know the size of yet is absent."""
        if not snapshot_ids:
            return {}
        with by_meaning():
            pages = self._aws.ec2(region).get_paginator("describe_snapshots")
            found = [
                snapshot
                for page in pages.paginate(SnapshotIds=list(snapshot_ids))
                for snapshot in page["Snapshots"]
            ]
        sizes = {it["SnapshotId"]: it.get("FullSnapshotSizeInBytes") for it in found}
        return {id_: size for id_, size in sizes.items() if size}

    def console(self, region: str, instance_id: str) -> str:
        """The last lines that it printed; "" where EC2 has none."""
        with by_meaning():
            answer = self._aws.ec2(region).get_console_output(InstanceId=instance_id)
        return "\n".join(answer.get("Output", "").splitlines()[-_CONSOLE_LINES:])

    # -- making --------------------------------------------------------------------------------

    def make(self, region: str, instance_id: str, label: Label) -> str:
        """The new image's id. Without a reboot: nothing writes on the instance any more, and a
        reboot would forget the timer that ends it. A name that is taken is Misconfigured."""
        with by_meaning():
            answer = self._aws.ec2(region).create_image(
                InstanceId=instance_id,
                Name=name_of(label),
                Description=_description(label),
                NoReboot=True,
                TagSpecifications=_tagged(label),
            )
        return answer["ImageId"]

    def copy(self, image: BakedImage, region: str, token: str) -> str:
        """The id of its copy in the region: the same one under the same token, whatever has become
        of it."""
        label = image.label
        with by_meaning():
            answer = self._aws.ec2(region).copy_image(
                SourceRegion=image.region,
                SourceImageId=image.id,
                Name=name_of(label),
                Description=_description(label),
                ClientToken=token,
                TagSpecifications=_tagged(label),
            )
        return answer["ImageId"]

    def report_url(self, region: str, bucket: str, key: str, lifetime_s: int) -> str:
        """Where anybody may PUT the one object, for that long."""
        url: str = self._aws.s3(region).generate_presigned_url(
            "put_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=lifetime_s
        )
        return url

    def remove(self, image: BakedImage) -> None:
        """With its snapshots. One that is gone already is no error; snapshots that EC2 leaves are
        Misconfigured: they cost on, and no listing of images shows them any more."""
        client = self._aws.ec2(image.region)
        try:
            with by_meaning():
                answer = client.deregister_image(ImageId=image.id, DeleteAssociatedSnapshots=True)
        except NotFound:
            return
        told = answer.get("DeleteSnapshotResults", ())
        left = {it["SnapshotId"]: it["ReturnCode"] for it in told if it["ReturnCode"] != "success"}
        if left:
            why = ", ".join(f"{id_} ({code})" for id_, code in left.items())
            commands = "; ".join(
                f"aws ec2 delete-snapshot --region {image.region} --snapshot-id {id_}"
                for id_ in left
            )
            raise Misconfigured(
                f"{image.id} is removed, but EC2 left {why}, which costs on: {commands}"
            )

    # -- inside --------------------------------------------------------------------------------

    def _listed(self, region: str, by: FilterTypeDef) -> tuple[BakedImage, ...]:
        with by_meaning():
            pages = self._aws.ec2(region).get_paginator("describe_images")
            found = [
                image
                for page in pages.paginate(Owners=["self"], Filters=[by])
                for image in page["Images"]
            ]
        return _baked(region, found)


def name_of(label: Label) -> str:
    """Says what is on it; a colon, as tags of containers have it, may be in no image's name."""
    words = f"spotrunner {label.installation} {label.bake.rpartition(':')[2]}"
    container = "".join(it if it.isalnum() or it in "/._-" else "-" for it in _container(label))
    return f"{words} {container}"[:_NAME_LENGTH]


def _container(label: Label) -> str:
    return label.recipe.container.partition("@")[0]


def _description(label: Label) -> str:
    return f"{_container(label)} and spotrunner's agent on {label.recipe.base}"[:255]


def _tagged(label: Label) -> Any:
    tags = [{"Key": key, "Value": value} for key, value in tags_of(label)]
    return [{"ResourceType": kind, "Tags": tags} for kind in ("image", "snapshot")]


def _baked(region: str, found: Iterable[ImageTypeDef]) -> tuple[BakedImage, ...]:
    images = []
    for image in found:
        label = label_of({tag["Key"]: tag["Value"] for tag in image.get("Tags", ())})
        root = image.get("RootDeviceName", "")
        if label is None:
            continue
        images.append(
            BakedImage(
                id=image["ImageId"],
                region=region,
                label=label,
                state=image["State"],
                made_at=dt.datetime.fromisoformat(image["CreationDate"].replace("Z", "+00:00")),
                root_device=root,
                disk_gib=_disk_gib(image, root),
                snapshot_ids=_snapshots(image),
                trouble=image.get("StateReason", {}).get("Message", ""),
            )
        )
    return tuple(images)


def _disk_gib(image: ImageTypeDef, root: str) -> int:
    """Raises ValueError where its root is no disk of EBS."""
    for mapping in image.get("BlockDeviceMappings", ()):
        if mapping.get("DeviceName") == root:
            return int(mapping.get("Ebs", {}).get("VolumeSize", 0))
    raise ValueError(f"{image.get('ImageId')} has no {root}")


def _snapshots(image: ImageTypeDef) -> tuple[str, ...]:
    ebs = [mapping.get("Ebs", {}) for mapping in image.get("BlockDeviceMappings", ())]
    return tuple(it["SnapshotId"] for it in ebs if it.get("SnapshotId"))
