"""The trainer in a container, by docker's command line. In the lab a stand-in answers to the name.

The container is detached, so that neither a killed agent nor docker's own client takes it along,
and it is kept after its end until its exit code and whether it ran out of memory were read.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from spotrunner.agent import imds_block
from spotrunner.agent.docker import Docker
from spotrunner.agent.folders import Folders
from spotrunner.agent.runs import Launch, NotStarted, State, Unanswered, Unstartable
from spotrunner.agent.secrets import has_files
from spotrunner.agent.who import ids
from spotrunner.core.model import JobSpec

# NCCL and data loaders share memory through it; docker's default of 64 MiB breaks them.
SHM_SIZE = "2g"
# A stop by docker itself (the machine goes down) leaves the trainer time to save: most of a notice.
STOP_S = 110
# The first start from a fresh disk reads the image's layers.
START_TIMEOUT_S = 120.0
# What the container prints beside the trainer's log is next to nothing.
_DOCKERS_LOG = "1m"
_FILES = 65_536
_STACK_BYTES = 64 << 20
# docker's own exit codes of a `run`: the daemon refused; the command cannot be run; is not there.
_REFUSED, _NOT_RUNNABLE, _NOT_THERE = 125, 126, 127
# What the image asks of the driver is the same on every machine of ours.
_IMAGES_OWN_FAULT = "unsatisfied condition"
INSIDE = Path(__file__).with_name("inside.sh")


@dataclass(frozen=True, kw_only=True)
class Container:
    """The container of one attempt."""

    ends_with_first: ClassVar[bool] = True

    name: str
    folders: Folders
    docker: Docker

    def start(self, launch: Launch) -> None:
        if launch.gang:
            if launch.spec.as_root:
                raise Unstartable(_REFUSED, "a gang's trainers cannot run as root: see as_root")
            imds_block.block(ids(as_root=False)[0])
        self.remove()
        try:
            said = self.docker(
                *self.arguments(launch), timeout_s=START_TIMEOUT_S, variables=launch.secrets
            )
        except Unanswered as error:
            self.remove()
            raise NotStarted(f"docker did not start the trainer: {error}") from None
        if said.code != 0:
            self.remove()
            _refuse(said.code, said.error)

    def state(self) -> State | None:
        said = self.docker("inspect", "--type", "container", self.name)
        if said.code != 0:
            if "no such" in said.error.lower():
                return None
            raise Unanswered(said.error[-400:])
        return _state(said.out)

    def signal(self, name: str) -> bool:
        try:
            return self.docker("kill", "--signal", name, self.name).code == 0
        except Unanswered:
            return False

    def last_words(self) -> str:
        try:
            said = self.docker("logs", "--tail", "50", self.name)
        except Unanswered:
            return ""
        return said.out + said.error if said.code == 0 else ""

    def remove(self) -> None:
        try:
            self.docker("rm", "--force", self.name)
        except Unanswered:
            return

    def arguments(self, launch: Launch) -> Sequence[str]:
        """Of `docker`. Every folder has the same path inside and outside."""
        spec = launch.spec
        uid, gid = ids(as_root=spec.as_root)
        rights = () if spec.as_root else ("--cap-drop", "ALL")
        return [
            *("run", "--detach", "--init", "--pull", "never", "--name", self.name),
            *("--network", "host" if launch.gang else "bridge", "--shm-size", SHM_SIZE),
            *(part for limit in _limits() for part in ("--ulimit", limit)),
            *("--stop-timeout", str(STOP_S), "--user", f"{uid}:{gid}"),
            *("--security-opt", "no-new-privileges", *rights),
            *("--log-driver", "json-file", "--log-opt", f"max-size={_DOCKERS_LOG}"),
            *(("--gpus", "all") if launch.gpus else ()),
            *(part for k, v in launch.environment.items() for part in ("-e", f"{k}={v}")),
            # Without a value it comes from docker's own environment, which nobody can list.
            *(part for name in launch.secrets for part in ("-e", name)),
            *(part for mount in self._mounts(spec) for part in ("-v", mount)),
            # An image may have an entrypoint of its own, which would swallow our command.
            *("--entrypoint", "bash", "-w", str(self.folders.workdir), launch.image),
            *("-c", INSIDE.read_text(), "spotrunner", commands(spec), str(self.folders.marks)),
        ]

    def _mounts(self, spec: JobSpec) -> Iterator[str]:
        folders = self.folders
        secrets = (folders.secrets,) if has_files(spec.secrets) else ()
        for folder in (folders.workdir, folders.data, folders.library, *secrets):
            yield f"{folder}:{folder}:ro"
        for folder in folders.written:
            yield f"{folder}:{folder}"


def commands(spec: JobSpec) -> str:
    """The job's `setup` and `run`, which end at the first command that fails."""
    return "\n".join(filter(None, ["set -eo pipefail", spec.setup, spec.run]))


def _limits() -> Iterator[str]:
    """What NVIDIA asks for, as far as this machine itself may: pinned memory without a limit, a
    deep stack, and files enough for data loaders."""
    yield "core=0"  # no secret of a trainer's memory on the disk
    yield f"nofile={_within(resource.RLIMIT_NOFILE, _FILES)}"
    yield f"memlock={_within(resource.RLIMIT_MEMLOCK, resource.RLIM_INFINITY)}"
    yield f"stack={_within(resource.RLIMIT_STACK, _STACK_BYTES)}"


def _within(kind: int, wanted: int) -> int:
    hard = resource.getrlimit(kind)[1]
    if wanted == resource.RLIM_INFINITY:
        return hard
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _refuse(code: int, said: str) -> None:
    """Raises what docker's refusal means."""
    if code in (_NOT_RUNNABLE, _NOT_THERE) or _IMAGES_OWN_FAULT in said:
        raise Unstartable(code, said)
    raise NotStarted(f"docker did not start the trainer: {said[-400:]}")


def _state(text: str) -> State:
    """Raises Unanswered for what is no answer."""
    try:
        found: dict[str, Any] = json.loads(text)[0]["State"]
        if found["Running"]:
            return State(pid=found["Pid"] or None)
        return State(code=_code(found), oom_killed=found["OOMKilled"])
    except (ValueError, LookupError, TypeError) as error:
        raise Unanswered(f"docker inspect: {error}") from None


def _code(found: dict[str, Any]) -> int | None:
    """None for one that was made and never ran: it has no end, and needs none."""
    return None if found["Status"] == "created" else int(found["ExitCode"])
