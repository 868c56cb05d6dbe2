"""Turns what happens to instances in the market into processes."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

import structlog

from spotrunner.lab.disks import ImageDisks
from spotrunner.lab.instance import Host, LocalInstance
from spotrunner.lab.isolation import Isolation
from spotrunner.lab.keys import RoleKeys
from spotrunner.lab.locked import LockedWorld
from spotrunner.sim.values import Happening, ImdsView, Kind
from spotrunner.sim.world import World

_LOOK_S = 0.2
_log = structlog.get_logger()


class Hypervisor:
    """`tick` follows the world; `serve` does so until it is closed, in a thread of its own."""

    def __init__(
        self,
        *,
        lab_id: str,
        folder: Path,
        world: LockedWorld,
        keys: RoleKeys,
        isolation: Isolation | None = None,
    ) -> None:
        self.disks = ImageDisks(folder)
        self._host = Host(
            lab_id=lab_id,
            folder=folder,
            world=world,
            keys=keys,
            disks=self.disks,
            isolation=isolation,
        )
        self._world = world
        self._instances: dict[str, LocalInstance] = {}
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="lab-hypervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Look at once: time was moved, or something was scripted."""
        self._wake.set()

    def close(self) -> None:
        """End every instance's processes; the market is not told."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            for instance in self._instances.values():
                instance.kill()
            self._instances.clear()

    @property
    def instances(self) -> Mapping[str, LocalInstance]:
        """Those with a machine now."""
        with self._lock:
            return dict(self._instances)

    def console(self, instance_id: str) -> bytes:
        """All that the instance printed so far, also after its end."""
        try:
            return (self._host.folder / "consoles" / f"{instance_id}.log").read_bytes()
        except FileNotFoundError:
            return b""

    def tick(self) -> None:
        """Do what became due, and tell the market what instances did to themselves."""
        with self._lock:
            for happening in self._world.ask(World.advance):
                self._follow(happening)
            now = self._world.now()
            for instance in list(self._instances.values()):
                if instance.is_due_off(now):
                    self._world.ask(World.shutdown_from_inside, instance.id)
                elif not instance.alive:
                    # Its supervisor was killed: for the market the host has died.
                    self._world.ask(World.fail, instance.id)

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                self.tick()
            except Exception:  # noqa: BLE001 - the outermost catch of this loop, which records
                _log.exception("hypervisor")
            self._wake.wait(_LOOK_S)
            self._wake.clear()

    def _follow(self, happening: Happening) -> None:
        id_ = happening.instance_id
        if happening.kind is Kind.STARTED:
            view = self._world.ask(World.imds, id_)
            if view is not None:  # a skip can start and end it in one go
                instance = LocalInstance(self._host, id_)
                self._instances[id_] = instance
                _power_on(instance, view)
        elif id_ not in self._instances:
            return
        elif happening.kind is Kind.ENDED or (happening.kind is Kind.ENDING and happening.abrupt):
            self._instances.pop(id_).kill()
        elif happening.kind is Kind.ENDING:
            self._instances[id_].shut_down()


def _power_on(instance: LocalInstance, view: ImdsView) -> None:
    """What cannot be made is no machine: the next look tells the market that its host has died."""
    try:
        instance.start(view)
    except (OSError, subprocess.SubprocessError) as error:
        instance.say(f"the lab could not make this instance: {error}")
