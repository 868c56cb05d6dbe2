"""What reports of the machine and of stalls leave in the attempt and in its story."""

from __future__ import annotations

import dataclasses
from typing import Any

from spotrunner.core.diagnosis import Diagnosis
from spotrunner.core.draft import Draft
from spotrunner.core.milestones import Milestones
from spotrunner.core.model import Attempt, EndReason, Event, Phase, Report
from spotrunner.core.settle import settle
from spotrunner.core.states import JobState
from tests.build import JOB, a_report, a_running_snapshot, after, an_attempt, at

ID = f"{JOB}.1"
MEMORY = Diagnosis(
    what="the GPU's memory was not enough", why="the batch is too large", change="halve the batch"
)


def told(report: Report, **known: Any) -> Draft:
    attempt = dataclasses.replace(an_attempt(), **known)
    return after(settle, a_running_snapshot(attempt=attempt, reports=(report,)))


def attempt_of(draft: Draft) -> Attempt:
    return draft.attempts[ID]


def events(draft: Draft, kind: str) -> list[Event]:
    return [event for event in draft.events if event.kind == kind]


# -- the way up --------------------------------------------------------------------------------


def test_what_was_reached_is_kept_for_good() -> None:
    first = Milestones(agent_at=at(40), image_at=at(60), baked=True)
    attempt = attempt_of(told(a_report(milestones=first, image_digest="sha256:abc")))
    assert attempt.milestones == first
    assert attempt.image_digest == "sha256:abc"


def test_a_new_agent_adds_what_it_reaches_and_puts_nothing_back() -> None:
    known = Milestones(agent_at=at(40), image_at=at(60))
    later = Milestones(agent_at=at(300), head_at=at(310))
    attempt = attempt_of(told(a_report(milestones=later), milestones=known))
    assert attempt.milestones == dataclasses.replace(known, head_at=at(310))


def test_that_it_is_told_again_is_no_news() -> None:
    known = Milestones(agent_at=at(40))
    draft = told(a_report(milestones=known), milestones=known)
    assert draft.plan().attempts == ()


# -- a stall -----------------------------------------------------------------------------------


def test_a_stall_and_a_start_in_place_are_told_once() -> None:
    report = a_report(
        stalled_at=at(580),
        alive_at=at(0),
        restarts=1,
        step=4010,
        message="the trainer stalled at step 4010",
    )
    draft = told(report)
    (stalled,) = events(draft, "stalled")
    assert "no sign of life since 12:00:00" in stalled.why
    assert stalled.data["step"] == 4010
    (again,) = events(draft, "restarted-in-place")
    assert "stalled at step 4010" in again.why
    known = attempt_of(draft)
    assert (known.stalled_at, known.restarts) == (at(580), 1)
    again_told = told(report, stalled_at=known.stalled_at, restarts=known.restarts)
    assert not events(again_told, "stalled")
    assert not events(again_told, "restarted-in-place")


def test_a_second_stall_is_told_too() -> None:
    draft = told(a_report(stalled_at=at(580), restarts=1), stalled_at=at(100), restarts=1)
    assert len(events(draft, "stalled")) == 1


def test_an_attempt_whose_trainer_stalls_again_ends_as_a_fault_with_the_reason() -> None:
    report = a_report(phase=Phase.FAULT, message="the trainer stalled, and had been started again")
    attempt = attempt_of(told(report))
    assert attempt.ending is EndReason.FAULT
    assert "stalled" in attempt.end_detail


# -- why it ended ------------------------------------------------------------------------------


def test_a_failed_job_says_what_to_change() -> None:
    failed = a_report(
        phase=Phase.FAILED,
        message="the trainer exited with 1",
        log_tail=("ResourceExhaustedError",),
        diagnosis=MEMORY,
    )
    draft = told(failed)
    assert attempt_of(draft).diagnosis == MEMORY
    job = draft.jobs[JOB]
    assert job.state is JobState.FAILED
    assert "the GPU's memory was not enough: halve the batch" in job.reason
    assert "ResourceExhaustedError" in job.reason
