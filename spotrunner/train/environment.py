"""Where a run lives: the trainer contract's folders, or `./spotrunner-run` on a laptop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The contract's environment variables, read once.

    `attempt` is None when no agent is there: then nobody else prunes checkpoints, and we do.
    """

    checkpoints: Path
    data: Path
    outputs: Path
    logs: Path
    job: str
    attempt: str | None
    rank: int
    nodes: int

    @property
    def tensorboard(self) -> Path:
        return self.logs / "tensorboard"

    @property
    def progress(self) -> Path:
        return self.logs / "progress.jsonl"

    def make_folders(self) -> None:
        for folder in (self.checkpoints, self.data, self.outputs, self.logs):
            folder.mkdir(parents=True, exist_ok=True)


def read_environment(variables: Mapping[str, str], home: Path) -> Environment:
    """The environment of this run; unnamed folders lie under `home`/spotrunner-run."""
    local = home / "spotrunner-run"

    def folder(key: str, name: str) -> Path:
        given = variables.get(f"SPOTRUNNER_{key}_DIR")
        return Path(given) if given else local / name

    return Environment(
        checkpoints=folder("CHECKPOINT", "checkpoints"),
        data=folder("DATA", "data"),
        outputs=folder("OUTPUT", "outputs"),
        logs=folder("LOG", "logs"),
        job=variables.get("SPOTRUNNER_JOB") or "local",
        attempt=variables.get("SPOTRUNNER_ATTEMPT") or None,
        rank=int(variables.get("SPOTRUNNER_RANK") or 0),
        nodes=int(variables.get("SPOTRUNNER_NODES") or 1),
    )
