from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from spotrunner.core.model import (
    Attempt,
    CommandVerb,
    EndedBy,
    EndReason,
    InstanceState,
    Notice,
    Pause,
    Phase,
    Refused,
    Report,
)
from spotrunner.core.money import billed, exposure
from spotrunner.core.settle import settle
from spotrunner.core.states import AttemptState, JobState
from tests.build import (
    JOB,
    ON_DEMAND,
    a_command,
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
from tests.core.settling import ID, LIMITS, an_end, attempt_of, settled

# -- users -------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.ACTIVE, JobState.PAUSED])
def test_cancel(state: JobState) -> None:
    command = a_command(CommandVerb.CANCEL)
    draft = settled(a_snapshot(jobs=[a_job(state)], commands=(command,)))
    assert draft.jobs[JOB].state is JobState.CANCELLED
    assert draft.jobs[JOB].ended_at == at(600)
    assert draft.plan().commands_done == (1,)


def test_a_command_on_a_job_that_is_over_or_gone_is_done_with() -> None:
    over = a_job(JobState.SUCCEEDED, ended_at=at(1))
    commands = (a_command(CommandVerb.CANCEL), a_command(CommandVerb.CANCEL, "gone-0000", 2))
    draft = settled(a_snapshot(jobs=[over], commands=commands))
    assert draft.jobs[JOB] == over
    assert draft.plan().commands_done == (1, 2)


def test_each_checkpoint_asked_for_counts() -> None:
    commands = tuple(a_command(CommandVerb.CHECKPOINT, id=n) for n in (1, 2))
    draft = settled(a_running_snapshot(commands=commands))
    assert draft.jobs[JOB].checkpoints_asked == 2


# -- launches: what proves that one happened ---------------------------------------------------


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (InstanceState.PENDING, AttemptState.REQUESTED),
        (InstanceState.RUNNING, AttemptState.STARTING),
    ],
)
def test_a_lost_answer_is_looked_up_by_tag(found: InstanceState, state: AttemptState) -> None:
    instance = an_instance(pending(), found, id="i-9", launched_s=3)
    attempt = attempt_of(a_snapshot(attempts=[pending()], instances=[instance]))
    assert (attempt.state, attempt.instance_id, attempt.launched_at) == (state, "i-9", at(3))


def test_a_lost_answer_is_looked_up_by_token() -> None:
    instance = an_instance(pending(), id="i-9", attempt_id=None)
    assert attempt_of(a_snapshot(attempts=[pending()], instances=[instance])).instance_id == "i-9"


def test_of_two_with_our_tag_the_one_that_costs_money_is_ours() -> None:
    dead = an_instance(pending(), InstanceState.ENDED, id="i-1", ended_s=9)
    alive = an_instance(pending(), id="i-2")
    for listed in ((dead, alive), (alive, dead)):
        attempt = attempt_of(a_snapshot(attempts=[pending()], instances=listed))
        assert attempt.instance_id == "i-2"


def test_the_end_of_another_instance_with_our_tag_is_not_ours() -> None:
    other = an_instance(state=InstanceState.ENDED, id="i-other", ended_s=500)
    assert attempt_of(a_running_snapshot(instances=(other,))).state is AttemptState.RUNNING


def test_a_report_proves_a_launch_that_no_listing_shows() -> None:
    attempt = attempt_of(a_snapshot(attempts=[pending()], reports=[a_report(phase=Phase.BOOT)]))
    assert attempt.state is AttemptState.STARTING


def test_the_first_step_makes_it_run() -> None:
    starting = an_attempt(1, AttemptState.STARTING)
    report = a_report(first_step_s=500)
    attempt = attempt_of(a_running_snapshot(attempt=starting, reports=(report,)))
    assert (attempt.state, attempt.first_step_at) == (AttemptState.RUNNING, at(500))


# -- launches: what proves that none happened --------------------------------------------------


def test_not_listed_is_not_ended() -> None:
    for state in (AttemptState.REQUESTED, AttemptState.STARTING, AttemptState.RUNNING):
        snapshot = a_snapshot(10**5, attempts=[an_attempt(1, state)])
        assert attempt_of(snapshot).state is state


def test_an_id_that_ec2_denies_ends_it_only_after_the_lost_timeout() -> None:
    attempt = an_attempt(1, AttemptState.REQUESTED, launched_s=0)
    denied = frozenset({f"i-{ID}"})
    for now_s, ended in ((899, False), (900, True)):
        found = attempt_of(a_snapshot(now_s, attempts=[attempt], not_found=denied))
        assert (found.state is AttemptState.ENDED) is ended
    assert found.end_reason is EndReason.LOST


def test_an_agent_that_speaks_is_alive_whatever_ec2_says() -> None:
    """A listing that lags for long, and a denied id, weigh less than a report."""
    no_id = an_attempt(instance_id=None, launched_at=None)
    for attempt in (no_id, an_attempt()):
        snapshot = a_snapshot(
            2000,
            attempts=[attempt],
            reports=[a_report(at_s=1200)],
            not_found=frozenset({f"i-{ID}"}),
        )
        assert attempt_of(snapshot).state is AttemptState.RUNNING
        later = dataclasses.replace(snapshot, now=at(2101))
        assert not attempt_of(later).state.live or attempt_of(later).ending is EndReason.LOST


def test_no_trace_of_a_launch_is_lost_after_the_timeout_since_it_was_last_sent() -> None:
    attempt = pending(sent_s=500, paid_until_s=2300)
    for now_s, state in ((1399, AttemptState.PENDING), (1400, AttemptState.TERMINATING)):
        assert attempt_of(a_snapshot(now_s, attempts=[attempt])).state is state


def test_a_lost_launch_keeps_its_reservation_to_the_end_of_its_first_paid_time() -> None:
    lost = pending(paid_until_s=1800)
    lost = dataclasses.replace(
        lost, state=AttemptState.TERMINATING, ending=EndReason.LOST, ending_at=at(901)
    )
    kept = attempt_of(a_snapshot(1919, attempts=[lost]))
    assert kept.state is AttemptState.TERMINATING
    assert exposure(kept, LIMITS) == billed(1920, (), ON_DEMAND)
    gone = attempt_of(a_snapshot(1920, attempts=[lost]))
    assert (gone.state, gone.end_reason) == (AttemptState.ENDED, EndReason.LOST)
    assert gone.cost_usd_micros == 0


def test_a_region_that_does_not_answer_loses_nobody() -> None:
    for attempt in (pending(), an_attempt()):
        snapshot = a_snapshot(
            10**5,
            attempts=[attempt],
            silent_regions=["us-east-1"],
            not_found=frozenset({f"i-{ID}"}),
        )
        assert attempt_of(snapshot).state is attempt.state


def test_a_launch_that_nobody_looked_for_in_time_is_booked_at_the_dearest() -> None:
    """We were away: an instance may have run all its paid time and left the listing since."""
    attempt = pending(paid_until_s=1800)
    in_time, too_late = 1800 + 3000, 1800 + 3001
    assert attempt_of(a_snapshot(in_time, attempts=[attempt])).cost_usd_micros == 0
    # A first look that comes too late proves nothing.
    late = attempt_of(a_snapshot(too_late, attempts=[attempt]))
    assert late.state is AttemptState.ENDED
    assert late.cost_usd_micros == billed(1920, (), ON_DEMAND)


def test_a_launch_that_reported_once_is_never_booked_as_nothing() -> None:
    lost = pending(ending=EndReason.LOST, ending_s=1000)
    lost = dataclasses.replace(lost, state=AttemptState.TERMINATING)
    snapshot = a_snapshot(2000, attempts=[lost], reports=[a_report(at_s=60, phase=Phase.BOOT)])
    assert attempt_of(snapshot).cost_usd_micros == billed(1920, (), ON_DEMAND)


@pytest.mark.parametrize(("now_s", "ended"), [(599, False), (600, True)])
def test_a_launch_that_was_never_sent_ends_without_a_wait(now_s: int, ended: bool) -> None:
    found = attempt_of(a_snapshot(now_s, attempts=[pending(sent_s=None)]))
    assert (found.state is AttemptState.ENDED) is ended
    assert (found.cost_usd_micros == 0) is ended


def test_a_launch_that_is_not_wanted_and_was_never_sent_ends_at_once() -> None:
    unsent = dataclasses.replace(
        pending(sent_s=None), state=AttemptState.TERMINATING, ending=EndReason.CANCELLED
    )
    ended = attempt_of(a_snapshot(20, attempts=[unsent]))
    assert (ended.state, ended.end_reason) == (AttemptState.ENDED, EndReason.CANCELLED)


# -- reports -----------------------------------------------------------------------------------


def test_a_notice_interrupts() -> None:
    report = a_report(notice=a_notice(700))
    attempt = attempt_of(a_running_snapshot(reports=(report,)))
    assert (attempt.state, attempt.notice) == (AttemptState.INTERRUPTED, a_notice(700))


def test_a_notice_and_the_end_that_it_announced_in_one_look_are_one_interruption() -> None:
    """Both channels at once: the agent's report, which was read late, and EC2's own listing."""
    draft = settled(an_end(reports=(a_report(at_s=1700, notice=a_notice(1800)),)))
    attempt = draft.attempts[ID]
    assert (attempt.state, attempt.end_reason) == (AttemptState.ENDED, EndReason.INTERRUPTED)
    assert [event.kind for event in draft.events].count("ended") == 1


@pytest.mark.parametrize("moved_s", [640, 1300])
def test_a_notice_that_moves_is_followed_and_was_seen_when_it_was_seen(moved_s: float) -> None:
    """Also when the agent was started again meanwhile, which sees everything for the first time."""
    attempt = an_attempt(state=AttemptState.INTERRUPTED, notice=a_notice(700))
    report = a_report(notice=a_notice(moved_s, 590))
    draft = settled(a_running_snapshot(attempt=attempt, reports=(report,)))
    assert draft.attempts[ID].notice == a_notice(moved_s, 580)
    assert [event.kind for event in draft.events] == ["notice-moved"]


@pytest.mark.parametrize(
    ("committed_s", "safe_s"), [(None, None), (579, None), (580, 580), (590, 590)]
)
def test_the_work_is_safe_from_the_first_commit_after_the_notice(
    committed_s: float | None, safe_s: float | None
) -> None:
    report = a_report(notice=a_notice(700, 580), committed_s=committed_s, committed_step=120)
    attempt = attempt_of(a_running_snapshot(reports=(report,)))
    assert attempt.safe_at == (None if safe_s is None else at(safe_s))


@pytest.mark.parametrize(
    ("phase", "ending"),
    [
        (Phase.DONE, EndReason.DONE),
        (Phase.FAILED, EndReason.FAILED),
        (Phase.FAULT, EndReason.FAULT),
        (Phase.UNPAID, EndReason.UNPAID),
        (Phase.FENCED, EndReason.SUPERSEDED),
        (Phase.STOPPED, EndReason.CANCELLED),
    ],
)
def test_a_last_word_winds_it_down(phase: Phase, ending: EndReason) -> None:
    attempt = attempt_of(a_running_snapshot(reports=(a_report(phase=phase),)))
    assert (attempt.state, attempt.ending) == (AttemptState.TERMINATING, ending)


@pytest.mark.parametrize("phase", [Phase.BOOT, Phase.READY, Phase.TRAIN, Phase.HANDOVER])
def test_other_words_do_not(phase: Phase) -> None:
    attempt = attempt_of(a_running_snapshot(reports=(a_report(phase=phase),)))
    assert attempt.state is AttemptState.RUNNING


def test_unpaid_for_the_budgets_sake_is_said_so() -> None:
    told = an_attempt(end_detail="the budget leaves nothing")
    snapshot = a_running_snapshot(attempt=told, reports=(a_report(phase=Phase.UNPAID),))
    assert attempt_of(snapshot).ending is EndReason.BUDGET


def test_the_trainers_last_words_are_kept() -> None:
    report = a_report(phase=Phase.FAILED, message="exit 1", log_tail=("a", "the loss is NaN"))
    assert attempt_of(a_running_snapshot(reports=(report,))).end_detail.endswith("the loss is NaN")


# -- jobs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.ACTIVE, JobState.PAUSED])
def test_success_is_read_from_head(state: JobState) -> None:
    pause = Pause.BUDGET if state is JobState.PAUSED else None
    snapshot = a_snapshot(jobs=[a_job(state, pause=pause)], head=a_head(done="outputs"))
    job = settled(snapshot).jobs[JOB]
    assert (job.state, job.pause, job.ended_at) == (JobState.SUCCEEDED, None, at(600))


def test_a_report_alone_is_no_success() -> None:
    draft = settled(a_running_snapshot(reports=(a_report(phase=Phase.DONE),)))
    assert draft.jobs[JOB].state is JobState.ACTIVE


def failed(generation: int) -> Attempt:
    return an_attempt(
        generation,
        AttemptState.ENDED,
        ending=EndReason.FAILED,
        end_reason=EndReason.FAILED,
        end_detail="the loss is NaN",
        step_before=100 * generation,
        step_after=100 * generation + 100,
    )


@pytest.mark.parametrize(
    ("retries", "failures", "over"),
    [(0, 0, False), (0, 1, True), (1, 1, False), (1, 2, True), (2, 2, False)],
)
def test_retries_bound_the_failures(retries: int, failures: int, over: bool) -> None:
    attempts = [failed(n + 1) for n in range(failures)]
    snapshot = a_snapshot(jobs=[a_job(retries=retries)], attempts=attempts, head=a_head(500))
    job = settled(snapshot).jobs[JOB]
    assert (job.state is JobState.FAILED) is over
    assert not over or "the loss is NaN" in job.reason


def fruitless(generation: int, **changes: Any) -> Attempt:
    fields: dict[str, Any] = {
        "step_before": 100,
        "step_after": 100,
        "end_reason": EndReason.INTERRUPTED,
        **changes,
    }
    return an_attempt(generation, AttemptState.ENDED, **fields)


def job_of_attempts(*attempts: Attempt, step: int = 100) -> JobState:
    return settled(a_snapshot(attempts=attempts, head=a_head(step))).jobs[JOB].state


def test_three_attempts_without_a_later_step_fail_the_job() -> None:
    assert job_of_attempts(fruitless(1), fruitless(2)) is JobState.ACTIVE
    assert job_of_attempts(fruitless(1), fruitless(2), fruitless(3)) is JobState.FAILED


def test_they_have_to_be_the_last_three() -> None:
    good = fruitless(2, step_after=101)
    attempts = (fruitless(1), good, fruitless(3), fruitless(4))
    assert job_of_attempts(*attempts) is JobState.ACTIVE
    assert job_of_attempts(*attempts, fruitless(5)) is JobState.FAILED


@pytest.mark.parametrize(
    "unlucky",
    [
        fruitless(3, launched_s=None, end_reason=EndReason.REFUSED),
        fruitless(3, launched_s=None, end_reason=EndReason.LOST),
        fruitless(3, first_step_s=None, end_reason=EndReason.INTERRUPTED),
    ],
    ids=["refused", "lost", "interrupted before a step"],
)
def test_who_had_no_chance_counts_neither_way(unlucky: Attempt) -> None:
    assert job_of_attempts(fruitless(1), fruitless(2), unlucky) is JobState.ACTIVE
    assert job_of_attempts(fruitless(1), fruitless(2), unlucky, fruitless(4)) is JobState.FAILED


def test_a_boot_that_never_came_to_a_step_had_its_chance() -> None:
    boots = [fruitless(n, first_step_s=None, end_reason=EndReason.BOOT) for n in (1, 2, 3)]
    assert job_of_attempts(*boots) is JobState.FAILED


def test_an_end_while_head_cannot_be_read_is_judged_when_it_can() -> None:
    """Unknown is not 'no progress': three bad minutes of S3 must not fail a healthy job."""
    ends = an_end(head_unread=True)
    draft = settled(ends)
    ended = draft.attempts[ID]
    assert (ended.state, ended.step_after) == (AttemptState.ENDED, None)
    snapshot = a_snapshot(attempts=[ended], head=a_head(350))
    assert attempt_of(snapshot).step_after == 350


def test_a_restored_job_whose_attempts_failed_is_not_launched_again_first() -> None:
    snapshot = a_snapshot(jobs=[a_job(JobState.QUEUED)], attempts=[failed(1)], head=a_head(200))
    assert settled(snapshot).jobs[JOB].state is JobState.FAILED


# -- stories of one round ----------------------------------------------------------------------


def test_everything_at_once_in_the_order_in_which_it_happened() -> None:
    """The daemon was away: launch, boot, training, notice and end are found in one round."""
    report: Report = a_report(
        at_s=300, first_step_s=150, notice=a_notice(400, 280), committed_s=290, committed_step=40
    )
    instance = an_instance(pending(), InstanceState.ENDED, ended_s=400, ended_by=EndedBy.EC2)
    draft = settled(
        a_snapshot(attempts=[pending()], instances=[instance], reports=[report], head=a_head(40))
    )
    kinds = [event.kind for event in draft.plan().events]
    assert kinds == ["found", "starting", "training", "notice", "safe", "ended"]
    assert draft.attempts[ID].cost_usd_micros == 0


def test_a_round_that_learns_nothing_says_nothing() -> None:
    draft = settled(a_running_snapshot())
    assert not draft.plan().events
    assert not draft.plan().attempts


# -- what a policy learns ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "kept"), [(None, 10.0), (10.9, 10.0), (11.1, 11.1), (8.9, 8.9), (5.0, 5.0)]
)
def test_the_pace_is_kept_where_it_is_news(told: float | None, kept: float) -> None:
    attempt = an_attempt(steps_per_s=10.0, total_steps=1000)
    report = a_report(steps_per_s=told, total_steps=None)
    draft = after(settle, a_running_snapshot(attempt=attempt, reports=(report,)))
    assert draft.attempts[f"{JOB}.1"].steps_per_s == kept
    assert draft.attempts[f"{JOB}.1"].total_steps == 1000


@pytest.mark.parametrize("state", [InstanceState.ENDING, InstanceState.ENDED])
@pytest.mark.parametrize("notice", [None, a_notice(700)])
def test_an_end_by_price_is_an_interruption_with_a_cool_down_of_its_own(
    state: InstanceState, notice: Notice | None
) -> None:
    before = AttemptState.INTERRUPTED if notice else AttemptState.RUNNING
    attempt = an_attempt(1, before, notice=notice)
    off = an_instance(attempt, state, ended_s=590, ended_by=EndedBy.PRICE)
    snapshot = a_running_snapshot(attempt=attempt, instances=(off,), reports=())
    draft = after(settle, snapshot)
    changed = draft.attempts[f"{JOB}.1"]
    if state is InstanceState.ENDED:
        assert changed.end_reason is EndReason.INTERRUPTED
        assert changed.cost_usd_micros == 0  # in its first hour
    if state is InstanceState.ENDED or notice is None:
        assert [it.meaning for it in draft.refusals] == [Refused.PRICE]


def test_three_fruitless_boots_are_told_in_words() -> None:
    attempts = [dataclasses.replace(fruitless(n), end_reason=EndReason.BOOT) for n in (1, 2, 3)]
    draft = after(settle, a_snapshot(attempts=attempts, head=a_head(100)))
    assert draft.jobs[JOB].reason.endswith("step 100: the last one ended by boot")
