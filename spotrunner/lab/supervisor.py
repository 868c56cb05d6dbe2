"""The power supply of one emulated instance: a process that boots it and, when the pipe to the lab
closes, kills everything in it. So instances die with the lab, also with a lab that was killed.

Its standard input is the pipe. A line `shutdown` on it is the operating system going down: units
are stopped, then containers; what does not end by itself dies when the pipe closes.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from spotrunner.lab.cgroups import remove_groups
from spotrunner.lab.dockerd import Dockerd
from spotrunner.lab.marks import INSTANCE_MARK
from spotrunner.lab.processes import kill_until_none, marked

_PR_SET_CHILD_SUBREAPER = 36
_LOOK_S = 0.2


def main(lab: str, script: str, console: str) -> int:
    """`lab` is the instance's folder of the shims; `script` is run by bash, its output and that
    of whatever it starts goes to `console`."""
    for quiet in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(quiet, signal.SIG_IGN)
    _adopt_orphans()
    docker = Dockerd.of(Path(lab))
    if docker is not None:
        docker.keep_up()
    with open(console, "ab") as out:
        subprocess.Popen(
            ["bash", script],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=_default_signals,
        )
    going_down = False
    while True:
        word = _read_word()
        if word is None:
            break
        going_down = going_down or b"shutdown" in word
        _reap()
        if going_down:
            _stop_services(Path(lab), docker)
        elif docker is not None:
            docker.keep_up()
    kill_until_none(_members)
    _reap()
    if docker is not None:
        remove_groups(docker.group)
    return 0


def _default_signals() -> None:
    """An ignored signal stays ignored over exec: give the instance a clean start."""
    for quiet in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(quiet, signal.SIG_DFL)


def _adopt_orphans() -> None:
    """Double-forked processes become our children instead of init's, whatever their environment.
    Where the kernel refuses, the mark in the environment still finds most of them."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _read_word() -> bytes | None:
    """What the lab said, b"" for nothing yet, None when the pipe is closed."""
    ready, _, _ = select.select([0], [], [], _LOOK_S)
    if not ready:
        return b""
    return os.read(0, 4096) or None


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _members() -> list[psutil.Process]:
    """Every process of this instance but this one."""
    _reap()
    mine = os.environ[INSTANCE_MARK]
    children = psutil.Process().children(recursive=True)
    return list({*children, *marked(INSTANCE_MARK, lambda value: value == mine)})


def _stop_services(lab: Path, docker: Dockerd | None) -> None:
    """SIGTERM to the units; when none runs any more, to the containers. Each is told once."""
    units = list(_runners(lab / "units"))
    for pid, told in units:
        _tell(pid, told)
    if not units:
        if docker is not None:
            docker.stop()
        for pid, told in _runners(lab / "containers"):
            _tell(pid, told)


def _runners(folder: Path) -> Iterator[tuple[int, Path]]:
    """The live runners of a kind, with the file that says that they were told."""
    for state in folder.glob("*/state.json"):
        pid = json.loads(state.read_text()).get("runner")
        if pid is not None and psutil.pid_exists(pid) and _is_ours(pid):
            yield pid, state.parent / "told"


def _is_ours(pid: int) -> bool:
    """Process ids are used again: only what carries our mark is told anything."""
    try:
        process = psutil.Process(pid)
        mark = process.environ().get(INSTANCE_MARK)
        return mark == os.environ[INSTANCE_MARK] and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def _tell(pid: int, told: Path) -> None:
    if not told.exists():
        told.touch()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
