"""What the kernel tells of the machine: the texts of /proc, read and compared.

psutil would do it too, but is compiled, and the agent's archive is one for all Pythons.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# The unit of /proc/diskstats, whatever the disk's own blocks are.
_SECTOR_BYTES = 512
_DEFAULT_ROUTE = "00000000"


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What only grows; None where the kernel does not tell it."""

    cpu_busy: int | None = None  # ticks, of all cores
    cpu_all: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Space:
    """Of memory, or of a disk."""

    total_bytes: int
    free_bytes: int


def parse_stat(text: str) -> tuple[int, int] | None:
    """(busy, all) ticks of all cores, of /proc/stat. Waiting for a disk is no work; what a guest
    did is counted as user's time already."""
    for line in text.splitlines():
        fields = line.split()
        if fields[:1] == ["cpu"] and len(fields) > 5 and all(it.isdigit() for it in fields[1:]):
            ticks = [int(field) for field in fields[1:9]]
            return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
    return None


def parse_meminfo(text: str) -> Space | None:
    """What programs could still have, of /proc/meminfo: caches count as free."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        amount = rest.split()
        if amount and amount[0].isdigit():
            found[name] = int(amount[0]) * 1024
    if "MemTotal" not in found or "MemAvailable" not in found:
        return None
    return Space(total_bytes=found["MemTotal"], free_bytes=found["MemAvailable"])


def parse_diskstats(text: str, disks: frozenset[str]) -> tuple[int, int]:
    """Bytes (read, written) by these disks, of /proc/diskstats. Partitions and what is stacked on
    disks would count the same bytes again."""
    read = written = 0
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 10 and fields[2] in disks:
            read += int(fields[5]) * _SECTOR_BYTES
            written += int(fields[9]) * _SECTOR_BYTES
    return read, written


def parse_route(text: str) -> str | None:
    """The interface of the default route, of /proc/net/route: of several the one that is taken."""
    best: tuple[int, str] | None = None
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[1] != _DEFAULT_ROUTE or fields[7] != _DEFAULT_ROUTE:
            continue
        route = (int(fields[6]), fields[0])
        best = route if best is None else min(best, route)
    return best[1] if best else None


def parse_net(text: str, interface: str) -> tuple[int, int] | None:
    """Bytes (received, sent) by an interface, of /proc/net/dev."""
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        fields = rest.split()
        if colon and name.strip() == interface and len(fields) >= 9:
            return int(fields[0]), int(fields[8])
    return None


@dataclass(frozen=True, kw_only=True)
class HostFigures:
    """Reads them. `folder` lies on the disk whose room counts: the one of data and checkpoints."""

    folder: Path
    proc: Path = Path("/proc")
    blocks: Path = Path("/sys/block")

    def counters(self) -> Counters:
        busy, ticks = parse_stat(self._read("stat")) or (None, None)
        read, written = parse_diskstats(self._read("diskstats"), self._disks())
        interface = parse_route(self._read("net/route"))
        moved = parse_net(self._read("net/dev"), interface) if interface else None
        received, sent = moved or (None, None)
        return Counters(
            cpu_busy=busy,
            cpu_all=ticks,
            read_bytes=read,
            written_bytes=written,
            received_bytes=received,
            sent_bytes=sent,
        )

    def memory(self) -> Space | None:
        return parse_meminfo(self._read("meminfo"))

    def disk(self) -> Space | None:
        """Of the folder, or of the one that it will lie in."""
        folder = next(each for each in (self.folder, *self.folder.parents) if each.exists())
        try:
            stat = os.statvfs(folder)
        except OSError:
            return None
        return Space(
            total_bytes=stat.f_blocks * stat.f_frsize, free_bytes=stat.f_bavail * stat.f_frsize
        )

    def _disks(self) -> frozenset[str]:
        """Those that are hardware."""
        try:
            return frozenset(each.name for each in self.blocks.iterdir() if _is_hardware(each))
        except OSError:
            return frozenset()

    def _read(self, name: str) -> str:
        try:
            return (self.proc / name).read_text(errors="replace")
        except OSError:
            return ""


def _is_hardware(block: Path) -> bool:
    return (block / "device").exists()
