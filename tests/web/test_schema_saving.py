"""The keys of a job file that say when its checkpoints are made, and what a stall is."""

from __future__ import annotations

import datetime as dt

import pytest
from pydantic import ValidationError

from spotrunner.core import located
from spotrunner.core.model import JobSpec
from spotrunner.core.saving import Saving
from spotrunner.web.schema import JobFile, to_spec

NOW = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.timezone.utc)
JOB = """\
name: digits
resources: {instance_types: [g4dn.xlarge], regions: [us-east-1]}
image: tensorflow/tensorflow:2.17.0-gpu
run: python train.py
"""


def _spec(text: str) -> JobSpec:
    """Read, sent as JSON, and read again, as the command line and the daemon do."""
    file = JobFile.model_validate(located.read(JOB + text, "F").values)
    sent = file.model_dump(mode="json", exclude_unset=True)
    assert JobFile.model_validate(sent) == file
    return to_spec(JobFile.model_validate(sent), None, NOW)


def _said(text: str) -> list[str]:
    """What is wrong with these lines at the end of a job file; they begin in line 5."""
    document = located.read(JOB + text, "F")
    with pytest.raises(ValidationError) as caught:
        JobFile.model_validate(document.values)
    return located.lines("F", located.located(caught.value.errors(), document, JobFile))


@pytest.mark.parametrize(
    ("text", "saving"),
    [
        ("", Saving(auto=True)),
        ("checkpoint: {interval: auto}\n", Saving(auto=True)),
        ("checkpoint: {interval: 10m}\n", Saving(every_s=600)),
        ("checkpoint: {interval: none}\n", Saving()),
        (
            "checkpoint: {keep_last: 5, keep_every: 1000}\n",
            Saving(auto=True, keep_last=5, keep_every_steps=1000),
        ),
        ("save_signal: false\n", Saving()),
        ("save_signal: false\ncheckpoint: {keep_last: 5}\n", Saving(keep_last=5)),
        ("save_signal: false\ncheckpoint: {interval: none}\n", Saving()),
    ],
)
def test_when_checkpoints_are_made(text: str, saving: Saving) -> None:
    assert _spec(text).saving == saving


@pytest.mark.parametrize(
    "text",
    [
        "save_signal: false\ncheckpoint: {interval: 10m}\n",
        "checkpoint: {interval: auto}\nsave_signal: false\n",
    ],
)
def test_a_trainer_without_the_signal_cannot_be_asked(text: str) -> None:
    (said,) = _said(text)
    assert "SIGUSR1" in said
    assert "leave one of the two out" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("checkpoint: {interval: 30s}\n", "at least 1m such as 10m, found '30s'"),
        ("checkpoint: {interval: 600}\n", "at least 1m such as 10m, found 600"),
        ("checkpoint: {interval: often}\n", "expected auto, none"),
        ("checkpoint: {keep_last: 0}\n", "expected at least 1, found 0"),
        ("checkpoint: {keep: 3}\n", "keep"),
        ("checkpoint:\n", "it has no value"),
        ("stall_after: 59s\n", "at least 1m such as 30m"),
        ("stall_after: 30\n", "at least 1m such as 30m"),
    ],
)
def test_what_is_wrong_is_said(text: str, expected: str) -> None:
    (said,) = _said(text)
    assert expected in said


@pytest.mark.parametrize(
    ("text", "after_s"), [("", None), ("stall_after: 30m\n", 1800), ("stall_after: 1m\n", 60)]
)
def test_how_long_a_trainer_may_be_silent(text: str, after_s: int | None) -> None:
    assert _spec(text).stall_after_s == after_s
