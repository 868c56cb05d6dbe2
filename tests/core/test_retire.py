from __future__ import annotations

from typing import Any

import pytest

from spotrunner.core.draft import Draft
from spotrunner.core.model import (
    Attempt,
    EndReason,
    InstanceState,
    Phase,
    Snapshot,
)
from spotrunner.core.retire import is_silent, is_superseded, retire, serves, waits_for_free
from spotrunner.core.states import AttemptState, JobState
from tests.build import (
    JOB,
    a_head,
    a_job,
    a_notice,
    a_report,
    a_running_snapshot,
    a_snapshot,
    after,
    an_attempt,
    an_instance,
    at,
    pending,
)

ID = f"{JOB}.1"
INSTANCE = f"i-{ID}"


def retired(snapshot: Snapshot) -> Attempt:
    return after(retire, snapshot).attempts[ID]


def terminated(snapshot: Snapshot) -> list[str]:
    return [act.instance_id for act in after(retire, snapshot).plan().terminations]


def ending(reason: EndReason, ending_s: float = 600, **changes: Any) -> Attempt:
    return an_attempt(
        1,
        AttemptState.TERMINATING,
        ending=reason,
        ending_s=ending_s,
        **changes,
    )


def interrupted(at_s: float = 1900, **changes: Any) -> Attempt:
    fields: dict[str, Any] = {"paid_until_s": 9000, "notice": a_notice(at_s), **changes}
    return an_attempt(1, AttemptState.INTERRUPTED, **fields)


# -- reasons to end ----------------------------------------------------------------------------


def test_a_healthy_attempt_is_left_alone() -> None:
    snapshot = a_running_snapshot()
    assert retired(snapshot) == an_attempt()
    assert not terminated(snapshot)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (JobState.CANCELLED, EndReason.CANCELLED),
        (JobState.SUCCEEDED, EndReason.DONE),
        (JobState.FAILED, EndReason.FAILED),
    ],
)
def test_a_job_that_is_over_ends_its_attempts(state: JobState, reason: EndReason) -> None:
    attempt = retired(a_running_snapshot(jobs=[a_job(state)]))
    assert (attempt.state, attempt.ending) == (AttemptState.TERMINATING, reason)
    assert attempt.ending_at == at(600)


def test_a_pending_launch_of_a_cancelled_job_is_not_wanted_any_more() -> None:
    attempt = retired(a_snapshot(jobs=[a_job(JobState.CANCELLED)], attempts=[pending()]))
    assert attempt.state is AttemptState.TERMINATING


def test_the_superseded_are_ended_and_only_they() -> None:
    for generation, ends in ((1, False), (2, True)):
        snapshot = a_running_snapshot(head=a_head(attempt=f"{JOB}.{generation}"))
        assert (retired(snapshot).ending is EndReason.SUPERSEDED) is ends


def test_the_silent_are_ended_when_head_is_taken_over_and_not_before() -> None:
    silent = (a_report(at_s=100),)
    waits = a_running_snapshot(reports=silent)
    assert retired(waits).state is AttemptState.RUNNING
    taken = a_running_snapshot(reports=silent, head=a_head(attempt=f"{JOB}.2"))
    assert retired(taken).ending is EndReason.SILENT
    assert terminated(taken) == [INSTANCE]


@pytest.mark.parametrize(("now_s", "ends"), [(1860, False), (1861, True)])
def test_what_outlives_its_paid_time_is_terminated(now_s: int, ends: bool) -> None:
    snapshot = a_running_snapshot(now_s)
    assert (retired(snapshot).ending is EndReason.UNPAID) is ends
    assert (terminated(snapshot) == [INSTANCE]) is ends


def test_what_outlives_the_budget_is_said_so() -> None:
    told = an_attempt(end_detail="the budget leaves nothing")
    attempt = retired(a_running_snapshot(1900, attempt=told))
    assert (attempt.ending, attempt.end_detail) == (EndReason.BUDGET, "the budget leaves nothing")


def starting(**changes: Any) -> Attempt:
    fields: dict[str, Any] = {"paid_until_s": 9000, "launched_s": 0, **changes}
    return an_attempt(1, AttemptState.STARTING, **fields)


@pytest.mark.parametrize(("now_s", "ends"), [(600, False), (601, True)])
def test_a_boot_has_so_long_to_report(now_s: int, ends: bool) -> None:
    snapshot = a_running_snapshot(now_s, attempt=starting(), reports=())
    assert (retired(snapshot).ending is EndReason.BOOT) is ends


@pytest.mark.parametrize(("now_s", "ends"), [(3600, False), (3601, True)])
def test_a_boot_has_so_long_to_its_first_step(now_s: int, ends: bool) -> None:
    snapshot = a_running_snapshot(now_s, attempt=starting())
    assert (retired(snapshot).ending is EndReason.BOOT) is ends


def test_an_outage_of_the_mail_is_no_silence_of_the_agents() -> None:
    """The mail was last read at 500 s."""
    boots = a_running_snapshot(2000, attempt=starting(), reports=(), mail_s=500)
    assert retired(boots).state is AttemptState.STARTING
    trains = a_running_snapshot(2000, reports=(a_report(at_s=490),), mail_s=500)
    assert not is_silent(Draft(trains), an_attempt())


@pytest.mark.parametrize(("now_s", "silent"), [(400, False), (401, True)])
def test_silent_is_five_minutes_without_a_report(now_s: int, silent: bool) -> None:
    draft = Draft(a_running_snapshot(now_s, reports=(a_report(at_s=100),)))
    assert is_silent(draft, an_attempt()) is silent
    assert serves(draft, an_attempt()) is not silent


def test_who_never_spoke_is_not_silent_but_slow_to_boot() -> None:
    assert not is_silent(Draft(a_snapshot(10**5)), an_attempt())


@pytest.mark.parametrize("state", list(AttemptState))
def test_who_serves_a_job(state: AttemptState) -> None:
    draft, attempt = Draft(a_snapshot()), an_attempt(1, state)
    names = {"pending", "requested", "starting", "running"}
    assert serves(draft, attempt) is (state.value in names)


def test_superseded_needs_a_head_that_was_read() -> None:
    assert not is_superseded(Draft(a_snapshot(head_unread=True)), an_attempt())


# -- the free first hour -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("announced_s", "now_s", "paid_until_s", "waits"),
    [
        (1900, 1800, 9000, True),
        # announced up to 61 minutes after the launch at 5 s
        (3665, 3600, 9000, True),
        (3666, 3600, 9000, False),
        # up to five minutes past the announced time
        (1900, 2200, 9000, True),
        (1900, 2201, 9000, False),
        # `paid_until` wins
        (1900, 2000, 2000, True),
        (1900, 2001, 2000, False),
    ],
)
def test_ec2_is_left_to_take_for_free_what_it_announced_in_the_first_hour(
    announced_s: float, now_s: float, paid_until_s: float, waits: bool
) -> None:
    attempt = interrupted(announced_s, paid_until_s=paid_until_s)
    assert waits_for_free(Draft(a_snapshot(now_s)), attempt) is waits


def test_without_a_notice_nothing_is_free() -> None:
    assert not waits_for_free(Draft(a_snapshot()), an_attempt())


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.FAILED, JobState.SUCCEEDED])
def test_nobody_ends_what_waits_to_be_taken_for_free(state: JobState) -> None:
    taken = a_head(attempt=f"{JOB}.2")
    idle = (a_report(at_s=1890, phase=Phase.IDLE),)
    for attempt in (interrupted(), ending(EndReason.CANCELLED, 100, notice=a_notice(1900))):
        for jobs in ((a_job(state),), (a_job(),)):
            snapshot = a_running_snapshot(
                1700, attempt=attempt, jobs=jobs, head=taken, reports=idle
            )
            assert retired(snapshot) == attempt
            assert not terminated(snapshot)


def test_when_ec2_does_not_take_it_it_is_ended() -> None:
    snapshot = a_running_snapshot(2201, attempt=interrupted())
    assert retired(snapshot).ending is EndReason.INTERRUPTED
    later = a_running_snapshot(2262, attempt=ending(EndReason.INTERRUPTED, 2201))
    assert terminated(later) == [INSTANCE]


def test_after_the_first_hour_the_idle_are_ended_at_once() -> None:
    """Its own power switch is the first means; should that fail, each minute is billed."""
    idle = (a_report(at_s=7100, phase=Phase.IDLE),)
    attempt = interrupted(7200)
    assert retired(a_running_snapshot(7110, attempt=attempt, reports=idle)).ending
    trains = (a_report(at_s=7100),)
    assert not retired(a_running_snapshot(7110, attempt=attempt, reports=trains)).ending


# -- enforcement -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "grace_s"),
    [
        (EndReason.SILENT, 0),
        (EndReason.LOST, 0),
        (EndReason.BOOT, 0),
        (EndReason.DONE, 60),
        (EndReason.FAILED, 60),
        (EndReason.UNPAID, 60),
        (EndReason.SUPERSEDED, 60),
        (EndReason.INTERRUPTED, 60),
        (EndReason.CANCELLED, 300),
        (EndReason.ORPHANED, 300),
    ],
)
def test_each_ending_has_its_time_before_it_is_terminated(reason: EndReason, grace_s: int) -> None:
    attempt = ending(reason)
    if grace_s:
        assert not terminated(a_running_snapshot(599 + grace_s, attempt=attempt))
    assert terminated(a_running_snapshot(600 + grace_s, attempt=attempt)) == [INSTANCE]


def test_no_grace_outlasts_the_paid_time() -> None:
    attempt = ending(EndReason.CANCELLED, 1700)
    assert not terminated(a_running_snapshot(1859, attempt=attempt))
    assert terminated(a_running_snapshot(1860, attempt=attempt)) == [INSTANCE]


def test_terminate_is_asked_again_until_ec2_says_that_it_is_done() -> None:
    attempt = ending(EndReason.DONE)
    for now_s in (700, 715, 730):
        assert terminated(a_running_snapshot(now_s, attempt=attempt)) == [INSTANCE]
    for state in (InstanceState.ENDING, InstanceState.ENDED):
        gone = (an_instance(attempt, state),)
        assert not terminated(a_running_snapshot(745, attempt=attempt, instances=gone))


def test_what_no_listing_shows_is_terminated_by_its_id() -> None:
    attempt = ending(EndReason.DONE)
    assert terminated(a_snapshot(700, attempts=[attempt])) == [INSTANCE]
    silent_region = a_snapshot(700, attempts=[attempt], silent_regions=["us-east-1"])
    assert terminated(silent_region) == [INSTANCE]


def test_without_an_id_there_is_nothing_to_terminate() -> None:
    attempt = ending(EndReason.CANCELLED, 0, launched_s=None, instance_id=None)
    assert not terminated(a_snapshot(700, attempts=[attempt]))
