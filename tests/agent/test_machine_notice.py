"""Stories of an agent whose time is limited: by a notice of EC2, or by what is paid."""

from __future__ import annotations

import pytest

from spotrunner.agent import words as w
from spotrunner.core.model import Phase, TakeOver, Verb
from tests.agent.told import OLD, T0, Told, a_head, only


@pytest.fixture
def told() -> Told:
    return Told()


# -- the notice


def test_a_notice_saves_and_trains_on_until_the_replacement_is_ready(told: Told) -> None:
    told.trains(100)
    told.measures(0.2, 0.5, 150)
    told.now = told.at(4000)
    said = told.notice()
    assert w.Signal(signal=w.Sig.SAVE) in said
    assert told.last_report.notice is not None
    assert told.last_report.notice.seen_at == told.at(4000)
    assert w.Commit(step=163, final=False) in told.on(w.Saved(step=163))
    told.on(w.Committed(head=a_head(163), commit_s=0.5))
    assert told.machine.phase is Phase.TRAIN
    told.now = told.at(4040)
    assert w.Signal(signal=w.Sig.STOP) in told.orders(replacement_ready=True)
    told.on(w.Saved(step=190))
    told.on(w.TrainerExited(code=75))
    said = told.on(w.Committed(head=a_head(190)))
    assert w.Finalize() in said
    told.on(w.Committed(head=a_head(190, final=True)))
    assert told.last_report.phase is Phase.IDLE
    assert told.last_report.committed_step == 190
    told.on(w.LogsKept())
    # later than the first hour: it is billed anyway, so it ends at once
    assert only(told.on(w.Posted()), w.PowerOff)


def test_a_notice_without_a_replacement_stops_in_time(told: Told) -> None:
    """Three times save and commit, and 20 s, before the announced time."""
    told.trains()
    told.measures(save_s=4, commit_s=6, step=50)
    told.now = told.at(4000)
    told.notice(in_s=120)
    told.wait_until(4000 + 120 - 3 * 10 - 20 - 1)
    assert told.signals() == [w.Sig.SAVE]
    told.wait_until(4000 + 120 - 3 * 10 - 20)
    assert told.signals() == [w.Sig.SAVE, w.Sig.STOP]


def test_a_trainer_without_a_save_signal_stops_at_once(told: Told) -> None:
    told.trains(handles_save_signal=False)
    told.notice()
    assert told.signals() == [w.Sig.STOP]


def test_a_trainer_that_ignores_the_stop_is_killed_in_time_for_its_last_checkpoint(
    told: Told,
) -> None:
    told.trains()
    told.measures(save_s=4, commit_s=6, step=50)
    told.now = told.at(4000)
    told.notice(in_s=120)
    told.on(w.Saved(step=80))
    told.wait_until(4000 + 120 - 2 * 6 - 10 - 1)
    assert w.Sig.KILL not in told.signals()
    told.on(w.Committed(head=a_head(80)))
    told.wait_until(4000 + 120 - 2 * 6 - 10)
    assert told.signals() == [w.Sig.SAVE, w.Sig.STOP, w.Sig.KILL]
    assert w.Finalize() in told.on(w.TrainerExited(code=137))


def test_a_container_that_survives_a_kill_holds_up_nothing(told: Told) -> None:
    told.trains()
    told.on(w.Saved(step=50))
    told.on(w.Committed(head=a_head(50)))
    told.now = told.at(4000)
    told.notice()
    said = told.wait_until(4200)
    assert w.Finalize() in said


def test_a_notice_during_a_save_at_the_same_step(told: Told) -> None:
    """The save that was under way is the one that the notice wants: it is uploaded once."""
    told.trains()
    told.on(w.Saved(step=50))
    told.notice()
    told.on(w.Saved(step=50))
    told.on(w.Committed(head=a_head(50)))
    told.orders(replacement_ready=True)
    told.on(w.TrainerExited(code=75))
    assert [c.step for c in only(told.said, w.Commit)] == [50]
    assert told.count(w.Finalize) == 1


def test_a_notice_in_the_last_epoch_loses_to_the_end_of_the_training(told: Told) -> None:
    told.trains()
    told.measures(0.1, 0.2, 50)
    told.now = told.at(4000)
    told.notice()
    told.on(w.Saved(step=60))
    said = told.on(w.TrainerExited(code=0))
    # hurried: the checkpoint is small and first, in case the outputs are not through in time
    assert told.count(w.CommitOutputs) == 0
    said = told.on(w.Committed(head=a_head(60)))
    assert w.CommitOutputs(step=60) in said
    told.on(w.Committed(head=a_head(60, final=True, done="jobs/x/outputs/4/MANIFEST.json")))
    assert told.last_report.phase is Phase.DONE
    assert told.count(w.KeepLogs) == 0
    assert only(told.on(w.Posted()), w.PowerOff)


def test_a_trainer_that_finishes_after_it_was_told_to_stop_is_done(told: Told) -> None:
    told.trains()
    told.orders(verb=Verb.STOP)
    told.on(w.TrainerExited(code=0))
    assert told.count(w.CommitOutputs) == 1


@pytest.mark.parametrize("phase", [Phase.BOOT, Phase.FETCH, Phase.READY])
def test_a_notice_before_head_is_ours_changes_nothing_in_the_bucket(
    told: Told, phase: Phase
) -> None:
    told.on(w.Started())
    if phase is not Phase.BOOT:
        told.on(w.Identified(launched_at=T0))
        told.orders(take_over=TakeOver(attempt=OLD))
    if phase is Phase.READY:
        told.on(w.Fetched())
    assert told.machine.phase is phase
    said = told.notice()
    if phase is Phase.BOOT:
        # It might find the trainer of an earlier agent here.
        said = told.on(w.Identified(launched_at=T0))
    assert only(said, w.Farewell)[0].report.phase is Phase.IDLE
    assert told.count(w.TakeHead) == told.count(w.Finalize) == 0


def test_an_instance_that_never_learns_who_it_is_says_its_last_word_all_the_same(
    told: Told,
) -> None:
    told.on(w.Started())
    told.orders()
    told.notice()
    told.wait_until(29)
    assert told.count(w.Farewell) == 0
    assert only(told.wait_until(30), w.Farewell)[0].report.phase is Phase.IDLE


def test_a_notice_during_the_restore_gives_head_back(told: Told) -> None:
    told.boots()
    told.on(w.HeadTaken(head=a_head(100)))
    assert w.Finalize() in told.notice()
    assert told.on(w.Restored(step=100)) == []
    assert told.count(w.StartTrainer) == 0


def test_a_take_over_that_was_never_answered_is_settled_before_the_end(told: Told) -> None:
    told.boots()
    told.notice()
    told.on(w.Undone(task=w.TakeHead(), why="S3 does not answer"))
    assert only(told.wait_until(3), w.TakeHead)
    assert w.Finalize() in told.on(w.HeadTaken(head=a_head(90)))


# -- the free first hour


def test_in_its_first_hour_it_idles_until_ec2_takes_it(told: Told) -> None:
    told.trains()
    told.now = told.at(3000)
    told.notice()
    told.leaves()
    assert told.machine.phase is Phase.IDLE
    told.wait_until(3120 + 299)
    assert not told.machine.off
    told.wait_until(3120 + 300)
    assert told.machine.off


@pytest.mark.parametrize(("announced_s", "idles"), [(3660, True), (3661, False)])
def test_the_first_hour_ends_a_minute_late(told: Told, announced_s: int, idles: bool) -> None:
    told.trains()
    told.now = told.at(3550)
    told.notice(in_s=announced_s - 3550)
    told.leaves()
    assert told.machine.off is not idles


def test_the_end_of_the_paid_time_wins_over_idling(told: Told) -> None:
    told.trains()
    told.now = told.at(3000)
    told.orders(paid_until_s=3120)
    told.notice()
    told.leaves()
    told.wait_until(3109)
    assert not told.machine.off
    told.wait_until(3110)
    assert told.machine.off


def test_it_is_done_before_its_own_timer_which_counts_whole_minutes(told: Told) -> None:
    told.trains()
    told.now = told.at(3000)
    told.orders(paid_until_s=3000 + 179)  # so that the timer fires after two minutes
    told.wait_until(3000 + 109)
    assert told.machine.phase is Phase.HANDOVER
    told.leaves()
    told.wait_until(3000 + 110)
    assert told.machine.off


def test_a_cancelled_attempt_with_a_notice_idles_too(told: Told) -> None:
    told.trains()
    told.now = told.at(600)
    told.notice()
    told.orders(verb=Verb.STOP)
    told.leaves()
    assert told.last_report.phase is Phase.STOPPED
    assert not told.machine.off


# -- money


def test_it_commits_and_powers_off_before_the_paid_time_ends(told: Told) -> None:
    told.trains()
    told.measures(save_s=2, commit_s=3, step=50)
    told.orders(paid_until_s=1800)
    told.works_until(1800 - 10 - 3 * 5 - 20)
    assert told.signals() == [w.Sig.STOP]
    told.leaves()
    assert told.last_report.phase is Phase.UNPAID
    assert told.machine.off


def test_the_power_goes_off_even_if_nothing_answers_any_more(told: Told) -> None:
    told.trains()
    told.orders(paid_until_s=1800)
    told.on(w.Saved(step=50))
    told.wait_until(1789)
    assert not told.machine.off
    told.wait_until(1790)
    assert told.machine.off


def test_an_agent_that_never_gets_an_order_ends_with_its_first_step(told: Told) -> None:
    told.on(w.Started())
    told.on(w.Identified(launched_at=T0))
    told.on(w.Fetched())
    told.wait_until(1800)
    assert told.machine.off


def test_an_instance_that_still_runs_is_switched_off_again(told: Told) -> None:
    told.on(w.Started())
    told.wait_until(1900)
    assert told.count(w.PowerOff) >= 3
