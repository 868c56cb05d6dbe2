"""Stories of one agent: events in, instructions out. Times are seconds since the launch."""

from __future__ import annotations

import datetime as dt

import pytest

from spotrunner.agent import words as w
from spotrunner.core.model import Phase, TakeOver, Verb
from tests.agent.told import ME, OLD, T0, Told, a_head, a_ref, only


@pytest.fixture
def told() -> Told:
    return Told()


# -- the way up


def test_a_first_attempt_goes_up_task_by_task(told: Told) -> None:
    assert w.Identify() in told.on(w.Started())
    assert w.Fetch() in told.on(w.Identified(launched_at=T0))
    told.orders()
    assert w.TakeHead() in told.on(w.Fetched())
    assert w.StartTrainer(fresh=True) in told.on(w.HeadTaken(head=a_head()))
    assert told.machine.phase is Phase.TRAIN


def test_nobody_takes_head_before_an_order_has_said_whom_we_replace(told: Told) -> None:
    told.on(w.Started())
    told.on(w.Identified(launched_at=T0))
    assert not only(told.on(w.Fetched()), w.TakeHead)
    assert w.TakeHead() in told.orders()


def test_a_restored_attempt_trains_only_after_the_restore(told: Told) -> None:
    told.boots()
    assert w.Restore(ref=a_ref(100)) in told.on(w.HeadTaken(head=a_head(100)))
    assert w.StartTrainer(fresh=False) in told.on(w.Restored(step=100))


def test_reports_every_phase_at_once(told: Told) -> None:
    told.trains(100)
    phases = [report.report.phase for report in only(told.said, w.Post)]
    assert phases[0] is Phase.BOOT
    for phase in (Phase.FETCH, Phase.READY, Phase.RESTORE, Phase.TRAIN):
        assert phase in phases


def test_a_torn_checkpoint_is_left_by_a_recorded_swap(told: Told) -> None:
    told.boots()
    told.on(w.HeadTaken(head=a_head(200, previous=100)))
    assert w.FallBack(damaged=a_ref(200)) in told.on(w.Damaged(why="sha256 of weights.h5 differs"))
    assert "sha256" in told.last_report.message
    assert w.Restore(ref=a_ref(100)) in told.on(w.HeadTaken(head=a_head(100)))
    told.on(w.Restored(step=100))
    assert told.machine.phase is Phase.TRAIN


def test_when_both_checkpoints_are_damaged_it_begins_anew(told: Told) -> None:
    told.boots()
    told.on(w.HeadTaken(head=a_head(200, previous=None)))
    told.on(w.Damaged(why="torn"))
    assert w.StartTrainer(fresh=True) in told.on(w.HeadTaken(head=a_head()))


def test_a_fetch_without_an_answer_is_tried_again_more_and_more_slowly(told: Told) -> None:
    told.on(w.Started())
    told.on(w.Identified(launched_at=T0))
    told.orders()
    waits = []
    for _ in range(8):
        failed_at = told.now
        told.on(w.Undone(task=w.Fetch(), why="503"))
        while not only(told.on(w.Tick()), w.Fetch):
            told.now = max(told.machine.next_deadline(), told.now + dt.timedelta(seconds=0.5))
        waits.append((told.now - failed_at).total_seconds())
    assert waits[0] <= 2
    assert waits == sorted(waits)
    assert max(waits) <= 31
    assert told.machine.phase is Phase.FETCH


def test_an_image_that_does_not_exist_fails_the_attempt_with_the_reason(told: Told) -> None:
    told.on(w.Started())
    told.on(w.Identified(launched_at=T0))
    told.orders()
    for _ in range(told.machine.config.hopeless_tries):
        told.on(w.Undone(task=w.Fetch(), why="no such image: tf:9", hopeless=True))
        told.wait_until((told.now - T0).total_seconds() + 30)
    farewell = only(told.said, w.Farewell)[-1]
    assert farewell.report.phase is Phase.FAILED
    assert "no such image: tf:9" in farewell.report.message


def test_a_machine_without_its_gpu_is_left_as_a_fault_of_its_own(told: Told) -> None:
    told.on(w.Started())
    told.on(w.Identified(launched_at=T0))
    told.orders()
    farewell = only(told.on(w.Unfit(why="g4dn.xlarge has no /dev/nvidia0")), w.Farewell)[-1]
    assert farewell.report.phase is Phase.FAULT
    assert "no /dev/nvidia0" in farewell.report.message
    assert farewell.report.exit_code is None
    assert only(told.on(w.Posted()), w.PowerOff)
    assert told.count(w.TakeHead) == 0


def test_a_trainer_that_docker_cannot_start_is_no_failure_of_the_job(told: Told) -> None:
    told.trains(100)
    assert w.Finalize() in told.on(w.Unfit(why="the trainer did not start: no docker"))
    told.on(w.Committed(head=a_head(100, final=True)))
    assert told.last_report.phase is Phase.FAULT
    assert told.last_report.exit_code is None


# -- taking over


def test_a_replacement_waits_for_the_final_commit(told: Told) -> None:
    told.boots(TakeOver(attempt=OLD, by=T0 + dt.timedelta(seconds=135)))
    assert told.machine.phase is Phase.READY
    assert told.count(w.ReadHead) == 1
    assert not only(told.on(w.HeadSeen(head=a_head(90, attempt=OLD, generation=3))), w.TakeHead)
    assert told.count(w.TakeHead) == 0
    final = a_head(95, attempt=OLD, generation=3, final=True)
    assert w.TakeHead() in told.on(w.HeadSeen(head=final))


def test_a_replacement_takes_over_when_the_old_one_is_known_to_be_gone(told: Told) -> None:
    told.boots(TakeOver(attempt=OLD))
    assert told.count(w.TakeHead) == 0
    assert w.TakeHead() in told.orders(take_over=TakeOver(attempt=OLD, now=True))


def test_a_replacement_takes_over_when_the_announced_time_has_passed(told: Told) -> None:
    told.boots(TakeOver(attempt=OLD, by=T0 + dt.timedelta(seconds=135)))
    assert not only(told.wait_until(134), w.TakeHead)
    assert only(told.wait_until(135), w.TakeHead)


@pytest.mark.parametrize("task", [w.Fetch(), w.Restore(ref=a_ref(40))], ids=["fetch", "restore"])
def test_a_disk_that_stays_full_on_the_way_up_fails_in_minutes(told: Told, task: w.Task) -> None:
    """It costs the same again on every machine of this job."""
    told.on(w.Started())
    told.on(w.Identified(launched_at=T0))
    told.orders()
    if isinstance(task, w.Restore):
        told.on(w.Fetched())
        told.on(w.HeadTaken(head=a_head(40)))
    full = w.Undone(task=task, why="it needs 9 GB: give the job a larger disk", full=True)
    while told.machine.phase in (Phase.FETCH, Phase.RESTORE):
        told.on(full)
        told.wait_until((told.now - T0).total_seconds() + 30)
    assert 300 <= (told.now - T0).total_seconds() <= 360
    assert told.last_report.message.startswith(full.why)


def test_while_it_waits_it_reads_head_and_orders_every_second(told: Told) -> None:
    told.boots(TakeOver(attempt=OLD, by=T0 + dt.timedelta(seconds=600)))
    said = told.wait_until(10)
    assert len(only(said, w.ReadHead)) == pytest.approx(10, abs=1)
    assert len(only(said, w.PollOrder)) == pytest.approx(10, abs=1)


def test_two_attempts_before_any_checkpoint(told: Told) -> None:
    """Nobody has ever taken HEAD: its absence is no leave to take it."""
    told.boots(TakeOver(attempt=OLD, by=T0 + dt.timedelta(seconds=60)))
    assert not only(told.on(w.HeadSeen(head=None)), w.TakeHead)
    assert only(told.wait_until(60), w.TakeHead)


def test_an_attempt_that_boots_after_a_later_one_took_over_touches_nothing(told: Told) -> None:
    told.boots(TakeOver(attempt=OLD))
    later = a_head(50, attempt="digits-7f3a.5", generation=5)
    farewell = only(told.on(w.HeadSeen(head=later)), w.Farewell)
    assert farewell[0].report.phase is Phase.FENCED
    assert only(told.on(w.Posted()), w.PowerOff)
    assert told.count(w.TakeHead) == told.count(w.Finalize) == told.count(w.StartTrainer) == 0


def test_an_agent_started_again_goes_on_without_waiting_for_its_predecessor(told: Told) -> None:
    told.boots(TakeOver(attempt=OLD, by=T0 + dt.timedelta(seconds=600)))
    assert w.TakeHead() in told.on(w.HeadSeen(head=a_head(90)))
    assert told.on(w.HeadTaken(head=a_head(90)))[0] == w.Restore(ref=a_ref(90))


def test_an_agent_started_again_after_its_final_commit_does_not_train(told: Told) -> None:
    told.boots()
    told.on(w.HeadTaken(head=a_head(90, final=True)))
    assert told.machine.phase is Phase.IDLE
    assert told.count(w.StartTrainer) == told.count(w.Finalize) == 0


def test_an_agent_started_again_late_reads_its_order_before_it_counts_its_money(told: Told) -> None:
    told.now = told.at(5000)
    told.on(w.Started())
    told.on(w.Identified(launched_at=T0))
    assert not told.machine.off
    told.orders(paid_until_s=7200)
    told.on(w.Fetched())
    told.on(w.HeadTaken(head=a_head()))
    assert told.machine.phase is Phase.TRAIN


def test_a_job_that_is_done_already_is_reported_and_left(told: Told) -> None:
    told.boots()
    done = a_head(90, attempt=OLD, generation=3, final=True, done="jobs/x/MANIFEST.json")
    told.on(w.HeadTaken(head=done))
    assert told.last_report.phase is Phase.DONE
    assert only(told.on(w.Posted()), w.PowerOff)
    assert told.count(w.StartTrainer) == told.count(w.CommitOutputs) == 0


# -- training


def test_commits_each_new_checkpoint_and_the_newest_first(told: Told) -> None:
    told.trains(100)
    assert w.Commit(step=150, final=False) in told.on(w.Saved(step=150))
    told.on(w.Saved(step=200))
    told.on(w.Saved(step=250))
    assert told.count(w.Commit) == 1
    assert told.on(w.Committed(head=a_head(150), commit_s=0.4))[0] == w.Commit(
        step=250, final=False
    )


def test_its_report_says_how_many_bytes_it_has_moved(told: Told) -> None:
    told.trains(100)
    told.on(w.Saved(step=150))
    told.on(w.Committed(head=a_head(150), commit_s=0.4, moved_bytes=7_000))
    assert told.last_report.moved_bytes == 7_000


def test_a_save_at_the_step_that_head_bears_uploads_nothing(told: Told) -> None:
    told.trains(100)
    told.on(w.Saved(step=100))
    told.orders(verb=Verb.STOP)
    assert w.Finalize() in told.on(w.TrainerExited(code=75))
    assert told.count(w.Commit) == 0


def test_a_commit_without_an_answer_is_tried_again(told: Told) -> None:
    told.trains()
    told.on(w.Saved(step=50))
    told.on(w.Undone(task=w.Commit(step=50, final=False), why="S3 does not answer"))
    assert told.count(w.Commit) == 1
    told.wait_until(5)
    assert told.count(w.Commit) == 2


def test_giving_one_checkpoint_up_forgets_no_later_one(told: Told) -> None:
    told.trains(10)
    told.on(w.Saved(step=50))
    gone = w.Undone(task=w.Commit(step=50, final=False), why="no longer on the disk", hopeless=True)
    for _ in range(told.machine.config.hopeless_tries - 1):
        told.on(gone)
        told.wait_until((told.now - T0).total_seconds() + 30)
    told.on(w.Saved(step=60))
    assert w.Commit(step=60, final=False) in told.on(gone)


def test_a_checkpoint_of_its_own_shows_a_step_too(told: Told) -> None:
    """A trainer need not tell of its progress, and must not be taken for one that never began."""
    told.trains(100)
    told.on(w.Saved(step=150))
    told.on(w.Committed(head=a_head(150)))
    assert told.last_report.first_step_at is not None


def test_reports_the_first_step_of_its_own(told: Told) -> None:
    told.trains(100)
    told.on(w.Progressed(step=100, total_steps=2300))
    assert told.last_report.first_step_at is None
    told.now = told.at(9)
    told.on(w.Progressed(step=110, total_steps=2300, steps_per_s=61.0, metrics=(("loss", 0.4),)))
    assert told.last_report.first_step_at == told.at(9)
    assert told.last_report.metrics == (("loss", 0.4),)


def test_reports_every_minute_and_every_ten_seconds_when_watched(told: Told) -> None:
    told.trains()
    assert len(only(told.wait_until(300), w.Post)) == pytest.approx(5, abs=1)
    told.orders(watched=True)
    assert len(only(told.wait_until(600), w.Post)) == pytest.approx(30, abs=1)


def test_a_clock_that_jumps_is_reported_at_once(told: Told) -> None:
    told.trains()
    told.wait_until(30)
    told.now = told.at(630)
    assert told.on(w.Tick())[-1] == w.Post(report=told.last_report)
    assert told.last_report.at == told.at(630)


# -- orders


def test_an_older_order_is_ignored(told: Told) -> None:
    told.trains()
    told.orders(n=9, paid_until_s=9000)
    told.orders(n=8, verb=Verb.STOP)
    told.orders(n=9, verb=Verb.STOP)
    told.orders(n=100, epoch=0, verb=Verb.STOP)
    assert told.signals() == []
    assert told.last_report.order_n == 9


def test_an_asked_checkpoint_signals_the_trainer_once(told: Told) -> None:
    told.trains()
    told.on(w.Progressed(step=1))
    told.orders(checkpoints_asked=1)
    told.orders(checkpoints_asked=1)
    assert told.signals() == [w.Sig.SAVE]


def test_a_checkpoint_asked_for_before_the_first_step_is_made_at_it(told: Told) -> None:
    told.boots()
    told.orders(checkpoints_asked=1)
    told.on(w.HeadTaken(head=a_head(100)))
    told.on(w.Restored(step=100))
    told.on(w.Progressed(step=100))
    assert told.signals() == []
    told.on(w.Progressed(step=101))
    told.on(w.Progressed(step=102))
    assert told.signals() == [w.Sig.SAVE]


def test_every_extension_renews_the_timer_of_the_machine(told: Told) -> None:
    told.trains()
    assert only(told.orders(paid_until_s=7200 + 90), w.ArmTimer) == [w.ArmTimer(minutes=121)]
    assert only(told.orders(paid_until_s=7200 + 90), w.ArmTimer) == []


def test_a_stop_saves_commits_as_final_and_powers_off(told: Told) -> None:
    told.trains()
    said = told.orders(verb=Verb.STOP)
    assert w.Signal(signal=w.Sig.STOP) in said
    assert told.machine.phase is Phase.HANDOVER
    told.on(w.Saved(step=77))
    told.on(w.Committed(head=a_head(77)))
    assert w.Finalize() in told.on(w.TrainerExited(code=75))
    assert w.KeepLogs() in told.on(w.Committed(head=a_head(77, final=True)))
    assert told.last_report.phase is Phase.STOPPED
    assert only(told.on(w.LogsKept()), w.Farewell)
    assert only(told.on(w.Posted()), w.PowerOff)


def test_a_stop_during_the_fetch_does_not_wait_for_the_data(told: Told) -> None:
    told.on(w.Started())
    told.on(w.Identified(launched_at=T0))
    told.orders()
    said = told.orders(verb=Verb.STOP)
    assert only(said, w.Farewell)[0].report.phase is Phase.STOPPED
    assert told.on(w.Fetched()) == []
    assert only(told.on(w.Posted()), w.PowerOff)


def test_a_stop_while_head_is_being_taken_gives_it_back(told: Told) -> None:
    told.boots()
    told.orders(verb=Verb.STOP)
    assert told.count(w.Farewell) == 0
    assert w.Finalize() in told.on(w.HeadTaken(head=a_head(90)))
    assert told.count(w.Restore) == told.count(w.StartTrainer) == 0


def test_an_order_for_somebody_else_ends_it(told: Told) -> None:
    told.trains()
    told.orders(attempt="digits-7f3a.5")
    assert told.signals() == [w.Sig.STOP]


# -- the trainer's ends


def test_a_failed_trainer_is_reported_with_its_last_lines(told: Told) -> None:
    told.trains()
    told.on(w.Saved(step=50))
    told.on(w.TrainerExited(code=1, log_tail=("Traceback", "ValueError: x")))
    told.on(w.Committed(head=a_head(50)))
    told.on(w.Committed(head=a_head(50, final=True)))
    told.on(w.LogsKept())
    report = told.last_report
    assert report.phase is Phase.FAILED
    assert report.exit_code == 1
    assert report.log_tail == ("Traceback", "ValueError: x")
    assert only(told.on(w.Posted()), w.PowerOff)


def test_a_trainer_that_leaves_resumable_unasked_has_failed(told: Told) -> None:
    told.trains()
    told.on(w.TrainerExited(code=75))
    told.on(w.Committed(head=a_head(final=True)))
    assert told.last_report.phase is Phase.FAILED


def test_a_machine_that_goes_down_makes_no_failure_of_it(told: Told) -> None:
    """EC2 ends a machine without notice: its services get SIGTERM, the container too."""
    told.trains()
    told.on(w.ShuttingDown())
    assert told.signals() == [w.Sig.STOP]
    told.on(w.TrainerExited(code=75))
    told.on(w.Committed(head=a_head(final=True)))
    assert told.last_report.phase is Phase.IDLE


def test_outputs_that_cannot_be_stored_fail_the_attempt(told: Told) -> None:
    told.trains()
    told.on(w.TrainerExited(code=0))
    for _ in range(told.machine.config.hopeless_tries):
        told.on(w.Undone(task=w.CommitOutputs(step=0), why="access denied", hopeless=True))
        told.wait_until((told.now - T0).total_seconds() + 30)
    told.on(w.Committed(head=a_head(final=True)))
    assert told.last_report.phase is Phase.FAILED
    assert "access denied" in told.last_report.message


def test_a_fenced_agent_kills_its_trainer_and_writes_nothing_more(told: Told) -> None:
    told.trains()
    told.on(w.Saved(step=50))
    said = told.on(w.Fenced(why="digits-7f3a.5 holds HEAD"))
    assert w.Signal(signal=w.Sig.KILL) in said
    assert only(said, w.Farewell)[0].report.phase is Phase.FENCED
    told.on(w.Saved(step=60))
    assert told.on(w.TrainerExited(code=137)) != [w.Finalize()]
    said = told.on(w.Posted())
    assert only(said, w.PowerOff)
    assert told.count(w.Finalize) == told.count(w.KeepLogs) == 0
    assert told.count(w.Commit) == 1


def test_a_fenced_trainer_that_finishes_all_the_same_changes_nothing(told: Told) -> None:
    told.trains()
    told.on(w.Fenced())
    told.on(w.TrainerExited(code=0))
    assert told.last_report.phase is Phase.FENCED
    assert told.count(w.CommitOutputs) == 0
    assert told.count(w.TakeHead) == 1


def test_a_fenced_agent_ships_no_more_logs(told: Told) -> None:
    told.trains()
    told.wait_until(10)
    shipped = told.count(w.ShipLogs)
    told.on(w.Fenced())
    told.on(w.TrainerExited(code=137))
    told.wait_until(25)
    assert told.count(w.ShipLogs) == shipped > 0


def test_farewells_that_find_no_mailbox_do_not_keep_the_power_on(told: Told) -> None:
    told.trains()
    told.on(w.TrainerExited(code=3))
    told.on(w.Committed(head=a_head(final=True)))
    told.wait_until(29)
    assert not told.machine.off
    told.wait_until(31)
    assert told.machine.off


def test_the_story_can_be_read(told: Told) -> None:
    told.trains()
    assert any("StartTrainer" in line for line in told.machine.story)
    assert ME in told.last_report.attempt
