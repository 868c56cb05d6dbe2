"""The commands about prices, against the real API over a market in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from spotrunner.core.model import Pool
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.setups import G4DN
from tests.cli.conftest import Behind, Run

pytestmark = pytest.mark.usefixtures("here")

DAY_S = 86_400
POOL = Pool(region="us-east-1", zone="us-east-1a", instance_type=G4DN)

TABLE = """\
ZONE        TYPE            NOW  CHANGE     MIN    MEAN     MAX  ON-DEMAND  SAVED
us-east-1b  g4dn.xlarge  0.1600      0%  0.1600  0.1600  0.1600     0.5260    70%
us-east-1d  g4dn.xlarge  0.1700      0%  0.1700  0.1700  0.1700     0.5260    68%
eu-west-1a  g4dn.xlarge  0.1800      0%  0.1800  0.1800  0.1800     0.5870    69%
eu-west-1b  g4dn.xlarge  0.1900      0%  0.1900  0.1900  0.1900     0.5870    68%
us-east-1a  g4dn.xlarge  0.3000   +100%  0.1500  0.2250  0.3000     0.5260    43%
"""
NOTES = """\
USD an hour, since 11-01 12:00:00 UTC
us-east-1: read 0s ago
eu-west-1: read 0s ago
"""


@pytest.fixture
def moved(here: None, behind: Behind, run: Run) -> Behind:
    """Two days: a price doubled after the first."""
    assert run("prices").code == 0
    behind.clock.advance(DAY_S)
    behind.world.set_price(behind.clock.now(), POOL, 300_000)
    behind.clock.advance(DAY_S)
    return behind


# -- the table ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("moved")
def test_the_table(run: Run) -> None:
    said = run("prices", "--since", "2d")
    assert (said.code, said.out, said.err) == (0, TABLE, NOTES)


@pytest.mark.usefixtures("moved")
def test_as_json(run: Run) -> None:
    said = run("prices", "--since", "2026-11-01", "--region", "us-east-1", "-o", "json")
    answer = json.loads(said.out)
    assert list(answer) == ["now", "since", "pools", "unknown", "regions"]
    assert len(answer["pools"]) == 3
    assert said.err == ""


def test_an_old_price_says_how_old_and_why(moved: Behind, run: Run) -> None:
    moved.world.script(
        Fault(action="DescribeSpotPriceHistory", region="us-east-1", lose=Lose.BEFORE, times=9)
    )
    run("prices")
    said = run("prices", "--region", "us-east-1", "--since", "3d")
    notes = said.err.splitlines()
    assert notes[1].startswith("us-east-1: read 2d ago; spot prices: ")


def test_holes_are_named(moved: Behind, run: Run) -> None:
    run("prices")
    moved.clock.advance(100 * DAY_S)
    run("prices")
    said = run("prices", "--since", "101d", "--region", "us-east-1")
    assert said.err.splitlines()[-1] == (
        "us-east-1 g4dn.xlarge: nothing is known from 11-03 12:00:00 to 11-13 12:00:00 UTC"
    )


def test_before_anything_was_read(behind: Behind, run: Run) -> None:
    behind.world.script(Fault(action="*", lose=Lose.BEFORE, times=999))
    with capture_logs():  # the daemon's, which is in this process
        said = run("prices")
    assert (said.code, said.out) == (0, "")
    assert said.err.startswith("no prices yet: the daemon reads them at its first rounds\n")
    assert "us-east-1: not all of it was read yet; " in said.err


# -- sync --------------------------------------------------------------------------------------

SYNCED = """\
REGION     ROWS NEW  ROWS KNOWN  TROUBLE
us-east-1         1           3  -
eu-west-1         0           2  -
"""


@pytest.mark.usefixtures("moved")
def test_sync(run: Run) -> None:
    said = run("prices", "sync", "--days", "90")
    assert (said.code, said.out, said.err) == (0, SYNCED, "")
    again = json.loads(run("prices", "sync", "-o", "json").out)
    assert again["regions"]["us-east-1"] == {"rows": 4, "new_rows": 0, "trouble": ""}


def test_sync_of_a_silent_market_fails(behind: Behind, run: Run) -> None:
    behind.world.script(Fault(action="*", lose=Lose.BEFORE, times=999))
    said = run("prices", "sync")
    assert said.code == 1
    assert said.err == (
        "spotrunner: no region's prices could be read in full; the daemon goes on trying\n"
    )


# -- the chart ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("moved")
@pytest.mark.parametrize("name", ["prices.png", "PRICES.SVG"])
def test_a_chart(run: Run, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    said = run("prices", "--plot", file)
    assert said.code == 0
    assert f"drawn into {file}" in said.err
    start = file.read_bytes()[:200]
    assert start.startswith(b"\x89PNG") if name.endswith("png") else b"<?xml" in start


@pytest.mark.usefixtures("moved")
def test_a_chart_as_svg_names_what_it_shows(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "prices.svg"
    run("prices", "--plot", file, "-o", "json")
    text = file.read_text()
    for words in ("Spot prices, 04 Oct 2026 to 03 Nov 2026 (UTC)", "USD an hour", "g4dn.xlarge"):
        assert f"<!-- {words}" in text
    assert "<!-- us-east-1a  0.3000 -->" in text
    assert "<!-- cheapest now: 0.1600 in us-east-1b, 70% below on-demand -->" in text
    assert "<!-- on-demand  0.5260 -->" in text


def test_a_chart_without_prices_is_none(behind: Behind, run: Run, tmp_path: Path) -> None:
    behind.world.script(Fault(action="*", lose=Lose.BEFORE, times=999))
    said = run("prices", "--plot", tmp_path / "a.png")
    assert said.code == 1
    assert "there are no prices to draw yet" in said.err
    assert list(tmp_path.glob("*.png")) == []


def test_without_matplotlib_the_extra_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = run("prices", "--plot", tmp_path / "a.png")
    assert said.code == 1
    assert "pip install 'spotrunner[plots]'" in said.err


def test_help_does_not_load_matplotlib() -> None:
    script = "import sys, spotrunner.cli.main; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--type", "g5.xlarg"],
            "--type: g5.xlarg is not a GPU instance type that is known here; nearest: g5.xlarge",
        ),
        (
            ["--region", "us-est-1"],
            "--region: us-est-1 is not an AWS region; nearest of the daemon's: us-east-1",
        ),
        (
            ["--region", "eu-north-1"],
            "--region: the daemon does not look at eu-north-1, only at us-east-1, eu-west-1: add it"
            " to `regions` in the daemon's settings and restart it",
        ),
        (
            ["--since", "yesterday"],
            "--since: expected how long ago (30d, 12h) or a day (2026-10-01, in UTC), found"
            " yesterday",
        ),
        (
            ["--since", "2026-12-01"],
            "--since: 2026-12-01 is not past yet: it is 2026-11-01 12:00 UTC",
        ),
        (["sync", "--days", "0"], "--days 0: expected 1 to 90, since EC2 remembers"),
        (["sync", "--days", "91"], "--days 91: expected 1 to 90"),
        (["sync", "--type", "g5"], "--type: g5 is not a GPU instance type"),
        (["sync", "--region", "mars"], "--region: mars is not an AWS region"),
        (["--plot", "prices.pdf"], "--plot prices.pdf: expected a name that ends with .png"),
        (["--plot", "prices"], "--plot prices: expected a name that ends with .png or .svg"),
        (["--plot", "/no/such/a.png"], "--plot /no/such/a.png: there is no folder /no/such"),
        (["--plot", "/proc/a.png"], "/proc/a.png"),
    ],
)
def test_bad_input(run: Run, arguments: list[str], words: str) -> None:
    said = run("prices", *arguments)
    assert words in said.err
    assert said.code == (1 if "/proc" in words else 2)
    assert said.out == ""


def test_a_folder_is_no_chart(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    said = run("prices", "--plot", tmp_path / "a.png")
    assert said.code == 2
    assert said.err.endswith("a.png: it is a folder\n")
