"""A stand-in for systemd-run: a transient service in the background, or a timer for one."""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spotrunner.lab.shims.errors import WrongUse
from spotrunner.lab.shims.machine import Machine, start_apart
from spotrunner.lab.shims.units import Unit, span_s

# What has an effect here, and what has none because there is only one such thing in the lab.
_KNOWN = frozenset(
    {
        "Restart",
        "RestartSec",
        "StartLimitIntervalSec",
        "KillMode",
        "TimeoutStopSec",
        "StandardOutput",
        "StandardError",
        "WorkingDirectory",
        "Type",
        "After",
        "Before",
        "Wants",
        "Requires",
        "Description",
        "OOMScoreAdjust",
        "OOMPolicy",
        "NoNewPrivileges",
        "LimitCORE",
        "LimitNOFILE",
        "LimitMEMLOCK",
        "EnvironmentFile",
        "RemainAfterExit",
    }
)
_WITH_VALUE = {
    "--unit": "--unit",
    "-u": "--unit",
    "--property": "--property",
    "-p": "--property",
    "--setenv": "--setenv",
    "-E": "--setenv",
    "--on-active": "--on-active",
    "--description": "--description",
    "--working-directory": "--working-directory",
}
_ALONE = frozenset({"--collect", "-G", "--quiet", "-q", "--no-block", "--no-ask-password"})
_LOOK_S, _START_LOOKS = 0.02, 500


def main(lab: str, *arguments: str) -> int:
    machine = Machine.read(lab)
    try:
        options, command = _parse(arguments)
        spec = _spec(options, command)
    except (WrongUse, ValueError) as error:
        print(f"systemd-run: {error}", file=sys.stderr)
        return 1
    unit = Unit.named(machine, spec["name"])
    if unit.active or unit.remains:
        print(
            f"Failed to start transient service unit: Unit {unit.name}.service was already loaded"
            " or has a fragment file.",
            file=sys.stderr,
        )
        return 1
    unit.write(spec)
    start(machine, unit)
    print(f"Running as unit: {unit.name}.service", file=sys.stderr)
    return 0


def start(machine: Machine, unit: Unit) -> None:
    """Returns when the unit's runner has written that it is there."""
    runner = start_apart(machine.command("shims.unit", unit.name), os.environ)
    pause = threading.Event()
    for _ in range(_START_LOOKS):
        if unit.state.get("runner") == runner:
            return
        pause.wait(_LOOK_S)


def _parse(arguments: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    options: list[tuple[str, str]] = []
    left = list(arguments)
    while left and left[0].startswith("-"):
        argument = left.pop(0)
        name, equals, value = argument.partition("=")
        if argument == "--":
            break
        if argument in _ALONE:
            continue
        if name not in _WITH_VALUE:
            raise WrongUse(f"unrecognized option '{argument}'")
        if not equals:
            if not left:
                raise WrongUse(f"option '{argument}' requires an argument")
            value = left.pop(0)
        options.append((_WITH_VALUE[name], value))
    if not left:
        raise WrongUse("Command line to execute required.")
    return options, left


def _spec(options: Sequence[tuple[str, str]], command: list[str]) -> dict[str, Any]:
    """Raises WrongUse, and ValueError for a time span."""
    program = shutil.which(command[0])
    if program is None:
        raise WrongUse(f"Failed to find executable {command[0]}: No such file or directory")
    properties = _pairs("--property", options)
    unknown = [name for name in properties if name not in _KNOWN]
    if unknown:
        raise WrongUse(f"Unknown assignment: {unknown[0]}={properties[unknown[0]]}")
    single = dict(options)
    return {
        "name": single.get("--unit", f"run-u{os.getpid()}").removesuffix(".service"),
        "command": [program, *command[1:]],
        "environment": {**_from_file(properties), **_pairs("--setenv", options)},
        "remains": properties.get("RemainAfterExit", "no") == "yes",
        "folder": single.get("--working-directory", properties.get("WorkingDirectory", "/")),
        "after_s": span_s(single["--on-active"]) if "--on-active" in single else 0.0,
        "restart": properties.get("Restart", "no"),
        "restart_s": span_s(properties.get("RestartSec", "100ms")),
        "limited": span_s(properties.get("StartLimitIntervalSec", "10")) > 0,
        "stop_s": span_s(properties.get("TimeoutStopSec", "90")),
        "uid": int(single["--uid"]) if "--uid" in single else None,
        "gid": int(single["--gid"]) if "--gid" in single else None,
        "console": "console" in properties.get("StandardOutput", "journal"),
    }


def _from_file(properties: Mapping[str, str]) -> dict[str, str]:
    """Values stand in double quotes, within which a backslash takes the next character as it is.
    Raises WrongUse."""
    if "EnvironmentFile" not in properties:
        return {}
    try:
        text = Path(properties["EnvironmentFile"]).read_text()
    except OSError as error:
        raise WrongUse(f"Failed to load environment files: {error.strerror}") from None
    found = re.findall(r'^([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"$', text, re.M | re.S)
    return {name: re.sub(r"\\(.)", r"\1", value, flags=re.S) for name, value in found}


def _pairs(option: str, options: Sequence[tuple[str, str]]) -> dict[str, str]:
    pairs = {}
    for name, value in options:
        if name == option:
            key, equals, text = value.partition("=")
            if not equals:
                raise WrongUse(f"Not an assignment: {value}")
            pairs[key] = text
    return pairs
