"""Carries bytes between the bucket and the disk: workdir, data, checkpoints, outputs."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from spotrunner.agent.folders import (
    PARTIAL_PREFIX,
    Folders,
    Keys,
    complete_steps,
    files_below,
)
from spotrunner.core.model import CheckpointRef, DataSource, JobSpec, Manifest, ManifestFile
from spotrunner.ports import (
    Buckets,
    Heads,
    Misconfigured,
    NotFound,
    ObjectInfo,
    Objects,
    PreconditionFailed,
)

# Downloads of data at once: enough to hide the latency of small objects on four cores.
PARALLEL_DOWNLOADS = 8
_BLOCK_BYTES = 1 << 20


class DamagedCheckpoint(Exception):
    """What the bucket holds is not what its manifest says."""


class Carried:
    """Bytes between this disk and the home bucket so far: they are paid for where it lies in
    another region."""

    def __init__(self) -> None:
        self.bytes = 0

    def add(self, path: Path) -> None:
        self.bytes += path.stat().st_size


@dataclass(frozen=True, kw_only=True)
class Courier:
    """All methods block; they raise what the ports raise, and OSError for the disk."""

    objects: Objects
    buckets: Buckets
    heads: Heads
    folders: Folders
    keys: Keys
    decode_spec: Callable[[bytes], JobSpec]
    nonce: Callable[[], str]
    carried: Carried = field(default_factory=Carried)
    # A checkpoint that is tried again goes into the same folder of the bucket.
    _nonces: dict[int, str] = field(default_factory=dict)

    # -- the way up ----------------------------------------------------------------------------

    def spec(self) -> JobSpec:
        return self.decode_spec(self.objects.get(self.keys.spec).body)

    def fetch_workdir(self, sha256: str) -> None:
        """Unpack the workdir in place of what lies there. Raises Misconfigured where the stored
        archive is not the one that its name says."""
        archive = self.folders.root / "workdir.tar.gz"
        archive.unlink(missing_ok=True)
        self.objects.download(self.keys.workdir(sha256), archive)
        self.carried.add(archive)
        if sha256_of(archive) != sha256:
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
            path = _inside(target, name)
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

    # -- checkpoints ---------------------------------------------------------------------------

    def restore(self, ref: CheckpointRef) -> None:
        """Make the committed checkpoint the only one in the trainer's folder.

        Every digest is verified before the folder gets its name. Raises DamagedCheckpoint.
        """
        try:
            manifest, digest = self.heads.read_manifest(ref.folder)
            if digest != ref.manifest_sha256 or manifest.step != ref.step:
                raise DamagedCheckpoint(f"the manifest of {ref.folder} is not the committed one")
            self._clear_checkpoints()
            partial = self.folders.checkpoints / f"{PARTIAL_PREFIX}restore"
            partial.mkdir(parents=True)
            for file in manifest.files:
                self._restore_file(ref.folder, file, partial)
        except NotFound as missing:
            raise DamagedCheckpoint(f"{ref.folder} is not complete: {missing}") from missing
        partial.rename(self.folders.checkpoints / f"{ref.step:08d}")

    def _restore_file(self, folder: str, file: ManifestFile, partial: Path) -> None:
        path = _inside(partial, file.name)
        if path is None:
            raise DamagedCheckpoint(f"a name in {folder} leads out of it: {file.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.objects.download(folder + file.name, path)
        self.carried.add(path)
        if path.stat().st_size != file.bytes or sha256_of(path) != file.sha256:
            raise DamagedCheckpoint(f"{folder}{file.name} is not what was committed")

    def _clear_checkpoints(self) -> None:
        """What an earlier agent left here is not what HEAD says."""
        shutil.rmtree(self.folders.checkpoints, ignore_errors=True)
        self.folders.checkpoints.mkdir(parents=True)

    def clear(self, *, fresh: bool) -> None:
        """Before a start: no outputs of an earlier one, and for a fresh one no checkpoints."""
        if fresh:
            self._clear_checkpoints()
        shutil.rmtree(self.folders.outputs, ignore_errors=True)
        self.folders.make()

    def store(self, step: int) -> CheckpointRef:
        """Upload the complete checkpoint of `step`, its manifest last, every key written once.
        HEAD does not know of it yet."""
        nonce = self._nonces.setdefault(step, self.nonce())
        folder = self.keys.checkpoint(step, nonce)
        there = complete_steps(self.folders.checkpoints)[step]
        manifest = self._manifest(dict(files_below(there)), step)
        for file in manifest.files:
            self._put_once(there / file.name, folder + file.name)
        digest = self.heads.write_manifest(folder, manifest)
        return CheckpointRef(folder=folder, step=step, manifest_sha256=digest)

    def _put_once(self, path: Path, key: str) -> None:
        try:
            self.objects.upload(path, key, if_absent=True)
        except PreconditionFailed:
            # Nobody else knows our nonce, and a complete folder does not change: it is ours, from
            # a try whose answer was lost.
            return
        self.carried.add(path)

    def prune(self, committed_step: int) -> None:
        """Remove the checkpoints that a newer commit has made useless on this disk."""
        for step, path in complete_steps(self.folders.checkpoints).items():
            if step < committed_step:
                shutil.rmtree(path, ignore_errors=True)

    def _manifest(self, paths: Mapping[str, Path], step: int) -> Manifest:
        files = tuple(
            ManifestFile(name=name, bytes=path.stat().st_size, sha256=sha256_of(path))
            for name, path in paths.items()
        )
        return Manifest(step=step, attempt=self.keys.attempt, files=files)

    # -- the end -------------------------------------------------------------------------------

    def store_outputs(self, step: int) -> str:
        """Upload outputs and logs, then their manifest; returns the manifest's key."""
        outputs = dict(files_below(self.folders.outputs))
        outputs |= {f"logs/{name}": path for name, path in files_below(self.folders.logs)}
        manifest = self._manifest(outputs, step)
        folder = self._outputs_folder(manifest)
        for name, path in outputs.items():
            self.objects.upload(path, folder + name)
            self.carried.add(path)
        self.heads.write_manifest(folder, manifest)
        return f"{folder}MANIFEST.json"

    def _outputs_folder(self, manifest: Manifest) -> str:
        """The attempt's own, unless an earlier start of this agent completed other ones there."""
        try:
            there, _ = self.heads.read_manifest(self.keys.outputs)
        except NotFound:
            return self.keys.outputs
        if there == manifest:
            return self.keys.outputs
        return f"{self.keys.outputs.rstrip('/')}-{self.nonce()}/"

    def keep_logs(self) -> None:
        """Progress, TensorBoard events and the trainer's output of an attempt that is not done."""
        for name, path in files_below(self.folders.logs):
            self.objects.upload(path, f"{self.keys.outputs}logs/{name}")
            self.carried.add(path)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _inside(folder: Path, name: str) -> Path | None:
    """The path of `name` below `folder`; None for a name that would lead out of it."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        return None
    return folder.joinpath(*parts)
