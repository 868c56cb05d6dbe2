"""`spotrunner lab …` with a lab that really runs, and what is said where none does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotrunner.cli import words
from tests.cli.conftest import Run, Said


@pytest.fixture
def folder(tmp_path: Path, run: Run) -> Iterator[Path]:
    yield tmp_path / "lab"
    run("lab", "down", "--dir", tmp_path / "lab")


def test_without_a_lab_each_says_how_to_start_one(run: Run, tmp_path: Path) -> None:
    for arguments in (
        ["status"],
        ["env"],
        ["interrupt", "i-1"],
        ["skip", "1h"],
        ["price", "g4dn.xlarge", "0.35"],
    ):
        said = run("lab", *arguments, "--dir", tmp_path)
        assert said.code == 1
        assert said.err == (
            f"spotrunner: no lab runs in {tmp_path}; start one: spotrunner lab up\n"
        )


def test_what_to_reach_is_for_isolated_instances(run: Run, tmp_path: Path) -> None:
    said = run("lab", "up", "--reach", "5000", "--dir", tmp_path)
    assert said.code == 2
    assert said.err == (
        "spotrunner: --reach is for --isolated: other instances reach what this machine reaches\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_wrong_duration_is_bad_input(run: Run, tmp_path: Path) -> None:
    said = run("lab", "skip", "8 hours", "--dir", tmp_path)
    assert said.code == 2
    assert said.err == ("spotrunner: 8 hours is no duration: write 8h, 90m, 45s, 1d or 1h30m\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give either a price, such as 0.35 (USD an hour), or --usual"),
        (["0.35", "--usual"], "give either a price, such as 0.35 (USD an hour), or --usual"),
        (["cheap"], "cheap is no price: write USD an hour, such as 0.35"),
        (["0"], "USD: expected more than 0 USD, found 0"),
        (["nan"], "USD: expected a number, found NaN"),
    ],
)
def test_a_wrong_price_is_bad_input(
    run: Run, tmp_path: Path, arguments: list[str], words: str
) -> None:
    said = run("lab", "price", "g4dn.xlarge", *arguments, "--dir", tmp_path)
    assert said.code == 2
    assert said.err == f"spotrunner: {words}\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8h", 28_800), ("1h30m", 5400), ("45s", 45), ("2d", 172_800), ("0h", None), ("h", None)],
)
def test_durations(text: str, seconds: int | None) -> None:
    assert words.seconds(text) == seconds


@pytest.mark.slow
def test_a_lab_from_up_to_down(run: Run, folder: Path) -> None:
    where = ("--dir", folder)
    up = run("lab", "up", *where)
    assert up.code == 0
    assert f"spotrunner daemon --config {folder}/daemon.yaml" in up.err
    assert run("lab", "up", *where).code == 1

    status = json.loads(run("lab", "status", *where, "-o", "json").out)
    assert status["instances"] == []
    assert "no instances" in run("lab", "status", *where).err

    env = json.loads(run("lab", "env", *where, "-o", "json").out)["set"]
    assert env["SPOTRUNNER_API_FILE"] == str(folder / "daemon" / "api.json")
    assert env["AWS_ENDPOINT_URL"] == status["url"]
    assert "export AWS_ACCESS_KEY_ID=" in run("lab", "env", *where).out

    assert "2 hops" in run("lab", "skip", "20m", *where).err
    ahead_s = json.loads(run("lab", "status", *where, "-o", "json").out)["offset_s"]
    assert ahead_s == 1200

    wrong = run("lab", "interrupt", "i-0123", *where)
    assert wrong.code == 1
    assert "i-0123" in wrong.err

    the_prices(run, folder)

    assert json.loads(run("lab", "down", *where, "-o", "json").out) == {"ended": True}
    assert run("lab", "down", *where).err == f"no lab runs in {folder}\n"


def the_prices(run: Run, folder: Path) -> None:
    def price(*arguments: str) -> Said:
        return run("lab", "price", "g4dn.xlarge", *arguments, "--dir", folder)

    header, row = price("0.35", "--zone", "us-east-1a").out.splitlines()
    assert header.split() == ["ZONE", "WAS", "$/H", "ON-DEMAND"]
    zone, usual, *now = row.split()
    assert (zone, now) == ("us-east-1a", ["0.3500", "0.5260"])
    pools = json.loads(price("--usual", "-o", "json").out)["pools"]
    (back,) = (pool for pool in pools if pool["zone"] == zone)
    assert back["was_usd_hour"] == 0.35
    assert f"{back['price_usd_hour']:.4f}" == usual
    wrong = price("0.35", "--zone", "us-east-1z")
    assert (wrong.code, wrong.out) == (2, "")
    assert "the lab does not sell g4dn.xlarge in 'us-east-1z'; nearest: us-east-1" in wrong.err
