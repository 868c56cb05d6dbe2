"""EC2's actions on machine images and their snapshots: AWS's own, and those of the account."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spotrunner.lab.endpoint.call import Action, Answer, Call, tags, tags_for
from spotrunner.lab.endpoint.filters import filters_of, is_by_tag, select
from spotrunner.sim.images import Images
from spotrunner.sim.values import (
    ApiError,
    CopyRequest,
    Image,
    ImageRecord,
    MakeRequest,
    SnapshotRecord,
)
from spotrunner.sim.world import World

_AMAZON = "898082745236"  # the account of AWS's Deep Learning AMIs
_PUBLIC_GIB = 45

# -- looking -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """An image of either kind."""

    record: ImageRecord
    owner: str

    @property
    def public(self) -> bool:
        return self.owner == _AMAZON


_FIELDS: Mapping[str, Callable[[_Shown], str]] = {
    "image-id": lambda it: it.record.id,
    "name": lambda it: it.record.name,
    "state": lambda it: it.record.state,
    "architecture": lambda _: "x86_64",
    "owner-alias": lambda it: "amazon" if it.public else "",
    "owner-id": lambda it: it.owner,
    "root-device-type": lambda _: "ebs",
    "virtualization-type": lambda _: "hvm",
    "is-public": lambda it: "true" if it.public else "false",
}


def _describe(call: Call) -> Answer:
    asked, filters = call.params.get("ImageIds", ()), filters_of(call.params)
    every = [*_public(call), *_own(call, asked, any(is_by_tag(name) for name in filters))]
    known = {it.record.id for it in every}
    missing = [id_ for id_ in asked if id_ not in known]
    if missing:
        raise ApiError("InvalidAMIID.NotFound", f"The image id '[{missing[0]}]' does not exist")
    owners = {
        {"amazon": _AMAZON, "self": call.world.setup.account}.get(owner, owner)
        for owner in call.params.get("Owners", ())
    }
    found = [
        it
        for it in every
        if (not asked or it.record.id in asked) and (not owners or it.owner in owners)
    ]
    chosen = select(found, filters, _FIELDS, lambda it: it.record.tags)
    return {"Images": [_image(it) for it in chosen]}


def _public(call: Call) -> list[_Shown]:
    made_at = (call.world.setup.start - dt.timedelta(days=20)).replace(microsecond=0)
    return [_Shown(record=_record(image, made_at), owner=_AMAZON) for image in call.place().images]


def _record(image: Image, made_at: dt.datetime) -> ImageRecord:
    return ImageRecord(
        id=image.id,
        name=image.name,
        description="",
        state="available",
        state_reason="",
        tags=(),
        root_device=image.root_device,
        size_gib=_PUBLIC_GIB,
        snapshot_id="snap-" + image.id.removeprefix("ami-"),
        made_at=made_at,
        source_instance_id=None,
        source_image=None,
    )


def _own(call: Call, asked: Sequence[str], by_tag: bool) -> list[_Shown]:
    def look(images: Images, now: dt.datetime) -> tuple[ImageRecord, ...]:
        return images.listed(now, call.region, asked, by_tag=by_tag)

    account = call.world.setup.account
    found = call.world.ask(World.of_images, call.region, "DescribeImages", look)
    return [_Shown(record=record, owner=account) for record in found]


def _image(shown: _Shown) -> Answer:
    image = shown.record
    ebs: Answer = {
        "VolumeSize": image.size_gib,
        "VolumeType": "gp3",
        "DeleteOnTermination": True,
        "Encrypted": False,
    }
    # A pending image has no snapshot yet that could be named.
    if image.state != "pending":
        ebs["SnapshotId"] = image.snapshot_id
    return {
        "ImageId": image.id,
        "Name": image.name,
        "Description": image.description or None,
        "ImageLocation": f"{'amazon' if shown.public else shown.owner}/{image.name}",
        "State": image.state,
        "StateReason": _reason(image.state_reason),
        "OwnerId": shown.owner,
        "ImageOwnerAlias": "amazon" if shown.public else None,
        "CreationDate": f"{image.made_at:%Y-%m-%dT%H:%M:%S}.000Z",
        "Public": shown.public,
        "Architecture": "x86_64",
        "ImageType": "machine",
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        "EnaSupport": True,
        "Hypervisor": "xen",
        "RootDeviceName": image.root_device,
        "RootDeviceType": "ebs",
        "VirtualizationType": "hvm",
        "ImdsSupport": "v2.0" if shown.public else None,
        "SourceInstanceId": image.source_instance_id,
        "SourceImageId": image.source_image[1] if image.source_image else None,
        "SourceImageRegion": image.source_image[0] if image.source_image else None,
        "BlockDeviceMappings": [{"DeviceName": image.root_device, "Ebs": ebs}],
        "Tags": tags(image.tags),
    }


def _reason(words: str) -> Answer | None:
    return {"Code": "Client.InternalError", "Message": words} if words else None


def _describe_snapshots(call: Call) -> Answer:
    owners = set(call.params.get("OwnerIds", ()))
    asked = call.params.get("SnapshotIds", ())
    account = call.world.setup.account

    def look(images: Images, now: dt.datetime) -> tuple[SnapshotRecord, ...]:
        return images.snapshots(now, call.region, asked)

    found = call.world.ask(World.of_images, call.region, "DescribeSnapshots", look)
    if owners and not owners & {"self", account}:
        found = ()
    fields: Mapping[str, Callable[[SnapshotRecord], str]] = {
        "snapshot-id": lambda it: it.id,
        "status": lambda it: "completed" if it.done else "pending",
        "owner-id": lambda _: account,
    }
    chosen = select(found, filters_of(call.params), fields, lambda it: it.tags)
    return {"Snapshots": [_snapshot(it, account) for it in chosen]}


def _snapshot(snapshot: SnapshotRecord, account: str) -> Answer:
    return {
        "SnapshotId": snapshot.id,
        "OwnerId": account,
        "State": "completed" if snapshot.done else "pending",
        "Progress": f"{snapshot.progress_percent}%",
        "StartTime": snapshot.began_at,
        "VolumeId": "vol-ffffffff",
        "VolumeSize": snapshot.size_gib,
        "FullSnapshotSizeInBytes": snapshot.used_bytes if snapshot.done else None,
        "Encrypted": False,
        "Description": "",
        "StorageTier": "standard",
        "Tags": tags(snapshot.tags),
    }


# -- making and ending -------------------------------------------------------------------------


def _made(call: Call) -> MakeRequest:
    kinds = {it.get("ResourceType") for it in call.params.get("TagSpecifications", ())}
    for kind in kinds - {"image", "snapshot"}:
        raise ApiError(
            "InvalidParameterValue", f"'{kind}' is not a valid taggable resource type here"
        )
    return MakeRequest(
        name=call.params["Name"],
        description=call.params.get("Description", ""),
        tags=tags_for(call.params, "image"),
        snapshot_tags=tags_for(call.params, "snapshot"),
    )


def _create(call: Call) -> Answer:
    if not call.params.get("NoReboot", False):
        raise ApiError("UnsupportedOperation", "No instance can be rebooted here: ask for NoReboot")
    instance_id = call.params["InstanceId"]
    made = call.world.ask(World.create_image, call.region, instance_id, _made(call))
    call.disks.keep(instance_id, made)
    return {"ImageId": made}


def _copy(call: Call) -> Answer:
    request = CopyRequest(
        made=_made(call),
        source_region=call.params["SourceRegion"],
        source_image_id=call.params["SourceImageId"],
        client_token=call.params.get("ClientToken"),
    )

    def copy(images: Images, now: dt.datetime) -> str:
        asked = request
        if call.params.get("CopyImageTags", False):
            source = images.listed(now, request.source_region, [request.source_image_id])
            carried = tuple(pair for it in source for pair in it.tags)
            asked = replace(asked, made=replace(asked.made, tags=carried + asked.made.tags))
        return images.copy(now, call.region, asked)

    copied = call.world.ask(World.of_images, call.region, "CopyImage", copy)
    call.disks.copy(request.source_image_id, copied)
    return {"ImageId": copied}


def _deregister(call: Call) -> Answer:
    image_id = call.params["ImageId"]
    snapshot = call.world.ask(
        World.of_images,
        call.region,
        "DeregisterImage",
        lambda images, _: images.deregister(call.region, image_id),
    )
    call.disks.drop(image_id)
    results: list[dict[str, Any]] = []
    if call.params.get("DeleteAssociatedSnapshots", False):
        results.append({"SnapshotId": snapshot, "ReturnCode": _deleted(call, snapshot)})
    return {"Return": True, "DeleteSnapshotResults": results}


def _deleted(call: Call, snapshot: str) -> str:
    """The image is gone by then, so what fails is told and is no error."""
    try:
        _delete(call, snapshot)
    except ApiError as error:
        return "missing-permissions" if error.http_status == 403 else "internal-error"
    return "success"


def _delete_snapshot(call: Call) -> Answer:
    _delete(call, call.params["SnapshotId"])
    return {}


def _delete(call: Call, snapshot: str) -> None:
    call.world.ask(
        World.of_images,
        call.region,
        "DeleteSnapshot",
        lambda images, _: images.delete_snapshot(call.region, snapshot),
    )


_FILTERS = frozenset({"Filters.Name", "Filters.Values"})
_MADE = frozenset(
    {
        "Name",
        "Description",
        "TagSpecifications.ResourceType",
        "TagSpecifications.Tags.Key",
        "TagSpecifications.Tags.Value",
    }
)

ACTIONS: Mapping[str, Action] = {
    "DescribeImages": Action(
        perform=_describe,
        accepts=_FILTERS | {"ImageIds", "Owners", "IncludeDeprecated"},
        lists="Images",
        ids="ImageIds",
    ),
    "DescribeSnapshots": Action(
        perform=_describe_snapshots,
        accepts=_FILTERS | {"SnapshotIds", "OwnerIds"},
        lists="Snapshots",
        ids="SnapshotIds",
    ),
    "CreateImage": Action(perform=_create, accepts=_MADE | {"InstanceId", "NoReboot"}),
    "CopyImage": Action(
        perform=_copy,
        accepts=_MADE | {"SourceRegion", "SourceImageId", "ClientToken", "CopyImageTags"},
    ),
    "DeregisterImage": Action(
        perform=_deregister, accepts=frozenset({"ImageId", "DeleteAssociatedSnapshots"})
    ),
    "DeleteSnapshot": Action(perform=_delete_snapshot, accepts=frozenset({"SnapshotId"})),
}
