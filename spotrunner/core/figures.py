"""What an instance measures of itself: its GPUs, the machine, its clock, and a copy under way."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GpuFigures:
    """One GPU as nvidia-smi tells it. A figure that this GPU does not have is None."""

    index: int
    name: str
    used_percent: int | None = None
    memory_used_mib: int | None = None
    memory_total_mib: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of the last minute before `at`. Shares are of 1; rates are bytes a second."""

    at: dt.datetime
    gpus: tuple[GpuFigures, ...] = ()
    driver: str = ""
    cpu_share: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    disk_free_bytes: int | None = None
    disk_total_bytes: int | None = None
    disk_read_bytes_s: float | None = None
    disk_written_bytes_s: float | None = None
    received_bytes_s: float | None = None
    sent_bytes_s: float | None = None
    # -- of the last minutes in which the trainer made steps, and nothing else (it restores,
    # compiles and validates, too); None until there are enough of them: how busy the GPUs were,
    # how long a step took, and where the trainer tells it, which share of it waits for input and
    # for the other workers' gradients
    busy_share: float | None = None
    step_s: float | None = None
    input_wait_share: float | None = None
    gradient_sync_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class ClockState:
    """The instance's clock against its time server: `offset_s` is how far it is ahead. `source`
    names who says so."""

    synchronised: bool
    offset_s: float | None = None
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Copying:
    """Data on its way to the instance. Totals are None until they are known."""

    source: str
    bytes: int
    total_bytes: int | None = None
    files: int = 0
    total_files: int | None = None
    bytes_s: float | None = None
