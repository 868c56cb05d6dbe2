"""What becomes of trainers that stall, that outlive their agents, and that are asked for
checkpoints by the clock."""

from __future__ import annotations

from spotrunner.core.model import CommandVerb, EndReason
from spotrunner.core.saving import Saving
from spotrunner.core.states import JobState
from spotrunner.sim.trainer import Training
from tests.daemon.tale import JOB, Tale, ended

STEPS_A_S = 10


# -- a stall


def test_a_trainer_that_stalls_is_started_again_in_place_and_the_job_goes_on() -> None:
    tale = Tale()
    tale.until_trains(1, steps=4000)
    tale.stall(1)
    tale.until(lambda: bool(tale.events("stalled")), 700)
    tale.until(lambda: bool(tale.events("restarted-in-place")), 30)
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert [a.end_reason for a in tale.attempts()] == [EndReason.DONE]
    assert tale.attempt(1).restarts == 1
    assert "no sign of life" in tale.events("stalled")[0].why
    assert "stalled at step" in tale.events("restarted-in-place")[0].why


def test_a_second_stall_moves_the_job() -> None:
    tale = Tale()
    tale.until_trains(1, steps=4000)
    tale.stall(1)
    tale.until(lambda: bool(tale.events("restarted-in-place")), 700)
    tale.until(lambda: tale.agent(1).steps_done > 4200, 300)
    tale.stall(1)
    tale.until(lambda: ended(tale.attempt(1)), 900)
    assert tale.attempt(1).end_reason is EndReason.FAULT
    assert "started again once" in tale.attempt(1).end_detail
    tale.until_trains(2)
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED


def test_a_trainer_that_stalls_at_one_step_for_ever_is_not_paid_for_ever() -> None:
    tale = Tale(training=Training(stalls_at_step=7000))
    tale.until_over()
    job = tale.job()
    assert job.state is JobState.FAILED
    assert "attempts in a row brought no later checkpoint than step 6000" in job.reason
    assert "stalled" in job.reason
    # One that brings 6000, and three that bring nothing, of two silences each.
    assert len(tale.attempts()) == 4
    assert tale.billed_usd_micros() < 1.5 * tale.attempt(1).offer.dearest_usd_micros_hour


def test_a_notice_during_a_stall_moves_the_job_at_once() -> None:
    tale = Tale()
    tale.until_trains(1, steps=4000)
    tale.stall(1)
    tale.run(300)
    tale.interrupt(1)
    tale.until_trains(2)
    assert tale.events("stalled") == []
    assert tale.attempt(1).notice is not None


# -- an agent that is killed


def test_an_agent_that_is_killed_costs_its_trainer_nothing() -> None:
    tale = Tale()
    tale.until_trains(1, steps=4000)
    trainer = tale.agent(1).trainer
    tale.kill_agent(1)
    tale.run(60)
    assert tale.agent(1).trainer is trainer
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert len(tale.attempts()) == 1
    assert tale.attempt(1).restarts == 0


def test_an_agent_that_is_killed_inside_the_notice_still_commits_the_last_step() -> None:
    tale = Tale()
    tale.until_trains(1, steps=4000)
    tale.interrupt(1)
    tale.run(20)
    tale.kill_agent(1)
    tale.until_trains(2)
    assert tale.lost_steps() == [0]
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED


def test_an_agent_that_is_killed_while_its_job_is_paused_stops_it_all_the_same() -> None:
    tale = Tale()
    tale.until_trains(1, steps=4000)
    tale.command(JOB, CommandVerb.PAUSE)
    tale.kill_agent(1)
    tale.until(lambda: ended(tale.attempt(1)), 600)
    assert tale.head_step() == tale.agent(1).steps_done


def test_what_an_attempt_reached_first_stays_its_milestone() -> None:
    tale = Tale()
    tale.until_trains(1, steps=4000)
    tale.run(60)
    reached = tale.attempt(1).milestones
    assert reached.agent_at is not None
    assert reached.head_at is not None
    assert reached.restored_at is not None
    assert reached.agent_at < reached.head_at <= reached.restored_at
    tale.kill_agent(1)
    tale.run(120)
    assert tale.attempt(1).milestones == reached


# -- saves by the clock


def test_without_saves_of_its_own_a_trainer_is_asked_for_them() -> None:
    never = Training(save_every_steps=10**9)
    asked = Tale(training=never, saving=Saving(auto=True))
    asked.until_trains(1, steps=20_000)
    asked.interrupt(1, notice=False)
    asked.until_trains(2)
    left_alone = Tale(training=never)
    left_alone.until_trains(1, steps=20_000)
    left_alone.interrupt(1, notice=False)
    left_alone.until_trains(2)
    assert asked.lost_steps()[0] < 400 * STEPS_A_S
    assert left_alone.lost_steps()[0] >= 20_000


def test_its_order_is_not_written_anew_for_a_figure_that_wobbles() -> None:
    tale = Tale(saving=Saving(auto=True))
    tale.until_trains(1, steps=1000)
    tale.run(600)
    order = tale.attempt(1).order
    assert order is not None
    assert order.save_every_s is not None
    n = order.n
    tale.run(240)
    after = tale.attempt(1).order
    assert after is not None
    assert after.n <= n + 1, "a payment at most"


# -- one that knows no SIGUSR1


def an_unaware_one() -> Tale:
    """It was asked once, ended by that, and was started again in place."""
    tale = Tale(saving=Saving(auto=True), training=Training(unaware=True, save_every_steps=5000))
    tale.until_trains(1, steps=1000)
    tale.until(lambda: not tale.attempt(1).handles_save_signal, 1200)
    return tale


def test_a_trainer_that_ended_by_the_save_signal_is_asked_by_no_attempt_of_its_job() -> None:
    tale = an_unaware_one()
    tale.until_trains(1, steps=6000)
    tale.interrupt(1, notice=False)
    tale.until_trains(2)
    order = tale.attempt(2).order
    assert order is not None
    assert order.save_every_s is None
    assert not order.handles_save_signal
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert [a.restarts for a in tale.attempts()] == [1, 0]
    (story,) = tale.events("unaware-of-saves")
    assert "save_signal: false" in story.why


def test_a_notice_stops_such_a_trainer_at_once_in_every_later_attempt() -> None:
    tale = an_unaware_one()
    tale.until_trains(1, steps=6000)
    tale.interrupt(1, notice=False)
    tale.until_trains(2, steps=1000)
    tale.interrupt(2)
    tale.until_trains(3)
    assert tale.lost_steps()[-1] == 0
    assert tale.attempt(2).restarts == 0


def test_that_it_knows_no_such_signal_outlives_the_agent_that_saw_it() -> None:
    tale = an_unaware_one()
    tale.kill_agent(1)
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert [a.restarts for a in tale.attempts()] == [1]
