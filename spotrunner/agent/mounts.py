"""Data sets that are read where they are: `rclone mount`, read-only, through a bounded cache.

Each is a unit of its own under systemd, so that it outlives this agent: a container keeps the mount
that it was started with, and a new one would not reach it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spotrunner.agent.folders import Folders
from spotrunner.agent.rclone import Place, Rclone
from spotrunner.ports import Misconfigured, Unavailable

# Of the space that is free when a mount begins: docker, checkpoints and logs need the rest.
CACHE_SHARE = 0.5
# Objects do not change under a job: what was listed or read once is right for as long as it runs.
FOR_GOOD = "8760h"
COMMAND_S = 20.0
_LOOK_S = 0.05
_OCTAL = re.compile(r"\\([0-7]{3})")  # mountinfo's blanks and the like

_READ = (
    *("--read-only", "--vfs-cache-mode", "full", "--no-modtime", "--vfs-fast-fingerprint"),
    *("--dir-cache-time", FOR_GOOD, "--vfs-cache-max-age", FOR_GOOD, "--attr-timeout", "1h"),
    *("--vfs-cache-poll-interval", "10s", "--poll-interval", "0"),
    # The trainer is another user than the agent, and only reads.
    *("--dir-perms", "0755", "--file-perms", "0644"),
)


@dataclass(frozen=True, kw_only=True)
class Mounts:
    """Below the data folder of one attempt."""

    attempt: str
    folders: Folders
    rclone: Rclone
    fuse: Path = Path("/dev/fuse")
    answers_s: float = 30.0

    def mount(self, place: Place, target: Path) -> None:
        """Returns when the mount answers; one that does already is left alone. Raises Misconfigured
        (no FUSE here, nothing there), Unavailable (it does not answer)."""
        if _answers(target):
            return
        self._check_fuse()
        self._unmount(target)
        target.mkdir(parents=True, exist_ok=True)
        self._start(place, target)
        self._await(place, target)
        if _is_empty(target):
            self._unmount(target)
            raise Misconfigured(f"there is nothing at {place.name}, or it may not be listed")

    def unmount_all(self) -> None:
        """Best effort: whatever does not let go dies with the machine."""
        for target in mounted_below(self.folders.data):
            self._unmount(target)

    def command(self, place: Place, target: Path) -> Sequence[str]:
        cache = self.folders.data.parent / "data-cache" / self._name(target)
        cache.mkdir(parents=True, exist_ok=True)
        most_bytes = int(shutil.disk_usage(cache).free * CACHE_SHARE)
        # Only root may open a mount to others without asking /etc/fuse.conf.
        others = ("--allow-other",) if os.geteuid() == 0 else ()
        return self.rclone.command(
            *("mount", place.path, str(target), *_READ, *others, "--cache-dir", str(cache)),
            *("--vfs-cache-max-size", f"{most_bytes}B", "--log-file", str(self._log(target))),
        )

    def _start(self, place: Place, target: Path) -> None:
        self._log(target).unlink(missing_ok=True)
        given = [f"--setenv={k}={v}" for k, v in self.rclone.variables(place.region).items()]
        unit = f"--unit={self._unit(target)}"
        stops = "--property=TimeoutStopSec=5"
        _run("systemd-run", unit, "--collect", stops, *given, *self.command(place, target))

    def _await(self, place: Place, target: Path) -> None:
        pause = threading.Event()
        until_s = time.monotonic() + self.answers_s
        while not _answers(target):
            if time.monotonic() > until_s:
                said = self._said(target)
                self._unmount(target)
                raise Unavailable(f"the mount of {place.name} does not answer: {said}")
            pause.wait(_LOOK_S)

    def _said(self, target: Path) -> str:
        log = self._log(target)
        return log.read_text(errors="replace")[-400:].strip() if log.exists() else "nothing logged"

    def _unmount(self, target: Path) -> None:
        detach_below(target)
        _run("systemctl", "stop", f"{self._unit(target)}.service")

    def _check_fuse(self) -> None:
        if not self.fuse.exists() or _fusermount() is None:
            raise Misconfigured(
                "the machine's image has no FUSE (/dev/fuse and fusermount3), which mode: mount"
                " needs: take an image with the package fuse3, or mode: copy"
            )

    def _name(self, target: Path) -> str:
        return "-".join(target.relative_to(self.folders.data).parts)

    def _unit(self, target: Path) -> str:
        return f"spotrunner-mount-{self.attempt}-{self._name(target)}"

    def _log(self, target: Path) -> Path:
        return self.folders.data.parent / f"mount-{self._name(target)}.log"


def mounted_below(folder: Path) -> Iterator[Path]:
    """`folder` itself or below, as the kernel says it: also those whose server is gone."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        path = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), line.split(" ")[4]))
        if " - fuse.rclone " in line and (path == folder or folder in path.parents):
            yield path


def detach_below(folder: Path) -> None:
    """Lazily: a reader that does not let go cannot keep a mount in the tree. Never raises."""
    for target in mounted_below(folder):
        _run(_fusermount() or "fusermount3", "-u", "-z", str(target))


def _answers(target: Path) -> bool:
    """A mount whose server is gone is no mount to lstat."""
    with contextlib.suppress(OSError):
        if os.path.ismount(target):
            _is_empty(target)
            return True
    return False


def _is_empty(folder: Path) -> bool:
    """Raises OSError where it cannot be listed."""
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _fusermount() -> str | None:
    return shutil.which("fusermount3") or shutil.which("fusermount")


def _run(*command: str) -> None:
    """What came of it is seen by looking at the mount."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, capture_output=True, timeout=COMMAND_S, check=False)
