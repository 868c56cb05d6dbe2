"""What every stand-in knows of its instance, from `machine.json` in its folder."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_FILE = "machine.json"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """`control_url` is where the instance's own hypervisor listens; `package_root` is the folder
    that our package is imported from. An isolated instance has users of its own: elsewhere they
    would be those of the machine that the lab runs on, and could not enter its folder."""

    lab: Path
    instance_id: str
    mark: str
    control_url: str
    python: str
    package_root: str
    isolated: bool = False

    @classmethod
    def read(cls, lab: str) -> Machine:
        fields = json.loads((Path(lab) / _FILE).read_text())
        return cls(**{**fields, "lab": Path(lab)})

    def write(self) -> None:
        self.lab.mkdir(parents=True, exist_ok=True)
        fields = {**asdict(self), "lab": str(self.lab)}
        (self.lab / _FILE).write_text(json.dumps(fields))

    @property
    def console(self) -> Path:
        return self.lab / "console.log"

    def command(self, module: str, *arguments: str) -> list[str]:
        """The command line of a long-lived stand-in, with the libraries of the lab."""
        return run_module(self.python, self.package_root, module, self.lab, *arguments)

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """POST to the hypervisor. Raises OSError when it does not answer with 200."""
        address = urlsplit(self.control_url)
        connection = http.client.HTTPConnection(address.netloc, timeout=10)
        try:
            connection.request("POST", address.path + path, json.dumps(body or {}))
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise OSError(f"the hypervisor says {answer.status}: {text}")
        parsed: dict[str, Any] = json.loads(text)
        return parsed


def run_module(
    python: str, package_root: str, module: str, lab: Path, *arguments: str, site: bool = True
) -> list[str]:
    """Run `main` of a module of `spotrunner.lab`, whatever the caller's environment and folder.
    Without `site` it starts faster and can import the standard library only."""
    code = (
        f"import sys; sys.path.insert(0, {package_root!r});"
        f" from spotrunner.lab.{module} import main; sys.exit(main(*sys.argv[1:]))"
    )
    flags = ["-I"] if site else ["-I", "-S"]
    return [python, *flags, "-c", code, str(lab), *arguments]


def write_json(path: Path, value: Any) -> None:
    """So that a reader sees the old text or the new one, never a half."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(value))
    part.rename(path)


def read_json(path: Path) -> dict[str, Any]:
    """{} for a file that is not there (yet)."""
    try:
        parsed: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return parsed


def start_apart(
    command: Sequence[str], environment: Mapping[str, str], output: Path = Path(os.devnull)
) -> int:
    """Start a process that outlives this one, in a session of its own; returns its id."""
    with subprocess.Popen(
        ["/bin/sh", "-c", '"$@" >> "$0" 2>&1 < /dev/null & echo $!', str(output), *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    ) as shell:
        assert shell.stdout is not None
        return int(shell.stdout.read())
