"""`simulate`: its table, its JSON, its chart, and a sentence for whatever is wrong."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spotrunner.cli import past, simulated_chart
from spotrunner.cli import simulate as command
from spotrunner.cli.api import Api, find
from spotrunner.core.hazard import MEASURED, Hazards
from spotrunner.sim import backtest
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.setups import G4DN
from tests.build import EXTRAS, T0
from tests.cli.conftest import Behind, Run, Said

HEADER = "timestamp_utc,region,az,instance_type,product,price_usd\n"
FITTED = dataclasses.replace(MEASURED, lost_weight=-0.5)
JOB = """\
name: digits
resources:
  instance_types: [g4dn.xlarge]
  regions: [us-east-1]
image: tensorflow/tensorflow:2.17.0-gpu
run: python train.py
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return written(tmp_path, "work: 4h\n")


def written(folder: Path, more: str) -> Path:
    file = folder / "job.yaml"
    file.write_text(JOB + more)
    return file


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """Ten days of two zones, a row a day."""
    folder = tmp_path / "prices"
    folder.mkdir()
    days = [f"{T0 + dt.timedelta(days=day):%Y-%m-%dT%H:%M:%SZ}" for day in range(11)]
    lines = [
        f"{day},us-east-1,{zone},{G4DN},Linux/UNIX,{usd}\n"
        for zone, usd in (("us-east-1a", "0.16"), ("us-east-1b", "0.17"))
        for day in days
    ]
    (folder / "prices.csv").write_text(HEADER + "".join(lines))
    (folder / "ondemand.csv").write_text(
        f"instance_type,region,ondemand_usd\n{G4DN},us-east-1,0.526\n"
    )
    return folder


@pytest.fixture
def simulate(run: Run, job: Path, prices: Path) -> Run:
    """Of the job over the folder, with few runs."""

    def simulate_it(*arguments: str | Path) -> Said:
        return run("simulate", job, "--csv", prices, "--runs", "4", *arguments)

    return simulate_it


# -- what it prints ----------------------------------------------------------------------------


def test_the_table_begins_with_the_conclusion(simulate: Run) -> None:
    said = simulate()
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].startswith("cheapest would have cost 0.")
    assert lines[0].endswith("% below on-demand, done in 4 of 4 runs")
    assert lines[1] == ""
    assert lines[2].split()[:3] == ["POLICY", "USD", "P10"]
    assert [line.split()[0] for line in lines[3:]] == ["cheapest", "on_demand"]
    told = said.err.splitlines()
    assert told[0] == (
        "2 pools from 2026-11-01 12:00 to 2026-11-11 12:00 UTC; prices: recorded, from the folder"
        " prices; capacity: synthetic, drawn with the statistics of nine zones measured in 2023"
    )
    assert told[1].startswith("4 runs of 4h of work, 5m from a launch to its first step;")
    assert told[2].startswith("perfect foresight would have paid $0.")


def test_a_deadline_brings_its_policy_and_who_was_late(simulate: Run) -> None:
    said = simulate("--deadline", "6h")
    lines = said.out.splitlines()
    assert lines[0].endswith("in time in 4 of 4 runs")
    assert [line.split()[0] for line in lines[3:]] == ["deadline", "on_demand"]


WINDOW = 'window: {start: "22:00", stop: "07:00", tz: UTC}\n'


def test_a_window_is_seen_and_said(run: Run, tmp_path: Path, prices: Path) -> None:
    """8 hours fit into a night; who starts in the middle of one needs the next one too."""
    file = written(tmp_path, "work: 8h\n" + WINDOW)
    said = run("simulate", file, "--csv", prices, "--runs", "4", "-p", "on_demand")
    assert said.code == 0
    assert "4 runs of 8h of work in 22:00-07:00 UTC, 5m from a launch to its first" in said.err
    assert said.out.splitlines()[0].endswith("done in 4 of 4 runs")
    assert "perfect foresight would have paid $" in said.err


def test_where_some_runs_begin_too_late_for_their_window_it_is_warned(
    run: Run, tmp_path: Path, prices: Path
) -> None:
    file = written(tmp_path, "work: 8h\n" + WINDOW)
    said = run("simulate", file, "--csv", prices, "--runs", "6", "--deadline", "21h")
    assert said.code == 0
    (warning,) = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert " of 6 runs not even on-demand is in time: it takes 8h 5m of the job's" in warning


def test_a_window_that_leaves_no_run_enough_time_is_refused(
    run: Run, tmp_path: Path, prices: Path
) -> None:
    file = written(tmp_path, "work: 20h\n" + WINDOW)
    said = run("simulate", file, "--csv", prices, "--runs", "4", "--deadline", "24h")
    assert said.code == 2
    assert said.err.startswith(
        "spotrunner: not even on-demand is in time: it takes 20h 5m of the job's window, and a run"
        " has 1d, so it is "
    )


def test_as_json_it_has_all_runs(simulate: Run) -> None:
    said = simulate("-o", "json", "-p", "greedy", "--deadline", "8h", "--seed", "7")
    found: dict[str, Any] = json.loads(said.out)
    assert (found["runs"], found["runs_asked"], found["seed"]) == (4, 4, 7)
    assert found["history"]["capacity"] == "synthetic"
    assert found["ondemand_usd"] == pytest.approx(
        (0.526 + EXTRAS / 1e6) * (4 + 300 / 3600), rel=1e-4
    )
    assert [it["policy"] for it in found["policies"]] == ["greedy"]
    assert found["policies"][0]["missed"] == 0
    assert len(found["all_runs"]) == 4
    assert all(it["in_time"] for it in found["all_runs"])
    assert found["bound_usd"]["mean"] <= found["policies"][0]["cost_usd"]["mean"]
    assert (
        json.loads(simulate("-o", "json", "-p", "greedy", "--deadline", "8h", "--seed", "7").out)[
            "all_runs"
        ]
        == found["all_runs"]
    )


def test_what_was_stopped_says_how_far_it_came(
    simulate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(setting: backtest.Setting) -> backtest.BackTest:
        whole = backtest.run(setting, processes=1)
        return dataclasses.replace(whole, outcomes=whole.outcomes[:3])

    monkeypatch.setattr(command, "_run", stopped)
    said = simulate()
    assert said.code == 1
    assert "stopped: 3 of 4 runs are done, which say:" in said.err
    assert "done in 3 of 3 runs" in said.out


def test_where_no_run_ended_nothing_was_saved(
    simulate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(setting: backtest.Setting) -> backtest.BackTest:
        whole = backtest.run(setting, processes=1)
        outcomes = tuple(
            dataclasses.replace(
                each,
                runs=tuple(dataclasses.replace(it, finished_at=None) for it in each.runs),
            )
            for each in whole.outcomes
        )
        return dataclasses.replace(whole, outcomes=outcomes)

    monkeypatch.setattr(command, "_run", endless)
    lines = simulate("-p", "cheapest").out.splitlines()
    assert lines[0].startswith("cheapest did not end in 4 of 4 runs and would have cost ")
    assert "on-demand" not in lines[0]
    assert lines[3].split()[5] == "-"
    found = json.loads(simulate("-p", "cheapest", "-o", "json").out)
    assert found["policies"][0]["saved_fraction"] is None


def test_nothing_is_said_of_no_run(simulate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(setting: backtest.Setting) -> backtest.BackTest:
        return backtest.BackTest(setting=setting, outcomes=())

    monkeypatch.setattr(command, "_run", stopped)
    said = simulate()
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[-1] == "stopped: 0 of 4 runs are done"


# -- the chart ---------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs [plots]")
@pytest.mark.parametrize("name", ["chart.png", "chart.svg"])
def test_the_chart_is_drawn(simulate: Run, tmp_path: Path, name: str) -> None:
    said = simulate("--plot", tmp_path / name)
    assert said.code == 0
    assert f"drawn into {tmp_path / name}" in said.err
    assert (tmp_path / name).stat().st_size > 5000


def test_a_chart_that_cannot_be_drawn_is_found_first(simulate: Run, tmp_path: Path) -> None:
    said = simulate("--plot", "chart.pdf")
    assert said.code == 2
    assert said.err == (
        "spotrunner: --plot chart.pdf: expected a file that ends with .png or .svg\n"
    )
    missing = tmp_path / "absent" / "chart.png"
    assert simulate("--plot", missing).err.endswith(f"there is no folder {missing.parent}\n")


def test_a_folder_is_no_chart(simulate: Run, tmp_path: Path) -> None:
    folder = tmp_path / "chart.png"
    folder.mkdir()
    said = simulate("--plot", folder)
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"spotrunner: --plot {folder} is a folder: name a file in it, such as"
        f" {folder / 'chart.png'}\n"
    )


def test_the_table_is_there_where_the_chart_cannot_be_written(
    simulate: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_test: backtest.BackTest, _plot: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(simulated_chart, "problem", lambda _plot: None)
    monkeypatch.setattr(simulated_chart, "draw", full)
    said = simulate("--plot", tmp_path / "chart.png")
    assert said.code == 1
    assert said.out.startswith("cheapest would have cost 0.")
    assert said.err.splitlines()[-1] == (
        f"spotrunner: --plot {tmp_path / 'chart.png'} cannot be written: No space left on device;"
        " name another file, the same --seed draws the same runs"
    )


def test_a_missing_matplotlib_names_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    found = simulated_chart.problem(tmp_path / "chart.png")
    assert found == "--plot needs matplotlib: pip install 'spotrunner[plots]'"


# -- what is wrong -----------------------------------------------------------------------------

WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "runs": (("--runs", "0"), "--runs 0: expected 1 to 10000"),
    "many runs": (("--runs", "10001"), "--runs 10001: expected 1 to 10000"),
    "a policy": (("-p", "greedi"), "--policy greedi: there is no such policy; nearest: greedy"),
    "its deadline": (
        ("-p", "uniform_progress"),
        "--policy uniform_progress needs a deadline: add --deadline 12h",
    ),
    "a duration": (
        ("--work", "long"),
        "--work long: expected a duration such as 8h, 90m or 1h30m",
    ),
    "a changeover": (("--changeover", "2h"), "--changeover 7200s: expected 60s to 3000s"),
    "too late": (
        ("--deadline", "3h"),
        "not even on-demand is in time: it takes 4h 5m, and a run has 3h, so it is 1h 5m late;"
        " give it more time, or a faster type, or --allow-late",
    ),
    "more work than past": (
        ("--work", "300h"),
        "the folder prices has 240.0 h of history, and the job takes 300.1 h at least: give it"
        " more history, or less work",
    ),
    "an on-demand price": (
        ("--on-demand", "g4dn.xlarge"),
        "--on-demand g4dn.xlarge: expected TYPE=USD, such as g5.xlarge=1.006",
    ),
    "its type": (
        ("--on-demand", "g4dn.xlarg=1"),
        "--on-demand g4dn.xlarg=1: g4dn.xlarg is not a GPU instance type that is known here;"
        " nearest: g4dn.xlarge",
    ),
    "its figure": (
        ("--on-demand", "g4dn.xlarge=0"),
        "--on-demand g4dn.xlarge: expected a price above 0 USD an hour, found 0",
    ),
    "two prices": (
        ("--on-demand", "g4dn.xlarge=0.526", "--on-demand", "g4dn.xlarge=1"),
        "--on-demand g4dn.xlarge=0.526 and --on-demand g4dn.xlarge=1 are two prices of one type:"
        " give one of them",
    ),
    "the daemon's past too": (
        ("--history", "30d"),
        "--csv and --history are two histories: give one of them",
    ),
    "two pasts": (
        ("--traces", "elsewhere"),
        "--csv and --traces are two histories: give one of them",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_a_sentence_for_what_is_wrong(
    simulate: Run, arguments: tuple[str, ...], message: str
) -> None:
    said = simulate(*arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err == f"spotrunner: {message}\n"


def test_the_planner_without_numpy_is_refused_first(
    simulate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    said = simulate("-p", "greedy", "-p", "planner", "--deadline", "12h")
    assert (said.code, said.out) == (2, "")
    assert said.err == ("spotrunner: the planner needs numpy: pip install 'spotrunner[planner]'\n")
    assert simulate("-p", "greedy", "--deadline", "12h").code == 0


def test_what_is_late_may_be_asked_for(simulate: Run) -> None:
    said = simulate("--deadline", "3h", "--allow-late")
    assert said.code == 0
    assert "warning: not even on-demand is in time: it takes 4h 5m" in said.err
    assert "in time in 0 of 4 runs" in said.out


def test_a_job_has_to_say_how_long_it_takes(run: Run, tmp_path: Path, prices: Path) -> None:
    file = written(tmp_path, "")
    said = run("simulate", file, "--csv", prices)
    assert said.code == 2
    assert said.err == (
        f"spotrunner: {file} does not say how long the training takes: add `work: 8h` to it, or"
        " --work 8h (on g4dn.xlarge; a rough guess is enough)\n"
    )
    assert run("simulate", file, "--csv", prices, "--work", "2h", "--runs", "1").code == 0


def test_a_deadline_that_is_past(run: Run, tmp_path: Path, prices: Path) -> None:
    file = written(tmp_path, "work: 4h\ndeadline: 2020-01-01T00:00Z\n")
    said = run("simulate", file, "--csv", prices)
    assert said.code == 2
    assert said.err.startswith(f"spotrunner: the deadline of {file} passed ")


def test_a_folder_without_on_demand_prices(simulate: Run, prices: Path) -> None:
    (prices / "ondemand.csv").unlink()
    said = simulate()
    assert said.code == 2
    assert said.err == (
        "spotrunner: no pool in the folder prices has an on-demand price, and without one nothing"
        " bounds a spot price: add --on-demand g4dn.xlarge=USD, or an ondemand.csv\n"
    )
    assert simulate("--on-demand", "g4dn.xlarge=0.526").code == 0


def test_a_wrong_job_file_has_its_lines(run: Run, tmp_path: Path, prices: Path) -> None:
    file = written(tmp_path, "wrok: 4h\n")
    said = run("simulate", file, "--csv", prices)
    assert said.code == 2
    assert said.err.startswith(f"{file}:7: wrok: ")


def test_a_folder_without_traces(run: Run, job: Path, tmp_path: Path) -> None:
    said = run("simulate", job, "--traces", tmp_path)
    assert said.code == 2
    assert "manifest.json" in said.err


# -- what the daemon has read ------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_the_daemons_prices(behind: Behind, run: Run, job: Path) -> None:
    assert run("prices").code == 0
    behind.clock.advance(5 * 86_400)
    assert run("prices").code == 0
    said = run("simulate", job, "--history", "5d", "--runs", "3", "-o", "json")
    assert said.code == 0
    found = json.loads(said.out)
    assert found["history"]["source"] == "the daemon"
    assert len(found["history"]["pools"]) == 3
    assert found["ondemand_usd"] == pytest.approx(
        (0.526 + EXTRAS / 1e6) * (4 + 300 / 3600), rel=1e-4
    )


@pytest.mark.usefixtures("here")
def test_the_daemons_prices_end_where_it_read_last(behind: Behind, run: Run, job: Path) -> None:
    assert run("prices").code == 0
    behind.clock.advance(5 * 86_400)
    assert run("prices").code == 0
    behind.clock.advance(3 * 86_400)
    behind.world.script(Fault(action="DescribeSpotPriceHistory", lose=Lose.BEFORE, times=99))
    said = run("simulate", job, "--history", "8d", "--runs", "3")
    assert said.code == 0
    assert said.err.startswith("3 pools from 2026-11-01 12:00 to 2026-11-06 12:00 UTC;")
    assert (
        "warning: the daemon has read no prices for 3d: the history ends at 2026-11-06 12:00 UTC"
    ) in said.err


@pytest.mark.usefixtures("here")
def test_what_the_daemon_had_not_read_yet_is_one_line(behind: Behind, run: Run, job: Path) -> None:
    assert run("prices").code == 0
    behind.clock.advance(5 * 86_400)
    assert run("prices").code == 0
    said = run("simulate", job, "--history", "400d", "--runs", "3")
    assert said.code == 0
    warnings = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: the daemon's prices begin at 2026-10-02 12:00 UTC, and 400d were asked for;"
        " `spotrunner prices sync --days 90` reads all that EC2 remembers"
    ]


@pytest.mark.usefixtures("here")
def test_where_one_region_was_read_later_the_other_has_a_gap(
    behind: Behind, run: Run, job: Path
) -> None:
    job.write_text(job.read_text().replace("[us-east-1]", "[us-east-1, eu-west-1]"))
    assert run("prices").code == 0
    behind.clock.advance(5 * 86_400)
    behind.world.script(
        Fault(action="DescribeSpotPriceHistory", region="eu-west-1", lose=Lose.BEFORE, times=99)
    )
    said = run("simulate", job, "--history", "10d", "--runs", "3")
    assert said.code == 0
    assert "to 2026-11-06 12:00 UTC; prices: recorded, from the daemon" in said.err
    assert "eu-west-1a/g4dn.xlarge: no price for 120 h from 2026-11-01 12:00 on" in said.err
    assert "us-east-1a/g4dn.xlarge: no price" not in said.err


class Fitted:
    """The daemon after a `policy fit`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def get(self, path: str, **query: Any) -> Any:
        return {**self._api.get(path, **query), "hazards": dataclasses.asdict(FITTED)}


@pytest.mark.usefixtures("here")
def test_the_policies_weigh_with_the_daemons_hazards(
    behind: Behind, run: Run, simulate: Run, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Hazards] = []

    def noted(setting: backtest.Setting) -> backtest.BackTest:
        seen.append(setting.hazards)
        return backtest.BackTest(setting=setting, outcomes=())

    monkeypatch.setattr(command, "_run", noted)
    assert run("prices").code == 0
    behind.clock.advance(5 * 86_400)
    run("simulate", job)
    monkeypatch.setattr(past, "find", lambda api_file: Fitted(find(api_file)))
    run("simulate", job)
    simulate()
    assert seen == [MEASURED, FITTED, MEASURED]


def test_without_a_daemon_it_says_what_else_there_is(run: Run, job: Path, tmp_path: Path) -> None:
    said = run("simulate", job, "--api-file", tmp_path / "absent.json")
    assert said.code == 3
    assert said.err.endswith("; without one, name recorded prices with --csv DIR or --traces DIR\n")


def test_its_help_loads_no_simulation() -> None:
    """Help answers at once: what a back-test needs is read when one is asked for."""
    code = (
        "import sys, spotrunner.cli.main\n"
        "heavy = {'spotrunner.sim', 'spotrunner.core.decide', 'pydantic', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "[]\n"
