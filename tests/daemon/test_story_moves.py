"""A policy changes its mind while the job trains."""

from __future__ import annotations

from spotrunner.core.model import EndReason, Limits, Market, Refused
from spotrunner.core.states import JobState
from spotrunner.sim.faults import refusal
from spotrunner.sim.trainer import Training
from tests.daemon.fickle import Fickle
from tests.daemon.tale import JOB, Tale, ended

LONG = Training(total_steps=80_000)


def fickle(**changes: object) -> tuple[Tale, Fickle]:
    policy = Fickle()
    tale = Tale(policies={"fickle": policy}, policy="fickle", training=LONG, **changes)  # type: ignore[arg-type]
    tale.until_trains(1, steps=2000)
    return tale, policy


def test_a_move_from_on_demand_to_spot_makes_no_step_twice() -> None:
    tale, policy = fickle()
    assert tale.attempt(1).offer.market is Market.ON_DEMAND
    policy.wish = "spot"
    tale.until_trains(2)
    old, new = tale.agent(1), tale.agent(2)
    assert tale.attempt(2).offer.market is Market.SPOT
    assert new.trainer is not None
    assert new.trainer.step(tale.clock.now()) >= old.steps_done
    tale.until(lambda: ended(tale.attempt(1)))
    assert tale.attempt(1).end_reason is EndReason.MOVED
    assert tale.attempt(1).step_after == old.steps_done
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert len(tale.attempts()) == 2


def test_the_old_one_trains_until_the_new_one_is_ready() -> None:
    tale, policy = fickle()
    policy.wish = "spot"
    tale.until(lambda: tale.attempt_or_none(2) is not None)
    when_launched = tale.agent(1).steps_done
    tale.until_trains(2)
    assert tale.agent(1).steps_done > when_launched + 300


def test_a_move_that_is_refused_everywhere_leaves_it_where_it_is() -> None:
    tale, policy = fickle()
    for zone in tale.world.pools.offered("us-east-1") | tale.world.pools.offered("eu-west-1"):
        tale.world.set_capacity(tale.clock.now(), zone, False)
    policy.wish = "spot"
    tale.run(1200)
    assert tale.alive() == [f"{JOB}.1"]
    refused = [it for it in tale.attempts() if it.end_reason is EndReason.REFUSED]
    assert refused
    assert tale.agent(1).trainer is not None
    tale.until_over()
    assert tale.attempt(1).end_reason is EndReason.DONE


def test_an_interruption_of_the_new_place_before_it_is_ready_costs_nothing() -> None:
    tale, policy = fickle()
    policy.wish = "spot"
    tale.until(lambda: f"{JOB}.2" in tale.alive() and f"{JOB}.2" in tale.reports())
    policy.wish = "on-demand"
    tale.interrupt(2, notice=False)
    tale.run(600)
    assert tale.alive() == [f"{JOB}.1"]
    assert tale.head() is not None
    assert tale.head().attempt == f"{JOB}.1"  # type: ignore[union-attr]
    tale.until_over()
    assert tale.attempt(1).end_reason is EndReason.DONE


def test_the_death_of_the_old_one_in_the_middle_is_an_ordinary_recovery() -> None:
    tale, policy = fickle()
    policy.wish = "spot"
    tale.until(lambda: f"{JOB}.2" in tale.alive())
    tale.world.fail(tale.clock.now(), tale.agent(1).record.id)
    tale.until_trains(2)
    tale.until_over()
    assert tale.attempt(1).end_reason is EndReason.FAULT
    assert tale.job().state is JobState.SUCCEEDED


def test_a_restart_of_the_daemon_in_the_middle_changes_nothing() -> None:
    tale, policy = fickle()
    policy.wish = "spot"
    tale.until(lambda: f"{JOB}.2" in tale.alive())
    tale.kill_daemon()
    tale.run(60)
    tale.start_daemon()
    tale.until_over()
    assert [it.end_reason for it in tale.attempts()] == [EndReason.MOVED, EndReason.DONE]


def test_to_be_told_to_wait_stops_with_a_checkpoint_and_goes_on_from_it() -> None:
    tale, policy = fickle()
    policy.wish = "wait"
    tale.until(lambda: ended(tale.attempt(1)))
    assert tale.attempt(1).end_reason is EndReason.MOVED
    assert tale.head_step() == tale.agent(1).steps_done
    tale.run(600)
    assert tale.alive() == []
    policy.wish = "spot"
    tale.until_trains(2, steps=tale.head_step())
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED


def test_moves_hold_the_budget_of_both_places() -> None:
    """Two places are paid at once: where the cap does not hold both, the job stays."""
    tale, policy = fickle(budget_usd_micros=420_000, limits=Limits())
    policy.wish = "spot"
    tale.run(600)
    assert len(tale.attempts()) == 1


def test_a_quota_that_only_spot_lacks_keeps_it_on_demand() -> None:
    tale, policy = fickle()
    for pool in tale.world.pools.offered("us-east-1") | tale.world.pools.offered("eu-west-1"):
        tale.world.script(refusal(pool, Market.SPOT, Refused.QUOTA, 50))
    policy.wish = "spot"
    tale.run(900)
    assert tale.alive() == [f"{JOB}.1"]
