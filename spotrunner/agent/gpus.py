"""Whether the trainer gets GPUs: a GPU instance without its driver must not train on the CPU."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spotrunner.agent.imds import Imds
from spotrunner.agent.power import LAB_MARKER
from spotrunner.core.catalogue import USABLE

# A driver that the boot still loads is there within this time.
WAIT_S = 60
_DEVICE = Path("/dev/nvidia0")
_PROBE_TIMEOUT_S = 20.0
_DRIVER = Path("/proc/driver/nvidia/version")
# "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build …"
_VERSION = re.compile(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", re.MULTILINE)


class NoGpu(Exception):
    """The instance has GPUs by its type, and none that can be used."""


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """`root` is empty on EC2 and the instance's folder in the lab; `wait` sleeps (seconds)."""

    root: str
    imds: Imds
    device: Path = _DEVICE
    wait: Callable[[float], object] = threading.Event().wait

    def ready(self) -> bool:
        """Whether there are GPUs. Raises NoGpu, and ImdsUnknown where the type is not known."""
        if self.device.exists():
            return True
        if Path(f"{self.root}/{LAB_MARKER}").exists():
            return False
        instance_type = (self.imds.get("meta-data/instance-type") or "").strip()
        if instance_type not in USABLE:
            return False
        for _ in range(WAIT_S):
            _probe()
            if self.device.exists():
                return True
            self.wait(1.0)
        raise NoGpu(f"{instance_type} has no {self.device}: the driver of its GPU did not come up")


def driver_version(path: Path = _DRIVER) -> str:
    """Of the GPU's driver; "" where there is none that tells."""
    try:
        found = _VERSION.search(path.read_text(errors="replace"))
    except OSError:
        return ""
    return found[1] if found else ""


def _probe() -> None:
    """The device file of a driver that nobody has used yet is made by its first use."""
    try:
        subprocess.run(
            ["nvidia-smi", "-L"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return
