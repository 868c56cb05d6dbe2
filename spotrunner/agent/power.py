"""The one way in which the agent ends its machine; it refuses on any machine but its own.

The same rule as in the user-data (core/boot): EC2 or the lab's marker, and the attempt's tag.
What the timer was armed to is kept on the disk as well, since a reboot forgets the timer.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from spotrunner.agent.imds import Imds, ImdsUnknown

LAB_MARKER = ".spotrunner-lab-instance"
TIMEOUT_S = 20.0
# With its time-outs a try takes less than a minute.
ARM_TRIES = 3
ARM_AGAIN_S = 2.0
# Where a system keeps its own tools: in the lab the one on PATH must be a stand-in.
_SYSTEM_FOLDERS = frozenset(
    Path(folder)
    for folder in (
        "/bin",
        "/sbin",
        "/usr/bin",
        "/usr/sbin",
        "/usr/local/bin",
        "/usr/local/sbin",
    )
)


class Refused(Exception):
    """This machine is not ours to end, or it cannot be told."""


@dataclass(kw_only=True)
class Power:
    """`root` is empty on EC2 and the instance's folder in the lab."""

    root: str
    attempt: str
    imds: Imds
    # the machine's own clock, in seconds since 1970: after a reboot it is compared with no other
    clock_s: Callable[[], float] = time.time  # noqa: TID251 -- what `date` says in the boot script
    wait: Callable[[float], object] = threading.Event().wait
    _confirmed: bool = field(default=False, init=False)

    def confirm(self, serves: str | None) -> None:
        """Raises Refused unless the instance's tag names our attempt. Once is enough: the tag of a
        launch does not change, and IMDS may be silent when the power has to go off."""
        if serves != self.attempt:
            raise Refused(f"this instance serves {serves!r}, not {self.attempt}")
        self._confirmed = True

    def off(self) -> None:
        self._shutdown("now")

    def arm(self, minutes: int) -> None:
        """End the machine in so many minutes; each call replaces the one before.

        A timer that stays at its old time ends a machine that is paid for before the next order
        comes, so what fails is tried again; each try is a minute shorter, and none ends later.
        """
        for last in (False,) * (ARM_TRIES - 1) + (True,):
            ends_s = int(self.clock_s()) + 60 * minutes
            try:
                self._shutdown(f"+{minutes}")
            except (Refused, OSError, subprocess.SubprocessError):
                if last or minutes == 1:
                    raise
                self.wait(ARM_AGAIN_S)
                minutes -= 1
            else:
                self._keep(ends_s)
                return

    def _keep(self, ends_s: int) -> None:
        """For the boot script after a reboot; it sees the old time or the new one."""
        path = Path(f"{self.root}/var/lib/spotrunner/{self.attempt}.paid_until")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_text(f"{ends_s}\n")
        part.replace(path)

    def _shutdown(self, when: str) -> None:
        """Raises Refused, OSError, or SubprocessError where `shutdown` itself failed."""
        self._check_machine()
        if not self._confirmed:
            try:
                self.confirm(self.imds.attempt())
            except ImdsUnknown as error:
                raise Refused(
                    f"the metadata service does not say whom we serve: {error}"
                ) from error
        subprocess.run(["shutdown", "-P", when], check=True, timeout=TIMEOUT_S)

    def _check_machine(self) -> None:
        is_lab = Path(f"{self.root}/{LAB_MARKER}").exists()
        if not (is_lab or is_ec2(self.root)):
            raise Refused("this is neither EC2 nor an instance of the lab")
        tool = shutil.which("shutdown")
        if tool is None:
            raise Refused("there is no shutdown on PATH")
        if (is_lab or self.root) and Path(tool).parent in _SYSTEM_FOLDERS:
            raise Refused("in the lab the system's own shutdown must not be called")


def is_ec2(root: str = "") -> bool:
    """Nitro names Amazon as the vendor; older Xen types (p3) say it in the BIOS or hypervisor."""
    return (
        _read(f"{root}/sys/class/dmi/id/sys_vendor").startswith("Amazon EC2")
        or "amazon" in _read(f"{root}/sys/class/dmi/id/bios_version").lower()
        or _read(f"{root}/sys/hypervisor/uuid").lower().startswith("ec2")
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
