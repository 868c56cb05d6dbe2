"""`offers` against the real API: every column from what is known, and a reason for what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spotrunner.core.model import Market, Refused
from spotrunner.core.states import JobState
from spotrunner.ports import Changes
from tests.build import OFFERS, a_job, a_pool, a_refusal, an_attempt, an_offer
from tests.cli.conftest import Behind, Run

pytestmark = pytest.mark.usefixtures("here")

JOB = """\
name: digits
resources:
  instance_types: [g4dn.xlarge, g5.xlarge]
  regions: [us-east-1, eu-west-1]
image: tensorflow/tensorflow:2.17.0-gpu
run: python train.py
work: 4h
speeds: {g4dn.xlarge: 1, g5.xlarge: 2}
"""


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    file = tmp_path / "job.yaml"
    file.write_text(JOB)
    return file


@pytest.fixture
def market(behind: Behind) -> Behind:
    """Something runs in us-east-1b since two hours, us-east-1a refused four minutes ago, and
    it has no g5 at all."""
    behind.clock.advance(7205)
    behind.offers = [
        *OFFERS,
        an_offer(price=526_000, market=Market.ON_DEMAND),
        an_offer(instance_type="g5.xlarge", price=400_000, dearest=1_006_000),
    ]
    behind.scores = {a_pool("us-east-1b"): 7}
    behind.bands = {a_pool(zone): 4 for zone in ("us-east-1a", "us-east-1b")}
    behind.store.add_job(a_job(JobState.ACTIVE), [])
    refusals = (
        a_refusal("us-east-1a", at_s=7205 - 240),
        a_refusal("us-east-1a", "g5.xlarge", meaning=Refused.OFFERING, at_s=7205 - 600),
    )
    attempt = an_attempt(1, offer=OFFERS[1], launched_s=5)
    behind.store.write(behind.store.lead("a test"), Changes(attempts=(attempt,), refusals=refusals))
    return behind


TABLE = [
    "    #  REGION     ZONE        TYPE         MARKET        $/H  ON-DEMAND  SAVED  $/WORK-H"
    "  SPEED  SEEN                        SCORE  ADVISOR  DATA    LEFT OUT",
    "    1  us-east-1  us-east-1a  g4dn.xlarge  spot       0.1600     0.5260    70%    0.1679"
    "   1.00  refused 4m ago                  -  >20%     0s old  cooling down until 14:06:05: no",
    "->  2  us-east-1  us-east-1b  g4dn.xlarge  spot       0.1700     0.5260    68%    0.1752"
    "   1.00  up 2h                        7/10  >20%     0s old",
    "    3  eu-west-1  eu-west-1a  g4dn.xlarge  spot       0.1800     0.5800    69%    0.1875"
    "   1.00  -                               -  -        0s old",
    "    4  us-east-1  us-east-1a  g5.xlarge    spot       0.4000     1.0060    60%    0.2083"
    "   2.00  refused 10m ago (offering)      -  -        0s old  cooling down until 13:50:05: no",
    "    5  us-east-1  us-east-1a  g4dn.xlarge  on-demand  0.5260     0.5260      -    0.5370"
    "   1.00  -                               -  -        0s old",
]


@pytest.mark.usefixtures("market")
def test_every_pool_is_ranked_with_what_is_known_of_it(run: Run, job_file: Path) -> None:
    said = run("offers", job_file)
    assert said.code == 0
    assert said.out.splitlines() == TABLE
    assert said.err == "-> the cheapest of 2 offers at 0.1700 USD/h, 68% below on-demand\n"


def test_what_an_hour_of_work_costs_is_counted_on_the_first_type(
    market: Behind, run: Run, job_file: Path
) -> None:
    """Nobody has seen anything of on-demand, so nothing is expected but the price and a start: 300
    s of it, once in 4 hours of work."""
    market.offers = [
        an_offer(price=526_000, market=Market.ON_DEMAND),
        an_offer(
            instance_type="g5.xlarge", price=1_000_000, dearest=1_000_000, market=Market.ON_DEMAND
        ),
    ]
    slow, fast = reversed(json.loads(run("offers", job_file, "-o", "json").out)["offers"])
    assert (slow["speed"], fast["speed"]) == (1, 2)
    # g5 is the cheaper one by work, so that the 4 hours are 2 of its own.
    assert fast["work_usd_hour"] == pytest.approx(1.0 * (1 + 300 / 3600 / 2) / 2)
    assert slow["work_usd_hour"] == pytest.approx(0.526 * (1 + 300 / 3600 / 2))


@pytest.mark.usefixtures("market")
def test_the_same_as_json(run: Run, job_file: Path) -> None:
    said = run("offers", job_file, "-o", "json")
    told = json.loads(said.out)
    assert said.err == ""
    assert told["policy"] == "cheapest"
    assert told["why"].startswith("the cheapest of 2 offers")
    refused, up, *_ = told["offers"]
    assert (refused["up"], refused["refused_for"]) == (False, "capacity")
    assert refused["refused_at"] == "2026-11-01T13:56:05.000000Z"
    assert (up["up"], up["up_s"], up["score"], up["band"]) == (True, 7200, 7, 4)
    assert [it["region"] for it in told["regions"]] == ["us-east-1", "eu-west-1"]
    words = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    assert not {
        key for it in (told, up, told["regions"][0]) for key in it if f"`{key}" not in words
    }


@pytest.mark.usefixtures("market")
def test_a_job_that_nobody_has_submitted_is_written_down_nowhere(
    market: Behind, run: Run, job_file: Path
) -> None:
    before = market.store.jobs()
    run("offers", job_file)
    assert market.store.jobs() == before
    assert not market.wakes
    assert not list(market.home.list(""))


def test_where_nothing_can_be_had_it_says_so(behind: Behind, run: Run, job_file: Path) -> None:
    behind.offers = [OFFERS[0]]
    epoch = behind.store.lead("a test")
    behind.store.write(epoch, Changes(refusals=(a_refusal("us-east-1a"),)))
    job_file.write_text(JOB.replace(", g5.xlarge]", "]").replace(", g5.xlarge: 2", ""))
    said = run("offers", job_file)
    assert said.code == 0
    assert said.err == (
        "none of 1 offers can be taken: cooling down until 12:10:00: no: the job will wait\n"
    )


def test_a_deadline_that_is_too_near_can_be_looked_at(
    market: Behind, run: Run, job_file: Path
) -> None:
    market.offers += [
        an_offer(
            instance_type="g5.xlarge", price=1_006_000, dearest=1_006_000, market=Market.ON_DEMAND
        )
    ]
    job_file.write_text(JOB + "deadline: 2h\n")
    refused = run("offers", job_file)
    late = (
        f"{job_file}:9: deadline: even on-demand it would be 5m late: 2h of work on g5.xlarge, the"
        " fastest that it may take, and 5m to start, in 2h"
    )
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        f"{late}; give it 2h6m (until 2026-11-01T16:06Z), name a faster type, or add --allow-late\n"
    )
    taken = run("offers", job_file, "--allow-late")
    assert taken.code == 0
    assert taken.err.endswith(f"{late}\n")
