"""The commands about money, against the real API: what they print."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pytest

from spotrunner.core.caps import Bound, Caps
from spotrunner.core.model import EndReason, Pause, PriceLimit
from spotrunner.core.states import AttemptState, JobState
from spotrunner.core.windows import Window
from spotrunner.ports import Changes
from tests.build import JOB, OFFERS, a_job, a_report, a_spec, an_attempt, an_offer, at
from tests.cli.conftest import Behind, Run

pytestmark = pytest.mark.usefixtures("here")

HOUR_S = 3600


@pytest.fixture
def caps() -> Caps:
    return Caps(
        tz="Asia/Shanghai",
        installation=Bound(total_usd_micros=500_000_000, day_usd_micros=40_000_000),
        owners={"bob": Bound(total_usd_micros=1_000_000)},
    )


@pytest.fixture
def night(behind: Behind) -> Behind:
    """Alice's job of a sweep trains; one of bob's ended above his cap, and another stands still."""
    ended = an_attempt(
        1,
        AttemptState.ENDED,
        job="old-aaaa",
        launched_s=0,
        ended_at=at(10 * HOUR_S),
        end_reason=EndReason.INTERRUPTED,
        cost_usd_micros=1_781_120,
        hour_prices_usd_micros=(160_000,) * 10,
        extras_usd_micros_hour=16_112,
        transfer_usd_micros=20_000,
        estimated=True,
    )
    runs = an_attempt(
        1,
        offer=OFFERS[1],
        launched_s=10 * HOUR_S,
        sent_s=10 * HOUR_S,
        intent_s=10 * HOUR_S,
        first_step_s=10 * HOUR_S + 100,
        paid_until_s=12 * HOUR_S,
    )
    spec: dict[str, Any] = {"owner": "alice", "sweep": "lr", "sweep_budget_usd_micros": 9_000_000}
    _add(behind, JOB, budget_usd_micros=2_000_000, **spec)
    _add(behind, "old-aaaa", JobState.SUCCEEDED, owner="bob", ended_at=at(10 * HOUR_S))
    _add(behind, "next-aaaa", JobState.PAUSED, owner="bob", pause=Pause.BUDGET)
    behind.store.cut_days_in("Asia/Shanghai")
    behind.store.write(behind.store.lead("a test"), Changes(attempts=(ended, runs)))
    behind.mailbox.post_report(
        a_report(
            runs.id,
            11 * HOUR_S - 5,
            step=500,
            total_steps=10_000,
            steps_per_s=0.5,
            committed_step=400,
        )
    )
    behind.mailbox.boxes()
    behind.clock.advance(11 * HOUR_S)
    return behind


def _add(behind: Behind, id: str, state: JobState = JobState.ACTIVE, **changes: Any) -> None:
    of_job = {key: changes.pop(key) for key in ("pause", "ended_at") if key in changes}
    behind.store.add_job(a_job(state, id=id, spec=a_spec(**changes), **of_job), [])


# -- budget ------------------------------------------------------------------------------------

BUDGET = """\
CAP OF           IN              USD    SPENT  RESERVED      LEFT
all jobs         all         $500.00    $1.95   $0.8988   $497.15
all jobs         2026-11-02   $40.00    $1.23   $0.8988    $37.87
owner bob        all           $1.00    $1.78     $0.00  -$0.7811
sweep lr         all           $9.00  $0.1700   $0.8988     $7.93
job digits-7f3a  all           $2.00  $0.1700   $0.8988   $0.9312
job next-aaaa    all           $5.00    $0.00     $0.00     $5.00

JOB          STATE              SPENT  FORECAST
digits-7f3a  active           $0.1700  will be done at 11-02 04:20 UTC for about 0.9926 USD more
next-aaaa    paused (budget)    $0.00  goes on when bob's budget of 1.00 USD is raised in the\
 daemon's settings
"""


@pytest.mark.usefixtures("night")
def test_budget(run: Run) -> None:
    said = run("budget")
    assert (said.code, said.out) == (0, BUDGET)
    assert said.err == (
        "days are those of Asia/Shanghai\n"
        "below zero: so much was spent or paid for before the cap was lowered; no more is\n"
    )
    told = json.loads(run("budget", "-o", "json").out)
    assert [job["id"] for job in told["jobs"]] == [JOB, "next-aaaa"]
    assert len(told["caps"]) == 6


def test_the_budget_of_nothing_says_where_caps_come_from(behind: Behind, run: Run) -> None:
    said = run("budget")
    assert [line.split()[:3] for line in said.out.splitlines()[1:]] == [
        ["all", "jobs", "all"],
        ["all", "jobs", "2026-11-01"],
        ["owner", "bob", "all"],
    ]
    assert said.err == "days are those of Asia/Shanghai\nno open jobs\n"


# -- report ------------------------------------------------------------------------------------

REPORT = """\
JOB          ATTEMPTS  HOURS     COST    DISKS    MOVED  ON-DEMAND  SAVED
old-aaaa            1   10.0   ~$1.78  $0.1611  $0.0200      $5.44    67%
digits-7f3a         1    1.0  $0.1700    $0.00    $0.00    $0.5260    68%
in all              2   11.0   ~$1.95  $0.1611  $0.0200      $5.97    67%
"""

BY_SWEEP = """\
SWEEP   ATTEMPTS  HOURS     COST    DISKS    MOVED  ON-DEMAND  SAVED
-              1   10.0   ~$1.78  $0.1611  $0.0200      $5.44    67%
lr             1    1.0  $0.1700    $0.00    $0.00    $0.5260    68%
in all         2   11.0   ~$1.95  $0.1611  $0.0200      $5.97    67%
"""


@pytest.mark.usefixtures("night")
def test_report(run: Run) -> None:
    said = run("report")
    assert (said.code, said.out) == (0, REPORT)
    assert said.err == (
        "since 2026-10-26 in Asia/Shanghai\n"
        "~ in part estimated, at the dearer case: how an instance ended is not known\n"
    )
    assert run("report", "--by", "sweep").out == BY_SWEEP


@pytest.mark.usefixtures("night")
@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("job", ["old-aaaa", JOB]),
        ("day", ["2026-11-01", "2026-11-02"]),
        ("region", ["us-east-1"]),
        ("owner", ["bob", "alice"]),
        ("attempt", ["old-aaaa.1", f"{JOB}.1"]),
    ],
)
def test_what_a_report_is_summed_by(run: Run, by: str, keys: list[str]) -> None:
    lines = run("report", "--by", by).out.splitlines()
    assert lines[0].split()[0] == by.upper()
    assert [line.split()[0] for line in lines[1:-1]] == keys
    told = json.loads(run("report", "--by", by, "-o", "json").out)
    assert [row["key"] for row in told["rows"]] == keys


@pytest.mark.usefixtures("night")
def test_a_spreadsheet_takes_the_report(run: Run) -> None:
    said = run("report", "-o", "csv")
    assert said.err == ""
    old, new = csv.DictReader(io.StringIO(said.out))
    assert old == {
        "job": "old-aaaa",
        "attempts": "1",
        "hours": "10.000000",
        "cost_usd": "1.781120",
        "instance_usd": "1.600000",
        "extras_usd": "0.161120",
        "transfer_usd": "0.020000",
        "ondemand_usd": "5.441120",
        "saved_fraction": "0.672656",
        "estimated": "true",
    }
    assert (new["job"], new["estimated"]) == (JOB, "false")


def test_a_report_of_nothing(run: Run) -> None:
    said = run("report", "--since", "2026-11-01")
    assert (said.code, said.out) == (0, "")
    assert said.err == "nothing was spent since 2026-11-01 in Asia/Shanghai\n"
    assert run("report", "-o", "csv").out.startswith("job,attempts,hours,cost_usd,")


def test_a_day_that_is_none_is_bad_input(run: Run) -> None:
    said = run("report", "--since", "soon")
    assert said.code == 2
    assert said.err == (
        "spotrunner: --since: expected a day (2026-11-01) or how long ago (7d), found soon\n"
    )
    assert run("report", "--by", "zone").code == 2


# -- show and ls -------------------------------------------------------------------------------


def _facts(out: str) -> list[tuple[str, str]]:
    """The lines above the table, as names and values."""
    lines = out.split("\n\n", maxsplit=1)[0].splitlines()
    parts = (re.split(" {2,}", line, maxsplit=1) for line in lines)
    return [(name, value) for name, value in parts]


@pytest.mark.usefixtures("night")
def test_show_tells_what_is_shared_and_how_it_goes_on(run: Run) -> None:
    facts = _facts(run("show", JOB).out)
    assert facts[2:4] == [("owner", "alice"), ("sweep", "lr, $9.00 in all")]
    assert facts[-6:] == [
        ("cost", "$0.1700 (on-demand $0.5260, saved 68%)"),
        ("budget", "$2.00: $0.8988 reserved, $0.9312 left"),
        ("shares", "the budget of the sweep lr of 9.00 USD: $7.93 left"),
        ("shares", "the budget of the installation of 500.00 USD: $497.15 left"),
        ("shares", "the budget of the installation of 40.00 USD on 2026-11-02: $37.87 left"),
        ("forecast", "will be done at 11-02 04:20 UTC for about 0.9926 USD more"),
    ]
    paused = dict(_facts(run("show", "next-aaaa").out))
    assert paused["goes on"] == "when bob's budget of 1.00 USD is raised in the daemon's settings"


@pytest.mark.usefixtures("night")
def test_show_tells_what_a_cost_consists_of_and_what_is_estimated(run: Run) -> None:
    out = run("show", "old-aaaa").out
    facts = dict(_facts(out))
    assert facts["cost"] == (
        "~$1.78 (on-demand $5.44, saved 67%); in part estimated: how an instance ended is not known"
    )
    assert facts["of it"] == "instances $1.60, disks and addresses $0.1611, transfer $0.0200"
    assert out.splitlines()[-1].endswith("  ~$1.78")


def test_show_tells_of_nights_and_prices(behind: Behind, run: Run) -> None:
    _add(
        behind,
        JOB,
        window=Window(start_min=22 * 60, stop_min=7 * 60, tz="Asia/Shanghai", days=(0, 1, 2, 3, 4)),
        price_limit=PriceLimit(after_s=600, pause_share=0.4, resume_share=0.38),
        unattended_s=4 * HOUR_S,
        alerts=("me", "phone"),
    )
    facts = dict(_facts(run("show", JOB).out))
    assert facts["paid ahead"] == "4h"
    assert facts["alerts"] == "me, phone"
    assert facts["price limit"] == "above 40% of on-demand for 10m it waits, up to 38% it goes on"
    # Sunday, 20:00 there: the next one opens on Monday.
    assert facts["window"] == "22:00-07:00 Asia/Shanghai, mon-fri; opens in 1d 2h"
    behind.clock.advance(26 * HOUR_S)
    facts = dict(_facts(run("show", JOB).out))
    assert facts["window"].endswith("; closes in 9h")


def test_a_limit_in_dollars_is_shown_in_dollars(behind: Behind, run: Run) -> None:
    limit = PriceLimit(after_s=600, pause_usd_micros=600_000, resume_usd_micros=570_000)
    _add(behind, JOB, price_limit=limit)
    facts = dict(_facts(run("show", JOB).out))
    assert facts["price limit"] == (
        "above $0.6000 an hour for 10m it waits, up to $0.5700 it goes on"
    )


def test_what_is_over_a_lowered_budget_is_shown(behind: Behind, run: Run) -> None:
    """900 s at 0.16 USD; 1920 s at 0.526 USD at most."""
    _add(behind, JOB, budget_usd_micros=200_000)
    attempt = an_attempt(launched_s=0, paid_until_s=1800)
    behind.store.write(behind.store.lead("a test"), Changes(attempts=(attempt,)))
    behind.clock.advance(900)
    facts = dict(_facts(run("show", JOB).out))
    assert facts["budget"] == (
        "$0.2000: $0.2405 reserved, $0.0805 over it: paid for before it was lowered, and nothing"
        " more is"
    )


def _refused(n: int, zone: str, at_s: int) -> Any:
    return an_attempt(
        n,
        AttemptState.ENDED,
        offer=an_offer(zone),
        intent_s=at_s,
        launched_s=None,
        ended_at=at(at_s),
        end_reason=EndReason.REFUSED,
        cost_usd_micros=0,
    )


def test_refusals_in_a_row_are_one_line(behind: Behind, run: Run) -> None:
    _add(behind, JOB)
    zones = ("us-east-1a", "us-east-1b", "us-east-1a", "us-east-1d", "us-east-1a")
    refused = [_refused(n, zone, 60 * n) for n, zone in enumerate(zones, 2)]
    first = an_attempt(
        1,
        AttemptState.ENDED,
        launched_s=5,
        ended_at=at(60),
        end_reason=EndReason.INTERRUPTED,
        cost_usd_micros=0,
    )
    runs = an_attempt(7, launched_s=405, intent_s=400, first_step_s=500)
    alone = _refused(8, "us-east-1b", 600)
    changes = Changes(attempts=(first, *refused, runs, alone))
    behind.store.write(behind.store.lead("a test"), changes)
    behind.clock.advance(660)
    lines = run("show", JOB).out.split("\n\n")[1].splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["1", "2-6", "7", "8"]
    assert lines[1].split("  ")[0:2] == ["2-6", "us-east-1a, us-east-1b …"]
    assert "5 refused" in lines[1]
    assert "last 11-01 12:06:00" in lines[1]
    assert "ended (refused)" in lines[3]


@pytest.mark.usefixtures("night")
def test_ls_names_owners_where_there_are_several(run: Run) -> None:
    lines = run("ls").out.splitlines()
    assert lines[0].split()[:3] == ["JOB", "OWNER", "STATE"]
    assert [line.split()[1] for line in lines[1:]] == ["bob", "bob", "alice"]
    assert "~$1.78" in lines[1]
    assert run("ls", "--open").out.splitlines()[0].split()[1] == "OWNER"
