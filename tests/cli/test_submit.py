"""`submit` against the real API: what is shown, what is sent, and what stops it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from spotrunner.cli.jobfile import login
from spotrunner.core.model import DataSource, Market
from spotrunner.ports import Changes, Unavailable
from tests.build import a_refusal, an_offer
from tests.cli.conftest import Behind, Run

JOB = """\
name: digits
resources:
  instance_types: [g4dn.xlarge]
  regions: [us-east-1, eu-west-1]
image: tensorflow/tensorflow:2.17.0-gpu
workdir: src
envs: {BUCKET: null, API_KEY: s3cr3t}
data:
  - {source: "s3://${BUCKET}/digits/", target: digits}
run: python train.py
budget: 2.00
"""

OFFERS = """\
    ZONE        TYPE         MARKET     $/H  ON-DEMAND  SAVED  $/WORK-H
->  us-east-1a  g4dn.xlarge  spot    0.1600     0.5260    70%    0.1650
    us-east-1b  g4dn.xlarge  spot    0.1700     0.5260    68%    0.1753
    eu-west-1a  g4dn.xlarge  spot    0.1800     0.5800    69%    0.1856
"""

FACTS = """\
-> the cheapest of 3 offers at 0.1600 USD/h, 70% below on-demand
workdir: 1 file, 100 bytes to upload
budget: $2.00, which is 11h 21m at this price, its disk and its address included
"""

LEFT_OUT = """\
    ZONE        TYPE         MARKET     $/H  ON-DEMAND  SAVED  $/WORK-H  LEFT OUT
    us-east-1a  g4dn.xlarge  spot    0.1600     0.5260    70%    0.1660  cooling down until \
12:10:00: no
->  us-east-1b  g4dn.xlarge  spot    0.1700     0.5260    68%    0.1753
    eu-west-1a  g4dn.xlarge  spot    0.1800     0.5800    69%    0.1856
"""

NEXT = """\
submitted {id}
  follow it:   spotrunner logs -f {id}
  look at it:  spotrunner show {id}
  its story:   spotrunner explain {id}
  stop it:     spotrunner cancel {id}
"""

GIVEN = ("--env", "BUCKET=data-bucket")


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("x")
    file = tmp_path / "job.yaml"
    file.write_text(JOB)
    return file


@pytest.mark.usefixtures("here")
def test_a_job_is_shown_its_offers_and_submitted(behind: Behind, run: Run, job_file: Path) -> None:
    said = run("submit", job_file, *GIVEN, "-y")
    (job,) = behind.store.jobs()
    assert said.out == OFFERS
    assert said.err == FACTS + NEXT.format(id=job.id)
    assert said.code == 0
    assert job.spec.name == "digits"
    assert job.spec.instance_types == ("g4dn.xlarge",)
    assert dict(job.spec.envs) == {"API_KEY": "s3cr3t", "BUCKET": "data-bucket"}
    data = DataSource(
        source="s3://data-bucket/digits/", target="digits", bytes=1, region="us-east-1"
    )
    assert job.spec.data == (data,)
    assert job.spec.budget_usd_micros == 2_000_000
    assert job.spec.market is Market.SPOT
    assert job.spec.owner == login()


@pytest.mark.usefixtures("here")
def test_the_workdir_lies_in_the_bucket_under_its_digest(
    behind: Behind, run: Run, job_file: Path
) -> None:
    run("submit", job_file, *GIVEN, "-y")
    (job,) = behind.store.jobs()
    key = f"jobs/{job.id}/workdir/{job.spec.workdir_sha256}.tar.gz"
    assert hashlib.sha256(behind.home.get(key).body).hexdigest() == job.spec.workdir_sha256


@pytest.mark.usefixtures("here")
def test_a_dry_run_submits_nothing(behind: Behind, run: Run, job_file: Path) -> None:
    said = run("submit", job_file, *GIVEN, "--dry-run")
    assert (said.code, said.out) == (0, OFFERS)
    assert said.err == FACTS + "nothing was submitted\n"
    assert not behind.store.jobs()
    assert not list(behind.home.list(""))


@pytest.mark.usefixtures("here")
def test_the_same_as_json(behind: Behind, run: Run, job_file: Path) -> None:
    said = run("submit", job_file, *GIVEN, "-y", "-o", "json")
    told = json.loads(said.out)
    (job,) = behind.store.jobs()
    assert told["job"]["id"] == job.id
    assert [offer["chosen"] for offer in told["offers"]] == [True, False, False]
    assert told["workdir"]["sha256"] == job.spec.workdir_sha256
    assert said.err == ""
    assert "s3cr3t" not in said.out


@pytest.mark.usefixtures("here")
def test_what_is_left_out_says_why(behind: Behind, run: Run, job_file: Path) -> None:
    epoch = behind.store.lead("a test")
    behind.store.write(epoch, Changes(refusals=(a_refusal("us-east-1a"),)))
    said = run("submit", job_file, *GIVEN, "--dry-run")
    assert said.out == LEFT_OUT


@pytest.mark.usefixtures("here")
def test_where_nothing_can_be_had_now_the_job_waits(
    behind: Behind, run: Run, job_file: Path
) -> None:
    epoch = behind.store.lead("a test")
    zones = ("us-east-1a", "us-east-1b", "eu-west-1a")
    refusals = tuple(a_refusal(zone) for zone in zones)
    behind.store.write(epoch, Changes(refusals=refusals))
    said = run("submit", job_file, *GIVEN, "-y")
    assert said.code == 0
    assert said.err.startswith("none of 3 offers can be taken: ")
    assert ": the job will wait\n" in said.err
    assert len(behind.store.jobs()) == 1


@pytest.mark.usefixtures("here")
def test_what_could_not_be_checked_is_said_with_its_line(
    behind: Behind, run: Run, job_file: Path
) -> None:
    job_file.write_text(JOB.replace("[g4dn.xlarge]", "[g4dn.xlarge, p4d.24xlarge]"))
    behind.silent["eu-west-1"] = Unavailable("no route")
    said = run("submit", job_file, *GIVEN, "-y")
    assert said.code == 0
    assert (
        f"{job_file}:4: resources.regions.1: eu-west-1 did not answer, so what it has could not be"
        " checked: no route\n"
    ) in said.err
    assert len(behind.store.jobs()) == 1
    told = json.loads(run("submit", job_file, *GIVEN, "-y", "-o", "json").out)
    assert [warning["key"] for warning in told["warnings"]] == ["resources.regions.1"]


@pytest.mark.usefixtures("here")
def test_where_nothing_can_be_checked_nothing_is_submitted(
    behind: Behind, run: Run, job_file: Path
) -> None:
    job_file.write_text(JOB.replace("[g4dn.xlarge]", "[p4d.24xlarge]"))
    for region in ("us-east-1", "eu-west-1"):
        behind.silent[region] = Unavailable("no route")
    said = run("submit", job_file, *GIVEN, "-y")
    assert said.code == 1
    assert said.err == (
        "spotrunner: the job cannot be checked now, since no region answers (us-east-1: no route;"
        " eu-west-1: no route); try again\n"
    )
    assert not behind.store.jobs()


@pytest.mark.usefixtures("here")
def test_a_budget_that_the_deadline_raises_is_shown_before_anybody_says_yes(
    behind: Behind, run: Run, job_file: Path
) -> None:
    behind.offers += [an_offer(price=526_000, market=Market.ON_DEMAND)]
    job_file.write_text(f"{JOB}work: 8h\ndeadline: 12h\non_conflict: deadline\n")
    said = run("submit", job_file, *GIVEN, "--dry-run")
    _, _, budget, warning, last = said.err.splitlines()
    assert budget.startswith("budget: $4.39, which is 1d at this price")
    assert warning == (
        f"{job_file}:11: budget: the deadline and the budget cannot both be promised: the work is"
        " expected to cost 1.51 USD on spot (us-east-1a/g4dn.xlarge), on-demand to the end would"
        " need 4.39 USD (us-east-1a/g4dn.xlarge), and the budget is 2.00 USD; on_conflict: deadline"
        " raises it to 4.39 USD, never exceeded"
    )
    assert last == "nothing was submitted"
    run("submit", job_file, *GIVEN, "-y")
    (job,) = behind.store.jobs()
    assert job.spec.budget_usd_micros == 4_390_000


@pytest.mark.usefixtures("here")
def test_nobody_to_ask_submits_nothing(behind: Behind, run: Run, job_file: Path) -> None:
    said = run("submit", job_file, *GIVEN)
    assert said.code == 2
    assert said.err == (
        "spotrunner: nobody can be asked (stdin is no terminal): add -y, or --dry-run to look\n"
    )
    assert not behind.store.jobs()


@pytest.mark.usefixtures("here")
def test_a_wrong_file_is_wrong_before_anybody_is_asked(
    behind: Behind, run: Run, job_file: Path, tmp_path: Path
) -> None:
    job_file.write_text(JOB.replace("run:", "runn:"))
    said = run("submit", job_file, "--api-file", tmp_path / "none.json")
    assert said.code == 2
    assert said.err == (
        f"{job_file}:1: run: missing\n"
        f"{job_file}:7: envs.BUCKET: has no value; give it there or with --env BUCKET=VALUE\n"
        f"{job_file}:10: runn: unknown key; did you mean run?\n"
    )
