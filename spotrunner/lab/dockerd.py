"""The docker daemon of an isolated instance, kept up as systemd would keep it."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from spotrunner.lab.shims.machine import read_json, write_json

FILE = "dockerd.json"
# As docker.service has it: Restart=always, RestartSec=2.
_RESTART_S = 2.0


def command(disk: Path, group: str) -> list[str]:
    """With the usual socket, /run/docker.sock, which is the instance's own."""
    return [
        "dockerd",
        *("--data-root", str(disk), "--exec-root", "/run/docker"),
        *("--pidfile", "/run/docker.pid", "--host", "unix:///run/docker.sock"),
        *("--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{group}"),
    ]


@dataclass(kw_only=True)
class Dockerd:
    """Not safe for several threads."""

    command: list[str]
    group: str
    log: Path
    _running: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _ended_s: float | None = field(default=None, init=False)
    _told: bool = field(default=False, init=False)

    @classmethod
    def of(cls, lab: Path) -> Dockerd | None:
        """As `write` left it in the instance's folder; None where a stand-in plays docker."""
        told = read_json(lab / FILE)
        if not told:
            return None
        return cls(command=told["command"], group=told["group"], log=lab / "dockerd.log")

    def keep_up(self) -> None:
        """Start it, or start it again a moment after its end."""
        if self._running is not None and self._running.poll() is None:
            return
        if self._running is not None and self._ended_s is None:
            self._ended_s = time.monotonic()
        if self._ended_s is None or time.monotonic() - self._ended_s >= _RESTART_S:
            self._ended_s = None
            self._start()

    def stop(self) -> None:
        """SIGTERM, once: it stops its containers, then itself."""
        if self._running is not None and self._running.poll() is None and not self._told:
            self._told = True
            self._running.terminate()

    def _start(self) -> None:
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def write(lab: Path, disk: Path, group: str) -> None:
    write_json(lab / FILE, {"command": command(disk, group), "group": group})
