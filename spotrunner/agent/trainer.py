"""The trainer's container, by docker's command line. In the lab a stand-in answers to the name."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spotrunner.agent.folders import Folders
from spotrunner.agent.words import Sig
from spotrunner.core.model import JobSpec

# Signals and removals are quick; a docker daemon that does not answer must not hold up the agent.
COMMAND_TIMEOUT_S = 10.0
# NCCL and data loaders share memory through it; docker's default of 64 MiB breaks them.
SHM_SIZE = "2g"
_INSIDE = Path(__file__).with_name("inside.sh")


# What a registry, or docker itself, answers about an image that no other machine would get either.
_NO_SUCH_IMAGE = re.compile(
    r"manifest unknown|name unknown|manifest for .* not found|no matching manifest"
    r"|repository .* not found|failed to resolve reference .*: not found"
    r"|invalid reference format|pull access denied|requested access to the resource is denied",
    re.IGNORECASE,
)


class NoImage(Exception):
    """There is no such image, or not for us."""


class PullFailed(Exception):
    """The image did not come this time: a rate limit, the network, the disk."""


@dataclass(kw_only=True)
class Trainer:
    """One container a life: `start` once, then `signal` and `poll`."""

    attempt: str
    job_id: str
    folders: Folders
    # what a payload may import of ours: the folder that holds the package `spotrunner.train`
    library_source: Path
    rank: int = 0
    nodes: int = 1
    # whether the container is given GPUs: as agent/gpus finds before the training
    gpus: bool = False
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def name(self) -> str:
        return f"spotrunner-{self.attempt}"

    @property
    def _listening(self) -> Path:
        """Appears when a SIGUSR1 would no longer end the container's first shell (inside.sh)."""
        return self.folders.checkpoints / ".listening"

    def pull(self, image: str) -> None:
        """Raises NoImage or PullFailed with docker's own words."""
        done = subprocess.run(
            ["docker", "pull", "--quiet", image], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            said = done.stderr.strip()
            kind = NoImage if _NO_SUCH_IMAGE.search(said) else PullFailed
            raise kind(f"docker pull {image}: {said[-400:]}")

    def lay_library(self) -> None:
        """Put our training library where the container sees it, and nothing else of ours."""
        package = self.folders.library / "spotrunner"
        shutil.rmtree(package, ignore_errors=True)
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(self.library_source, package / "train", ignore=ignored)

    def start(self, spec: JobSpec) -> None:
        """Start the container; what an earlier agent left running under our name ends first."""
        self._docker("rm", "--force", self.name)
        self._listening.unlink(missing_ok=True)
        with self.folders.trainer_log.open("ab") as log:
            self._child = subprocess.Popen(
                self.command(spec), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def signal(self, sig: Sig) -> bool:
        """True when docker has passed it on; False while there is no such container (yet)."""
        if sig is Sig.SAVE and not self._listening.exists():
            return False
        if sig is not Sig.KILL:
            return self._docker("kill", "--signal", sig.value, self.name)
        removed = self._docker("kill", self.name)
        if self._child is not None and not removed:
            # A docker daemon that does not answer: at least its client, and with it our waiting.
            self._child.kill()
        return True

    def poll(self) -> int | None:
        """The exit code as a shell says it; None while it runs."""
        with self._lock:
            code = self._child.poll() if self._child is not None else None
        return 128 - code if code is not None and code < 0 else code

    def command(self, spec: JobSpec) -> Sequence[str]:
        """The `docker run` line. Every folder has the same path inside and outside."""
        folders = self.folders
        mounts = [
            f"{folders.workdir}:{folders.workdir}",
            f"{folders.data}:{folders.data}:ro",
            f"{folders.library}:{folders.library}:ro",
            f"{folders.checkpoints}:{folders.checkpoints}",
            f"{folders.outputs}:{folders.outputs}",
            f"{folders.logs}:{folders.logs}",
        ]
        return [
            *("docker", "run", "--init", "--rm", "--name", self.name),
            *("--network", "bridge", "--shm-size", SHM_SIZE),
            *(("--gpus", "all") if self.gpus else ()),
            *(part for k, v in self.environment(spec).items() for part in ("-e", f"{k}={v}")),
            *(part for mount in mounts for part in ("-v", mount)),
            # An image may have an entrypoint of its own, which would swallow our command.
            *("--entrypoint", "bash", "-w", str(folders.workdir), spec.image),
            *("-c", _INSIDE.read_text(), "spotrunner", commands(spec)),
        ]

    def environment(self, spec: JobSpec) -> dict[str, str]:
        """The user's variables and, where they clash, ours; our library precedes their paths."""
        envs = dict(spec.envs)
        paths = [str(self.folders.library), *filter(None, [envs.get("PYTHONPATH")])]
        return {
            "PYTHONUNBUFFERED": "1",
            **envs,
            "PYTHONPATH": ":".join(paths),
            "SPOTRUNNER_CHECKPOINT_DIR": str(self.folders.checkpoints),
            "SPOTRUNNER_DATA_DIR": str(self.folders.data),
            "SPOTRUNNER_OUTPUT_DIR": str(self.folders.outputs),
            "SPOTRUNNER_LOG_DIR": str(self.folders.logs),
            "SPOTRUNNER_JOB": self.job_id,
            "SPOTRUNNER_ATTEMPT": self.attempt,
            "SPOTRUNNER_RANK": str(self.rank),
            "SPOTRUNNER_NODES": str(self.nodes),
        }

    def _docker(self, *arguments: str) -> bool:
        try:
            done = subprocess.run(
                ["docker", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def commands(spec: JobSpec) -> str:
    """The job's `setup` and `run`, which end at the first command that fails."""
    return "\n".join(filter(None, ["set -eo pipefail", spec.setup, spec.run]))
