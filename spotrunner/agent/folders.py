"""Where an agent and its trainer keep things, on the instance and in the home bucket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spotrunner.core.retention import folder_name

# The trainer contract reserves all-digit names for complete checkpoints; what begins like this is
# unfinished.
PARTIAL_PREFIX = ".partial-"
# In the bucket, beside what it names.
MANIFEST = "MANIFEST.json"
# Nobody trains further, and whoever reckons with steps can do so in floats.
MOST_STEPS = 2**53


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Below one root; the same paths inside and outside of the container."""

    root: Path
    # one that is no disk; None: below the root too
    memory: Path | None = None
    # one on the instance's own NVMe, for what can be fetched again; None: below the root too
    fast: Path | None = None

    @property
    def workdir(self) -> Path:
        return self.root / "workdir"

    @property
    def data(self) -> Path:
        return (self.fast or self.root) / "data"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def home(self) -> Path:
        """The trainer's, where its user has none in the image."""
        return self.root / "home"

    @property
    def marks(self) -> Path:
        """What the trainer's first shell leaves for us, in a folder that no trainer clears."""
        return self.root / "marks"

    @property
    def library(self) -> Path:
        """What a payload imports of ours, on its PYTHONPATH."""
        return self.root / "payload-lib"

    @property
    def secrets(self) -> Path:
        """Those that the trainer gets as files."""
        return (self.memory or self.root) / "secrets"

    @property
    def rclone_pid(self) -> Path:
        """Of a copy that is at work: one that a full disk must not keep from it."""
        return (self.memory or self.root) / "rclone.pid"

    @property
    def progress(self) -> Path:
        return self.logs / "progress.jsonl"

    @property
    def trainer_log(self) -> Path:
        return self.logs / "trainer.log"

    @property
    def written(self) -> tuple[Path, ...]:
        """By the trainer, or by the shell that it runs in."""
        return (self.checkpoints, self.outputs, self.logs, self.home, self.marks)

    @property
    def shipped(self) -> Path:
        """How far the log has been shipped; not among the trainer's own files."""
        return self.root / "shipped.json"

    def make(self) -> None:
        for folder in (self.workdir, self.data, self.checkpoints, self.outputs, self.logs):
            folder.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys of one attempt of a job. Folders end with a slash."""

    job_id: str
    attempt: str
    generation: int
    rank: int = 0

    @property
    def spec(self) -> str:
        return f"jobs/{self.job_id}/spec.json"

    def workdir(self, sha256: str) -> str:
        return f"jobs/{self.job_id}/workdir/{sha256}.tar.gz"

    @property
    def checkpoints(self) -> str:
        return f"jobs/{self.job_id}/checkpoints/"

    def checkpoint(self, step: int, nonce: str) -> str:
        return f"{self.checkpoints}{folder_name(step, self.generation, nonce)}/"

    @property
    def outputs(self) -> str:
        return f"jobs/{self.job_id}/outputs/{self.generation}/"

    def log(self, n: int) -> str:
        return f"jobs/{self.job_id}/logs/{self.attempt}/{self.rank}/{n:06d}.gz"


def step_of(name: str) -> int | None:
    """The step of a complete checkpoint's folder; None for any other name."""
    step = int(name) if name.isascii() and name.isdigit() else None
    return step if step is not None and step <= MOST_STEPS else None


def complete_steps(checkpoints: Path) -> dict[int, Path]:
    """The complete checkpoints that lie there, by step."""
    found = ((step_of(entry.name), entry) for entry in checkpoints.iterdir() if entry.is_dir())
    return {step: entry for step, entry in found if step is not None}


def files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file with its name relative to `folder`, in order; links are not followed."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(folder).as_posix(), path
