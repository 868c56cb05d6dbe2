"""What the trainers of a job really did, step by step: read from their own progress lines, on the
disks of their instances.

A disk goes with its instance, so each file is held open from the moment that it appears: what a
trainer wrote in its last moment can still be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

# Not looked for everywhere: a boot unpacks and renames folders meanwhile.
_PROGRESS = "var/lib/spotrunner/*/logs/progress.jsonl"


@dataclass(frozen=True, kw_only=True)
class Steps:
    """`first` is the step that an attempt went on from, `last` the last one it made; `loss` is
    that of the newest line that has one."""

    first: int
    last: int
    total: int
    loss: float | None = None


class ProgressFiles:
    """Of the attempts of a lab."""

    def __init__(self, lab_folder: Path) -> None:
        self._instances = lab_folder / "instances"
        self._files: dict[str, TextIOWrapper] = {}

    def look(self, instances: Mapping[str, str]) -> None:
        """Hold what has appeared. `instances` is attempt -> instance id."""
        for attempt, instance_id in instances.items():
            if attempt not in self._files:
                for path in (self._instances / instance_id).glob(_PROGRESS):
                    self._files[attempt] = path.open(encoding="utf-8")

    def steps(self, attempt: str) -> Steps | None:
        """None for an attempt that never trained."""
        file = self._files.get(attempt)
        if file is None:
            return None
        lines = list(_lines(file))
        if not lines:
            return None
        losses = [line["metrics"]["loss"] for line in lines if "loss" in line.get("metrics", {})]
        return Steps(
            first=lines[0]["step"],
            last=max(line["step"] for line in lines),
            total=lines[0]["total_steps"],
            loss=losses[-1] if losses else None,
        )

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def _lines(file: TextIOWrapper) -> Iterator[Mapping[str, Any]]:
    file.seek(0)
    for line in file:
        # A trainer that is killed in the middle of a line leaves half of one.
        if line.endswith("\n"):
            yield json.loads(line)
