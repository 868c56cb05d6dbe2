"""Stories of a trainer that stalls, that is asked for checkpoints by the clock, and that outlives
its agent. Times are seconds since the launch."""

from __future__ import annotations

import datetime as dt

import pytest

from spotrunner.agent import words as w
from spotrunner.core.diagnosis import Diagnosis
from spotrunner.core.figures import ClockState, Copying, Figures
from spotrunner.core.model import Phase, TakeOver, Verb
from tests.agent.told import ME, OLD, T0, Told, a_head, only

ABORTED = w.TrainerExited(code=134, log_tail=("Thread 0x7f (most recent call first):",))


@pytest.fixture
def told() -> Told:
    return Told()


# -- a stall


def a_silence(told: Told, at_s: float = 40.0) -> None:
    """A trainer that has made its first steps, and then none."""
    told.trains(100)
    told.wait_until(at_s)
    told.on(w.Progressed(step=101))


def test_a_trainer_without_a_sign_of_life_is_aborted_for_its_stacks(told: Told) -> None:
    a_silence(told)
    told.wait_until(639)
    assert told.signals() == []
    said = told.wait_until(640)
    assert only(said, w.Signal) == [w.Signal(signal=w.Sig.ABORT)]
    assert only(said, w.ShipLogs)
    assert told.last_report.stalled_at == told.at(640)
    assert told.last_report.alive_at == told.at(40)
    assert told.last_report.is_stalled


def test_it_is_started_once_more_in_place_from_the_newest_checkpoint(told: Told) -> None:
    a_silence(told)
    told.wait_until(645)
    said = told.on(ABORTED)
    assert only(said, w.StartTrainer) == [w.StartTrainer(fresh=False)]
    assert told.machine.phase is Phase.TRAIN
    assert told.last_report.restarts == 1
    assert told.last_report.exit_code is None
    told.on(w.Progressed(step=102))
    told.wait_until(706)
    assert not told.last_report.is_stalled


def test_without_any_checkpoint_it_begins_anew(told: Told) -> None:
    told.trains()
    told.on(w.Progressed(step=1))
    told.wait_until(600)
    assert w.StartTrainer(fresh=True) in told.on(ABORTED)


def test_a_checkpoint_of_its_own_is_enough_to_go_on_from(told: Told) -> None:
    told.trains()
    told.on(w.Saved(step=5))
    told.wait_until(600)
    assert w.StartTrainer(fresh=False) in told.on(ABORTED)


def test_one_that_survives_the_abort_is_killed(told: Told) -> None:
    a_silence(told)
    told.wait_until(640 + 29)
    assert told.signals() == [w.Sig.ABORT]
    told.wait_until(640 + 30)
    assert told.signals() == [w.Sig.ABORT, w.Sig.KILL]
    assert w.StartTrainer(fresh=False) in told.on(w.TrainerExited(code=137))


def test_one_that_survives_a_kill_needs_another_machine(told: Told) -> None:
    a_silence(told)
    told.wait_until(640 + 30 + 20)
    assert w.Finalize() in told.said
    told.on(w.Committed(head=a_head(100, final=True)))
    assert told.last_report.phase is Phase.FAULT
    assert "SIGKILL does not end it" in told.last_report.message


def test_a_second_stall_ends_the_attempt_as_a_fault_of_its_place(told: Told) -> None:
    a_silence(told)
    told.wait_until(640)
    told.on(ABORTED)
    told.on(w.Progressed(step=101))
    told.on(w.Saved(step=150))
    told.on(w.Committed(head=a_head(150)))
    told.wait_until(1240)
    assert told.signals() == [w.Sig.ABORT, w.Sig.ABORT]
    assert w.Finalize() in told.on(ABORTED)
    told.on(w.Committed(head=a_head(150, final=True)))
    report = told.last_report
    assert report.phase is Phase.FAULT
    assert "started again once" in report.message
    assert report.log_tail == ABORTED.log_tail
    assert told.count(w.StartTrainer) == 2


def test_one_that_was_started_again_has_as_long_as_the_first_start_took(told: Told) -> None:
    a_silence(told, at_s=90)
    told.wait_until(690)
    told.on(ABORTED)
    told.wait_until(690 + 90 + 599)
    assert told.signals() == [w.Sig.ABORT]
    told.wait_until(690 + 90 + 600)
    assert told.signals() == [w.Sig.ABORT, w.Sig.ABORT]


def test_before_the_first_step_only_the_daemons_limit_of_a_boot_counts(told: Told) -> None:
    told.trains(100)
    told.on(w.Progressed(step=100))
    told.wait_until(3600)
    assert told.signals() == []


def test_any_line_of_progress_and_any_checkpoint_is_a_sign_of_life(told: Told) -> None:
    a_silence(told)
    for s, sign in ((600, w.Progressed(step=101)), (1100, w.SaveTook(save_s=2.0))):
        told.wait_until(s)
        told.on(sign)
    told.wait_until(1600)
    told.on(w.Saved(step=101))
    told.wait_until(2100)
    assert told.signals() == []


def test_twenty_of_its_steps_may_be_longer_than_ten_minutes(told: Told) -> None:
    told.trains()
    told.works_until(600, every_s=60)
    told.wait_until(600 + 20 * 60 - 1)
    assert told.signals() == []
    told.wait_until(600 + 20 * 60)
    assert told.signals() == [w.Sig.ABORT]


def test_who_tells_a_line_an_epoch_is_silent_in_between(told: Told) -> None:
    """A thousand steps in 15 minutes: a step takes a second."""
    told.trains()
    for epoch in (1, 2, 3):
        told.wait_until(900 * epoch)
        told.on(w.Progressed(step=1000 * epoch))
    assert told.signals() == []
    told.wait_until(2700 + 1799)
    assert told.signals() == []
    told.wait_until(2700 + 1800)
    assert told.signals() == [w.Sig.ABORT]


def test_the_jobs_own_word_wins(told: Told) -> None:
    told.trains(stall_after_s=120)
    told.on(w.Progressed(step=1))
    told.wait_until(119)
    assert told.signals() == []
    told.wait_until(120)
    assert told.signals() == [w.Sig.ABORT]


def test_a_clock_that_jumps_makes_nobody_silent(told: Told) -> None:
    a_silence(told)
    told.wait_until(100)
    told.now = told.at(4000)
    told.on(w.Tick())
    assert told.signals() == []
    told.wait_until(4000 + 539)
    assert told.signals() == []
    told.wait_until(4000 + 540)
    assert told.signals() == [w.Sig.ABORT]


def test_a_notice_wins_over_a_stall(told: Told) -> None:
    a_silence(told)
    told.wait_until(645)
    told.notice()
    said = told.on(ABORTED)
    assert told.count(w.StartTrainer) == 1
    assert w.Finalize() in said
    told.on(w.Committed(head=a_head(100, final=True)))
    assert told.last_report.phase is Phase.IDLE


def test_with_a_notice_nobody_is_aborted_any_more(told: Told) -> None:
    a_silence(told)
    told.wait_until(600)
    told.notice(in_s=200)
    told.wait_until(660)
    assert told.signals() == [w.Sig.SAVE]


def test_an_order_to_stop_wins_over_a_stall(told: Told) -> None:
    a_silence(told)
    told.wait_until(645)
    told.orders(verb=Verb.STOP)
    assert w.Finalize() in told.on(ABORTED)
    assert told.count(w.StartTrainer) == 1
    told.on(w.Committed(head=a_head(100, final=True)))
    assert told.last_report.phase is Phase.STOPPED


def test_a_trainer_that_is_done_when_it_is_aborted_is_done(told: Told) -> None:
    a_silence(told)
    told.wait_until(645)
    assert only(told.on(w.TrainerExited(code=0)), w.CommitOutputs)


def test_a_trainer_that_dies_of_the_save_signal_is_started_again_and_not_asked_any_more(
    told: Told,
) -> None:
    """It never said that it knows SIGUSR1 by heart."""
    told.trains(100)
    told.orders(save_every_s=120)
    told.works_until(121)
    assert told.signals() == [w.Sig.SAVE]
    assert w.StartTrainer(fresh=False) in told.on(w.TrainerExited(code=138))
    assert "save_signal: false" in told.last_report.message
    assert not told.last_report.handles_save_signal
    told.works_until(500)
    assert told.signals() == [w.Sig.SAVE]


def test_one_that_an_earlier_attempt_has_shown_to_know_no_save_signal_is_stopped_on_a_notice(
    told: Told,
) -> None:
    told.trains(100)
    told.orders(handles_save_signal=False, checkpoints_asked=1)
    told.on(w.Progressed(step=101))
    assert told.signals() == []
    told.on(w.NoticeSeen(at=told.at(240)))
    assert told.signals() == [w.Sig.STOP]


# -- saves by the clock


def test_a_checkpoint_that_becomes_too_old_is_renewed(told: Told) -> None:
    told.trains(100)
    told.orders(save_every_s=300)
    told.on(w.Progressed(step=101))
    told.wait_until(299)
    assert told.signals() == []
    told.wait_until(300)
    assert told.signals() == [w.Sig.SAVE]


def test_whoever_saved_it_counts(told: Told) -> None:
    told.trains(100)
    told.orders(save_every_s=300)
    told.wait_until(200)
    told.on(w.Saved(step=150))
    told.on(w.Progressed(step=151))
    told.wait_until(499)
    assert told.signals() == []
    told.wait_until(500)
    assert told.signals() == [w.Sig.SAVE]


def test_nothing_new_is_not_saved_again(told: Told) -> None:
    told.trains(100)
    told.orders(save_every_s=120)
    told.on(w.Progressed(step=150))
    told.on(w.Saved(step=150))
    told.wait_until(500)
    assert told.signals() == []
    assert told.on(w.Progressed(step=151))[0] == w.Signal(signal=w.Sig.SAVE)


def test_a_save_that_never_comes_is_asked_for_again_at_the_same_pace(told: Told) -> None:
    told.trains(100)
    told.orders(save_every_s=120)
    told.works_until(365)
    assert told.signals() == [w.Sig.SAVE] * 3


def test_one_that_tells_no_steps_is_asked_as_long_as_it_answers(told: Told) -> None:
    told.trains(100, stall_after_s=7200)
    told.orders(save_every_s=120)
    told.wait_until(121)
    assert told.signals() == [w.Sig.SAVE]
    told.wait_until(130)
    told.on(w.Saved(step=110))
    told.wait_until(251)
    assert told.signals() == [w.Sig.SAVE] * 2
    told.wait_until(900)
    assert told.signals() == [w.Sig.SAVE] * 2, "it has nothing new, or does not listen"


def test_one_that_was_only_found_is_not_asked_before_it_is_watched(told: Told) -> None:
    told.finds_trainer()
    told.orders(save_every_s=120)
    told.on(w.Fetched())
    told.wait_until(600)
    assert told.signals() == []
    told.on(w.HeadTaken(head=a_head(90)))
    told.wait_until(719)
    assert told.signals() == []
    told.wait_until(721)
    assert told.signals() == [w.Sig.SAVE]


def test_what_nobody_tells_of_a_save_is_at_most_the_time_to_its_answer(told: Told) -> None:
    told.trains(100)
    told.orders(save_every_s=120)
    told.on(w.Progressed(step=101))
    told.wait_until(127)
    told.on(w.Saved(step=102))
    told.wait_until(200)
    assert told.last_report.save_s == 7
    told.on(w.Saved(step=110))  # nobody asked for that one
    told.wait_until(300)
    assert told.last_report.save_s == 7
    told.on(w.SaveTook(save_s=2))
    told.wait_until(400)
    assert told.last_report.save_s == 2


def test_without_a_save_signal_nobody_is_asked(told: Told) -> None:
    told.trains(100, handles_save_signal=False)
    told.orders(save_every_s=120)
    told.works_until(365)
    assert told.signals() == []


# -- an agent that is killed


def test_a_new_agent_goes_on_with_the_trainer_that_is_there(told: Told) -> None:
    assert w.Fetch(beside_trainer=True) in told.finds_trainer()
    told.orders(take_over=TakeOver(attempt=OLD, by=T0 + dt.timedelta(seconds=600)))
    assert w.TakeHead() in told.on(w.Fetched())
    assert w.Adopt() in told.on(w.HeadTaken(head=a_head(90)))
    assert told.machine.phase is Phase.TRAIN
    assert w.Commit(step=120, final=False) in told.on(w.Saved(step=120))
    assert told.count(w.Restore) == told.count(w.StartTrainer) == 0


def test_head_of_a_trainer_that_is_there_needs_no_order_to_be_taken(told: Told) -> None:
    told.finds_trainer()
    assert w.TakeHead() in told.on(w.Fetched())


def test_a_trainer_whose_head_is_held_by_a_later_attempt_is_killed(told: Told) -> None:
    told.finds_trainer()
    told.on(w.Fetched())
    said = told.on(w.Fenced(why="digits-7f3a.5 holds HEAD"))
    assert w.Signal(signal=w.Sig.KILL) in said
    assert told.last_report.phase is Phase.FENCED
    assert told.count(w.Commit) == told.count(w.Finalize) == 0


@pytest.mark.parametrize("done", [None, "jobs/x/MANIFEST.json"])
def test_what_a_trainer_does_after_the_last_commit_counts_nothing(
    told: Told, done: str | None
) -> None:
    told.finds_trainer()
    told.on(w.Fetched())
    said = told.on(w.HeadTaken(head=a_head(90, final=True, done=done)))
    assert w.Signal(signal=w.Sig.KILL) in said
    assert told.machine.phase is (Phase.DONE if done else Phase.IDLE)
    assert told.count(w.Adopt) == told.count(w.StartTrainer) == 0


def test_a_trainer_that_has_finished_meanwhile_is_done(told: Told) -> None:
    told.finds_trainer()
    told.on(w.Fetched())
    told.on(w.HeadTaken(head=a_head(90)))
    told.on(w.Saved(step=200))
    told.on(w.Committed(head=a_head(200)))
    assert only(told.on(w.TrainerExited(code=0)), w.CommitOutputs)


def test_a_trainer_that_has_failed_meanwhile_has_failed(told: Told) -> None:
    told.finds_trainer()
    told.on(w.Fetched())
    told.on(w.HeadTaken(head=a_head(90)))
    told.on(w.TrainerExited(code=1, log_tail=("ValueError: x",)))
    told.on(w.Committed(head=a_head(90, final=True)))
    assert told.last_report.phase is Phase.FAILED


def test_one_that_an_earlier_agent_had_stopped_has_not_failed(told: Told) -> None:
    """It left with a checkpoint, as it was told to; who told it was killed since."""
    told.finds_trainer()
    told.on(w.Fetched())
    told.on(w.HeadTaken(head=a_head(90)))
    told.on(w.Saved(step=95))
    said = told.on(w.TrainerExited(code=75))
    assert told.machine.phase is Phase.HANDOVER
    assert said == [] or not only(said, w.Finalize)
    assert w.Finalize() in told.on(w.Committed(head=a_head(95)))
    told.on(w.Committed(head=a_head(95, final=True)))
    assert told.last_report.phase is Phase.IDLE


def test_one_that_was_killed_for_want_of_memory_has_failed(told: Told) -> None:
    told.finds_trainer()
    told.on(w.Fetched())
    told.on(w.HeadTaken(head=a_head(90)))
    memory = Diagnosis(what="out of memory", why="the batch", change="a smaller one")
    told.on(w.TrainerExited(code=137, diagnosis=memory))
    told.on(w.Committed(head=a_head(90, final=True)))
    assert told.last_report.phase is Phase.FAILED
    assert told.last_report.diagnosis == memory


def test_a_notice_on_the_way_back_saves_once_the_spec_says_how(told: Told) -> None:
    """A trainer without a handler would die of a SIGUSR1."""
    told.finds_trainer()
    told.notice()
    assert told.signals() == []
    assert w.Signal(signal=w.Sig.SAVE) in told.on(w.Fetched())
    told.on(w.HeadTaken(head=a_head(90)))
    assert w.Commit(step=99, final=False) in told.on(w.Saved(step=99))


def test_a_notice_on_the_way_back_stops_a_trainer_without_a_save_signal(told: Told) -> None:
    told.finds_trainer()
    told.notice()
    said = told.on(w.Fetched(handles_save_signal=False))
    assert w.Signal(signal=w.Sig.STOP) in said
    assert w.Adopt() in said
    assert w.TakeHead() in said


@pytest.mark.parametrize("why", ["stop", "unpaid", "goes down"])
@pytest.mark.parametrize("phase", [Phase.BOOT, Phase.FETCH, Phase.READY])
def test_whatever_ends_it_on_the_way_back_commits_what_the_trainer_saves(
    told: Told, phase: Phase, why: str
) -> None:
    if phase is Phase.BOOT:
        told.on(w.Started())
    else:
        told.finds_trainer()
    if phase is Phase.READY:
        told.on(w.Fetched())
    if why == "stop":
        told.orders(verb=Verb.STOP)
    elif why == "unpaid":
        told.orders(paid_until_s=60)
    else:
        told.on(w.ShuttingDown())
    if phase is Phase.BOOT:
        told.on(w.Identified(launched_at=T0, has_trainer=True))
    assert told.count(w.Adopt) == 1
    assert told.signals() == [w.Sig.STOP]
    told.on(w.HeadTaken(head=a_head(90)))
    told.on(w.Saved(step=120))
    told.on(w.TrainerExited(code=75))
    told.on(w.Committed(head=a_head(120)))
    assert {task.step for task in only(told.said, w.Commit)} == {120}
    told.on(w.Committed(head=a_head(120, final=True)))
    assert only(told.on(w.LogsKept()), w.Farewell)
    assert told.count(w.StartTrainer) == 0


def test_an_agent_that_ends_before_it_knows_who_it_is_asks_again_first(told: Told) -> None:
    """The notice is there, and the rest of IMDS stumbles."""
    told.on(w.Started())
    told.on(w.Undone(task=w.Identify(), why="IMDS: 503"))
    assert w.Identify() in told.notice()
    assert told.count(w.Farewell) == 0
    said = told.on(w.Identified(launched_at=T0, has_trainer=True))
    assert w.Adopt() in said
    assert w.Signal(signal=w.Sig.STOP) in said
    assert w.TakeHead() in said


def test_a_gpu_that_is_gone_ends_the_trainer_that_is_there_with_a_commit(told: Told) -> None:
    told.finds_trainer()
    said = told.on(w.Unfit(why="g4dn.xlarge has no /dev/nvidia0"))
    assert w.Signal(signal=w.Sig.STOP) in said
    assert w.TakeHead() in said


def test_a_trainer_that_was_found_stalled_does_not_stay_so_for_ever(told: Told) -> None:
    told.finds_trainer()
    told.on(w.Fetched())
    told.orders(paid_until_s=7200)
    told.on(w.HeadTaken(head=a_head(90)))
    told.wait_until(3599)
    assert told.signals() == []
    told.wait_until(3600)
    assert told.signals() == [w.Sig.ABORT]
    assert w.StartTrainer(fresh=False) in told.on(ABORTED)


def test_one_that_was_found_may_be_silent_as_long_as_it_is_used_to(told: Told) -> None:
    """A line an epoch of 15 minutes: the first one comes early in our time, but not in its."""
    told.finds_trainer()
    told.on(w.Fetched())
    told.orders()
    told.on(w.HeadTaken(head=a_head(90)))
    told.on(w.Progressed(step=1000))
    told.on(w.Saved(step=1000))
    told.on(w.Committed(head=a_head(1000)))
    for epoch in range(3):
        told.wait_until(60 + 900 * epoch)
        told.on(w.Progressed(step=2000 + 1000 * epoch))
    told.wait_until(1860 + 1799)
    assert told.signals() == []
    told.wait_until(1860 + 1800)
    assert told.signals() == [w.Sig.ABORT]


# -- what its reports say of the machine


def test_the_way_up_has_milestones(told: Told) -> None:
    told.on(w.Started())
    told.now = told.at(2)
    told.on(w.Identified(launched_at=T0))
    told.orders()
    told.now = told.at(30)
    told.on(w.ImageThere(digest="sha256:abc", baked=True))
    told.now = told.at(40)
    told.on(w.DataThere())
    told.on(w.Fetched())
    told.now = told.at(50)
    told.on(w.HeadTaken(head=a_head(100)))
    told.now = told.at(55)
    told.on(w.Restored(step=100))
    reached = told.last_report.milestones
    assert reached.agent_at == T0
    assert (reached.image_at, reached.data_at) == (told.at(30), told.at(40))
    assert (reached.head_at, reached.restored_at) == (told.at(50), told.at(55))
    assert reached.baked
    assert told.last_report.image_digest == "sha256:abc"


def test_a_checkpoint_that_has_to_be_left_puts_no_milestone_back(told: Told) -> None:
    told.boots()
    told.now = told.at(50)
    told.on(w.HeadTaken(head=a_head(200, previous=100)))
    told.on(w.Damaged(why="torn"))
    told.now = told.at(70)
    told.on(w.HeadTaken(head=a_head(100)))
    told.on(w.Restored(step=100))
    assert told.last_report.milestones.head_at == told.at(50)
    assert told.last_report.milestones.restored_at == told.at(70)


def test_figures_clock_and_copies_wait_for_the_next_report(told: Told) -> None:
    told.on(w.Started())
    told.on(w.Identified(launched_at=T0))
    told.orders()
    figures, clock = Figures(at=T0), ClockState(synchronised=True, offset_s=0.002)
    copying = Copying(source="s3://data/digits/", bytes=7)
    for event in (
        w.FiguresSeen(figures=figures),
        w.ClockSeen(clock=clock),
        w.Copied(copying=copying),
    ):
        assert told.on(event) == []
    told.wait_until(61)
    report = told.last_report
    assert (report.figures, report.clock, report.copying) == (figures, clock, copying)
    told.on(w.DataThere())
    assert told.last_report.copying is None
    assert told.last_report.attempt == ME
