"""The text of the user-data, in every variant. That it does what it says: tests/agent."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess

import pytest

from spotrunner.agent.words import Config
from spotrunner.core.boot import MAX_BYTES, Baking, Boot, baking_user_data, user_data

# A bare name lets the lab put a stand-in first on PATH; an absolute path would end a real machine.
TOOLS = ("docker", "shutdown", "poweroff", "halt", "reboot", "systemctl", "systemd-run", "iptables")

NASTY_URL = "https://b.s3.us-east-1.amazonaws.com/agent/x.tar.gz?a=$(reboot)&b='c'&d=%2F\"`e`"


def variants() -> list[Boot]:
    choices = itertools.product(
        (60, 900, 1859), (None, "http://127.0.0.1:4566"), ("https://b/agent.tar.gz", NASTY_URL)
    )
    return [
        Boot(
            attempt="digits-7f3a.4",
            job="digits-7f3a",
            installation="inst-1",
            bucket="home",
            region="eu-central-1",
            archive_url=url,
            archive_sha256="ab" * 32,
            first_step_s=first_step_s,
            endpoint_url=endpoint_url,
        )
        for first_step_s, endpoint_url, url in choices
    ]


@pytest.fixture(params=variants(), ids=lambda boot: f"{boot.first_step_s}s")
def boot(request: pytest.FixtureRequest) -> Boot:
    assert isinstance(request.param, Boot)
    return request.param


def test_names_tools_only_by_their_bare_names(boot: Boot) -> None:
    script = user_data(boot).replace(NASTY_URL, "")
    assert not re.search(rf"/({'|'.join(TOOLS)})\b", script)
    assert not re.search(r"(^|\s|export )PATH=", script)


def test_powers_off_in_one_place_only(boot: Boot) -> None:
    script = user_data(boot)
    assert len(re.findall(r"^\s*(shutdown|poweroff|halt) ", script, re.MULTILINE)) == 1
    body = script[script.index("\npower_off() {") : script.index("\narm_timer() {")]
    assert "  shutdown -P" in body


def test_arms_the_timer_first(boot: Boot) -> None:
    commands = _commands_outside_of_functions(user_data(boot))
    assert commands[0].startswith("arm_timer ||")
    assert f"first_step_minutes={boot.first_step_s // 60}\n" in user_data(boot)


def test_the_agent_has_longer_to_go_down_than_it_takes(boot: Boot) -> None:
    """systemd kills what is left of it after TimeoutStopSec: its last commit included."""
    limits = [int(s) for s in re.findall(r"\bTimeoutStopSec=(\d+)\b", user_data(boot))]
    down_s = Config(attempt="j.1", box="j.1", generation=1).down_s
    assert len(limits) == 1
    assert limits[0] >= down_s + 10


def test_fits_ec2s_limit_and_is_plain_text(boot: Boot) -> None:
    script = user_data(boot)
    assert script.startswith("#!/bin/bash\n")
    assert len(script.encode()) <= MAX_BYTES
    assert script.isascii()


def test_refuses_to_render_what_ec2_would_refuse(boot: Boot) -> None:
    too_long = Boot(**{**vars(boot), "archive_url": "https://b/" + "x" * MAX_BYTES})
    with pytest.raises(AssertionError, match="user-data of"):
        user_data(too_long)


def test_bash_can_read_it(boot: Boot) -> None:
    _check(["bash", "-n"], user_data(boot))


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_likes_it(boot: Boot) -> None:
    # SC2016: a hostile URL in single quotes is meant to stay as it is.
    _check(["shellcheck", "--shell=bash", "--exclude=SC2016", "-"], user_data(boot))


def test_hands_every_value_over_unharmed(boot: Boot) -> None:
    """Whatever a value holds, bash sees exactly it."""
    head = user_data(boot).split("\nroot=")[0]
    script = head + '\nprintf "%s\\n" "$attempt" "$archive_url" "$archive_sha256" "$agent_json"'
    lines = _check(["bash"], script).splitlines()
    assert lines[:3] == [boot.attempt, boot.archive_url, boot.archive_sha256]
    assert json.loads(lines[3])["endpoint_url"] == boot.endpoint_url
    assert json.loads(lines[3])["first_step_s"] == boot.first_step_s


def _commands_outside_of_functions(script: str) -> list[str]:
    """The top-level lines that run something, in order."""
    without_functions = re.sub(r"^\w+\(\) \{.*?^\}\n", "", script, flags=re.MULTILINE | re.DOTALL)
    without_functions = re.sub(r"^\w+\(\) \{.*\}\n", "", without_functions, flags=re.MULTILINE)
    lines = (line.strip() for line in without_functions.splitlines())
    return [
        line
        for line in lines
        if line and not line.startswith("#") and line != "set -u" and not re.match(r"\w+=", line)
    ]


def _check(command: list[str], script: str) -> str:
    done = subprocess.run(
        command, input=script, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- of an instance that an image is made on ---------------------------------------------------


@pytest.fixture(params=["https://b/report?a=b", NASTY_URL], ids=["plain", "nasty"])
def baking(request: pytest.FixtureRequest) -> str:
    return baking_user_data(
        Baking(
            bake="bake:7f3a",
            archive_url=request.param,
            archive_sha256="ab" * 32,
            report_url=request.param,
            container="tensorflow/tensorflow:2.17.0-gpu",
            longest_s=3600,
        )
    )


def test_a_baking_script_is_bash_that_fits(baking: str) -> None:
    _check(["bash", "-n"], baking)
    assert len(baking.encode()) <= MAX_BYTES
    assert baking.isascii()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_likes_a_baking_script(baking: str) -> None:
    _check(["shellcheck", "--shell=bash", "--exclude=SC2016", "-"], baking)


def test_a_baking_script_arms_its_timer_first(baking: str) -> None:
    assert _commands_outside_of_functions(baking)[0].startswith("arm_timer ||")
    assert "first_step_minutes=60\n" in baking


def test_a_baking_script_names_tools_only_by_their_bare_names(baking: str) -> None:
    script = baking.replace(NASTY_URL, "")
    assert not re.search(rf"/({'|'.join(TOOLS)})\b(?!\*)", script.replace("/root/.docker", ""))
    assert not re.search(r"(^|\s|export )PATH=", script)


def test_everything_a_baking_script_removes_lies_below_its_own_root(baking: str) -> None:
    """In the lab the machine around it is a person's."""
    (removed,) = re.findall(r"rm -rf (\"\$root\".*?) \|\| return 1", baking, re.DOTALL)
    paths = removed.replace("\\\n", " ").split()
    assert len(paths) > 5
    assert all(path.startswith(('"$root"/', '"$root/', '"$state"')) for path in paths)
