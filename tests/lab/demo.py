"""`spotrunner demo` as a user's own process, with a temporary folder of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.lab.traces import processes_of
from tests.lab.waiting import until

# The process that starts it may ignore Ctrl-C (a shell's background job), which is inherited.
_CLEAN = (
    "import os, signal, sys\n"
    "signal.signal(signal.SIGINT, signal.SIG_DFL); signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'spotrunner', 'demo', *sys.argv[1:]])\n"
)
# A terminal that it runs on, which goes when this process does.
_TERMINAL = "import pty, sys; pty.spawn(sys.argv[1:])"
END_S = 60.0


class Demo:
    """From its start on; what it says to people is in `said`."""

    def __init__(self, folder: Path, *arguments: str, terminal: bool = False) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._said = folder / "said"
        command = [sys.executable, "-c", _CLEAN, *arguments]
        if terminal:
            command = [sys.executable, "-c", _TERMINAL, *command]
        with self._said.open("wb") as out:
            self._child = subprocess.Popen(
                command,
                env={**os.environ, "TMPDIR": str(self.temporary), "COLUMNS": "200"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._said.read_text(errors="replace")

    def until_it_says(self, pattern: str, longest_s: float) -> None:
        def said() -> bool:
            assert self._child.poll() is None, self.said
            return re.search(pattern, self.said) is not None

        until(said, longest_s)

    def press_ctrl_c(self) -> None:
        """As a terminal does it: every process of the foreground gets the signal."""
        os.killpg(self._child.pid, signal.SIGINT)

    def send(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def wait(self, longest_s: float = END_S) -> int:
        """Its exit code; below 0 for a signal's."""
        return self._child.wait(longest_s)

    @property
    def files(self) -> list[str]:
        return os.listdir(self.temporary)

    @property
    def processes(self) -> list[str]:
        return processes_of(self.temporary)

    def end(self) -> None:
        """However far it came."""
        self._child.kill()
        self._child.wait()
        until(lambda: not self.processes, END_S)
