"""Starting, finding and ending the lab's process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import requests

from spotrunner.agent.mounts import detach_below
from spotrunner.lab.cgroups import group_of, remove_groups
from spotrunner.lab.instance import PACKAGE_ROOT
from spotrunner.lab.isolation import problem
from spotrunner.lab.marks import INSTANCE_MARK, LAB_MARK
from spotrunner.lab.paths import LabPaths
from spotrunner.lab.processes import kill_until_none, marked
from spotrunner.lab.shims.machine import start_apart

_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 30.0
_CALL_TIMEOUT_S = 30.0
# Eight hours are 48 hops of a few seconds each.
_SKIP_TIMEOUT_S = 1800.0


class LabError(Exception):
    """Told to the user as it is."""


class NoLab(LabError):
    """No lab runs in this folder."""


class WrongAsked(LabError):
    """The lab has nothing of the kind; nothing was changed."""


class RunningLab:
    """A lab that runs in a folder: a client of its own interface."""

    def __init__(
        self,
        folder: Path,
        fields: Mapping[str, Any],
        child: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.paths = LabPaths(folder=folder)
        self.id: str = fields["lab"]
        self.url: str = fields["url"]
        self.pid: int = fields["pid"]
        self.seed: int = fields["seed"]
        self._child = child  # the pipe to a watched lab must live as long as we do

    def close(self) -> None:
        """End it, and all that is in it. Again is no error."""
        down(self.paths.folder)
        if self._child is not None:
            assert self._child.stdin is not None
            self._child.stdin.close()
            self._child.wait()

    def status(self) -> dict[str, Any]:
        return self._ask("GET", "status")

    def bill(self) -> dict[str, Any]:
        return self._ask("GET", "bill")

    def leftovers(self) -> dict[str, Any]:
        return self._ask("GET", "leftovers")

    def interrupt(self, instance_id: str, *, notice: bool = True) -> None:
        self._ask("POST", "interrupt", {"instance": instance_id, "notice": notice})

    def skip(self, seconds: float) -> dict[str, Any]:
        """Returns when agents and daemon have followed."""
        return self._ask("POST", "skip", {"seconds": seconds}, _SKIP_TIMEOUT_S)

    def price(
        self, instance_type: str, usd_hour: float | None, zones: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Of spot, from now on; None: as the weather has it. Raises WrongAsked."""
        body = {"instance_type": instance_type, "usd_hour": usd_hour, "zones": list(zones)}
        return self._ask("POST", "price", body)

    def post(self, what: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Any other request of lab/control."""
        return self._ask("POST", what, body)

    def _ask(
        self,
        method: str,
        what: str,
        body: Mapping[str, Any] | None = None,
        timeout_s: float = _CALL_TIMEOUT_S,
    ) -> dict[str, Any]:
        """Raises LabError with the lab's own words, WrongAsked where its input was wrong."""
        try:
            token = self.paths.token_file.read_text()
            answer = requests.request(
                method,
                f"{self.url}/lab/{what}",
                json=body,
                headers={"Authorization": f"Bearer {token}"},
                timeout=timeout_s,
            )
        except (OSError, requests.RequestException) as error:
            raise LabError(f"the lab in {self.paths.folder} does not answer: {error}") from error
        parsed: dict[str, Any] = answer.json()
        if answer.status_code == requests.codes.unprocessable:
            raise WrongAsked(parsed["error"])
        if answer.status_code != requests.codes.ok:
            raise LabError(parsed["error"])
        return parsed


def up(
    folder: Path,
    *,
    seed: int = 1,
    port: int = 0,
    reclaims: bool = False,
    isolated: bool = False,
    reach: Sequence[int] = (),
    watched: bool = False,
) -> RunningLab:
    """Start a lab in `folder` (made if it is not there) and wait until everything is in place.
    `isolated` and `reach` as LabOptions has them; `watched`: it ends with this process, however
    that ends. Raises LabError."""
    if isolated and (missing := problem()):
        raise LabError(missing)
    paths = LabPaths(folder=folder.resolve())
    try:
        running = find(folder)
    except NoLab:
        _sweep(paths)
    else:
        raise LabError(f"a lab runs in {folder} already, at {running.url}")
    paths.folder.mkdir(parents=True, exist_ok=True)
    options = {
        "folder": str(paths.folder),
        "seed": seed,
        "port": port,
        "reclaims": reclaims,
        "isolated": isolated,
        "reach": list(reach),
        "watched": watched,
    }
    command = [sys.executable, "-m", "spotrunner.lab.serve", json.dumps(options)]
    with contextlib.ExitStack() as undo:
        # Whoever waits here can be stopped (Ctrl-C), and would then know nothing of it to end.
        undo.callback(_sweep, paths)
        child = _start_watched(command, paths) if watched else None
        pid = child.pid if child else start_apart(command, _environment(paths), paths.log)
        if child is not None:
            undo.callback(child.communicate)
        undo.callback(_kill, pid, paths)
        _wait_until_up(paths, pid)
        undo.pop_all()
    return RunningLab(paths.folder, json.loads(paths.lab_file.read_text()), child)


def find(folder: Path) -> RunningLab:
    """The lab that runs in this folder. Raises NoLab."""
    paths = LabPaths(folder=folder.resolve())
    try:
        fields = json.loads(paths.lab_file.read_text())
    except FileNotFoundError:
        raise NoLab(f"no lab runs in {folder}; start one: spotrunner lab up") from None
    if not _is_serving(fields["pid"], paths):
        raise NoLab(f"the lab in {folder} has ended without a word; see {paths.log}")
    return RunningLab(paths.folder, fields)


def down(folder: Path) -> bool:
    """End the lab in this folder and every process of its instances; False if none ran. What a
    killed lab left behind is ended and removed too."""
    paths = LabPaths(folder=folder.resolve())
    try:
        running = find(folder)
    except NoLab:
        _sweep(paths)
        return False
    process = psutil.Process(running.pid)
    process.terminate()
    try:
        process.wait(_END_TIMEOUT_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait()
    _sweep(paths)
    return True


# -- parts -------------------------------------------------------------------------------------


def _environment(paths: LabPaths) -> dict[str, str]:
    """No key and no profile of the person who starts it: moto and boto3 run in the lab."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    path = [PACKAGE_ROOT, *filter(None, [kept.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(path),
        "AWS_EC2_METADATA_DISABLED": "true",
        LAB_MARK: str(paths.folder),
    }


def _is_serving(pid: int, paths: LabPaths) -> bool:
    """Process ids are used again: it has to carry this folder's mark."""
    try:
        process = psutil.Process(pid)
        mine = process.environ().get(LAB_MARK) == str(paths.folder)
        return mine and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def _start_watched(command: list[str], paths: LabPaths) -> subprocess.Popen[bytes]:
    with paths.log.open("ab") as log:
        return subprocess.Popen(
            command,
            env=_environment(paths),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_until_up(paths: LabPaths, pid: int) -> None:
    give_up_at, pause = time.monotonic() + _START_TIMEOUT_S, threading.Event()
    while time.monotonic() < give_up_at and _lives(pid):
        try:
            find(paths.folder)
        except NoLab:
            pause.wait(0.05)
            continue
        return
    last = paths.log.read_text(errors="replace").strip().splitlines()[-1:]
    raise LabError(f"the lab did not start: {' '.join(last)} (see {paths.log})")


def _lives(pid: int) -> bool:
    """Of a process that we have just started. Its mark cannot be asked for yet: for a moment after
    exec the kernel shows an empty environment."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _kill(pid: int, paths: LabPaths) -> None:
    if _is_serving(pid, paths):
        psutil.Process(pid).kill()


def _sweep(paths: LabPaths) -> None:
    """End what a lab left behind in its folder, and forget that it was there."""
    if paths.lab_file.exists():
        lab_id = json.loads(paths.lab_file.read_text())["lab"]
        kill_until_none(lambda: marked(INSTANCE_MARK, lambda value: value.startswith(f"{lab_id}/")))
        remove_groups(group_of(f"{lab_id}/"))
    detach_below(paths.folder / "instances")
    shutil.rmtree(paths.folder / "instances", ignore_errors=True)
    paths.lab_file.unlink(missing_ok=True)
    paths.token_file.unlink(missing_ok=True)
