"""The uninterrupted run that the demo compares with: the same script, data and seed, by itself."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import spotrunner
from spotrunner.cli.failure import Failure
from spotrunner.lab.watched import Watched

TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A training that runs beside the job."""

    running: Watched
    folder: Path
    log: Path

    def result(self) -> Mapping[str, object]:
        """Its result.json, when it is done. Raises Failure."""
        code = self.running.wait(TIMEOUT_S)
        if code != 0:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise Failure(f"the uninterrupted reference run failed ({code}):\n{last}")
        result: Mapping[str, object] = json.loads((self.folder / "outputs/result.json").read_text())
        return result


@contextlib.contextmanager
def reference_run(
    run: str, payload: Path, dataset: Path, envs: Mapping[str, str], folder: Path
) -> Iterator[Reference]:
    """`run` is the job's command, executed in a copy of nothing: the payload's own folder."""
    for name in ("checkpoints", "outputs", "logs", "data"):
        (folder / name).mkdir(parents=True)
    (folder / "data" / "digits").symlink_to(dataset)
    log = folder / "trainer.log"
    running = Watched(
        ["bash", "-c", f"set -eo pipefail; {run}"],
        environment=_environment(envs, folder),
        log=log,
        folder=payload,
    )
    try:
        yield Reference(running=running, folder=folder, log=log)
    finally:
        running.kill()


def _environment(envs: Mapping[str, str], folder: Path) -> dict[str, str]:
    root = Path(spotrunner.__file__).resolve().parent.parent
    bin_ = Path(sys.executable).parent
    return {
        **envs,
        "PATH": f"{bin_}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(folder),
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "SPOTRUNNER_CHECKPOINT_DIR": str(folder / "checkpoints"),
        "SPOTRUNNER_DATA_DIR": str(folder / "data"),
        "SPOTRUNNER_OUTPUT_DIR": str(folder / "outputs"),
        "SPOTRUNNER_LOG_DIR": str(folder / "logs"),
    }
