"""Stand-ins for a machine's tools, in a folder that comes first on PATH.

`shutdown` and the like only write down how they were called. `docker` is the lab's: a container is
a local process.
"""

from __future__ import annotations

import sys
from pathlib import Path

from spotrunner.lab.instance import PACKAGE_ROOT
from spotrunner.lab.shims.containers import Container, all_of
from spotrunner.lab.shims.machine import Machine

NOTING = ("shutdown", "poweroff", "systemctl", "systemd-run", "iptables")

_NOTE = """\
#!/bin/bash
printf '%s\\n' "${0##*/} $*" >> "${0%/*}/calls"
"""

# Whatever a registry would say is said here; the rest is the lab's own stand-in.
_DOCKER = """\
#!{python} -IS
import pathlib, sys, time

here = pathlib.Path(__file__).parent
verb, arguments = sys.argv[1], sys.argv[2:]
with (here / "calls").open("a") as calls:
    calls.write("docker " + verb + " " + " ".join(arguments[:3]) + "\\n")
if verb == "pull":
    if "limited" in arguments[-1] and not (here / "asked").exists():
        (here / "asked").touch()
        sys.exit("toomanyrequests: You have reached your pull rate limit")
    while "held" in arguments[-1] and not (here / "released").exists():
        time.sleep(0.05)
    if "missing" in arguments[-1]:
        sys.exit("Error response from daemon: manifest unknown")
sys.path.insert(0, {package_root!r})
from spotrunner.lab.shims.docker import main
sys.exit(main(str(here / "lab"), verb, *arguments))
"""


_SYSTEMD = """\
#!{python} -IS
import pathlib, sys

here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls:
    calls.write(pathlib.Path(__file__).name + " " + " ".join(sys.argv[1:]) + "\\n")
sys.path.insert(0, {package_root!r})
from spotrunner.lab.shims.{module} import main
sys.exit(main(str(here / "lab"), *sys.argv[1:]))
"""


def make(folder: Path, *, without: tuple[str, ...] = ()) -> Path:
    """Put the stand-ins into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NOTING:
        if name not in without:
            _write(folder / name, _NOTE)
    machine = Machine(
        lab=folder / "lab",
        instance_id="i-0abc",
        mark=f"standins/{folder}",
        control_url="",
        python=sys.executable,
        package_root=PACKAGE_ROOT,
    )
    machine.write()
    _write(folder / "docker", _DOCKER.format(python=sys.executable, package_root=PACKAGE_ROOT))
    return folder


def make_systemd(folder: Path) -> Path:
    """As `make`, with the lab's own systemd."""
    make(folder)
    for name in ("systemctl", "systemd-run", "setpriv"):
        module = name.replace("-", "_")
        text = _SYSTEMD.format(python=sys.executable, package_root=PACKAGE_ROOT, module=module)
        _write(folder / name, text)
    return folder


def containers(folder: Path) -> list[Container]:
    """Those that run, or that nobody has removed."""
    return list(all_of(Machine.read(str(folder / "lab"))))


def calls(folder: Path) -> list[str]:
    """How the tools were called so far."""
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
