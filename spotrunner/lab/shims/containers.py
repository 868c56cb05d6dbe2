"""What docker knows of its containers, in files of the instance's folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotrunner.lab.shims.machine import Machine, read_json, write_json


@dataclass(frozen=True, kw_only=True)
class Container:
    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def spec(self) -> dict[str, Any]:
        return read_json(self.folder / "spec.json")

    @property
    def state(self) -> dict[str, Any]:
        return read_json(self.folder / "state.json")

    def note(self, **state: Any) -> None:
        write_json(self.folder / "state.json", {**self.state, **state})

    @property
    def running(self) -> bool:
        return self.state.get("status") == "running"

    def remove(self) -> None:
        """Forget it; its files go with the instance."""
        self.note(removed=True)

    def deliver(self, number: int) -> None:
        """A signal to the container's first process, as the kernel and docker's init have it."""
        pid, spec = self.state.get("pid"), self.spec
        if pid is None or not self.running:
            return
        if number == signal.SIGKILL:
            os.kill(pid, number)
        elif spec["init"]:
            # tini hands signals to its child, or to the child's whole group where it is told so.
            if "TINI_KILL_PROCESS_GROUP" in spec["environment"]:
                os.killpg(pid, number)
            else:
                os.kill(pid, number)
        elif _catches(pid, number):
            # The first process of a container is PID 1: what it does not catch never reaches it.
            os.kill(pid, number)


def all_of(machine: Machine) -> Iterator[Container]:
    for folder in sorted((machine.lab / "containers").glob("*")):
        container = Container(folder=folder)
        if container.spec and not container.state.get("removed"):
            yield container


def named(machine: Machine, name: str) -> Container | None:
    """By name or by the beginning of the id."""
    for container in all_of(machine):
        if container.spec["name"] == name or container.id.startswith(name):
            return container
    return None


def _catches(pid: int, number: int) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "SigCgt":
            return bool(int(value, 16) >> (number - 1) & 1)
    return False
