"""A command that ends with the process that started it, however that one ends.

`python watched.py COMMAND…` runs the command in its own process group; when its standard input
closes, which is a pipe from whoever started it, everything in the group is killed. It imports the
standard library only, since it stands before every such command.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Watched:
    """A running command, in a session of its own: what a terminal sends is not for it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        folder: Path | None = None,
    ) -> None:
        """What it prints goes to the end of `log`; `folder` is the one that it runs in."""
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", os.path.realpath(__file__), *command],
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def wait(self, timeout_s: float) -> int:
        """The command's exit code, over 128 for a signal's. Raises subprocess.TimeoutExpired."""
        return self._child.wait(timeout_s)

    def stop(self, grace_s: float) -> None:
        """SIGTERM; what is still there after `grace_s` is killed. Again is no error."""
        if self.alive:
            os.killpg(self._child.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(grace_s)
            self._kill_group()
        self._let_go()

    def kill(self) -> None:
        """SIGKILL for all of it. Again is no error."""
        if self.alive:
            self._kill_group()
        self._let_go()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def _let_go(self) -> None:
        self._child.wait()
        assert self._child.stdin is not None
        self._child.stdin.close()


def main(command: Sequence[str]) -> int:
    # A signal to the group is for the command. Being ignored is inherited; a function is not.
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    threading.Thread(target=_end_with_input, daemon=True).start()
    code = subprocess.Popen(command, stdin=subprocess.DEVNULL).wait()
    return code if code >= 0 else 128 - code


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
