"""Fetches what a job consists of: its spec, its workdir, its data."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from spotrunner.agent.carry import Carried, inside
from spotrunner.agent.folders import Folders, Keys
from spotrunner.core.model import DataSource, JobSpec
from spotrunner.ports import Buckets, Misconfigured, ObjectInfo, Objects

# Downloads of data at once: enough to hide the latency of small objects on four cores.
PARALLEL_DOWNLOADS = 8


@dataclass(frozen=True, kw_only=True)
class Courier:
    """All methods block; they raise what the ports raise, and OSError for the disk."""

    objects: Objects
    buckets: Buckets
    folders: Folders
    keys: Keys
    decode_spec: Callable[[bytes], JobSpec]
    carried: Carried = field(default_factory=Carried)

    def spec(self) -> JobSpec:
        return self.decode_spec(self.objects.get(self.keys.spec).body)

    def fetch_workdir(self, sha256: str) -> None:
        """Unpack the workdir in place of what lies there. Raises Misconfigured where the stored
        archive is not the one that its name says."""
        archive = self.folders.root / "workdir.tar.gz"
        archive.unlink(missing_ok=True)
        content = self.objects.download(self.keys.workdir(sha256), archive)
        self.carried.add(content.bytes)
        if content.sha256 != sha256:
            raise Misconfigured(f"the stored workdir is not {sha256}")
        shutil.rmtree(self.folders.workdir, ignore_errors=True)
        self.folders.workdir.mkdir(parents=True)
        with tarfile.open(archive) as tar:
            # "data" refuses links and names that lead out of the folder.
            tar.extractall(self.folders.workdir, filter="data")
        archive.unlink()

    def fetch_data(self, sources: tuple[DataSource, ...]) -> None:
        for source in sources:
            self._fetch_source(source)

    def _fetch_source(self, source: DataSource) -> None:
        bucket, _, prefix = source.source.removeprefix("s3://").partition("/")
        objects = self.buckets.objects(bucket)
        target = self.folders.data / source.target

        def fetch(info: ObjectInfo) -> None:
            name = info.key.removeprefix(prefix).lstrip("/")
            path = inside(target, name)
            if path is None:
                raise Misconfigured(f"an object's name leads out of the data folder: {info.key}")
            # Data sets do not change under a job: what is there with the right size is right.
            if not (path.exists() and path.stat().st_size == info.bytes):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                objects.download(info.key, path)

        found = [info for info in objects.list(prefix) if not info.key.endswith("/")]
        if not found:
            raise Misconfigured(f"there is nothing at {source.source}")
        target.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
            list(pool.map(fetch, found))
