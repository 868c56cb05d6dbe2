"""The parts of an agent over a bucket in memory."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spotrunner.adapters import codec
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.adapters.memory import MemoryBuckets, MemoryObjects
from spotrunner.agent.aside import Aside
from spotrunner.agent.carry import Carried
from spotrunner.agent.checkpoints import Checkpoints
from spotrunner.agent.courier import Courier
from spotrunner.agent.data import DataSets
from spotrunner.agent.folders import Folders, Keys
from spotrunner.agent.holder import Holder
from spotrunner.agent.mounts import Mounts
from spotrunner.agent.outputs import Outputs
from spotrunner.agent.rclone import Rclone
from spotrunner.agent.retention import Retention
from spotrunner.core.model import Head, JobSpec
from spotrunner.ports import NotAuthorized, RegistryLogin
from tests.agent.told import JOB, T0


@dataclass
class HandClock:
    """A clock that a test moves."""

    at: dt.datetime = T0

    def now(self) -> dt.datetime:
        return self.at


class NoRegistries:
    """An account without registries of its own."""

    def login(self, region: str) -> RegistryLogin:
        raise NotAuthorized(f"no registry in {region}")


def nonces(prefix: str) -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"{prefix}{next(numbers)}"


def a_spec(**changes: object) -> JobSpec:
    values: dict[str, object] = {
        "name": "digits",
        "run": "true",
        "image": "tensorflow/tensorflow:2.17.0-gpu",
        "instance_types": ("g4dn.xlarge",),
        "regions": ("us-east-1",),
    }
    return JobSpec(**{**values, **changes})  # type: ignore[arg-type]


@dataclass
class Bucket:
    """One home bucket and whoever works on it."""

    clock: HandClock = field(default_factory=HandClock)

    def __post_init__(self) -> None:
        self.buckets = MemoryBuckets(self.clock, ["home", "data"])
        self.objects: MemoryObjects = self.buckets.objects("home")
        self.heads = ObjectHeads(self.objects)

    @property
    def head(self) -> Head:
        head = self.heads.read(JOB).head
        assert head is not None
        return head

    @property
    def head_key(self) -> str:
        return f"jobs/{JOB}/checkpoints/HEAD.json"

    def listed(self, prefix: str = "") -> list[str]:
        return [info.key for info in self.objects.list(prefix)]

    def holder(self, generation: int, nonce: str | None = None) -> Holder:
        return Holder(
            heads=self.heads,
            job_id=JOB,
            attempt=f"{JOB}.{generation}",
            generation=generation,
            nonce=nonces(nonce or f"g{generation}-"),
        )

    def data_sets(self, folders: Folders) -> DataSets:
        """For jobs without data: an S3 in memory is none that rclone could ask."""
        rclone = Rclone(binary=Path("rclone"), pid_file=folders.root / "rclone.pid")
        return DataSets(
            buckets=self.buckets,
            folders=folders,
            rclone=rclone,
            mounts=Mounts(attempt=JOB, folders=folders, rclone=rclone),
            told=lambda copying: None,
        )

    def courier(self, generation: int, root: Path) -> Courier:
        folders = Folders(root=root)
        folders.make()
        return Courier(
            objects=self.objects,
            folders=folders,
            keys=keys_of(generation),
            decode_spec=lambda body: codec.from_json(JobSpec, body),
        )

    def checkpoints(
        self, generation: int, root: Path, carried: Carried | None = None
    ) -> Checkpoints:
        folders = Folders(root=root)
        folders.make()
        return Checkpoints(
            objects=self.objects,
            heads=self.heads,
            folders=folders,
            keys=keys_of(generation),
            nonce=nonces("n"),
            carried=carried or Carried(),
        )

    def outputs(self, generation: int, root: Path, carried: Carried | None = None) -> Outputs:
        folders = Folders(root=root)
        folders.make()
        return Outputs(
            objects=self.objects,
            heads=self.heads,
            folders=folders,
            keys=keys_of(generation),
            nonce=nonces("n"),
            carried=carried or Carried(),
            bulk=self._upload_each,
        )

    def _upload_each(
        self, folder: Path, names: Sequence[str], prefix: str, may_go_on: Callable[[], bool]
    ) -> None:
        for name in names:
            self.objects.upload(folder / name, prefix + name, may_go_on=may_go_on)

    def retention(self, generation: int) -> Retention:
        return Retention(
            objects=self.objects,
            heads=self.heads,
            keys=keys_of(generation),
            clock=self.clock,
        )

    def aside(
        self, generation: int, outputs: Outputs, has_notice: Callable[[], bool] = lambda: False
    ) -> Aside:
        return Aside(outputs=outputs, retention=self.retention(generation), has_notice=has_notice)


def keys_of(generation: int) -> Keys:
    return Keys(job_id=JOB, attempt=f"{JOB}.{generation}", generation=generation)


def save(root: Path, step: int, **files: str) -> Path:
    """A complete checkpoint folder as a trainer leaves it."""
    folder = root / "checkpoints" / f"{step:08d}"
    (folder / "variables").mkdir(parents=True)
    for name, text in (files or {"weights": f"weights at {step}", "variables/opt": "adam"}).items():
        (folder / name).write_text(text)
    return folder
