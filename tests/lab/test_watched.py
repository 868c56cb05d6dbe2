"""A command that ends with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spotrunner.lab.watched import Watched
from tests.lab.traces import processes_of
from tests.lab.waiting import until

pytestmark = pytest.mark.slow

STUBBORN = "trap '' TERM; echo up; sleep 1000 & wait; wait"
POLITE = "trap 'echo told; exit 3' TERM; echo up; sleep 1000 & wait"


def bash(script: str, log: Path) -> Watched:
    return Watched(["bash", "-c", script, str(log)], environment=dict(os.environ), log=log)


def up(log: Path) -> bool:
    return log.exists() and "up" in log.read_text()


def test_its_exit_code_is_the_command_s(tmp_path: Path) -> None:
    for script, code in (("exit 7", 7), ("kill -9 $$", 128 + 9)):
        running = bash(script, tmp_path / "log")
        assert running.wait(10) == code
        assert not running.alive
        running.stop(1)
        running.kill()


def test_it_is_asked_to_end_before_it_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = bash(POLITE, log)
    until(lambda: up(log))
    running.stop(10)
    assert log.read_text() == "up\ntold\n"
    assert processes_of(tmp_path) == []


def test_what_does_not_end_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = bash(STUBBORN, log)
    until(lambda: up(log))
    running.stop(0.2)
    assert not running.alive
    until(lambda: not processes_of(tmp_path))


def test_it_ends_with_a_starter_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = (
        "import sys; from pathlib import Path; from spotrunner.lab.watched import Watched\n"
        f"Watched(['bash', '-c', {STUBBORN!r}, sys.argv[1]], environment={{}},"
        " log=Path(sys.argv[1])).wait(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(log)]) as starter:
        until(lambda: up(log))
        starter.send_signal(signal.SIGKILL)
    until(lambda: not processes_of(tmp_path))
