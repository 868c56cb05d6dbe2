"""The parts of an agent over a bucket in memory."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from spotrunner.adapters import codec
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.adapters.memory import MemoryBuckets, MemoryObjects
from spotrunner.agent.courier import Courier
from spotrunner.agent.folders import Folders, Keys
from spotrunner.agent.holder import Holder
from spotrunner.core.model import Head, JobSpec
from tests.agent.told import JOB, T0


@dataclass
class HandClock:
    """A clock that a test moves."""

    at: dt.datetime = T0

    def now(self) -> dt.datetime:
        return self.at


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

    def courier(self, generation: int, root: Path) -> Courier:
        folders = Folders(root=root)
        folders.make()
        return Courier(
            objects=self.objects,
            buckets=self.buckets,
            heads=self.heads,
            folders=folders,
            keys=Keys(job_id=JOB, attempt=f"{JOB}.{generation}", generation=generation),
            decode_spec=lambda body: codec.from_json(JobSpec, body),
            nonce=nonces(f"g{generation}-"),
        )


def save(root: Path, step: int, **files: str) -> Path:
    """A complete checkpoint folder as a trainer leaves it."""
    folder = root / "checkpoints" / f"{step:08d}"
    (folder / "variables").mkdir(parents=True)
    for name, text in (files or {"weights": f"weights at {step}", "variables/opt": "adam"}).items():
        (folder / name).write_text(text)
    return folder
