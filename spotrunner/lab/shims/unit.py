"""The long-lived process behind one transient unit: it starts the command, again where its policy
says so, and stops it as systemd does (KillMode=mixed)."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import subprocess
import threading
import time
from types import FrameType
from typing import IO, Any

from spotrunner.lab.marks import INSTANCE_MARK, UNIT_MARK
from spotrunner.lab.processes import kill_until_none, marked
from spotrunner.lab.shims.machine import Machine
from spotrunner.lab.shims.units import Unit

# systemd's default: five starts within ten seconds, then the unit has failed.
_STARTS, _WITHIN_S = 5, 10.0
_LOOK_S = 0.1


def main(lab: str, name: str) -> int:
    machine = Machine.read(lab)
    return Runner(machine, Unit.named(machine, name)).run()


class Runner:
    def __init__(self, machine: Machine, unit: Unit) -> None:
        self._machine = machine
        self._unit = unit
        self._spec: dict[str, Any] = unit.spec
        self._mark = f"{machine.mark}/{unit.name}"
        self._stopped = threading.Event()
        self._starts: list[float] = []

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self._stop)
        self._unit.note(runner=os.getpid(), active=True)
        self._wait_for_timer()
        code = 0
        while not self._stopped.is_set():
            code = self._life()
            if not self._again(code):
                break
            self._stopped.wait(self._spec["restart_s"])
        self._unit.note(active=False, main=None, exit_code=code)
        return 0

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopped.set()

    def _wait_for_timer(self) -> None:
        """--on-active counts lab time, which only the hypervisor knows."""
        after = dt.timedelta(seconds=self._spec["after_s"])
        if not after:
            return
        until = self._now() + after
        while not self._stopped.wait(0.5) and self._now() < until:
            pass

    def _now(self) -> dt.datetime:
        return dt.datetime.fromisoformat(self._machine.ask("/clock")["now"])

    def _life(self) -> int:
        """One start of the command, to its end; what it left behind dies with it."""
        with self._output() as out:
            try:
                child = subprocess.Popen(
                    self._spec["command"],
                    env=self._environment(),
                    cwd=self._spec["folder"],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    **self._user(),
                )
            except OSError as error:
                out.write(f"{self._unit.name}: {error}\n".encode())
                return 203  # systemd's EXIT_EXEC
        self._unit.note(main=child.pid, starts=len(self._starts) + 1)
        code = self._follow(child)
        kill_until_none(lambda: marked(UNIT_MARK, lambda value: value == self._mark))
        return code

    def _user(self) -> dict[str, Any]:
        """For subprocess: as whom the command runs."""
        if not self._machine.isolated or self._spec["uid"] is None:
            return {}
        return {"user": self._spec["uid"], "group": self._spec["gid"], "extra_groups": []}

    def _follow(self, child: subprocess.Popen[bytes]) -> int:
        told_at: float | None = None
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(_LOOK_S)
            if not self._stopped.is_set():
                continue
            if told_at is None:
                told_at = time.monotonic()
                child.terminate()
            elif time.monotonic() - told_at > self._spec["stop_s"]:
                child.kill()

    def _again(self, code: int) -> bool:
        policy = self._spec["restart"]
        if policy == "no" or (policy == "on-failure" and code == 0):
            return False
        now = time.monotonic()
        self._starts = [*(at for at in self._starts if now - at < _WITHIN_S), now]
        return not (self._spec["limited"] and len(self._starts) >= _STARTS)

    def _environment(self) -> dict[str, str]:
        """A unit sees the manager's environment and what it was given, not its caller's."""
        kept = ("PATH", "HOME", "LANG", "TMPDIR", INSTANCE_MARK)
        manager = {name: os.environ[name] for name in kept if name in os.environ}
        return {**manager, **self._spec["environment"], UNIT_MARK: self._mark}

    def _output(self) -> IO[bytes]:
        journal = self._machine.lab / f"{self._unit.name}.journal"
        return (self._machine.console if self._spec["console"] else journal).open("ab", 0)
