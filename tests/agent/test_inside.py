"""What runs inside the container: signals find whoever listens, and nobody else dies of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import spotrunner.agent.trainer

INSIDE = Path(spotrunner.agent.trainer.__file__).with_name("inside.sh")

# Says what it hears; leaves with 75 on SIGTERM, with its first argument when `end` appears.
LISTENER = """
import pathlib, signal, sys, threading
here, pause = pathlib.Path.cwd(), threading.Event()
while not (here / "imported").exists():
    pause.wait(0.02)
def note(word):
    with (here / "heard").open("a") as file:
        file.write(word + "\\n")
def leave(*_):
    note("TERM")
    sys.exit(75)
signal.signal(signal.SIGUSR1, lambda *_: note("USR1"))
signal.signal(signal.SIGTERM, leave)
note("up")
while not (here / "end").exists():
    pause.wait(0.02)
sys.exit(int(sys.argv[1]))
"""


class Inside:
    """One run of the commands, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "listener.py").write_text(LISTENER)
        self.child: subprocess.Popen[bytes] | None = None

    def run(self, commands: str, *, imported: bool = True) -> None:
        if imported:
            self.mark("imported")
        line = commands.replace("LISTEN", f"{sys.executable} -IS listener.py")
        self.child = subprocess.Popen(
            ["bash", "-c", INSIDE.read_text(), "spotrunner", f"set -eo pipefail\n{line}", "."],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        until((self.folder / "listening").exists, lambda: "it does not listen")

    def mark(self, name: str) -> None:
        (self.folder / name).touch()

    def signal(self, number: int) -> None:
        assert self.child is not None
        self.child.send_signal(number)

    @property
    def heard(self) -> list[str]:
        path = self.folder / "heard"
        return path.read_text().split() if path.exists() else []

    def until_heard(self, *words: str) -> None:
        until(lambda: self.heard == list(words), lambda: f"heard {self.heard}")

    @property
    def code(self) -> int:
        assert self.child is not None
        return self.child.wait(20)


def until(holds: Callable[[], bool], story: Callable[[], str]) -> None:
    end_s, pause = time.monotonic() + 20, threading.Event()
    while not holds():
        assert time.monotonic() < end_s, story()
        pause.wait(0.02)


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    inside = Inside(tmp_path)
    yield inside
    assert inside.child is not None
    if inside.child.poll() is None:
        inside.child.kill()
        inside.child.wait(10)


RUNS = {
    "one command": "LISTEN 0",
    "three commands": "true\nLISTEN 0\ntrue",
    "a pipe": "LISTEN 0 2>&1 | cat",
    "a subshell": "(cd . && LISTEN 0)",
}


@pytest.mark.parametrize("commands", RUNS.values(), ids=RUNS.keys())
def test_a_save_reaches_the_trainer_and_kills_nobody_else(inside: Inside, commands: str) -> None:
    inside.run(commands)
    inside.until_heard("up")
    for n in (1, 2):
        inside.signal(signal.SIGUSR1)
        inside.until_heard("up", *["USR1"] * n)
    inside.mark("end")
    assert inside.code == 0


@pytest.mark.parametrize("commands", RUNS.values(), ids=RUNS.keys())
def test_a_stop_leaves_with_the_trainers_own_code(inside: Inside, commands: str) -> None:
    inside.run(commands)
    inside.until_heard("up")
    inside.signal(signal.SIGTERM)
    assert inside.code == 75
    assert inside.heard == ["up", "TERM"]


# As launchers of many trainers do it: each is in a session of its own, and waited for.
@pytest.mark.parametrize("waits", ["setsid -w", "env setsid -w setsid -w"])
def test_a_trainer_in_a_session_of_its_own_hears_as_well(inside: Inside, waits: str) -> None:
    inside.run(f"{waits} LISTEN 0")
    inside.until_heard("up")
    inside.signal(signal.SIGUSR1)
    inside.until_heard("up", "USR1")
    inside.signal(signal.SIGTERM)
    assert inside.code == 75
    assert inside.heard == ["up", "USR1", "TERM"]


def test_a_save_during_the_import_waits_for_the_trainer(inside: Inside) -> None:
    inside.run("LISTEN 0 | cat", imported=False)
    inside.signal(signal.SIGUSR1)
    inside.mark("imported")
    inside.until_heard("up", "USR1")
    inside.mark("end")
    assert inside.code == 0


def test_a_stop_during_the_import_ends_it(inside: Inside) -> None:
    inside.run("LISTEN 0 | cat", imported=False)
    inside.signal(signal.SIGTERM)
    assert inside.code == 143
    assert inside.heard == []


@pytest.mark.parametrize(("commands", "code"), [("exit 5", 5), ("false\ntrue", 1), ("true", 0)])
def test_the_exit_code_is_the_commands(inside: Inside, commands: str, code: int) -> None:
    inside.run(commands)
    assert inside.code == code


def test_a_failure_in_a_pipe_is_a_failure(inside: Inside) -> None:
    inside.mark("end")
    inside.run("LISTEN 3 | cat")
    assert inside.code == 3


def test_a_shell_that_traps_is_a_listener_too(inside: Inside) -> None:
    inside.run('trap "echo saved > heard; exit 75" TERM\ntouch up\nwhile :; do sleep 0.05; done')
    until((inside.folder / "up").exists, lambda: "never up")
    inside.signal(signal.SIGTERM)
    assert inside.code == 75
    assert inside.heard == ["saved"]


def test_a_stall_is_ended_with_stack_traces(inside: Inside) -> None:
    inside.run("echo to the log\nLISTEN 0 | cat")
    inside.until_heard("up")
    inside.signal(signal.SIGUSR2)
    assert inside.code == 134
    assert (inside.folder / "trainer.log").read_text().startswith("to the log\n")


@pytest.mark.parametrize(("stop", "word"), [(False, "3"), (True, "75 stopped")])
def test_how_it_ended_is_written_down(inside: Inside, stop: bool, word: str) -> None:
    inside.run("LISTEN 3")
    inside.until_heard("up")
    if stop:
        inside.signal(signal.SIGTERM)
    else:
        inside.mark("end")
    assert inside.code == int(word.split()[0])
    assert (inside.folder / "exited").read_text().strip() == word
