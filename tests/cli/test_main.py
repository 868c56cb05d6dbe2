"""The program itself: help, version, exit codes, and what it does where a terminal is."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Behind, Run
from tests.cli.test_submit import JOB

COMMANDS = [
    "submit",
    "ls",
    "show",
    "logs",
    "explain",
    "checkpoint",
    "pause",
    "resume",
    "extend",
    "cancel",
    "budget",
    "report",
    "reconcile",
    "hold",
    "notify",
    "prices",
    "policy",
    "demo",
    "daemon",
    "lab",
]


def test_help_names_every_command(run: Run) -> None:
    said = run("--help")
    assert said.code == 0
    for command in COMMANDS:
        assert f" {command} " in said.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run: Run, command: str) -> None:
    said = run(command, "--help")
    assert said.code == 0
    assert "Usage: spotrunner" in said.out or f" {command} " in said.out


def test_help_loads_nothing_slow() -> None:
    script = (
        "import sys, spotrunner.cli.main\n"
        "slow = {'boto3', 'requests', 'pydantic', 'yaml', 'fastapi', 'sqlalchemy', 'tensorflow'}\n"
        "print(sorted(slow & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_version(run: Run) -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        expected = version("spotrunner")
    except PackageNotFoundError:
        pytest.skip("spotrunner is not installed here")
    assert run("--version").out == f"spotrunner {expected}\n"


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["ls", "--nonsense"], ["submit"], ["ls", "-o", "xml"]]
)
def test_a_wrong_call_is_bad_input(run: Run, arguments: list[str]) -> None:
    said = run(*arguments)
    assert said.code == 2
    assert said.out == ""


@pytest.mark.parametrize(
    "arguments", [["ls"], ["show", "a"], ["logs", "a"], ["explain", "a"], ["cancel", "a"]]
)
def test_without_a_daemon_each_command_says_how_to_start_it(
    run: Run, tmp_path: Path, arguments: list[str]
) -> None:
    said = run(*arguments, "--api-file", tmp_path / "api.json")
    assert said.code == 3
    assert said.out == ""
    assert said.err == (
        f"spotrunner: the daemon is not running (there is no {tmp_path / 'api.json'});"
        " start it: spotrunner daemon --config FILE\n"
    )


def test_a_daemon_with_wrong_settings_does_not_start(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "daemon.yaml"
    config.write_text("home: {bucket: abc, region: us-east-1}\nregion: [us-east-1]\n")
    said = run("daemon", "--config", config)
    assert said.code == 2
    assert said.err == (
        f"{config}:1: regions: missing\n"
        f"{config}:1: state_dir: missing\n"
        f"{config}:2: region: unknown key; did you mean regions?\n"
    )


# -- a terminal --------------------------------------------------------------------------------


def _typed(keys: bytes, *arguments: str | Path, columns: int = 80) -> tuple[int, str]:
    """Run a command on a terminal of its own and type `keys`: exit code, and what is seen."""
    master, slave = pty.openpty()
    os.set_blocking(master, True)
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    child = subprocess.Popen(
        [sys.executable, "-m", "spotrunner", *map(str, arguments)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
    )
    os.close(slave)
    os.write(master, keys)
    seen = b""
    while True:
        try:
            block = os.read(master, 65_536)
        except OSError:  # the last holder of the other end is gone
            break
        if not block:
            break
        seen += block
    os.close(master)
    return child.wait(), seen.decode()


def test_yes_submits(behind: Behind, api_file: Path, tmp_path: Path) -> None:
    code, seen = _typed(b"\n", *_submit(tmp_path, api_file))
    assert "Proceed? [Y/n]: " in seen
    (job,) = behind.store.jobs()
    assert f"submitted {job.id}" in seen
    assert code == 0


def test_no_does_not(behind: Behind, api_file: Path, tmp_path: Path) -> None:
    code, seen = _typed(b"n\n", *_submit(tmp_path, api_file))
    assert "nothing was submitted" in seen
    assert not behind.store.jobs()
    assert code == 1


def test_a_narrow_terminal_is_respected(api_file: Path, tmp_path: Path) -> None:
    _, seen = _typed(b"n\n", *_submit(tmp_path, api_file), columns=70)
    table = seen.partition("-> the cheapest")[0]
    assert "\x1b[1m" in table  # headers are bold where there is a terminal
    assert max(len(_plain(line)) for line in table.splitlines()) <= 70


def _plain(line: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def _submit(folder: Path, api_file: Path) -> list[str | Path]:
    (folder / "src").mkdir()
    (folder / "src" / "train.py").write_text("x")
    (folder / "job.yaml").write_text(JOB)
    given = ["--env", "BUCKET=data-bucket"]
    return ["submit", folder / "job.yaml", *given, "--api-file", api_file]
