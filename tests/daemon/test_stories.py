"""What happens to a job, from its submission to its end, in virtual time: the daemon's rounds, the
agents' machine, HEAD, the mail and the ledger are the real ones."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from spotrunner.core.model import CommandVerb, EndReason, Limits, Pause, Phase, Refused
from spotrunner.core.states import AttemptState, JobState
from spotrunner.sim.cloud import run_request
from spotrunner.sim.faults import Fault, Lose, refusal
from spotrunner.sim.trainer import Training
from spotrunner.sim.values import ApiError, Manners
from tests.daemon.tale import JOB, Tale, ended


def test_a_quiet_night() -> None:
    tale = Tale()
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert [a.end_reason for a in tale.attempts()] == [EndReason.DONE]
    assert tale.attempt(1).offer.pool.zone == "us-east-1a"  # the cheapest


# -- interruptions -----------------------------------------------------------------------------


def test_a_notice_costs_no_step_and_the_replacement_takes_over_inside_it() -> None:
    tale = Tale()
    tale.until_trains(1, steps=2000)
    tale.interrupt(1)
    noticed_at = tale.clock.now()
    tale.until_trains(2)
    assert tale.clock.now() < noticed_at + dt.timedelta(seconds=150)
    old, new = tale.agent(1), tale.agent(2)
    assert new.trainer is not None
    assert new.trainer.step(tale.clock.now()) >= old.steps_done
    assert tale.head_step() == old.steps_done, "the last step of the old one is committed"
    assert tale.attempt(2).offer.pool != tale.attempt(1).offer.pool
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED


def test_the_replacement_starts_at_the_notice_and_the_old_one_trains_until_it_is_ready() -> None:
    tale = Tale()
    tale.until_trains(1, steps=2000)
    tale.interrupt(1)
    at_notice = tale.agent(1).steps_done
    tale.until(lambda: tale.attempt_or_none(2) is not None, 20)
    tale.until(lambda: bool(tale.head() and tale.head().final), 150)  # type: ignore[union-attr]
    assert tale.agent(1).steps_done > at_notice + 300, "it did not stop at the notice"
    assert tale.agent(2).machine.phase is Phase.READY


def test_an_interrupted_instance_in_its_first_hour_idles_until_ec2_takes_it_for_free() -> None:
    tale = Tale()
    tale.until_trains(1, steps=2000)
    tale.interrupt(1)
    tale.until_trains(2)
    assert f"{JOB}.1" in tale.alive(), "it idles"
    tale.until(lambda: ended(tale.attempt(1)))
    assert tale.attempt(1).end_reason is EndReason.INTERRUPTED
    assert tale.attempt(1).free
    assert tale.world.bill(tale.clock.now())[0].free
    assert 0 < (tale.attempt(1).cost_usd_micros or 0) < 5_000, "its disk and address are billed"


def test_what_an_attempt_brought_is_its_own_and_not_its_successors() -> None:
    tale = Tale()
    tale.until_trains(1, steps=2000)
    tale.interrupt(1)
    tale.until(lambda: ended(tale.attempt(1)))
    handed_over = tale.agent(1).steps_done
    tale.until_over()
    assert tale.attempt(1).step_after == handed_over
    assert (tale.attempt(2).step_after or 0) > handed_over


def test_after_the_first_hour_it_ends_itself_as_soon_as_it_has_handed_over() -> None:
    tale = Tale(training=Training(total_steps=80_000))
    tale.until_trains(1, steps=40_000)
    tale.interrupt(1)
    announced = tale.clock.now() + dt.timedelta(seconds=120)
    tale.until(lambda: f"{JOB}.1" not in tale.alive(), 119)
    assert tale.clock.now() < announced
    tale.until(lambda: ended(tale.attempt(1)))
    assert (tale.attempt(1).cost_usd_micros or 0) > 150_000


def test_an_unannounced_death_costs_at_most_the_steps_since_the_last_save() -> None:
    tale = Tale()
    tale.until_trains(1, steps=20_000)
    tale.interrupt(1, notice=False)
    died_at = tale.agent(1).steps_done
    tale.until_trains(2)
    second = tale.agent(2).trainer
    assert second is not None
    resumed = second.step(tale.clock.now())
    assert died_at - resumed <= 3000 + 200  # one interval, and what was done while it was saved
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert tale.attempt(1).end_reason is EndReason.INTERRUPTED


def test_two_attempts_before_any_checkpoint_exists() -> None:
    tale = Tale()
    tale.until_trains(1)
    tale.interrupt(1, notice=False)
    tale.until_trains(2)
    assert tale.head_step() == 0
    assert tale.head() is not None
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED


def test_a_notice_while_the_instance_boots() -> None:
    tale = Tale()
    tale.until(lambda: bool(tale.fleet.agents))
    tale.interrupt(1)
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert tale.attempt(1).end_reason is EndReason.INTERRUPTED
    assert tale.attempt(2).end_reason is EndReason.DONE


def test_the_replacement_is_interrupted_before_it_took_over() -> None:
    tale = Tale()
    tale.until_trains(1, steps=2000)
    tale.interrupt(1)
    tale.until(lambda: any(a.attempt == f"{JOB}.2" for a in tale.fleet.agents.values()))
    tale.interrupt(2)
    tale.until_trains(3)
    assert tale.attempt(3).step_before >= 2000
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED


# -- launches ----------------------------------------------------------------------------------


def test_a_refused_pool_is_remembered_and_the_next_one_tried_at_once() -> None:
    tale = Tale()
    pool = next(iter(tale.world.pools.offered("us-east-1")))
    pool = dataclasses.replace(pool, zone="us-east-1a", instance_type="g4dn.xlarge")
    tale.world.faults.script(refusal(pool, tale.job().spec.market, Refused.CAPACITY, times=9))
    tale.until_trains(2)
    assert tale.attempt(1).end_reason is EndReason.REFUSED
    assert tale.attempt(1).cost_usd_micros == 0
    assert tale.attempt(2).offer.pool.zone == "us-east-1b"
    assert tale.attempt(2).intent_at - tale.attempt(1).intent_at <= dt.timedelta(seconds=1)
    assert [event.kind for event in tale.events("refused")] == ["refused"]


def test_launches_that_find_no_capacity_after_all_are_weather_and_not_the_jobs_fault() -> None:
    tale = Tale()
    dies = Fault(dies="Server.InsufficientInstanceCapacity", times=4)
    tale.world.faults.script(dies)
    tale.until_trains(5)
    tried = [tale.attempt(generation).offer.pool for generation in range(1, 6)]
    assert len(set(tried)) == 5, "each of them somewhere else"
    assert [tale.attempt(n).end_reason for n in range(1, 5)] == [EndReason.FAULT] * 4
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED


def test_an_orphan_in_a_region_that_left_the_settings_is_found() -> None:
    tale = Tale()
    tale.lose("RunInstances", Lose.BEFORE, times=10_000)
    tale.run(tale.limits.intent_s + tale.limits.lost_s + 60)
    tale.world.faults.clear()
    request = tale.attempt(1).request
    assert request is not None
    assert request.pool.region == "us-east-1"
    tale.world.run_instances(tale.clock.now(), run_request(request))
    tale.regions = ("eu-west-1",)
    tale.start_daemon()
    tale.until(lambda: f"{JOB}.1" not in tale.alive(), 900)


@pytest.mark.parametrize("meaning", [Refused.QUOTA, Refused.PERMISSION])
def test_what_concerns_the_region_is_not_tried_again_in_its_other_zones(meaning: Refused) -> None:
    tale = Tale()
    for pool in tale.world.pools.offered("us-east-1"):
        tale.world.faults.script(refusal(pool, tale.job().spec.market, meaning, times=9))
    tale.until_trains(2)
    assert tale.attempt(2).offer.pool.region == "eu-west-1"


def test_the_answer_of_a_launch_that_happened_is_lost() -> None:
    tale = Tale(manners=Manners(filtered_s=(30.0, 40.0), listed_s=(20.0, 30.0)))
    tale.lose("RunInstances", Lose.AFTER)
    tale.until_trains(1)
    assert len(tale.world.truth(tale.clock.now())) == 1, "the same token gave the same instance"
    assert len(tale.attempts()) == 1
    assert tale.events("launch-unknown")


def test_a_launch_that_never_reached_ec2_is_sent_again_with_the_same_bytes() -> None:
    tale = Tale()
    tale.lose("RunInstances", Lose.BEFORE, times=3)
    tale.until(lambda: tale.attempt_or_none(1) is not None and bool(tale.attempt(1).sent_at))
    stored = tale.attempt(1).request
    tale.until_trains(1)
    assert tale.attempt(1).request == stored
    assert len(tale.attempts()) == 1


def test_the_launch_answer_is_lost_and_the_user_data_rendered_anew() -> None:
    """A token with other bytes means that it was launched: it is looked up, not launched anew."""
    tale = Tale(manners=Manners(filtered_s=(30.0, 40.0), listed_s=(20.0, 30.0)))
    tale.lose("RunInstances", Lose.AFTER)
    tale.until(lambda: bool(tale.events("launch-unknown")))
    attempt = tale.attempt(1)
    assert attempt.request is not None
    other = dataclasses.replace(attempt.request, user_data=attempt.request.user_data + "# new")
    tale.tamper(dataclasses.replace(attempt, request=other))
    tale.until_trains(1)
    assert len(tale.world.truth(tale.clock.now())) == 1
    assert len(tale.attempts()) == 1


def test_a_launch_sent_again_that_may_not_be_asked_for_is_not_taken_for_refused() -> None:
    """The first sending may have launched it: it stays unknown, and is found by its token."""
    tale = Tale(manners=Manners(filtered_s=(30.0, 40.0), listed_s=(20.0, 30.0)))
    tale.lose("RunInstances", Lose.AFTER)
    tale.until(lambda: bool(tale.events("launch-unknown")))
    expired = ApiError("RequestExpired", "Request has expired.", 400)
    tale.world.faults.script(Fault(action="RunInstances", error=expired, times=1))
    tale.until_trains(1)
    assert len(tale.world.truth(tale.clock.now())) == 1
    assert len(tale.attempts()) == 1


def test_nothing_of_a_launch_is_seen_so_it_is_given_up_with_its_reservation_kept() -> None:
    tale = Tale()
    tale.lose("RunInstances", Lose.BEFORE, times=10_000)
    tale.run(tale.limits.intent_s + tale.limits.lost_s + 60)
    assert tale.attempt(1).state is AttemptState.TERMINATING
    assert tale.attempt(1).ending is EndReason.LOST
    assert tale.attempt(1).paid_until > tale.clock.now(), "its money stays reserved"
    tale.world.faults.clear()
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert tale.attempt(1).end_reason is EndReason.LOST


def test_an_instance_that_the_listing_does_not_show_is_not_taken_for_dead() -> None:
    tale = Tale(manners=Manners(filtered_s=(600.0, 600.0), listed_s=(500.0, 500.0)))
    tale.until_trains(1, steps=3000)
    assert len(tale.attempts()) == 1


# -- the daemon is away ------------------------------------------------------------------------


def test_an_instance_alone_stops_in_its_paid_time_with_its_work_committed() -> None:
    tale = Tale(training=Training(total_steps=100_000))
    tale.until_trains(1, steps=2000)
    tale.kill_daemon()
    paid_until = tale.attempt(1).paid_until
    tale.until(lambda: tale.alive() == [], 3600)
    assert tale.clock.now() <= paid_until
    assert tale.head_step() == tale.agent(1).steps_done
    tale.start_daemon()
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert tale.attempt(1).end_reason is EndReason.UNPAID


def test_a_daemon_that_dies_after_every_round() -> None:
    tale = Tale()
    tale.until_trains(1, steps=2000)
    tale.interrupt(1)
    while not tale.job().state.over:
        tale.kill_daemon()
        tale.start_daemon()
        tale.run(tale.tick_s)
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert len(tale.attempts()) == 2


def test_the_ledger_does_not_book_the_daemons_own_absence() -> None:
    """EC2 tells no time of a shutdown from inside: its paid time bounds it."""
    tale = Tale(training=Training(total_steps=10**6), budget_usd_micros=300_000)
    tale.until_trains(1, steps=1000)
    tale.kill_daemon()
    tale.run(50 * 60)  # it stops by itself, and is still listed
    tale.start_daemon()
    tale.run(60)
    first = tale.attempt(1)
    assert first.end_reason is EndReason.UNPAID
    assert (first.cost_usd_micros or 0) <= 526_000 * 32 // 60


def test_a_notice_while_the_daemon_is_away() -> None:
    tale = Tale()
    tale.until_trains(1, steps=2000)
    tale.kill_daemon()
    tale.interrupt(1)
    tale.until(lambda: tale.alive() == [], 300)
    assert tale.head_step() == tale.agent(1).steps_done
    tale.start_daemon()
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED


def test_a_store_restored_from_a_backup_hands_out_no_old_generation() -> None:
    tale = Tale()
    tale.until_trains(1, steps=4000)
    tale.restore_backup()  # the job is there, its attempts are not: receipts tell of them
    tale.until_over()
    generations = [attempt.generation for attempt in tale.attempts()]
    assert generations == sorted(set(generations))
    assert tale.job().state is JobState.SUCCEEDED
    assert tale.attempt(1).end_reason is EndReason.DONE


# -- silence -----------------------------------------------------------------------------------


def test_a_silent_agent_is_replaced_fenced_and_ended() -> None:
    tale = Tale(training=Training(total_steps=100_000))
    tale.until_trains(1, steps=5000)
    tale.agent(1).mute = True
    tale.until_trains(2)
    assert f"{JOB}.1" in tale.alive() or tale.attempt(1).ending is EndReason.SILENT
    tale.until(lambda: f"{JOB}.1" not in tale.alive(), 120)
    tale.agent(1).mute = False
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert tale.attempt(1).end_reason is EndReason.SILENT


def test_an_outage_of_our_own_mail_makes_nobody_silent() -> None:
    tale = Tale(training=Training(total_steps=20_000))
    tale.until_trains(1, steps=2000)
    for _ in range(30):
        tale.break_mail()
        tale.run(tale.tick_s)
    assert len(tale.attempts()) == 1


# -- users -------------------------------------------------------------------------------------


def test_cancel_saves_and_ends() -> None:
    tale = Tale()
    tale.until_trains(1, steps=2000)
    tale.command(JOB, CommandVerb.CANCEL)
    tale.until_over(600)
    assert tale.job().state is JobState.CANCELLED
    assert tale.attempt(1).end_reason is EndReason.CANCELLED
    assert tale.head_step() == tale.agent(1).steps_done


def test_cancel_before_the_launch_is_confirmed() -> None:
    tale = Tale(manners=Manners(filtered_s=(30.0, 40.0), listed_s=(20.0, 30.0)))
    tale.lose("RunInstances", Lose.AFTER)
    tale.run(5)
    tale.command(JOB, CommandVerb.CANCEL)
    tale.until_over(3600)
    assert tale.job().state is JobState.CANCELLED


def test_a_checkpoint_on_request() -> None:
    tale = Tale()
    tale.until_trains(1, steps=500)
    assert tale.head_step() == 0
    tale.command(JOB, CommandVerb.CHECKPOINT)
    tale.until(lambda: tale.head_step() > 0, 60)
    assert len(tale.attempts()) == 1


# -- failures ----------------------------------------------------------------------------------


def test_a_trainer_that_fails_fails_the_job_with_its_last_words() -> None:
    tale = Tale(training=Training(fails_at_step=4000))
    tale.until_over()
    assert tale.job().state is JobState.FAILED
    assert "the loss is NaN" in tale.job().reason
    assert [a.end_reason for a in tale.attempts()] == [EndReason.FAILED]


def test_retries_start_somewhere_else_and_go_on_from_the_last_checkpoint() -> None:
    tale = Tale(training=Training(fails_at_step=4000), retries=1)
    tale.until_over()
    assert tale.job().state is JobState.FAILED
    assert [a.end_reason for a in tale.attempts()] == [EndReason.FAILED] * 2
    assert tale.attempt(2).step_before == 3000


def test_three_attempts_without_a_later_step_fail_the_job() -> None:
    tale = Tale(training=Training(save_every_steps=10**9, total_steps=10**9))
    for generation in (1, 2, 3):
        tale.until_trains(generation)
        tale.interrupt(generation, notice=False)
        tale.until(lambda n=generation: ended(tale.attempt(n)))  # type: ignore[misc]
    tale.until_over(120)
    assert tale.job().state is JobState.FAILED
    assert "3 attempts in a row" in tale.job().reason


# -- money -------------------------------------------------------------------------------------


def test_a_budget_stops_the_job_with_its_work_committed() -> None:
    tale = Tale(training=Training(total_steps=10**6), budget_usd_micros=600_000)
    tale.until(lambda: tale.job().state is JobState.PAUSED, 6 * 3600)
    assert tale.job().pause is Pause.BUDGET
    assert tale.alive() == []
    assert tale.head_step() == max(agent.steps_done for agent in tale.fleet.gone.values())
    spent = sum(charge.usd_micros for charge in tale.world.bill(tale.clock.now()))
    assert spent <= 600_000
    assert spent > 300_000, "most of what the cap allows was used"


def test_a_budget_below_a_first_step_launches_nothing_and_says_what_it_needs() -> None:
    tale = Tale(budget_usd_micros=100_000)
    tale.run(60)
    assert tale.job().state is JobState.PAUSED
    assert "0.1536 USD in reserve" in tale.job().reason
    assert tale.attempts() == ()


def test_the_cap_holds_with_the_daemon_dead_and_the_network_cut() -> None:
    tale = Tale(training=Training(total_steps=10**6), budget_usd_micros=400_000)
    tale.until_trains(1, steps=1000)
    tale.kill_daemon()
    tale.agent(1).mute = True
    tale.run(2 * 3600)  # the promise is checked every second
    assert tale.alive() == []


def test_a_slow_terminate_is_asked_for_again_until_it_is_done() -> None:
    limits = Limits(stop_s=30)
    tale = Tale(
        manners=Manners(shutting_down_s=(300.0, 300.0)),
        limits=limits,
        training=Training(deaf=True),
    )
    tale.until_trains(1, steps=1000)
    tale.lose("TerminateInstances", Lose.BEFORE, times=3)
    tale.agent(1).mute = True  # it never reads the order to stop
    tale.command(JOB, CommandVerb.CANCEL)
    tale.until_over(1800)
    assert tale.attempt(1).end_reason is EndReason.CANCELLED
