"""The small parts: deadlines, paces, the lane, progress lines, workers."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path

import pytest

from spotrunner.agent import words as w
from spotrunner.agent.deadlines import Measured, in_free_hour, kill_at, stop_at
from spotrunner.agent.folders import step_of
from spotrunner.agent.lane import Lane
from spotrunner.agent.pace import Pace
from spotrunner.agent.watch import ProgressTail, parse_progress
from spotrunner.agent.workers import Worker
from tests.agent.told import T0

CONFIG = w.Config(attempt="j.1", box="j.1", generation=1)
DEADLINE = T0 + dt.timedelta(seconds=120)


def s_before(moment: dt.datetime) -> float:
    return (DEADLINE - moment).total_seconds()


# -- deadlines


@pytest.mark.parametrize(
    ("measured", "stop_s", "kill_s"),
    [
        (Measured(), 3 * 15 + 20, 2 * 15 + 10),
        (Measured(save_s=2, commit_s=3), 3 * 5 + 20, 2 * 3 + 10),
        (Measured(save_s=2), 3 * 15 + 20, 2 * 15 + 10),  # half a measurement is none
        (Measured(save_s=20), 3 * 20 + 20, 2 * 15 + 10),  # ... unless it is longer already
        (Measured(save_s=0, commit_s=0), 20, 10),
    ],
)
def test_when_a_trainer_is_told_and_when_it_is_killed(
    measured: Measured, stop_s: float, kill_s: float
) -> None:
    assert s_before(stop_at(DEADLINE, measured, CONFIG)) == stop_s
    assert s_before(kill_at(DEADLINE, T0, measured, CONFIG)) == kill_s


def test_a_late_stop_still_leaves_the_least_grace() -> None:
    told_at = DEADLINE - dt.timedelta(seconds=3)
    killed_at = kill_at(DEADLINE, told_at, Measured(), CONFIG)
    assert (killed_at - told_at).total_seconds() == CONFIG.least_grace_s


def test_the_free_hour_has_sixty_one_minutes() -> None:
    hour = T0 + dt.timedelta(minutes=61)
    assert in_free_hour(hour, T0, CONFIG)
    assert not in_free_hour(hour + dt.timedelta(seconds=1), T0, CONFIG)


# -- pace and lane


def test_a_pace_is_due_at_once_then_every_so_often_and_when_hurried() -> None:
    pace = Pace()
    assert pace.due_at(T0) is None, "it rests until it has an interval"
    pace.set(10)
    assert pace.take(T0)
    assert not pace.take(T0 + dt.timedelta(seconds=9))
    assert pace.take(T0 + dt.timedelta(seconds=10))
    pace.hurry()
    assert pace.take(T0 + dt.timedelta(seconds=11))
    pace.set(None)
    assert not pace.take(T0 + dt.timedelta(seconds=99))


def test_a_lane_holds_one_task_and_knows_stale_answers() -> None:
    lane = Lane(CONFIG)
    lane.start(w.Fetch())
    assert not lane.answered(w.TakeHead)
    with pytest.raises(AssertionError, match="two tasks"):
        lane.start(w.TakeHead())
    assert lane.answered(w.Fetch)
    assert not lane.undone(w.Undone(task=w.Fetch(), why="late"), T0)


def test_a_lane_waits_longer_each_time_and_forgets_with_a_success() -> None:
    lane, waits = Lane(CONFIG), []
    for _ in range(7):
        lane.start(w.Fetch())
        assert lane.undone(w.Undone(task=w.Fetch(), why="503"), T0)
        assert lane.retry_at is not None
        waits.append((lane.retry_at - T0).total_seconds())
        assert lane.is_free(lane.retry_at)
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    assert not lane.is_hopeless
    lane.clear()
    lane.start(w.Fetch())
    lane.undone(w.Undone(task=w.Fetch(), why="503"), T0)
    assert lane.retry_at == T0 + dt.timedelta(seconds=1)


def test_a_lane_gives_up_on_a_disk_that_stays_full() -> None:
    lane, now = Lane(CONFIG), T0
    for full, wait_s, hopeless in [
        (True, 0, False),
        (False, 200, False),
        (True, 200, False),
        (True, 299, False),
        (True, 1, True),
    ]:
        now += dt.timedelta(seconds=wait_s)
        lane.start(w.Fetch())
        assert lane.undone(w.Undone(task=w.Fetch(), why="no room", full=full), now)
        assert lane.is_hopeless is hopeless
    lane.forgive()
    assert not lane.is_hopeless


# -- progress


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (
            b'{"step": 150, "total_steps": 2300, "epoch": 3, "metrics": {"loss": 0.41, "x": null},'
            b' "steps_per_s": 61.2}',
            w.Progressed(step=150, total_steps=2300, steps_per_s=61.2, metrics=(("loss", 0.41),)),
        ),
        (b'{"step": 1}', w.Progressed(step=1)),
        (b'{"step": 1, "metrics": ["x"], "total_steps": "many"}', w.Progressed(step=1)),
        (b'{"step": 150, "saved": "00000150", "save_s": 0.08}', w.SaveTook(save_s=0.08)),
        (b'{"step": 150, "saved": "00000150"}', None),
        (b'{"step": 150, "saved": "00000150", "save_s": -1}', None),
        (b'{"step": 150, "saved": "00000150", "save_s": 8e13}', None),
        (b'{"step": -1}', None),
        (b'{"step": 1%s}' % (b"0" * 400), None),
        (b'{"step": 1, "steps_per_s": 1%s}' % (b"0" * 400), w.Progressed(step=1)),
        (b'{"step": true}', None),
        (b'{"epoch": 3}', None),
        (b"[1]", None),
        (b"Epoch 3/10", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b'{"step": 1, "metrics": {"loss": NaN, "a": Infinity}}', w.Progressed(step=1)),
    ],
)
def test_progress_lines(line: bytes, event: w.Event | None) -> None:
    assert parse_progress(line) == event


def test_a_tail_begins_where_it_came_and_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    path.write_text('{"step": 1}\n')
    tail = ProgressTail(path)
    assert tail.read() == []
    with path.open("a") as file:
        file.write('{"step": 2}\n{"step": 3}\n{"step": 3, "saved": "3", "save_s": 1}\n{"st')
        file.flush()
        assert tail.read() == [w.SaveTook(save_s=1), w.Progressed(step=3)]
        file.write('ep": 4}\n')
    assert tail.read() == [w.Progressed(step=4)]
    assert tail.read() == []


def test_a_line_that_does_not_end_is_not_read_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    tail = ProgressTail(path)
    path.write_bytes(b"x" * (3 << 20) + b'\n{"step": 2}\n')
    told = [event for _ in range(4) for event in tail.read()]
    assert told == [w.Progressed(step=2)]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("00000150", 150),
        ("7", 7),
        (".partial-7", None),
        ("7a", None),
        ("²", None),
        ("٣", None),
        ("9" * 200, None),
    ],
)
def test_complete_checkpoints_are_named_by_digits(name: str, step: int | None) -> None:
    assert step_of(name) == step


# -- workers


def test_a_worker_does_all_in_order() -> None:
    done: list[int] = []

    def do(item: int) -> bool:
        done.append(item)
        return True

    worker: Worker[int] = Worker("t", do, newest_only=False)
    for item in range(50):
        worker.give(item)
    assert worker.finish(10)
    assert done == list(range(50))


def test_a_poller_does_the_newest_and_tries_again_what_failed() -> None:
    done: list[str] = []
    started, go_on = threading.Event(), threading.Event()

    def do(item: str) -> bool:
        done.append(item)
        started.set()
        go_on.wait(10)
        return len(done) > 3

    worker: Worker[str] = Worker("t", do, newest_only=True, again_s=0.01)
    worker.give("first")
    assert started.wait(10)
    for item in ("overtaken", "overtaken too", "newest"):
        worker.give(item)
    go_on.set()
    assert worker.finish(10)
    assert done == ["first", "newest", "newest", "newest"]
