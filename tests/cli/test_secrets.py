"""Secrets that a job file takes from the shell that submits it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spotrunner.cli.jobfile import read_job
from spotrunner.core.located import BadFile
from tests.cli.conftest import Behind, Run

VALUE = "s3cr3t-of-the-shell"
JOB = """\
name: digits
resources: {instance_types: [g4dn.xlarge], regions: [us-east-1]}
image: tensorflow/tensorflow:2.17.0-gpu
run: python train.py
secrets:
  WANDB_API_KEY: env:MY_WANDB
  HF_TOKEN: {from: ssm:/team/hf, as: file}
"""


@pytest.fixture
def job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MY_WANDB", VALUE)
    file = tmp_path / "job.yaml"
    file.write_text(JOB)
    return file


@pytest.mark.usefixtures("here")
def test_the_value_goes_along_and_is_shown_by_no_command(
    behind: Behind, run: Run, job_file: Path
) -> None:
    said = run("submit", job_file, "-y", "-o", "json")
    assert said.code == 0, said.err
    job_id = json.loads(said.out)["job"]["id"]
    assert behind.home.get(f"jobs/{job_id}/secrets/WANDB_API_KEY").body.decode() == VALUE
    for command in ("show", "explain", "logs"):
        for form in ((), ("-o", "json")):
            told = run(command, job_id, *form)
            assert told.code == 0, told.err
            assert VALUE not in told.out + told.err
    assert VALUE not in said.out + said.err
    assert VALUE not in run("submit", job_file, "-y").err


@pytest.mark.usefixtures("here")
def test_offers_and_a_dry_run_send_none(behind: Behind, run: Run, job_file: Path) -> None:
    assert run("submit", job_file, "--dry-run").code == 0
    assert run("offers", job_file).code == 0
    assert not list(behind.home.list(""))


def test_an_empty_variable_is_none(job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_WANDB", "")
    with pytest.raises(BadFile) as told:
        read_job(job_file, {})
    assert str(told.value) == (
        f"{job_file}:6: secrets.WANDB_API_KEY: MY_WANDB is empty in your shell; export MY_WANDB=…"
        " before you submit"
    )


def test_a_value_that_is_no_text_is_told_and_not_shown(
    job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_WANDB", f"{VALUE}\udcff")
    with pytest.raises(BadFile, match="MY_WANDB is no UTF-8 text in your shell") as told:
        read_job(job_file, {})
    assert VALUE not in str(told.value)


def test_what_was_read_does_not_show_it_by_its_repr(job_file: Path) -> None:
    submission = read_job(job_file, {})
    assert submission.secret_values == {"WANDB_API_KEY": VALUE}
    assert VALUE not in repr(submission)
    assert VALUE not in json.dumps(submission.fields)


@pytest.mark.parametrize("value", ["*s3cr3t", "!s3cr3t x", "&s3cr3t", "'s3cr3t", "@s3cr3t", "{s3"])
def test_no_error_of_yaml_shows_a_line_of_secrets(job_file: Path, value: str) -> None:
    job_file.write_text(f"{JOB}  DB: {value}\n")
    with pytest.raises(BadFile) as told:
        read_job(job_file, {})
    assert "s3" not in str(told.value).replace(str(job_file), "")


def test_yaml_elsewhere_is_told_in_full(job_file: Path) -> None:
    job_file.write_text(f"{JOB}envs: {{A: *there}}\n")
    with pytest.raises(BadFile, match="found undefined alias"):
        read_job(job_file, {})
