"""A stand-in for systemctl, for the transient units of systemd-run and for docker. A unit file can
be enabled, which has no effect: an instance of the lab boots once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from spotrunner.lab.shims import power
from spotrunner.lab.shims.machine import Machine
from spotrunner.lab.shims.systemd_run import start
from spotrunner.lab.shims.units import Unit

_IGNORED = frozenset({"--quiet", "-q", "--no-block", "--now", "--no-pager", "--system"})
_ALWAYS_ACTIVE = frozenset({"docker", "containerd", "docker.socket"})


def main(lab: str, *arguments: str) -> int:
    machine = Machine.read(lab)
    words = [argument for argument in arguments if argument not in _IGNORED]
    verb = words[0] if words else ""
    if verb in ("poweroff", "halt"):
        return power.main(lab, verb)
    if verb in ("daemon-reload", "reset-failed"):
        return 0
    units = [Unit.named(machine, name) for name in words[1:]]
    perform = {"is-active": _is_active, "stop": _stop, "restart": _restart, "start": _start}
    perform["enable"] = _enable
    if verb not in perform or not units or any(name.startswith("-") for name in words):
        print(f"systemctl: the lab knows no '{' '.join(arguments)}'", file=sys.stderr)
        return 1
    return max(perform[verb](machine, unit) for unit in units)


def _is_active(_machine: Machine, unit: Unit) -> int:
    active = unit.active or unit.name in _ALWAYS_ACTIVE
    print("active" if active else "inactive")
    return 0 if active else 3


def _stop(_machine: Machine, unit: Unit) -> int:
    if not unit.active:
        return 0
    os.kill(unit.state["runner"], signal.SIGTERM)
    waited = threading.Event()
    for _ in range(int(unit.spec["stop_s"] + 5) * 20):
        if not unit.active:
            return 0
        waited.wait(0.05)
    return 1


def _start(machine: Machine, unit: Unit) -> int:
    if unit.name in _ALWAYS_ACTIVE or unit.active:
        return 0
    if not unit.spec:
        print(f"Failed to start {unit.name}.service: Unit not found.", file=sys.stderr)
        return 5
    start(machine, unit)
    return 0


def _enable(_machine: Machine, unit: Unit) -> int:
    file = Path(f"{os.environ.get('SPOTRUNNER_ROOT', '')}/etc/systemd/system/{unit.name}.service")
    if not file.exists():
        print(f"Failed to enable unit: Unit file {file.name} does not exist.", file=sys.stderr)
        return 1
    return 0


def _restart(machine: Machine, unit: Unit) -> int:
    return _stop(machine, unit) or _start(machine, unit)
