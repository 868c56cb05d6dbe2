"""Stand-ins for shutdown, poweroff and halt: the hypervisor ends the instance, in lab time."""

from __future__ import annotations

import sys

from spotrunner.lab.shims.machine import Machine

_FLAGS = frozenset({"-P", "--poweroff", "-h", "-H", "--halt", "--no-wall", "-f", "--force"})


def main(lab: str, tool: str, *arguments: str) -> int:
    """`tool` is the name that it was called by. Returns the exit code."""
    machine = Machine.read(lab)
    unknown = [a for a in arguments if a.startswith("-") and a not in {*_FLAGS, "-c"}]
    if unknown or tool in ("reboot", "init", "telinit"):
        return _complain(f"{tool}: the lab knows no {' '.join([*unknown]) or tool}")
    times = [argument for argument in arguments if not argument.startswith("-")]
    try:
        if "-c" in arguments:
            machine.ask("/power", {"cancel": True})
        elif tool in ("poweroff", "halt"):
            machine.ask("/power", {"in_minutes": 0})
        else:
            minutes = _minutes(times[0] if times else "+1")
            answer = machine.ask("/power", {"in_minutes": minutes})
            print(f"Shutdown scheduled for {answer['at']}, use 'shutdown -c' to cancel.")
    except (ValueError, OSError) as error:
        return _complain(f"{tool}: {error}")
    return 0


def _minutes(when: str) -> int:
    """Raises ValueError for what `shutdown` would not take."""
    if when == "now":
        return 0
    if not when.startswith("+") or not when[1:].isdigit():
        raise ValueError(f"Failed to parse time specification: {when}")
    return int(when[1:])


def _complain(text: str) -> int:
    print(text, file=sys.stderr)
    return 1
