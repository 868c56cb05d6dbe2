"""A job in a running lab, followed by what the API, the market and its trainers say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spotrunner.adapters.heads import ObjectHeads
from spotrunner.cli.demo.progress import ProgressFiles, Steps
from spotrunner.cli.demo.stage import Stage
from spotrunner.core.model import Head
from spotrunner.lab.paths import HOME_BUCKET


class Followed:
    """The digits payload, or what this job file makes of it, submitted as a user would, with these
    values of its envs."""

    def __init__(self, stage: Stage, job_file: Path | None = None, /, **envs: str) -> None:
        self.stage = stage
        self.envs = {"BUCKET": HOME_BUCKET, "PROGRESS_EVERY": "1", **envs}
        given = [part for name, value in self.envs.items() for part in ("-e", f"{name}={value}")]
        file = str(job_file or stage.payload / "job.yaml")
        shown = json.loads(stage.spotrunner("submit", file, "-y", "-o", "json", *given))
        self.id: str = shown["job"]["id"]
        self._files = ProgressFiles(stage.folder)

    def close(self) -> None:
        self._files.close()

    @property
    def detail(self) -> Mapping[str, Any]:
        """As it is now, from the daemon that runs now; it counts as looked at."""
        answer: Mapping[str, Any] = self.stage.api.get(f"/v1/jobs/{self.id}", watch=1)
        attempts = answer["attempts"]
        self._files.look({it["id"]: it["instance_id"] for it in attempts if it["instance_id"]})
        return answer

    @property
    def state(self) -> str:
        return str(self.detail["job"]["state"])

    @property
    def attempts(self) -> Sequence[Mapping[str, Any]]:
        """Those that EC2 gave an instance to, in their order; a refused pool is weather."""
        return [each for each in self.detail["attempts"] if each["instance_id"]]

    def has_instance(self, number: int) -> bool:
        """Attempts are counted from 1."""
        return len(self.attempts) >= number

    def trains(self, number: int) -> bool:
        attempts = self.attempts
        return len(attempts) >= number and attempts[number - 1]["first_step_at"] is not None

    def made(self, number: int) -> int:
        """Steps that the attempt itself has made so far, by its trainer's own lines."""
        steps = self._steps(number)
        return steps.last - steps.first if steps else 0

    def span(self, number: int) -> tuple[int, int]:
        """The step that it went on from, and the last one that it made."""
        steps = self._steps(number)
        assert steps is not None, f"attempt {number} has trained"
        return steps.first, steps.last

    def _steps(self, number: int) -> Steps | None:
        return self._files.steps(self.attempts[number - 1]["id"])

    def events(self, kind: str) -> list[str]:
        """Whom the events of this kind are about, in their order."""
        events = self.stage.api.get(f"/v1/jobs/{self.id}/events")["events"]
        return [event["subject"] for event in events if event["kind"] == kind]

    def interrupt(self, number: int, *, notice: bool) -> None:
        self.stage.lab.interrupt(self.attempts[number - 1]["instance_id"], notice=notice)

    def head(self) -> Head:
        head = ObjectHeads(self.stage.objects).read(self.id).head
        assert head is not None
        return head

    def result(self) -> Mapping[str, Any]:
        """result.json of the outputs that HEAD names."""
        done = self.head().done
        assert done is not None
        body = self.stage.objects.get((Path(done).parent / "result.json").as_posix()).body
        result: Mapping[str, Any] = json.loads(body)
        return result

    def instances(self) -> list[Mapping[str, Any]]:
        """What the market knows of it, whoever launched it."""
        rows = self.stage.lab.status()["instances"]
        return [row for row in rows if row["job"] == self.id]

    def nothing_left(self) -> bool:
        left = self.stage.lab.leftovers()
        return not left["instances"] and not left["processes"]
