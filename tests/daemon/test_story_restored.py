"""Stories of stores that forgot: restored from a backup, or lost. Every second of each the caps
hold (Tale), over what EC2 bills for instances that the store does not know, too."""

from __future__ import annotations

import random
from typing import Any

import pytest

from spotrunner.adapters.store.memory import MemoryStore
from spotrunner.core.model import CommandVerb, EndReason, Pause, Verb
from spotrunner.core.money import exposure
from spotrunner.core.states import AttemptState, JobState
from spotrunner.daemon.recover import STOPPED_JOB, UNKNOWN_JOB
from spotrunner.ports import Unavailable
from spotrunner.sim.faults import Lose
from spotrunner.sim.stage import INSTALLATION
from spotrunner.sim.trainer import Training
from tests.daemon.tale import JOB, LONG_AGO, Tale, ended

# At home: so that nothing is booked for bytes, which EC2's bill here does not know.
HOME: dict[str, Any] = {"regions": ("us-east-1",)}
LONG = Training(total_steps=10_000_000)
# On-demand, with its disk and address.
MINUTE_USD_MICROS = (526_000 + 16_112) // 60


def story(**changes: Any) -> Tale:
    return Tale(**{**HOME, **changes})


def lose_the_store(tale: Tale) -> None:
    tale.kill_daemon()
    tale.store = MemoryStore()
    tale.store.set_installation(INSTALLATION)
    tale.start_daemon()


def is_booked_right(tale: Tale) -> bool:
    """The ledger counts from the launch to the listed end, which EC2 bills some seconds less of."""
    over = tale.booked_usd_micros() - tale.billed_usd_micros()
    return 0 <= over <= MINUTE_USD_MICROS * len(tale.attempts())


def test_a_backup_from_before_the_launch_knows_what_runs_and_goes_on_with_it() -> None:
    tale = story()
    tale.until_trains(1, steps=4000)
    paid_until = tale.attempt(1).paid_until
    tale.restore_backup()
    assert tale.attempt(1).paid_until == paid_until
    assert tale.job().state is JobState.ACTIVE
    tale.until_over()
    (attempt,) = tale.attempts()
    assert attempt.end_reason is EndReason.DONE
    assert not attempt.estimated
    assert is_booked_right(tale)


def test_a_backup_from_the_middle_takes_no_paid_time_away() -> None:
    tale = story(training=LONG)
    tale.until_trains(1)
    tale.back_up()
    tale.run(3600)
    tale.kill_daemon()
    tale.run(300)  # its agent lives by its last order
    tale.restore_backup()
    tale.run(3600)
    (attempt,) = tale.attempts()
    assert attempt.state is AttemptState.RUNNING
    assert len(attempt.hour_prices_usd_micros) >= 1


def test_a_launch_right_after_the_backup_is_found_by_its_tag() -> None:
    tale = story()
    tale.until(lambda: tale.alive() == [f"{JOB}.1"])
    tale.restore_backup()
    assert tale.attempt(1).state is AttemptState.PENDING
    tale.until_over()
    (attempt,) = tale.attempts()
    assert attempt.end_reason is EndReason.DONE
    assert is_booked_right(tale)


def test_a_launch_that_was_only_meant_is_waited_for_and_not_sent_again() -> None:
    """The daemon died between the receipt and the call to EC2, and its store with it."""
    tale = story()
    tale.lose("RunInstances", Lose.BEFORE)
    tale.until(lambda: bool(tale.events("placed")))
    tale.restore_backup()
    tale.until_trains(2)
    tale.until_over()
    assert tale.attempt(1).end_reason is EndReason.LOST
    assert tale.attempt(1).cost_usd_micros == 0
    assert is_booked_right(tale)


def test_two_attempts_one_ended_and_one_at_work() -> None:
    tale = story(training=Training(total_steps=60_000))
    tale.until_trains(1, steps=2000)
    tale.back_up()
    tale.run(3600)  # past the first hour, which would have been free
    tale.interrupt(1)
    tale.until_trains(2)
    tale.until(lambda: ended(tale.attempt(1)))
    first = tale.attempt(1)
    tale.restore_backup()
    assert ended(tale.attempt(1))
    assert tale.attempt(1).cost_usd_micros == first.cost_usd_micros
    assert tale.attempt(2).state.live
    tale.until_over()
    assert len(tale.attempts()) == 2
    assert is_booked_right(tale)


def test_a_job_that_is_over_stays_over_and_paid() -> None:
    tale = story()
    tale.until_over()
    booked = tale.booked_usd_micros()
    tale.restore_backup()
    assert tale.booked_usd_micros() == booked
    tale.run(3600)
    assert tale.job().state is JobState.SUCCEEDED
    assert len(tale.attempts()) == 1
    assert is_booked_right(tale)


def test_a_cap_that_is_used_up_is_not_spent_a_second_time() -> None:
    tale = story(training=LONG, budget_usd_micros=600_000)
    tale.until_paused(Pause.BUDGET)
    billed = tale.billed_usd_micros()
    for _ in range(3):
        tale.restore_backup()
        tale.run(3600)
        assert tale.job().pause is Pause.BUDGET
        assert tale.billed_usd_micros() == billed
    assert is_booked_right(tale)


def test_without_receipts_the_cap_would_be_spent_again() -> None:
    """That the story above can fail."""
    tale = story(training=LONG, budget_usd_micros=600_000)
    tale.until_paused(Pause.BUDGET)
    tale.objects.delete([f"ledger/{JOB}/{attempt.id}.json" for attempt in tale.attempts()])
    tale.restore_backup()
    with pytest.raises(AssertionError, match="EC2 bills"):
        tale.run(2 * 3600)


def test_a_store_that_is_lost_completely() -> None:
    tale = story(training=Training(total_steps=40_000))
    tale.until_trains(1, steps=4000)
    lose_the_store(tale)
    assert tale.job().pause is Pause.USER
    assert tale.job().reason == UNKNOWN_JOB.format(job=JOB)
    assert [attempt.state for attempt in tale.attempts()] == [AttemptState.PENDING]
    tale.until(lambda: tale.alive() == [], 600)
    # It was ordered to stop, and did so with a checkpoint.
    order = tale.attempt(1).order
    assert order is not None
    assert order.verb is Verb.STOP
    assert tale.head_step() >= 4000
    assert tale.head_step() == tale.agents()[0].steps_done
    tale.until(lambda: ended(tale.attempt(1)))
    assert tale.attempt(1).end_reason is EndReason.PAUSED
    assert is_booked_right(tale)
    tale.run(3600)
    assert tale.job().pause is Pause.USER, "until somebody has looked at it"
    tale.command(JOB, CommandVerb.RESUME)
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert [attempt.generation for attempt in tale.attempts()] == [1, 2]
    assert is_booked_right(tale)


def alerted(tale: Tale) -> list[str]:
    """What people were told since the store forgot what they had been told."""
    return sorted(tale.store.alert_keys(LONG_AGO))


def test_a_store_that_is_lost_after_the_end_knows_the_end_and_the_money() -> None:
    tale = story()
    tale.until_over()
    lose_the_store(tale)
    assert tale.job().state is JobState.SUCCEEDED
    tale.run(60)
    assert tale.job().state is JobState.SUCCEEDED
    assert is_booked_right(tale)
    assert [event.kind for _, event in tale.store.events(JOB)] == ["recovered"]
    assert alerted(tale) == []


def test_a_cancelled_job_stays_cancelled_in_a_store_that_was_lost() -> None:
    tale = story(training=LONG)
    tale.until_trains(1)
    tale.command(JOB, CommandVerb.CANCEL)
    tale.until_over()
    lose_the_store(tale)
    tale.run(3600)
    assert tale.job().state is JobState.CANCELLED
    assert len(tale.attempts()) == 1
    assert alerted(tale) == []
    assert is_booked_right(tale)


@pytest.mark.parametrize("verb", [CommandVerb.CANCEL, CommandVerb.PAUSE])
def test_a_job_that_was_stopped_after_the_backup_waits_for_a_word(verb: CommandVerb) -> None:
    tale = story(training=Training(total_steps=40_000))
    tale.until_trains(1, steps=4000)
    tale.back_up()
    tale.command(JOB, verb)
    tale.until(lambda: ended(tale.attempt(1)))
    tale.restore_backup()
    tale.run(3600)
    assert tale.job().pause is Pause.USER
    assert tale.job().reason == STOPPED_JOB.format(job=JOB)
    assert len(tale.attempts()) == 1, "nothing was launched for it"
    (key,) = alerted(tale)
    assert key.startswith(f"{JOB}/recovered/")
    tale.command(JOB, CommandVerb.RESUME)
    tale.until_over()
    assert tale.job().state is JobState.SUCCEEDED
    assert is_booked_right(tale)


def test_an_end_whose_receipt_was_lost_is_booked_dearer_and_called_an_estimate() -> None:
    tale = story()
    tale.until_trains(1, steps=30_000)
    written = tale.receipts.read(f"{JOB}.1")
    assert written is not None
    tale.until_over()
    tale.receipts.put(written)  # as if the last one had never come
    tale.kill_daemon()
    tale.run(2 * 3600)  # until EC2 has forgotten it
    tale.restore_backup()
    tale.until_over()
    (attempt,) = tale.attempts()
    assert attempt.estimated
    assert tale.billed_usd_micros() < tale.booked_usd_micros() <= exposure(written, tale.limits)


def test_nobody_leads_until_the_receipts_could_be_read() -> None:
    tale = story()
    tale.until_trains(1)
    tale.kill_daemon()
    tale.objects.fail_next("list", Unavailable("a bad day"), prefix="ledger/")
    tale.restore_backup()
    assert tale.attempts() == ()
    tale.run(tale.tick_s + 1)
    assert [attempt.id for attempt in tale.attempts()] == [f"{JOB}.1"]
    tale.until_over()
    assert len(tale.attempts()) == 1


@pytest.mark.parametrize("seed", range(8))
def test_any_backup_restored_at_any_time(seed: int) -> None:
    """Every second of it the cap holds (Tale); at the end the ledger is EC2's bill, or above it
    and called an estimate."""
    dice = random.Random(f"{seed}/restored")
    tale = story(seed=seed, training=Training(total_steps=30_000), budget_usd_micros=1_500_000)
    for _ in range(5):
        tale.run(dice.randint(1, 2400))
        act = dice.choice((tale.back_up, tale.restore_backup, tale.kill_daemon, tale.start_daemon))
        act()
        serving = [a for a in tale.fleet.agents.values() if a.attempt in tale.alive()]
        if serving and dice.random() < 0.5:
            record = dice.choice(serving).record
            tale.world.interrupt(tale.clock.now(), record.id, notice=dice.random() < 0.5)
    tale.restore_backup()
    tale.until(lambda: tale.job().state.over or tale.job().pause is Pause.BUDGET, 6 * 3600)
    tale.until(lambda: all(ended(attempt) for attempt in tale.attempts()))
    assert tale.alive() == []
    estimated = any(attempt.estimated for attempt in tale.attempts())
    assert is_booked_right(tale) or (
        estimated and tale.booked_usd_micros() > tale.billed_usd_micros()
    )
