"""What breaks, and the caps that hold all the same.

Every second of every story `Tale.step` holds each cap against what the store says is spent and
reserved, and against what EC2 bills for all instances that there ever were.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from spotrunner.core.caps import Bound, Caps
from spotrunner.core.model import Attempt, CommandVerb, EndReason, Market, Pause, Refused
from spotrunner.core.money import dearest_usd_micros_hour
from spotrunner.core.states import JobState
from spotrunner.sim.agents import Durations
from spotrunner.sim.faults import Lose
from spotrunner.sim.trainer import Training
from tests.daemon.tale import JOB, T0, Tale, a_spec, ended

ENDLESS = Training(total_steps=10**6)
OTHER = "job-bbbb"


def clock(hour: int, minute: int = 0, *, days: int = 0) -> dt.datetime:
    return T0.replace(hour=hour, minute=minute) + dt.timedelta(days=days)


def all_was_saved(tale: Tale, job_id: str = JOB) -> bool:
    """HEAD bears the last step that was ever made."""
    return tale.head_step(job_id) == max(agent.steps_done for agent in tale.agents(job_id))


def is_right_or_estimated(tale: Tale, attempt: Attempt) -> bool:
    """EC2 tells the time of an end some seconds late, and a minute late where an instance powered
    itself off. In doubt the dearer is booked."""
    booked, billed = attempt.cost_usd_micros or 0, tale.billed_usd_micros_of(attempt.id)
    two_minutes = dearest_usd_micros_hour(attempt) // 30
    return billed <= booked and (attempt.estimated or booked <= billed + two_minutes)


def are_right_or_estimated(tale: Tale) -> bool:
    return all(is_right_or_estimated(tale, it) for it in tale.all_attempts() if ended(it))


# -- the daemon --------------------------------------------------------------------------------


@pytest.mark.parametrize("away_h", [0.8, 2, 9])
def test_the_daemon_is_killed_and_away_for_hours(away_h: float) -> None:
    tale = Tale(training=ENDLESS, budget_usd_micros=1_000_000)
    tale.until_trains(1, steps=2000)
    paid_until = tale.attempt(1).paid_until
    tale.kill_daemon()
    tale.until(lambda: tale.alive() == [], away_h * 3600)
    assert tale.clock.now() <= paid_until
    assert all_was_saved(tale), "it stopped itself with a checkpoint"
    tale.until_at(T0 + dt.timedelta(hours=away_h))
    tale.start_daemon()
    tale.until_trains(2, steps=tale.head_step())
    first = tale.attempt(1)
    assert first.end_reason is EndReason.UNPAID
    assert is_right_or_estimated(tale, first)


@pytest.mark.parametrize("skew_s", [-300, 300])
def test_the_clock_of_the_daemons_host_is_wrong(skew_s: int) -> None:
    tale = Tale(training=ENDLESS, budget_usd_micros=600_000)
    tale.daemon_clock.skew = dt.timedelta(seconds=skew_s)
    tale.start_daemon()
    tale.until_paused(Pause.BUDGET)
    assert all_was_saved(tale)
    assert 300_000 < tale.billed_usd_micros() <= 600_000
    assert are_right_or_estimated(tale)


def test_the_clock_of_the_daemons_host_goes_wrong_while_it_works() -> None:
    tale = Tale(training=ENDLESS, budget_usd_micros=600_000)
    for skew_s in (300, 0, -300, 300):
        tale.run(700)
        tale.daemon_clock.skew = dt.timedelta(seconds=skew_s)
        tale.start_daemon()
    tale.until_paused(Pause.BUDGET)
    assert all_was_saved(tale)
    assert len(tale.attempts()) <= 8, "it disturbs nobody"


def test_the_store_is_restored_from_yesterday() -> None:
    """Since then: a launch, an extension, an end, and a new job."""
    tale = Tale(training=ENDLESS, budget_usd_micros=2_000_000)
    tale.until_trains(1, steps=2000)
    tale.back_up()
    tale.interrupt(1)
    tale.until_trains(2, steps=tale.agent(1).steps_done)
    tale.until(lambda: ended(tale.attempt(1)))
    tale.submit(a_spec(budget_usd_micros=1_000_000), OTHER)
    tale.until_trains(1, steps=2000, job_id=OTHER)
    paid_until = tale.attempt(2).paid_until
    tale.until(lambda: tale.attempt(2).paid_until > paid_until)
    spent = {attempt.id: attempt.cost_usd_micros for attempt in tale.all_attempts()}
    paid_until = tale.attempt(2).paid_until

    tale.restore_backup()
    assert {attempt.id: attempt.cost_usd_micros for attempt in tale.all_attempts()} == spent
    assert tale.attempt(2).paid_until == paid_until
    assert tale.job(OTHER).pause is Pause.USER
    assert "backup" in tale.job(OTHER).reason
    tale.until_paused(Pause.USER, job_id=OTHER)
    assert all_was_saved(tale, OTHER)
    assert len(tale.attempts()) == 2, "what runs goes on"
    tale.until_paused(Pause.BUDGET, 12 * 3600)
    assert all_was_saved(tale)
    assert are_right_or_estimated(tale)


def test_what_every_receipt_says_and_the_store_has_lost_is_not_spent_again() -> None:
    tale = Tale(training=ENDLESS, budget_usd_micros=600_000)
    tale.until_paused(Pause.BUDGET)
    for _ in range(3):
        tale.restore_backup()
        tale.run(1800)
        assert tale.alive() == []
        assert tale.job().pause is Pause.BUDGET


# -- the market --------------------------------------------------------------------------------


@pytest.mark.parametrize("after_s", [120, 1500, 3700])
def test_the_price_jumps_to_on_demand_between_two_polls(after_s: int) -> None:
    tale = Tale(training=ENDLESS, budget_usd_micros=700_000)
    tale.run(after_s)
    tale.price(526_000)
    tale.until_paused(Pause.BUDGET)
    assert all_was_saved(tale)
    assert 400_000 < tale.billed_usd_micros() <= 700_000
    assert are_right_or_estimated(tale)


def test_ec2_no_longer_tells_how_it_ended() -> None:
    """It was free, but that cannot be known any more: the dearer case is booked."""
    tale = Tale(training=ENDLESS)
    tale.until_trains(1, steps=4000)
    tale.kill_daemon()
    tale.interrupt(1, notice=False)
    tale.run(3 * 3600)
    tale.start_daemon()
    tale.until_trains(2)
    first = tale.attempt(1)
    assert first.estimated
    assert (first.cost_usd_micros or 0) > tale.billed_usd_micros_of(first.id)
    assert "estimated" in tale.events("ended")[0].why


def test_a_launch_that_is_asked_for_again_is_not_refused_what_it_has_got() -> None:
    """The first answer was lost, and meanwhile the pools are empty: the token tells."""
    tale = Tale(training=ENDLESS, budget_usd_micros=400_000, regions=("us-east-1",))
    tale.lose("RunInstances", Lose.AFTER)
    tale.until(lambda: bool(tale.events("launch-unknown")))
    for pool in tale.world.pools.offered("us-east-1"):
        tale.world.refuse(pool, Market.SPOT, Refused.CAPACITY, times=5)
    tale.until_trains(1)
    assert len(tale.attempts()) == 1


# -- an agent without S3 -----------------------------------------------------------------------


@pytest.mark.parametrize("cut_s", [100, 240, 900, 2400])
def test_an_agent_cannot_reach_s3(cut_s: int) -> None:
    """Nothing is lost beyond one checkpoint interval and the time of the cut."""
    training = Training(total_steps=10**6)
    tale = Tale(training=training, budget_usd_micros=2_000_000)
    tale.until_trains(1, steps=5000)
    first = tale.agent(1)
    first.mute = True
    tale.run(cut_s)
    first.mute = False
    tale.run(1800)
    tale.interrupt(len(tale.attempts()))  # somebody has to go on from HEAD
    tale.until_trains(len(tale.attempts()) + 1)
    most = training.save_every_steps + (cut_s + 60) * training.steps_per_s
    assert max(tale.lost_steps()) <= most
    tale.command(JOB, CommandVerb.CANCEL)
    tale.until_over()


# -- caps that jobs share ----------------------------------------------------------------------

SHARED = {
    "all of the installation": Caps(installation=Bound(total_usd_micros=700_000)),
    "a day of it": Caps(installation=Bound(day_usd_micros=700_000)),
    "all of an owner": Caps(owners={"alice": Bound(total_usd_micros=700_000)}),
    "a day of each owner": Caps(each_owner=Bound(day_usd_micros=700_000)),
}


@pytest.mark.parametrize("caps", SHARED.values(), ids=list(SHARED))
def test_two_jobs_race_for_the_last_dollar(caps: Caps) -> None:
    tale = Tale(training=ENDLESS, caps=caps, owner="alice", budget_usd_micros=None)
    tale.submit(a_spec(owner="alice"), OTHER)
    for job_id in (JOB, OTHER):
        tale.until_paused(Pause.BUDGET, job_id=job_id)
        assert all_was_saved(tale, job_id)
    spent = tale.billed_usd_micros() + tale.billed_usd_micros(OTHER)
    assert 400_000 < spent <= 700_000
    assert tale.alive() == []


def test_a_sweeps_cap_bounds_its_jobs_together_and_nobody_else() -> None:
    lr: dict[str, Any] = {"sweep": "lr", "sweep_budget_usd_micros": 600_000}
    tale = Tale(training=ENDLESS, **lr)
    tale.submit(a_spec(**lr), OTHER)
    tale.submit(a_spec(sweep="other"), "job-cccc")
    for job_id in (JOB, OTHER):
        tale.until_paused(Pause.BUDGET, job_id=job_id)
        assert all_was_saved(tale, job_id)
        assert "sweep lr" in tale.job(job_id).reason
    assert tale.billed_usd_micros() + tale.billed_usd_micros(OTHER) <= 600_000
    assert tale.job("job-cccc").state is JobState.ACTIVE


def test_the_cap_of_a_sweep_outlives_the_job_that_named_it() -> None:
    tale = Tale(training=ENDLESS, sweep="lr", budget_usd_micros=None)
    tale.submit(a_spec(sweep="lr", sweep_budget_usd_micros=600_000), OTHER)
    tale.until_trains(1, job_id=OTHER)
    tale.command(OTHER, CommandVerb.CANCEL)
    tale.until_paused(Pause.BUDGET)
    assert tale.billed_usd_micros() + tale.billed_usd_micros(OTHER) <= 600_000


def test_an_owners_cap_is_no_other_owners() -> None:
    caps = Caps(owners={"alice": Bound(total_usd_micros=400_000)})
    tale = Tale(training=ENDLESS, caps=caps, owner="alice", budget_usd_micros=None)
    tale.submit(a_spec(owner="bob", budget_usd_micros=None), OTHER)
    tale.until_paused(Pause.BUDGET)
    assert "alice's budget" in tale.job().reason
    assert tale.job(OTHER).state is JobState.ACTIVE
    assert tale.billed_usd_micros() <= 400_000
    tale.command(OTHER, CommandVerb.CANCEL)
    tale.until(lambda: tale.alive() == [])


@pytest.mark.parametrize("tz", ["UTC", "Asia/Shanghai", "America/New_York"])
def test_a_days_cap_stops_before_midnight_and_lets_go_on_after_it(tz: str) -> None:
    start = clock(12).astimezone(dt.timezone.utc)
    caps = Caps(tz=tz, installation=Bound(day_usd_micros=400_000))
    tale = Tale(training=ENDLESS, start=start, caps=caps, budget_usd_micros=None)
    tale.until_paused(Pause.BUDGET)
    assert all_was_saved(tale)
    assert "on 2026-11-01" in tale.job().reason
    stopped_at, step = tale.clock.now(), tale.head_step()
    tale.idle(lambda: tale.alive() != [])
    assert tale.clock.now() > stopped_at + dt.timedelta(minutes=30)
    last = len(tale.attempts())
    tale.until_trains(last, steps=step)
    assert tale.job().state is JobState.ACTIVE


def test_a_step_that_is_paid_over_midnight_is_two_days_money() -> None:
    caps = Caps(installation=Bound(day_usd_micros=300_000))
    tale = Tale(training=ENDLESS, start=clock(23, 30), caps=caps, budget_usd_micros=None)
    tale.run(3600)
    booked_until = tale.attempt(1).paid_until
    assert booked_until > clock(0, 15, days=1)
    tale.until_paused(Pause.BUDGET)
    assert all_was_saved(tale)


# -- another cap -------------------------------------------------------------------------------


def test_a_cap_is_lowered_below_what_is_spent() -> None:
    tale = Tale(training=Training(total_steps=72_000), budget_usd_micros=3_000_000)
    tale.until_trains(1, steps=30_000)
    tale.command(JOB, CommandVerb.EXTEND, budget_usd_micros=50_000)
    tale.run(tale.tick_s)
    paid_until = tale.attempt(1).paid_until
    tale.until_paused(Pause.BUDGET)
    assert tale.attempt(1).paid_until == paid_until, "it is not paid on"
    assert tale.attempt(1).end_reason is EndReason.BUDGET
    assert all_was_saved(tale)
    tale.run(1800)
    assert len(tale.attempts()) == 1

    tale.command(JOB, CommandVerb.EXTEND, budget_usd_micros=3_000_000)
    step = tale.head_step()
    tale.until_over()
    assert tale.attempt(2).step_before == step
    assert tale.job().state is JobState.SUCCEEDED


def test_a_cap_that_all_share_is_lowered_at_a_restart() -> None:
    caps = Caps(installation=Bound(total_usd_micros=3_000_000))
    tale = Tale(training=ENDLESS, caps=caps, budget_usd_micros=None)
    tale.submit(a_spec(), OTHER)
    tale.until_trains(1, steps=20_000)
    tale.kill_daemon()
    tale.caps = Caps(installation=Bound(total_usd_micros=50_000))
    tale.start_daemon()
    for job_id in (JOB, OTHER):
        tale.until_paused(Pause.BUDGET, job_id=job_id)
        assert all_was_saved(tale, job_id)
        assert len(tale.attempts(job_id)) == 1


# -- nobody is there ---------------------------------------------------------------------------


def test_unattended_it_trains_on_while_the_control_host_sleeps() -> None:
    tale = Tale(training=ENDLESS, budget_usd_micros=5_000_000, unattended_s=4 * 3600)
    tale.until_trains(1, steps=1000)
    tale.until(lambda: tale.attempt(1).paid_until > T0 + dt.timedelta(hours=4))
    paid_until = tale.attempt(1).paid_until
    tale.kill_daemon()
    tale.until_at(paid_until - dt.timedelta(minutes=2))
    assert tale.alive() == [f"{JOB}.1"], "it works all the time"
    tale.until(lambda: tale.alive() == [], 120)
    assert all_was_saved(tale)
    assert tale.billed_usd_micros() <= 5_000_000


def test_unattended_steps_shrink_near_the_cap() -> None:
    tale = Tale(training=ENDLESS, budget_usd_micros=1_000_000, unattended_s=4 * 3600)
    tale.until_paused(Pause.BUDGET, 12 * 3600)
    assert all_was_saved(tale)
    assert tale.billed_usd_micros() <= 1_000_000


def test_an_upgrade_under_hold_stops_nothing_and_launches_nothing() -> None:
    tale = Tale(training=ENDLESS)
    tale.until_trains(1, steps=2000)
    held_until = tale.clock.now() + dt.timedelta(hours=1)
    tale.store.hold(held_until)
    tale.run(2 * tale.tick_s)
    assert tale.attempt(1).paid_until > held_until, "it is paid for over the upgrade"
    tale.submit(a_spec(), OTHER)
    tale.run(2 * tale.tick_s)
    tale.kill_daemon()
    tale.run(50 * 60)
    tale.start_daemon()
    tale.until_at(held_until - dt.timedelta(seconds=30))
    assert tale.alive() == [f"{JOB}.1"]
    assert tale.attempts(OTHER) == ()
    assert "hold" in tale.job(OTHER).reason
    tale.until_trains(1, job_id=OTHER)
    assert len(tale.attempts()) == 1


def test_under_the_brake_nothing_is_launched_until_it_is_released() -> None:
    tale = Tale(training=ENDLESS)
    tale.until_trains(1, steps=2000)
    word = {"at": "2026-11-01T12:05:00+00:00", "by": "alice", "why": "panic"}
    tale.objects.put("mail/brake.json", json.dumps(word).encode())
    tale.run(2 * tale.tick_s)
    tale.interrupt(1)
    tale.until(lambda: tale.alive() == [])
    assert all_was_saved(tale)
    tale.kill_daemon()
    tale.start_daemon()
    tale.run(1800)
    assert len(tale.attempts()) == 1
    assert "panic" in tale.job().reason
    tale.services.mailbox.release_brake()
    tale.until_trains(2, steps=tale.head_step())


@pytest.mark.parametrize("checkpoint_bytes", [10**9, 3 * 10**9])
def test_checkpoints_to_a_home_far_away_are_inside_the_cap(checkpoint_bytes: int) -> None:
    """Each costs as it goes; `tale` looks every second. What the next ones need is reserved, or it
    stops while that is still there, with its last one committed."""
    tale = Tale(
        training=ENDLESS,
        durations=Durations(checkpoint_bytes=checkpoint_bytes),
        regions=("eu-west-1",),
        budget_usd_micros=1_000_000,
    )
    tale.until(lambda: tale.job().pause is Pause.BUDGET, 4 * 3600)
    assert all(attempt.traffic_usd_micros > 0 for attempt in tale.attempts())
    assert {attempt.end_reason for attempt in tale.attempts()} == {EndReason.BUDGET}
    assert all_was_saved(tale)
