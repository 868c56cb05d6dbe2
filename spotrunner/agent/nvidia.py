"""The GPUs as nvidia-smi tells them.

A child and not NVML in our own process (nvidia-ml-py): a driver that hangs holds whoever asked it
in the kernel, where no signal reaches, and the agent has to end the machine then. One child for
all looks, since loading NVML costs more than the look.
"""

from __future__ import annotations

import math
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from spotrunner.core.figures import GpuFigures

LOOK_EVERY_S = 10
FIELDS = (
    "index",
    "name",
    "utilization.gpu",
    "memory.used",
    "memory.total",
    "temperature.gpu",
    "power.draw",
    "driver_version",
)
COMMAND = (
    "nvidia-smi",
    f"--query-gpu={','.join(FIELDS)}",
    "--format=csv,noheader,nounits",
    f"--loop={LOOK_EVERY_S}",
)
# What is older than this comes from a child that hangs.
STALE_S = 3.5 * LOOK_EVERY_S
# A child that ended (no driver yet, a GPU that fell off its bus) is started again after this long,
# doubled each time that the next one tells nothing either.
FIRST_AGAIN_S = 10.0
MOST_AGAIN_S = 600.0


@dataclass(frozen=True, kw_only=True)
class GpuLine:
    """One line of nvidia-smi's."""

    gpu: GpuFigures
    driver: str = ""


def parse(line: str) -> GpuLine | None:
    """None for what is no such line: nvidia-smi tells its troubles on the same channel. A field
    that is no number (`[N/A]`, `[Not Supported]`, `[Unknown Error]`, `[GPU requires reset]`,
    `ERR!`) is a figure that this GPU does not have."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != len(FIELDS):
        return None
    index = _whole(fields[0])
    if index is None:
        return None
    gpu = GpuFigures(
        index=index,
        name=fields[1],
        used_percent=_whole(fields[2]),
        memory_used_mib=_whole(fields[3]),
        memory_total_mib=_whole(fields[4]),
        temperature_c=_whole(fields[5]),
        power_w=_number(fields[6]),
    )
    return GpuLine(gpu=gpu, driver=fields[7] if fields[7][:1].isdigit() else "")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _whole(text: str) -> int | None:
    value = _number(text)
    return None if value is None else int(value)


def over_time(looks: Sequence[GpuFigures]) -> GpuFigures:
    """One GPU over several looks, the newest last: means of what flickers, the most of what must
    not run over."""
    used = _mean([look.used_percent for look in looks])
    return replace(
        looks[-1],
        used_percent=None if used is None else round(used),
        memory_used_mib=max(_known([look.memory_used_mib for look in looks]), default=None),
        temperature_c=max(_known([look.temperature_c for look in looks]), default=None),
        power_w=_mean([look.power_w for look in looks]),
    )


def _known(values: Sequence[int | None]) -> list[int]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 1) if known else None


class NvidiaSmi:
    """Runs nvidia-smi in a thread of its own, and remembers what it said last."""

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._command = tuple(command)
        self._clock_s = clock_s
        self._wait = wait or threading.Event().wait
        self._lock = threading.Lock()
        self._lines: dict[int, tuple[float, GpuLine]] = {}

    def start(self) -> None:
        threading.Thread(target=self.run, name="nvidia-smi", daemon=True).start()

    def lines(self) -> list[GpuLine]:
        """What it last said of each GPU; nothing of one that it has not spoken of for long."""
        since_s = self._clock_s() - STALE_S
        with self._lock:
            return [line for _, (at_s, line) in sorted(self._lines.items()) if at_s >= since_s]

    def run(self) -> None:
        """For good; but a machine without nvidia-smi is not asked a second time."""
        again_s = FIRST_AGAIN_S
        while True:
            try:
                told = self._listen()
            except FileNotFoundError:
                return
            except OSError:
                told = False
            again_s = FIRST_AGAIN_S if told else min(2 * again_s, MOST_AGAIN_S)
            self._wait(again_s)

    def _listen(self) -> bool:
        """Until the child ends; whether it told anything. One that outlives us ends by itself: at
        its next line nobody holds the other end of its pipe."""
        with subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
            text=True,
            errors="replace",
        ) as child:
            assert child.stdout is not None
            told = False
            for text in child.stdout:
                line = parse(text)
                if line is not None:
                    told = True
                    with self._lock:
                        self._lines[line.gpu.index] = (self._clock_s(), line)
            return told
