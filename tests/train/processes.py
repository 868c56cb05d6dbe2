"""Real training processes in folders of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SMALL = Path(__file__).with_name("small.py")
TIMEOUT_S = 180


@dataclass(kw_only=True)
class Place:
    """The folders of one job, where one attempt after the other runs."""

    root: Path
    script: Path = SMALL
    agent: bool = True
    attempts: int = 0
    output: str = field(default="", repr=False)

    def environment(self) -> dict[str, str]:
        """What an agent would set; also for a script that is started by hand."""
        variables = {key: value for key, value in os.environ.items() if key[:11] != "SPOTRUNNER_"}
        for key, name in (("CHECKPOINT", "c"), ("DATA", "d"), ("OUTPUT", "o"), ("LOG", "l")):
            (self.root / name).mkdir(exist_ok=True, parents=True)
            variables[f"SPOTRUNNER_{key}_DIR"] = str(self.root / name)
        if self.agent:
            variables["SPOTRUNNER_ATTEMPT"] = f"job-{self.attempts}"
        return {**variables, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        self.attempts += 1
        return subprocess.Popen(
            [sys.executable, str(self.script), *arguments],
            env=self.environment(),
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> int:
        """One attempt to its end; its exit code. What it printed is in `output`."""
        with self.start(*arguments) as trainer:
            try:
                self.output, _ = trainer.communicate(timeout=TIMEOUT_S)
            finally:
                trainer.kill()
        return trainer.returncode

    @property
    def checkpoints(self) -> list[str]:
        return sorted(entry.name for entry in (self.root / "c").iterdir())

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "o" / "result.json").read_text())
        return found

    @property
    def progress(self) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for line in (self.root / "l/progress.jsonl").read_text().split("\n")
            if line
        ]

    def what_it_came_to(self) -> tuple[Any, ...]:
        """All that must not depend on interruptions."""
        result = self.result
        return result["steps"], result["epochs"], result["metrics"], result["weights_sha256"]
