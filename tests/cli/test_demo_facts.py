"""What the demo says came of it, and what it takes for a failure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pytest

from spotrunner.cli.demo.facts import Interruption, Told, facts, problems
from spotrunner.cli.demo.progress import Steps

START = dt.datetime(2026, 11, 1, 12, 0, tzinfo=dt.timezone.utc)


def at(seconds: float) -> str:
    return (START + dt.timedelta(seconds=seconds)).isoformat()


def an_attempt(n: int, **changes: Any) -> dict[str, Any]:
    """The API's answer for the nth attempt, as far as the facts need it."""
    return {
        "id": f"job.{n}",
        "pool": "us-east-1a/g4dn.xlarge",
        "market": "spot",
        "price_usd_hour": 0.06,
        "from": at(1000 * n),
        "to": at(1000 * n + 900),
        "first_step_at": at(1000 * n + 20),
        "safe_at": None,
        "end_reason": "interrupted",
        "cost_usd": 0.01,
        **changes,
    }


ATTEMPTS = (
    an_attempt(1, safe_at=at(1502)),
    an_attempt(2),
    an_attempt(3, end_reason="done"),
)
NOTICE = Interruption(attempt="job.1", notice=True, at=START + dt.timedelta(seconds=1500))
DEATH = Interruption(attempt="job.2", notice=False, at=START + dt.timedelta(seconds=2900))
STEPS = {
    "job.1": Steps(first=0, last=500, total=2000),
    "job.2": Steps(first=500, last=1300, total=2000),
    "job.3": Steps(first=1250, last=2000, total=2000),
}


def told(attempts: tuple[Mapping[str, Any], ...] = ATTEMPTS, **changes: Any) -> Told:
    values: dict[str, Any] = {
        "job": {
            "job": {"id": "job", "state": "succeeded", "ended_at": at(4600)},
            "cost_usd": 0.1,
            "attempts": attempts,
        },
        "interruptions": (NOTICE, DEATH),
        "steps": STEPS,
        "steps_total": 2000,
        "cheapest_ondemand_usd": 0.5,
        "checkpoint_interval_steps": 250,
        "result": {"weights_sha256": "a", "metrics": {}},
        "reference": {"weights_sha256": "a"},
        "leftovers": (),
        "role_keys": 2,
        "phases_s": {"train": 1.234},
    }
    return Told(**{**values, **changes})


def a_demo(**changes: Any) -> dict[str, Any]:
    return {**facts(told()), **changes}


def without(n: int, **changes: Any) -> tuple[Mapping[str, Any], ...]:
    """The attempts, the nth of them changed."""
    return tuple(
        {**each, **changes} if number == n else each for number, each in enumerate(ATTEMPTS, 1)
    )


# -- facts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("state", "succeeded"),
        ("cost_usd", 0.1),
        ("ondemand_usd", 0.5),  # an hour, from the first launch to the end
        ("saved_fraction", 0.8),
        ("interruptions", 2),
        ("steps_total", 2000),
        ("steps_redone", 50),
        ("steps_redone_by_attempt", {"job.1": 0, "job.2": 50}),
        ("notice_to_commit_s", 2.0),
        ("notice_to_next_step_s", 520.0),
        ("role_keys_of_one_instance", 2),
        ("leftover_instances", []),
        ("phases_s", {"train": 1.2}),
    ],
)
def test_facts(fact: str, value: object) -> None:
    assert facts(told())[fact] == value


def test_an_interruption_counts_when_it_ended_the_attempt_not_when_it_was_asked_for() -> None:
    assert facts(told(without(2, end_reason="failed")))["interruptions"] == 1


def test_the_weathers_interruptions_count_as_well() -> None:
    assert facts(told((*ATTEMPTS, an_attempt(4))))["interruptions"] == 3


def test_a_notice_that_led_to_no_commit_has_no_time() -> None:
    assert facts(told(without(1, safe_at=None)))["notice_to_commit_s"] is None


def test_where_nobody_went_on_there_is_no_next_step() -> None:
    attempts = (ATTEMPTS[0], an_attempt(2, first_step_at=None, end_reason="refused"))
    found = facts(told(attempts, interruptions=(NOTICE,), steps={"job.1": STEPS["job.1"]}))
    assert found["notice_to_next_step_s"] is None
    assert found["steps_redone_by_attempt"] == {"job.1": 0}


def test_an_attempt_that_never_trained_is_passed_over() -> None:
    """The replacement was refused: the one after it made the next step."""
    attempts = without(2, first_step_at=None, end_reason="refused")
    steps = {"job.1": STEPS["job.1"], "job.3": Steps(first=480, last=2000, total=2000)}
    found = facts(told(attempts, interruptions=(NOTICE,), steps=steps))
    assert found["notice_to_next_step_s"] == 1520.0
    assert found["steps_redone_by_attempt"] == {"job.1": 20}


# -- problems ----------------------------------------------------------------------------------


def test_a_demo_that_shows_all_has_no_problem() -> None:
    assert problems(a_demo(), ["job.1"]) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "failed"}, "the job is failed"),
        (
            {"reference_sha256": "b"},
            "the final weights differ from those of the uninterrupted run",
        ),
        ({"leftover_instances": ["i-1", "i-2"]}, "left over: i-1, i-2"),
        ({"interruptions": 1}, "1 interruptions instead of two"),
        ({"notice_to_commit_s": None}, "no commit followed the notice"),
        ({"notice_to_next_step_s": None}, "no instance made a step after the notice"),
        (
            {"role_keys_of_one_instance": 1},
            "the instance that outlived an hour never got new keys for its role",
        ),
        (
            {"steps_redone_by_attempt": {"job.1": 1, "job.2": 250}},
            "1 steps after job.1 were made twice, 0 may be",
        ),
        (
            {"steps_redone_by_attempt": {"job.1": 0, "job.2": 251}},
            "251 steps after job.2 were made twice, 250 may be",
        ),
    ],
)
def test_one_problem(changes: Mapping[str, Any], words: str) -> None:
    assert problems(a_demo(**changes), ["job.1"]) == [words]
