"""A stand-in for systemctl, for the transient units of systemd-run and for docker. A unit file can
be enabled and disabled, which has no effect: an instance of the lab boots once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
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
    if verb == "daemon-reload":
        return 0
    if verb == "show":
        return _show(machine, words[1:])
    if verb == "kill":
        return _kill(machine, words[1:])
    units = [Unit.named(machine, name) for name in words[1:]]
    perform = {"is-active": _is_active, "stop": _stop, "restart": _restart, "start": _start}
    perform |= {"enable": _enable, "disable": _enable, "reset-failed": _forget}
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
        return _forget(_machine, unit)
    os.kill(unit.state["runner"], signal.SIGTERM)
    waited = threading.Event()
    for _ in range(int(unit.spec["stop_s"] + 5) * 20):
        if not unit.active:
            return _forget(_machine, unit)
        waited.wait(0.05)
    return 1


def _forget(_machine: Machine, unit: Unit) -> int:
    if unit.remains:
        unit.note(forgotten=True)
    return 0


def _show(machine: Machine, words: Sequence[str]) -> int:
    """`show --property A,B UNIT`: of a unit that there is not, only that it is not there."""
    if len(words) != 3 or words[0] not in ("--property", "-p"):
        print(f"systemctl: the lab knows no 'show {' '.join(words)}'", file=sys.stderr)
        return 1
    unit = Unit.named(machine, words[2])
    shown = _shown(unit)
    print("\n".join(f"{name}={shown[name]}" for name in words[1].split(",")))
    return 0


def _shown(unit: Unit) -> Mapping[str, str]:
    state = unit.state
    code = state.get("exit_code") or 0
    known = unit.active or unit.remains
    return {
        "LoadState": "loaded" if known else "not-found",
        "ActiveState": "active" if unit.active or (known and not code) else "inactive",
        "MainPID": str((state.get("main") or 0) if unit.active else 0),
        "Result": "success" if not code else ("signal" if code < 0 else "exit-code"),
        # waitid's CLD_EXITED and CLD_KILLED
        "ExecMainCode": ("2" if code < 0 else "1") if known and not unit.active else "0",
        "ExecMainStatus": str(abs(code)),
    }


def _kill(machine: Machine, words: Sequence[str]) -> int:
    """To the first process. What a killed one leaves behind its runner ends."""
    options = dict(word.partition("=")[::2] for word in words if word.startswith("--"))
    names = [word for word in words if not word.startswith("--")]
    number = signal.Signals[options.pop("--signal", "SIGTERM")]
    if options.pop("--kill-who", "all") not in ("all", "main") or options or len(names) != 1:
        print(f"systemctl: the lab knows no 'kill {' '.join(words)}'", file=sys.stderr)
        return 1
    main = Unit.named(machine, names[0]).state.get("main")
    if main is None:
        print(f"Failed to kill unit {names[0]}: Unit not loaded.", file=sys.stderr)
        return 1
    with contextlib.suppress(ProcessLookupError):
        os.kill(main, number)
    return 0


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
        print(f"Unit file {file.name} does not exist.", file=sys.stderr)
        return 1
    return 0


def _restart(machine: Machine, unit: Unit) -> int:
    return _stop(machine, unit) or _start(machine, unit)
