"""The first process of a trainer, told from another one that got its number later."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

_GONE = ("Z", "X", "x")


@dataclass(frozen=True, kw_only=True)
class First:
    """`since` is when it was started, in the kernel's ticks since the boot: no other process has
    had both numbers."""

    pid: int
    since: int

    @classmethod
    def of(cls, pid: int) -> First | None:
        """None where no such process lives, or none that we can see."""
        since = _since(pid)
        return None if since is None else cls(pid=pid, since=since)

    @property
    def lives(self) -> bool:
        return _since(self.pid) == self.since

    def signal(self, name: str) -> bool:
        """False where it is gone."""
        if not self.lives:
            return False
        try:
            os.kill(self.pid, signal.Signals[name])
        except ProcessLookupError:
            return False
        return True


def oom_kills() -> int:
    """How often this machine's kernel has killed for want of memory since it was booted."""
    for line in Path("/proc/vmstat").read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill":
            return int(value)
    return 0


def _since(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # after the name in brackets, which may hold anything: the state, ..., the 22nd field
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in _GONE else int(fields[19])
