"""A job's data sets on the instance's disk: copied before the training, or mounted beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from spotrunner.agent.folders import Folders
from spotrunner.agent.mounts import Mounts
from spotrunner.agent.rclone import PARTIAL_SUFFIX, DiskFull, Moved, Place, Rclone
from spotrunner.core.figures import Copying
from spotrunner.core.model import DataMode, DataSource, JobSpec
from spotrunner.ports import Buckets, GaveWay, Misconfigured, NotAuthorized, always

# Left free on the disk that takes the data: docker, checkpoints and logs live there too.
MARGIN_BYTES = 1 << 30
_GB = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class DataSets:
    """All methods block. They raise Misconfigured (nothing there, not allowed, it does not fit),
    Unavailable, and OSError for the disk."""

    buckets: Buckets
    folders: Folders
    rclone: Rclone
    mounts: Mounts
    told: Callable[[Copying], None]
    margin_bytes: int = MARGIN_BYTES

    def fetch(self, spec: JobSpec, may_go_on: Callable[[], bool] = always) -> None:
        """What is there already stays: an agent that comes back goes on where it was. Raises
        GaveWay when `may_go_on` says no."""
        self.rclone.end_orphan()
        for source in spec.data:
            if source.mode is DataMode.MOUNT:
                self.mounts.mount(self._place(source), self._target(source))
            else:
                self._copy(source, spec.disk_gib, may_go_on)

    def let_go(self) -> None:
        """At the end: no mount is left behind. Never raises."""
        self.mounts.unmount_all()

    def _copy(self, source: DataSource, disk_gib: int, may_go_on: Callable[[], bool]) -> None:
        place, target = self._place(source), self._target(source)
        target.mkdir(parents=True, exist_ok=True)
        there = _tidied(target)
        if source.bytes is not None:
            self._fits(source, source.bytes - there, disk_gib)

        def told(moved: Moved) -> None:
            if not may_go_on():
                raise GaveWay(f"nobody needs {source.source} any more")
            self._fits(source, moved.total_bytes - moved.bytes, disk_gib)
            self.told(_copying(source, moved, there))

        try:
            moved = self.rclone.down(place, target, told)
        except DiskFull as full:
            raise Misconfigured(self._too_small(source, None, disk_gib)) from full
        if moved.files == 0:
            raise Misconfigured(f"there is nothing at {source.source}")
        self.told(_copying(source, moved, there))

    def _fits(self, source: DataSource, missing_bytes: int, disk_gib: int) -> None:
        free = shutil.disk_usage(self.folders.data).free
        if missing_bytes > 0 and missing_bytes > free - self.margin_bytes:
            raise Misconfigured(self._too_small(source, missing_bytes, disk_gib))

    def _too_small(self, source: DataSource, missing_bytes: int | None, disk_gib: int) -> str:
        free = shutil.disk_usage(self.folders.data).free
        needed = f"{missing_bytes / _GB:.1f} GB of it are missing, and " if missing_bytes else ""
        return (
            f"{source.source} does not fit on the disk of {self.folders.data}: {needed}"
            f"{free / _GB:.1f} GB are free, of which {self.margin_bytes / _GB:.1f} GB stay free;"
            f" give the job a larger disk (resources.disk_gib, now {disk_gib}), or take mode: mount"
        )

    def _target(self, source: DataSource) -> Path:
        parts = PurePosixPath(source.target).parts
        if not parts or source.target.startswith("/") or ".." in parts:
            raise Misconfigured(f"a target leads out of the data folder: {source.target}")
        return self.folders.data.joinpath(*parts)

    def _place(self, source: DataSource) -> Place:
        bucket, _, prefix = source.source.removeprefix("s3://").partition("/")
        try:
            region = source.region or self.buckets.region(bucket)
        except NotAuthorized as error:
            # Nor would the next machine get it, and this one is paid while it asks.
            raise Misconfigured(
                f"{source.source}: grant the instances' role s3:ListBucket on the bucket ({error})"
            ) from None
        return Place(bucket=bucket, prefix=prefix, region=region)


def _copying(source: DataSource, moved: Moved, there_bytes: int) -> Copying:
    """The listing at submission knew the total before ours does."""
    total = max(there_bytes + moved.total_bytes, source.bytes or 0)
    return Copying(
        source=source.source,
        bytes=there_bytes + moved.bytes,
        total_bytes=total,
        files=moved.files,
        total_files=moved.total_files,
        bytes_s=moved.bytes_s,
    )


def _tidied(folder: Path) -> int:
    """The bytes that are there. What a copy that was killed has left is of no use to the next one,
    and the trainer must not take it for data."""
    total = 0
    for inner, _, names in os.walk(folder):
        for name in names:
            path = Path(inner, name)
            if name.endswith(PARTIAL_SUFFIX):
                path.unlink(missing_ok=True)
            else:
                total += path.stat().st_size
    return total


@dataclass(frozen=True, kw_only=True)
class Uploads:
    """Many small outputs at once, into the home bucket. Implements outputs.Bulk."""

    rclone: Rclone
    bucket: str
    region: str

    def __call__(
        self, folder: Path, names: Sequence[str], prefix: str, may_go_on: Callable[[], bool]
    ) -> None:
        def told(_: Moved) -> None:
            if not may_go_on():
                raise GaveWay("something more urgent has to go up")

        place = Place(bucket=self.bucket, prefix=prefix, region=self.region)
        self.rclone.up(folder, names, place, told)
