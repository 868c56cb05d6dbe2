"""What an isolated lab could leave behind, and where it would be seen."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from spotrunner.lab.cgroups import groups


@dataclass(frozen=True, kw_only=True)
class Machine:
    """This machine's own network, as far as anything of a lab could show in it."""

    links: str
    addresses: str
    routes: str
    rules: str
    names: str


def machine() -> Machine:
    return Machine(
        links=_say("ip", "-oneline", "link"),
        addresses=_say("ip", "-brief", "address"),
        routes=_say("ip", "route", "show", "table", "all"),
        rules=_say("iptables", "-S") + _say("iptables", "-t", "nat", "-S"),
        names=_say("ip", "netns", "list"),
    )


@dataclass(frozen=True)
class Traces:
    """Of the lab in `folder`, or of one instance in its own folder."""

    folder: Path
    lab_id: str

    def look(self) -> list[str]:
        """Processes, mounts, disks and control groups that are still there."""
        found = [f"process {pid} {line}" for pid, line in self.processes()]
        found += [f"mount {line}" for line in self._mounts()]
        found += [f"disk {line}" for line in _say("losetup", "--all").splitlines() if self.of(line)]
        return [*found, *(f"group {path}" for path in groups(f"spotrunner-{self.lab_id}-"))]

    def of(self, text: str) -> bool:
        return str(self.folder) in text

    def processes(self) -> list[tuple[int, str]]:
        """Whose command line or environment names the folder, with all that runs below them."""
        roots = [each for each in psutil.process_iter() if self._is_ours(each)]
        found = {each.pid: each for each in roots}
        for root in roots:
            found |= {each.pid: each for each in _children(root)}
        return [(pid, _line(each)) for pid, each in sorted(found.items())]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            told = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            return False
        return process.pid != psutil.Process().pid and any(self.of(each) for each in told)

    def _mounts(self) -> list[str]:
        """In this machine's own namespace."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if self.of(line)]


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return "(gone)"


def _say(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
