"""The trainer without a container: on the machine's own Python, as a transient unit of systemd.

The unit outlives its agent, as a container does, and stays until its end was read.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from spotrunner.agent import imds_block
from spotrunner.agent.container import INSIDE, STOP_S, commands
from spotrunner.agent.folders import Folders
from spotrunner.agent.runs import Launch, NotStarted, State, Unanswered
from spotrunner.agent.who import ids

TIMEOUT_S = 10.0
START_TIMEOUT_S = 30.0
_ASKED = "LoadState,ActiveState,MainPID,Result,ExecMainCode,ExecMainStatus"
# How the kernel says that a process has exited by itself, and not by a signal (waitid's CLD_*).
_EXITED = "1"
_PROPERTIES = (
    "Type=exec",
    # when the machine goes down the agent is stopped first, and stops the trainer itself
    "Before=spotrunner-agent.service",
    # its exit code can be read until we forget it
    "RemainAfterExit=yes",
    "KillMode=mixed",
    f"TimeoutStopSec={STOP_S}",
    "OOMPolicy=stop",
    "NoNewPrivileges=yes",
    "LimitCORE=0",
    "LimitNOFILE=65536",
    "LimitMEMLOCK=infinity",
)
# A system's Python refuses pip since PEP 668; this user can break nothing with it.
_VARIABLES = {"PIP_BREAK_SYSTEM_PACKAGES": "1"}


@dataclass(frozen=True, kw_only=True)
class Bare:
    """The unit of one attempt."""

    # what its first process has started lives on without it
    ends_with_first: ClassVar[bool] = False

    name: str
    folders: Folders

    def start(self, launch: Launch) -> None:
        imds_block.block(ids(as_root=False)[0])
        self.remove()
        # Among them are secrets: in memory, as these are.
        variables = self.folders.secrets.with_name("trainer.env")
        variables.parent.mkdir(parents=True, exist_ok=True)
        script = self.folders.root / "trainer.sh"
        _write_variables(variables, {**_VARIABLES, **launch.environment, **launch.secrets})
        script.write_text(_script(launch, self.folders.marks))
        try:
            done = _call(*self.arguments(variables, script), timeout_s=START_TIMEOUT_S)
        except Unanswered as error:
            raise NotStarted(f"systemd did not start the trainer: {error}") from None
        finally:
            # systemd has read it once the unit runs, and nobody else should.
            variables.unlink()
        if done.returncode != 0:
            raise NotStarted(f"systemd did not start the trainer: {done.stderr.strip()[-400:]}")

    def state(self) -> State | None:
        done = _call("systemctl", "show", "--property", _ASKED, self._unit)
        if done.returncode != 0:
            raise Unanswered(done.stderr.strip()[-400:])
        return _state(dict(line.partition("=")[::2] for line in done.stdout.splitlines()))

    def signal(self, name: str) -> bool:
        whom = ("--kill-who=all",) if name == "SIGKILL" else ("--kill-who=main",)
        try:
            done = _call("systemctl", "kill", *whom, f"--signal={name}", self._unit)
        except Unanswered:
            return False
        return done.returncode == 0

    def last_words(self) -> str:
        return ""

    def remove(self) -> None:
        try:
            _call("systemctl", "kill", "--kill-who=all", "--signal=SIGKILL", self._unit)
            _call("systemctl", "stop", self._unit)
            _call("systemctl", "reset-failed", self._unit)
        except Unanswered:
            return

    def arguments(self, variables: Path, script: Path) -> Sequence[str]:
        properties = (*_PROPERTIES, f"EnvironmentFile={variables}")
        return [
            *("systemd-run", "--quiet", f"--unit={self._unit}"),
            f"--working-directory={self.folders.workdir}",
            *(f"--property={it}" for it in properties),
            *("bash", str(script)),
        ]

    @property
    def _unit(self) -> str:
        return f"{self.name}.service"


def _script(launch: Launch, marks: Path) -> str:
    """In a file, since systemd puts values of its own in place of ${...} on a command line; and
    the user is changed in it, since systemd takes none that the machine does not know by name."""
    uid, gid = ids(as_root=False)
    drop = ["setpriv", "--reuid", str(uid), "--regid", str(gid), "--clear-groups"]
    line = ["bash", "-c", INSIDE.read_text(), "spotrunner", commands(launch.spec), str(marks)]
    return shlex.join(["exec", *drop, "--no-new-privs", *line]) + "\n"


def _state(shown: Mapping[str, str]) -> State | None:
    if shown.get("LoadState") != "loaded":
        return None
    pid = int(shown.get("MainPID") or 0)
    if pid:
        return State(pid=pid)
    status = int(shown.get("ExecMainStatus") or 0)
    exited = shown.get("ExecMainCode") == _EXITED
    oom_killed = shown.get("Result") == "oom-kill"
    return State(code=status if exited else 128 + status, oom_killed=oom_killed)


def _write_variables(path: Path, variables: Mapping[str, str]) -> None:
    """As systemd reads them: within double quotes a backslash takes the next character as it is."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text("".join(_lines(variables)))


def _lines(variables: Mapping[str, str]) -> Iterator[str]:
    for name, value in variables.items():
        quoted = "".join(f"\\{it}" if it in '"\\`$' else it for it in value)
        yield f'{name}="{quoted}"\n'


def _call(*command: str, timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """Raises Unanswered where there is no systemd, or no answer in time."""
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unanswered(f"{command[0]}: no answer in {timeout_s:.0f} s") from None
    except OSError as error:
        raise Unanswered(f"{command[0]}: {error.strerror}") from None
