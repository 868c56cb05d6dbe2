"""`docker run`: what its options say, and a client that follows the container."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from spotrunner.lab.marks import UNIT_MARK
from spotrunner.lab.shims import images
from spotrunner.lab.shims.containers import Container, named
from spotrunner.lab.shims.errors import WrongUse
from spotrunner.lab.shims.machine import Machine, start_apart, write_json

_FLAGS = frozenset({"--init", "--rm", "--detach", "-d"})
_WITH_VALUE = {
    "--name": "--name",
    "--network": "--network",
    "--shm-size": "--shm-size",
    "--gpus": "--gpus",
    "--ulimit": "--ulimit",
    "--pull": "--pull",
    "--user": "--user",
    "--stop-timeout": "--stop-timeout",
    "--security-opt": "--security-opt",
    "--cap-drop": "--cap-drop",
    "--log-driver": "--log-driver",
    "--log-opt": "--log-opt",
    "--entrypoint": "--entrypoint",
    "--env": "-e",
    "-e": "-e",
    "--volume": "-v",
    "-v": "-v",
    "--workdir": "-w",
    "-w": "-w",
}
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_LOOK_S = 0.05


def run(machine: Machine, arguments: Sequence[str]) -> int:
    """The container's exit code; docker's own 125 is the caller's answer to WrongUse."""
    spec = parse(arguments)
    if spec["options"].get("--pull") == "never":
        if images.digest(machine, spec["image"]) is None:
            raise WrongUse(f"docker: No such image: {spec['image']}")
    else:
        images.pull(machine, spec["image"])
    if spec["name"] and named(machine, spec["name"]) is not None:
        raise WrongUse(
            "docker: Error response from daemon: Conflict. The container name"
            f' "/{spec["name"]}" is already in use.'
        )
    id_ = secrets.token_hex(32)
    container = Container(folder=machine.lab / "containers" / id_)
    container.folder.mkdir(parents=True)
    write_json(container.folder / "spec.json", {**spec, "name": spec["name"] or id_[:12]})
    for number in _PASSED_ON:
        signal.signal(number, lambda got, _frame: container.deliver(got))
    # A container is dockerd's, not its client's unit's: it lives on when that is stopped.
    environment = {k: v for k, v in os.environ.items() if k != UNIT_MARK}
    start_apart(machine.command("shims.container", id_), environment)
    if spec["detach"]:
        return _started(container)
    return _follow(container)


def parse(arguments: Sequence[str]) -> dict[str, Any]:
    """Raises WrongUse."""
    single: dict[str, str] = {}
    environment: dict[str, str] = {}
    mounts: list[dict[str, Any]] = []
    left = list(arguments)
    while left and left[0].startswith("-"):
        argument = left.pop(0)
        name, equals, value = argument.partition("=")
        if argument in _FLAGS:
            single[argument] = "true"
            continue
        if name not in _WITH_VALUE:
            raise WrongUse(f"unknown flag: {argument}\nSee 'docker run --help'.")
        if not equals:
            if not left:
                raise WrongUse(f"flag needs an argument: {argument}\nSee 'docker run --help'.")
            value = left.pop(0)
        if _WITH_VALUE[name] == "-e":
            environment.update(_variable(value))
        elif _WITH_VALUE[name] == "-v":
            mounts.append(_mount(value))
        else:
            single[_WITH_VALUE[name]] = value
    entrypoint = [single["--entrypoint"]] if "--entrypoint" in single else []
    if not left or len(left) + len(entrypoint) < 2:
        raise WrongUse("docker: an image and a command are needed")
    workdir = single.get("-w", "")
    _check_workdir(workdir, mounts)
    return {
        "name": single.get("--name", ""),
        "image": left[0],
        "command": [*entrypoint, *left[1:]],
        "environment": environment,
        "mounts": mounts,
        "workdir": workdir,
        "init": "--init" in single,
        "remove": "--rm" in single,
        "detach": "--detach" in single or "-d" in single,
        "options": single,
    }


def _variable(text: str) -> dict[str, str]:
    """`NAME=value`, or `NAME` for the client's own value, if it has one."""
    name, equals, value = text.partition("=")
    if equals:
        return {name: value}
    return {name: os.environ[name]} if name in os.environ else {}


def _mount(text: str) -> dict[str, Any]:
    """A container here is a local process: it sees a folder only where the host has it."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not source.startswith("/") or source != target or mode not in ("", "ro", "rw"):
        raise WrongUse(f"docker: the lab can only mount a folder at its own path, not {text}")
    if not Path(source).exists():
        raise WrongUse(f"docker: Error response from daemon: path is not there: {source}")
    return {"Type": "bind", "Source": source, "Destination": target, "RW": mode != "ro"}


def _check_workdir(workdir: str, mounts: Sequence[dict[str, Any]]) -> None:
    """A folder that no mount brings in would be an empty one inside a real container."""
    sources = [Path(mount["Source"]) for mount in mounts]
    if workdir and not any(Path(workdir).is_relative_to(source) for source in sources):
        raise WrongUse(f"docker: the working directory {workdir} is in no mount")


def _started(container: Container) -> int:
    """The client leaves once its container runs, or could not be run."""
    pause = threading.Event()
    while not (state := container.state):
        pause.wait(_LOOK_S)
    if state.get("error"):
        print(f"docker: Error response from daemon: {state['error']}", file=sys.stderr)
        return int(state["exit_code"])
    print(container.id)
    return 0


def _follow(container: Container) -> int:
    """Copy what the container prints until it has ended; its exit code."""
    pause = threading.Event()
    with contextlib.ExitStack() as stack:
        pairs: list[tuple[IO[bytes], IO[bytes]]] = []
        for name, target in (("out", sys.stdout.buffer), ("err", sys.stderr.buffer)):
            path = container.folder / name
            path.touch()
            pairs.append((stack.enter_context(path.open("rb")), target))
        while True:
            state = container.state
            for source, target in pairs:
                target.write(source.read())
                target.flush()
            if state.get("status") == "exited":
                if state.get("error"):
                    print(f"docker: Error response from daemon: {state['error']}", file=sys.stderr)
                return int(state["exit_code"])
            pause.wait(_LOOK_S)
