from __future__ import annotations

import pytest

from spotrunner.core.states import (
    ATTEMPT_ARROWS,
    JOB_ARROWS,
    AttemptState,
    IllegalArrow,
    JobState,
    advance,
)
from tests.build import a_job, an_attempt


@pytest.mark.parametrize("before", list(JobState))
@pytest.mark.parametrize("to", list(JobState))
def test_a_job_moves_along_the_table_only(before: JobState, to: JobState) -> None:
    job = a_job(before)
    if before is to or (before, to) in JOB_ARROWS:
        assert advance(job, to).state is to
    else:
        with pytest.raises(IllegalArrow):
            advance(job, to)


@pytest.mark.parametrize("before", list(AttemptState))
@pytest.mark.parametrize("to", list(AttemptState))
def test_an_attempt_moves_along_the_table_only(before: AttemptState, to: AttemptState) -> None:
    attempt = an_attempt(1, before)
    if before is to or (before, to) in ATTEMPT_ARROWS:
        assert advance(attempt, to).state is to
    else:
        with pytest.raises(IllegalArrow):
            advance(attempt, to)


def test_nothing_leads_out_of_a_job_that_is_over() -> None:
    assert not [arrow for arrow in JOB_ARROWS if arrow[0].over]


def test_every_live_attempt_can_end_and_every_open_job_can_be_cancelled() -> None:
    for state in AttemptState:
        assert not state.live or (state, AttemptState.ENDED) in ATTEMPT_ARROWS
    for job in JobState:
        assert job.over or (job, JobState.CANCELLED) in JOB_ARROWS


def test_every_arrow_has_its_reason() -> None:
    assert all((*JOB_ARROWS.values(), *ATTEMPT_ARROWS.values()))


def test_changes_go_with_the_move() -> None:
    moved = advance(an_attempt(), AttemptState.TERMINATING, end_detail="why")
    assert (moved.state, moved.end_detail) == (AttemptState.TERMINATING, "why")


def test_an_illegal_arrow_tells_the_story() -> None:
    with pytest.raises(IllegalArrow, match=r"digits-7f3a\.1 cannot go from ended to running"):
        advance(an_attempt(1, AttemptState.ENDED), AttemptState.RUNNING)
