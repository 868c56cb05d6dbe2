"""Stand-ins for a machine's tools, in a folder that comes first on PATH.

`shutdown` and the like only write down how they were called. `docker` runs a "container" as a
local process and hands signals to its first process, as docker's init does.
"""

from __future__ import annotations

import sys
from pathlib import Path

NOTING = ("shutdown", "poweroff", "systemctl", "systemd-run", "iptables")

_NOTE = """\
#!/bin/bash
printf '%s\\n' "${0##*/} $*" >> "${0%/*}/calls"
"""

_DOCKER = """\
#!{python} -IS
import os, pathlib, signal, subprocess, sys

here = pathlib.Path(__file__).parent
verb, arguments = sys.argv[1], sys.argv[2:]
with (here / "calls").open("a") as calls:
    calls.write("docker " + verb + " " + " ".join(arguments[:3]) + "\\n")


def pid_of(name):
    return int((here / f"{{name}}.pid").read_text())


if verb == "pull":
    if "limited" in arguments[-1] and not (here / "asked").exists():
        (here / "asked").touch()
        sys.exit("toomanyrequests: You have reached your pull rate limit")
    if "missing" in arguments[-1]:
        sys.exit("Error response from daemon: manifest unknown")
elif verb == "rm":
    try:
        os.killpg(pid_of(arguments[-1]), signal.SIGKILL)
    except (OSError, ValueError):
        pass
elif verb == "kill":
    number = signal.SIGKILL
    if arguments[0] == "--signal":
        number = signal.Signals[arguments[1]]
    try:
        os.kill(pid_of(arguments[-1]), number)
    except (OSError, ValueError):
        sys.exit("Error response from daemon: No such container")
elif verb == "run":
    name, workdir, entrypoint, environment = "", "/", [], {{"PATH": os.environ["PATH"]}}
    while arguments[0].startswith("-"):
        option = arguments.pop(0)
        if option in ("--init", "--rm"):
            continue
        value = arguments.pop(0)
        if option == "--name":
            name = value
        elif option == "--entrypoint":
            entrypoint = [value]
        elif option == "-w":
            workdir = value
        elif option == "-e":
            key, _, text = value.partition("=")
            environment[key] = text
    command = entrypoint + arguments[1:]
    child = subprocess.Popen(command, cwd=workdir, env=environment, start_new_session=True)
    (here / f"{{name}}.pid").write_text(str(child.pid))
    code = child.wait()
    (here / f"{{name}}.pid").unlink()
    sys.exit(128 - code if code < 0 else code)
"""


def make(folder: Path, *, without: tuple[str, ...] = ()) -> Path:
    """Put the stand-ins into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NOTING:
        if name not in without:
            _write(folder / name, _NOTE)
    _write(folder / "docker", _DOCKER.format(python=sys.executable))
    return folder


def calls(folder: Path) -> list[str]:
    """How the tools were called so far."""
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
