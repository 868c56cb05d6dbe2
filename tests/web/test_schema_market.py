"""The keys of a job file that say when and where: work, speeds, deadline, policy, max_price."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from pydantic import ValidationError

from spotrunner.core import located
from spotrunner.core.model import JobSpec
from spotrunner.core.policy.named import policies
from spotrunner.web.schema import JobFile, to_spec
from tests.web.conftest import a_job

NOW = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.timezone.utc)

JOB = """\
name: digits
resources: {instance_types: [g4dn.xlarge, g5.xlarge], regions: [us-east-1]}
image: tensorflow/tensorflow:2.17.0-gpu
run: python train.py
"""


def _said(text: str) -> list[str]:
    """What is wrong with these lines at the end of a job file; they begin in line 5."""
    document = located.read(JOB + text, "F")
    with pytest.raises(ValidationError) as caught:
        JobFile.model_validate(document.values)
    return located.lines("F", located.located(caught.value.errors(), document, JobFile))


def _spec(text: str) -> JobSpec:
    """Read, sent as JSON, and read again, as the command line and the daemon do."""
    file = JobFile.model_validate(located.read(JOB + text, "F").values)
    sent = file.model_dump(mode="json", exclude_unset=True)
    assert JobFile.model_validate(sent) == file
    return to_spec(JobFile.model_validate(sent), None, NOW)


# -- what is right -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "hour", "minute"),
    [
        ("2026-11-21T20:30Z", 20, 30),
        ("2026-11-21T20:30:00Z", 20, 30),
        ("2026-11-21 20:30:00+00:00", 20, 30),
        ("2026-11-21T21:30+01:00", 20, 30),
        ("2026-11-21T15:30:00-0500", 20, 30),
        ("'2026-11-21t20:30:00.5z'", 20, 30),
        ("12h", 20, 0),
        ("12h30m", 20, 30),
        ("90m", 9, 30),
        ("5400s", 9, 30),
    ],
)
def test_a_deadline_is_a_time_or_counts_from_now(written: str, hour: int, minute: int) -> None:
    spec = _spec(f"work: 1h\ndeadline: {written}\n")
    assert spec.deadline_at is not None
    assert spec.deadline_at.utcoffset() == dt.timedelta(0)
    assert (spec.deadline_at.day, spec.deadline_at.hour, spec.deadline_at.minute) == (
        21,
        hour,
        minute,
    )


def test_everything_is_kept() -> None:
    spec = _spec(
        "work: 1d2h\n"
        "speeds: {g4dn.xlarge: 1, g5.xlarge: 2.5}\n"
        "deadline: 2d\n"
        "policy: uniform_progress\n"
        "max_price: 0.25\n"
    )
    assert spec.work_s == 26 * 3600
    assert spec.speeds == (("g4dn.xlarge", 1.0), ("g5.xlarge", 2.5))
    assert spec.deadline_at == NOW + dt.timedelta(days=2)
    assert spec.policy == "uniform_progress"
    assert spec.max_price_usd_micros == 250_000


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", "cheapest"),
        ("work: 8h\n", "cheapest"),
        ("work: 8h\ndeadline: 12h\n", "deadline"),
        ("work: 8h\ndeadline: 12h\npolicy: greedy\n", "greedy"),
        ("policy: on_demand\n", "on_demand"),
    ],
)
def test_the_policy_of_a_job_that_names_none(text: str, policy: str) -> None:
    spec = _spec(text)
    assert spec.policy == policy
    assert spec.policy in policies()


# -- what is wrong -----------------------------------------------------------------------------

ANY_DEADLINE = (
    "expected a time with its zone, such as 2026-11-22T18:00Z, a time of day in quotes, such as"
    ' "07:00", or how long from the submission on, such as 12h or 1h30m, found'
)
NEEDS_WORK = (
    "a deadline needs `work`, how long the training takes on g4dn.xlarge; a rough guess is enough,"
    " since measured progress replaces it: add work: 8h"
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "work: 8h\ndeadline: 2026-11-22T18:00:00\n",
            "F:6: deadline: 2026-11-22T18:00:00 has no time zone: write 2026-11-22T18:00:00Z if it"
            " is UTC, or its distance from UTC, as in 2026-11-22T18:00:00+01:00",
        ),
        (
            "work: 8h\ndeadline: 2026-11-22T18:00\n",
            "F:6: deadline: 2026-11-22T18:00 has no time zone: write 2026-11-22T18:00Z if it is"
            " UTC, or its distance from UTC, as in 2026-11-22T18:00+01:00",
        ),
        (
            "work: 8h\ndeadline: 2026-11-22\n",
            "F:6: deadline: 2026-11-22 has no time of day and no zone: write 2026-11-22T18:00Z for"
            " 18:00 UTC",
        ),
        ("work: 8h\ndeadline: tomorrow\n", f"F:6: deadline: {ANY_DEADLINE} 'tomorrow'"),
        ("work: 8h\ndeadline: 12\n", f"F:6: deadline: {ANY_DEADLINE} 12"),
        ("work: 8h\ndeadline: 0h\n", f"F:6: deadline: {ANY_DEADLINE} '0h'"),
        (
            "work: 8h\ndeadline: 2026-02-30T00:00:00Z\n",
            f"F:6: deadline: {ANY_DEADLINE} '2026-02-30T00:00:00Z'",
        ),
        (
            "work: 8h\ndeadline: '0001-01-01T00:00+14:00'\n",
            f"F:6: deadline: {ANY_DEADLINE} '0001-01-01T00:00+14:00'",
        ),
        ("work: 8h\ndeadline: 400d\n", "F:6: deadline: expected at most 365d, found 400d"),
        ("deadline: 12h\n", f"F:5: deadline: {NEEDS_WORK}"),
        ("work: 8\n", "F:5: work: expected a duration such as 8h, 90m or 1h30m, found 8"),
        (
            "work: 8\ndeadline: 12h\n",
            "F:5: work: expected a duration such as 8h, 90m or 1h30m, found 8",
        ),
        ("work: -8h\n", "F:5: work: expected a duration such as 8h, 90m or 1h30m, found '-8h'"),
        ("work: 99999d\n", "F:5: work: expected at most 365d, found 99999d"),
        (
            "speeds: {g4dn.xlarge: 0}\n",
            "F:5: speeds.g4dn.xlarge: expected a number above 0, such as 2.5, found 0",
        ),
        (
            "speeds: {g4dn.xlarge: -1}\n",
            "F:5: speeds.g4dn.xlarge: expected a number above 0, such as 2.5, found -1",
        ),
        (
            "speeds: {g4dn.xlarge: .inf}\n",
            "F:5: speeds.g4dn.xlarge: expected a number above 0, such as 2.5, found inf",
        ),
        (
            "speeds: {g4dn.xlarge: .nan}\n",
            "F:5: speeds.g4dn.xlarge: expected a number above 0, such as 2.5, found nan",
        ),
        (
            "speeds: {g4dn.xlarge: yes}\n",
            "F:5: speeds.g4dn.xlarge: expected a number above 0, such as 2.5, found True",
        ),
        (
            "speeds: {p3.2xlarge: 3}\n",
            "F:5: speeds: p3.2xlarge is no type of this job, which has g4dn.xlarge, g5.xlarge",
        ),
        (
            "speeds: {g5.xlrage: 3}\n",
            "F:5: speeds.g5.xlrage: g5.xlrage is not a GPU instance type that is known here;"
            " nearest: g5.xlarge",
        ),
        ("speeds: 3\n", "F:5: speeds: expected `key: value` lines, found 3"),
        ("policy: cheapst\n", "F:5: policy: there is no policy 'cheapst'; nearest: cheapest"),
        (
            "policy: magic\n",
            "F:5: policy: there is no policy 'magic'; there are cheapest, deadline, greedy,"
            " on_demand, planner, uniform_progress",
        ),
        (
            "policy: planner\n",
            "F:5: policy: the policy planner needs a deadline: add deadline: 12h, or take cheapest",
        ),
        ("max_price: 0.001\n", "F:5: max_price: expected more than 0.001 USD, found 0.001"),
        ("max_price: -1\n", "F:5: max_price: expected more than 0.001 USD, found -1"),
        ("max_price: 0.1234567\n", "F:5: max_price: expected at most 6 decimals (of a USD),"),
        ("max_price: much\n", "F:5: max_price: expected a number, found 'much'"),
    ],
)
def test_each_mistake_has_its_sentence(text: str, line: str) -> None:
    (said,) = _said(text)
    assert said.startswith(line)
    assert said == line or line.endswith(",")


@pytest.mark.parametrize("value", [12, True, ["12h"], {"in": "12h"}])
def test_the_api_takes_no_other_kind_of_time(value: Any) -> None:
    for key in ("work", "deadline"):
        with pytest.raises(ValidationError):
            JobFile.model_validate(a_job(**{"work": "8h", key: value}))


def test_a_bid_is_for_spot() -> None:
    resources = {"instance_types": ["g5.xlarge"], "regions": ["us-east-1"], "use_spot": False}
    with pytest.raises(ValidationError) as caught:
        JobFile.model_validate(a_job(resources=resources, max_price="0.5"))
    (error,) = caught.value.errors()
    assert error["loc"] == ("max_price",)
    assert "use_spot is false: leave one of them out" in error["msg"]


@pytest.mark.parametrize("key", ["work", "deadline", "policy", "max_price"])
def test_a_key_without_a_value_is_no_wish(key: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        JobFile.model_validate({**a_job(), key: None})
    (error,) = wrong.value.errors()
    assert "it has no value: give it one, or leave the key out" in error["msg"]


def test_a_policy_that_pays_no_heed_to_the_deadline_is_spoken_of() -> None:
    file = JobFile.model_validate(a_job(work="8h", deadline="12h", policy="cheapest"))
    (warning,) = file.warnings
    assert warning.message == "the policy cheapest pays no heed to the deadline"
