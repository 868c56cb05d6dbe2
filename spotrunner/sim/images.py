"""The account's own machine images and their snapshots: made, copied, listed, ended.

As at EC2 an image is `pending` for minutes, a listing by tag knows it later than its id does, and
a snapshot stays when its image goes, unless somebody says otherwise.
"""

from __future__ import annotations

import datetime as dt
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from spotrunner.sim import refusals
from spotrunner.sim.values import (
    CopyRequest,
    Image,
    ImageRecord,
    InstanceRecord,
    MakeRequest,
    Manners,
    Setup,
    SnapshotRecord,
    Stage,
)

_NAME = re.compile(r"[A-Za-z0-9()\[\] ./'@_-]{3,128}")
# Of a disk, what has something written on it: what a snapshot bills.
_USED_SHARE = 0.6
_GIB = 2**30


@dataclass(kw_only=True)
class _Made:
    """Mutable, and never leaves this module."""

    id: str
    region: str
    name: str
    description: str
    tags: tuple[tuple[str, str], ...]
    snapshot: _Snapshot
    root_device: str
    made_at: dt.datetime
    ready_at: dt.datetime
    tagged_at: dt.datetime  # from then on a listing by tag has it
    source_instance_id: str | None
    source_image: tuple[str, str] | None  # region and id
    failed: str = ""  # EC2's words for why
    gone: bool = False

    def state(self, at: dt.datetime) -> str:
        if self.failed:
            return "failed"
        return "available" if at >= self.ready_at else "pending"


@dataclass(kw_only=True)
class _Snapshot:
    id: str
    region: str
    size_gib: int
    tags: tuple[tuple[str, str], ...]
    began_at: dt.datetime
    done_at: dt.datetime


@dataclass(kw_only=True)
class Images:
    """Every method takes the time; none is safe for several threads."""

    setup: Setup
    seed: int
    _made: dict[str, _Made] = field(default_factory=dict)
    _snapshots: dict[str, _Snapshot] = field(default_factory=dict)
    _tokens: dict[tuple[str, str], tuple[CopyRequest, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Dice of their own: who makes an image changes nothing of the weather.
        self._dice = random.Random(f"{self.seed}/images")

    # -- making ----------------------------------------------------------------------------

    def make(self, now: dt.datetime, instance: InstanceRecord, request: MakeRequest) -> str:
        """CreateImage without a reboot: of what is on the disk now. Raises ApiError."""
        if instance.stage not in (Stage.RUNNING, Stage.STOPPED):
            raise refusals.wrong_state(instance.id, instance.stage.value)
        root = self.root_device(instance.pool.region, instance.request.image_id)
        return self._new(
            now,
            region=instance.pool.region,
            request=request,
            size_gib=instance.request.disk_gib,
            root_device=root,
            takes_s=self._manners.image_s,
            source_instance_id=instance.id,
            source_image=(instance.pool.region, instance.request.image_id),
        )

    def copy(self, now: dt.datetime, region: str, request: CopyRequest) -> str:
        """CopyImage into `region`; the same token again is the same copy. Raises ApiError."""
        before = self._tokens.get((region, request.client_token or ""))
        if request.client_token and before is not None:
            if before[0] != request:
                raise refusals.token_mismatch()
            return before[1]
        source = self._alive(request.source_region, request.source_image_id)
        if source.state(now) != "available":
            raise refusals.source_not_available(source.id, source.state(now))
        copied = self._new(
            now,
            region=region,
            request=request.made,
            size_gib=source.snapshot.size_gib,
            root_device=source.root_device,
            takes_s=self._manners.copy_s,
            source_instance_id=None,
            source_image=(source.region, source.id),
        )
        if request.client_token:
            self._tokens[region, request.client_token] = (request, copied)
        return copied

    def fail(self, image_id: str, why: str) -> None:
        """For scripts: it never becomes available."""
        self._made[image_id].failed = why

    # -- looking ---------------------------------------------------------------------------

    def listed(
        self, now: dt.datetime, region: str, ids: Sequence[str] = (), *, by_tag: bool = False
    ) -> tuple[ImageRecord, ...]:
        """Those with these ids, all where none are given, in the order of their making."""
        return tuple(
            self._record(made, now)
            for made in self._made.values()
            if made.region == region
            and not made.gone
            and (made.id in ids if ids else not by_tag or made.tagged_at <= now)
        )

    def snapshots(
        self, now: dt.datetime, region: str, ids: Sequence[str] = ()
    ) -> tuple[SnapshotRecord, ...]:
        """Raises ApiError for an unknown id."""
        mine = [each for each in self._snapshots.values() if each.region == region]
        for missing in set(ids) - {each.id for each in mine}:
            raise refusals.unknown_snapshot(missing)
        return tuple(_snapshot(each, now) for each in mine if not ids or each.id in ids)

    def check_launch(
        self, now: dt.datetime, region: str, image_id: str, disk_gib: int | None
    ) -> None:
        """Raises ApiError where nothing can be launched from it, or not onto such a disk."""
        if image_id in {image.id for image in self._public(region)}:
            return
        made = self._made.get(image_id)
        if made is None or made.region != region:
            raise refusals.unknown_image(image_id)
        if made.gone or made.state(now) != "available":
            raise refusals.unavailable_image(image_id)
        if disk_gib is not None and disk_gib < made.snapshot.size_gib:
            raise refusals.small_disk(disk_gib, made.snapshot.id, made.snapshot.size_gib)

    def root_device(self, region: str, image_id: str) -> str:
        """Also of an image that is gone: its instances live on. Raises ApiError."""
        for image in self._public(region):
            if image.id == image_id:
                return image.root_device
        if image_id not in self._made:
            raise refusals.unknown_image(image_id)
        return self._made[image_id].root_device

    # -- ending ----------------------------------------------------------------------------

    def deregister(self, region: str, image_id: str) -> str:
        """Its snapshot, which stays. Raises ApiError."""
        if image_id in {image.id for image in self._public(region)}:
            raise refusals.not_your_image(image_id)
        made = self._alive(region, image_id)
        made.gone = True
        return made.snapshot.id

    def delete_snapshot(self, region: str, snapshot_id: str) -> None:
        """Raises ApiError, also while an image is made of it."""
        found = self._snapshots.get(snapshot_id)
        if found is None or found.region != region:
            raise refusals.unknown_snapshot(snapshot_id)
        for made in self._made.values():
            if made.snapshot is found and not made.gone:
                raise refusals.snapshot_in_use(snapshot_id, made.id)
        del self._snapshots[snapshot_id]

    # -- inside ----------------------------------------------------------------------------

    @property
    def _manners(self) -> Manners:
        return self.setup.manners

    def _public(self, region: str) -> Iterable[Image]:
        return next((it.images for it in self.setup.regions if it.name == region), ())

    def _alive(self, region: str, image_id: str) -> _Made:
        made = self._made.get(image_id)
        if made is None or made.region != region:
            raise refusals.unknown_image(image_id)
        if made.gone:
            raise refusals.unavailable_image(image_id)
        return made

    def _new(
        self,
        now: dt.datetime,
        *,
        region: str,
        request: MakeRequest,
        size_gib: int,
        root_device: str,
        takes_s: tuple[float, float],
        source_instance_id: str | None,
        source_image: tuple[str, str] | None,
    ) -> str:
        self._check_name(region, request.name)
        ready_at = now + dt.timedelta(seconds=self._dice.uniform(*takes_s))
        snapshot = _Snapshot(
            id=self._new_id("snap"),
            region=region,
            size_gib=size_gib,
            tags=request.snapshot_tags,
            began_at=now,
            done_at=ready_at,
        )
        made = _Made(
            id=self._new_id("ami"),
            region=region,
            name=request.name,
            description=request.description,
            tags=request.tags,
            snapshot=snapshot,
            root_device=root_device,
            made_at=now,
            ready_at=ready_at,
            tagged_at=now + dt.timedelta(seconds=self._dice.uniform(*self._manners.filtered_s)),
            source_instance_id=source_instance_id,
            source_image=source_image,
        )
        self._snapshots[snapshot.id] = snapshot
        self._made[made.id] = made
        return made.id

    def _check_name(self, region: str, name: str) -> None:
        if _NAME.fullmatch(name) is None:
            raise refusals.bad_image_name()
        for made in self._made.values():
            if made.name == name and made.region == region and not made.gone:
                raise refusals.image_name_taken(name, made.id)

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}-{self._dice.getrandbits(68):017x}"

    def _record(self, made: _Made, now: dt.datetime) -> ImageRecord:
        return ImageRecord(
            id=made.id,
            name=made.name,
            description=made.description,
            state=made.state(now),
            state_reason=made.failed,
            tags=made.tags,
            root_device=made.root_device,
            size_gib=made.snapshot.size_gib,
            snapshot_id=made.snapshot.id,
            made_at=made.made_at.replace(microsecond=0),
            source_instance_id=made.source_instance_id,
            source_image=made.source_image,
        )


def _snapshot(snapshot: _Snapshot, now: dt.datetime) -> SnapshotRecord:
    done = now >= snapshot.done_at
    took = (snapshot.done_at - snapshot.began_at).total_seconds() or 1.0
    share = 1.0 if done else (now - snapshot.began_at).total_seconds() / took
    return SnapshotRecord(
        id=snapshot.id,
        size_gib=snapshot.size_gib,
        tags=snapshot.tags,
        began_at=snapshot.began_at.replace(microsecond=0),
        done=done,
        progress_percent=int(100 * share),
        used_bytes=int(snapshot.size_gib * _USED_SHARE * _GIB),
    )
