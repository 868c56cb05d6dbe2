"""One emulated instance: a folder, its metadata service, and the processes in it."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spotrunner
from spotrunner.agent.mounts import detach_below
from spotrunner.lab.disks import ImageDisks
from spotrunner.lab.imds import Imds
from spotrunner.lab.isolation import SYSTEM_PATH, Cell, Isolation
from spotrunner.lab.keys import RoleKeys
from spotrunner.lab.locked import LockedWorld
from spotrunner.lab.marks import INSTANCE_MARK
from spotrunner.lab.metadata import items
from spotrunner.lab.processes import kill_until_none, marked
from spotrunner.lab.shims.machine import Machine, run_module
from spotrunner.sim.values import ImdsView
from spotrunner.sim.world import World

PACKAGE_ROOT = str(Path(spotrunner.__file__).parents[1])
MARKER_FILE = ".spotrunner-lab-instance"
# The stand-ins by name, with the module of each and what it is told of its name.
TOOLS: Mapping[str, tuple[str, ...]] = {
    "systemctl": ("shims.systemctl",),
    "systemd-run": ("shims.systemd_run",),
    **{
        name: ("shims.power", name)
        for name in ("shutdown", "poweroff", "halt", "reboot", "init", "telinit")
    },
}
# What an isolated instance has of its own.
SHARED_TOOLS: Mapping[str, tuple[str, ...]] = {
    "docker": ("shims.docker",),
    "iptables": ("shims.iptables",),
    "setpriv": ("shims.setpriv",),
    "ip6tables": ("shims.iptables",),
}
_END_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Host:
    """What all instances of a lab share. Without `isolation` they are processes of this machine,
    with its network and a stand-in for docker."""

    lab_id: str
    folder: Path
    world: LockedWorld
    keys: RoleKeys
    disks: ImageDisks
    isolation: Isolation | None = None


class LocalInstance:
    """From `start` to `kill`. Not safe for several threads, but for its metadata service."""

    def __init__(self, host: Host, instance_id: str) -> None:
        self.id = instance_id
        self.mark = f"{host.lab_id}/{instance_id}"
        self.root = host.folder / "instances" / instance_id
        self.console = host.folder / "consoles" / f"{instance_id}.log"
        self._host = host
        self._off_at: dt.datetime | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._imds: Imds | None = None
        self._cell: Cell | None = None

    def start(self, view: ImdsView) -> None:
        """Boot: the user-data is run as a script if it is one. Raises OSError or SubprocessError
        where its namespaces cannot be made."""
        request = view.record.request
        if self._host.isolation is not None:
            self._cell = self._host.isolation.cell(
                mark=self.mark, private_ip=view.record.private_ip, disk_gib=request.disk_gib
            )
        self._imds = Imds(
            read=self._items,
            now=self._host.world.now,
            control=self._control,
            required=request.http_tokens == "required",
            hop_limit=request.hop_limit,
            listener=self._cell.imds if self._cell is not None else None,
        )
        self._imds.start()
        self._make_disk(self._imds.url)
        self._host.disks.restore(request.image_id, self.root)
        script = self.root / "var/lib/cloud/instance/user-data.txt"
        is_script = view.user_data.startswith("#!")
        script.write_text(view.user_data if is_script else "echo 'the user-data is no script'\n")
        self._supervisor = self._power_on(script, self._environment(self._imds.url))

    def _power_on(self, script: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        told = (str(script), str(self.console))
        lab = self.root / ".lab"
        command = run_module(sys.executable, PACKAGE_ROOT, "supervisor", lab, *told)
        if self._cell is not None:
            return self._cell.start(
                command, root=self.root, environment=environment, console=self.console
            )
        return subprocess.Popen(
            command,
            env=dict(environment),
            cwd=self.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def imds_url(self) -> str | None:
        return self._imds.url if self._imds is not None else None

    @property
    def alive(self) -> bool:
        """False when its supervisor is gone, and with it the machine."""
        return self._supervisor is not None and self._supervisor.poll() is None

    @property
    def off_at(self) -> dt.datetime | None:
        """When `shutdown`'s timer runs out, if one runs."""
        return self._off_at

    def is_due_off(self, now: dt.datetime) -> bool:
        """Whether `shutdown`'s timer has run out; True once."""
        if self._off_at is None or now < self._off_at:
            return False
        self._off_at = None
        return True

    def say(self, words: str) -> None:
        """On its console."""
        self.console.parent.mkdir(parents=True, exist_ok=True)
        with self.console.open("a") as console:
            console.write(f"{words}\n")

    def shut_down(self) -> None:
        """Tell the operating system; it has until `kill`."""
        if self.alive and self._supervisor is not None and self._supervisor.stdin is not None:
            try:
                self._supervisor.stdin.write(b"shutdown\n")
                self._supervisor.stdin.flush()
            except BrokenPipeError:
                return

    def kill(self, *, keep_disk: bool = False) -> None:
        """The power is off: no process, no metadata service, no disk. Again is no error."""
        if self._supervisor is not None and self._supervisor.stdin is not None:
            self._supervisor.stdin.close()
            try:
                self._supervisor.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()
                self._supervisor.wait()
        kill_until_none(lambda: marked(INSTANCE_MARK, lambda value: value == self.mark))
        if self._imds is not None:
            self._imds.close()
            self._imds = None
        if self._cell is not None:
            self._cell.close()
            self._cell = None
        detach_below(self.root)
        if not keep_disk:
            shutil.rmtree(self.root, ignore_errors=True)

    # -- what it is made of ----------------------------------------------------------------

    def _make_disk(self, imds_url: str) -> None:
        lab = self.root / ".lab"
        for folder in ("root", "tmp", "var/lib/cloud/instance", ".lab/bin", ".lab/units"):
            (self.root / folder).mkdir(parents=True)
        (lab / "containers").mkdir()
        (self.root / MARKER_FILE).write_text(self.id)
        self.console.parent.mkdir(parents=True, exist_ok=True)
        self.console.touch()
        (lab / "console.log").symlink_to(self.console)
        machine = Machine(
            lab=lab,
            instance_id=self.id,
            mark=self.mark,
            control_url=f"{imds_url}/lab",
            python=sys.executable,
            package_root=PACKAGE_ROOT,
            isolated=self._cell is not None,
        )
        machine.write()
        tools = TOOLS if self._cell is not None else {**TOOLS, **SHARED_TOOLS}
        for name, (module, *told) in tools.items():
            command = run_module(sys.executable, PACKAGE_ROOT, module, lab, *told, site=False)
            write_tool(lab / "bin" / name, command)
        # A system may have no Python that the agent can use; the lab's own is one.
        version = f"python3.{sys.version_info.minor}"
        (lab / "bin" / version).symlink_to(os.path.realpath(sys.executable))

    def _environment(self, imds_url: str) -> dict[str, str]:
        """Made from nothing: no key and no setting of whoever started the lab."""
        # An isolated instance finds its metadata service where every instance does.
        imds = {} if self._cell is not None else {"AWS_EC2_METADATA_SERVICE_ENDPOINT": imds_url}
        return {
            **imds,
            "PATH": f"{self.root / '.lab/bin'}:{SYSTEM_PATH}",
            "HOME": str(self.root / "root"),
            "TMPDIR": str(self.root / "tmp"),
            "LANG": "C.UTF-8",
            "SPOTRUNNER_ROOT": str(self.root),
            INSTANCE_MARK: self.mark,
        }

    # -- what it is asked ------------------------------------------------------------------

    def _items(self) -> Mapping[str, str] | None:
        world = self._host.world
        view = world.ask(World.imds, self.id)
        if view is None:
            return None
        has_role = view.record.request.instance_profile is not None
        key = self._host.keys.of(self.id, world.now()) if has_role else None
        return items(view, key, world.setup.account)

    def _control(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Raises ValueError and KeyError for what makes no sense."""
        now = self._host.world.now()
        if path == "/clock":
            return {"now": now.isoformat()}
        if path != "/power":
            raise ValueError(f"there is no {path}")
        if body.get("cancel"):
            self._off_at = None
            return {"at": None}
        self._off_at = now + dt.timedelta(minutes=float(body["in_minutes"]))
        return {"at": self._off_at.isoformat()}


def write_tool(path: Path, command: list[str]) -> None:
    quoted = " ".join("'" + part.replace("'", "'\\''") + "'" for part in command)
    path.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
    path.chmod(0o755)
