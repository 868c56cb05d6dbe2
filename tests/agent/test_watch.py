"""What is told of a trainer: its end with a reason, and what an adopted one has done already."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from spotrunner.agent import words as w
from spotrunner.agent.folders import Folders, Keys
from spotrunner.agent.logs import LogShipper
from spotrunner.agent.trainer import Exit
from spotrunner.agent.watch import TrainerWatch
from spotrunner.agent.words import Sig
from tests.agent.told import JOB
from tests.agent.world import Bucket, save


@dataclass
class Ended:
    """A trainer that has ended like this."""

    end: Exit
    told: set[Sig] = field(default_factory=set)
    gpus: bool = False

    def poll(self) -> Exit:
        return self.end


def a_watch(
    root: Path, trainer: Ended, events: list[w.Event], *, adopted: bool = False
) -> TrainerWatch:
    folders = Folders(root=root)
    folders.make()
    keys = Keys(job_id=JOB, attempt=f"{JOB}.4", generation=4)
    logs = LogShipper(Bucket().objects, keys, folders.trainer_log, folders.shipped)
    return TrainerWatch(trainer, folders, events.append, lambda: None, logs, adopted=adopted)  # type: ignore[arg-type]


def told(root: Path, trainer: Ended, *, adopted: bool = False) -> list[w.Event]:
    events: list[w.Event] = []
    assert a_watch(root, trainer, events, adopted=adopted).look() == trainer.end
    return events


def test_an_end_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "trainer.log").write_text("No module named 'wandb'\n")
    (event,) = told(tmp_path, Ended(Exit(code=137, oom_killed=True)))
    assert isinstance(event, w.TrainerExited)
    assert (event.code, event.log_tail) == (137, ("No module named 'wandb'",))
    assert event.diagnosis is not None
    assert "out of memory" in event.diagnosis.what


@pytest.mark.parametrize(
    ("code", "sig"), [(137, Sig.KILL), (134, Sig.ABORT), (143, Sig.STOP), (1, Sig.STOP)]
)
def test_one_that_we_have_ended_needs_none(tmp_path: Path, code: int, sig: Sig) -> None:
    (event,) = told(tmp_path, Ended(Exit(code=code), told={sig}))
    assert event == w.TrainerExited(code=code)


def test_one_that_could_not_do_what_it_was_told_has_a_diagnosis(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "trainer.log").write_text("OSError: [Errno 28] No space left on device\n")
    (event,) = told(tmp_path, Ended(Exit(code=1), told={Sig.STOP}))
    assert isinstance(event, w.TrainerExited)
    assert event.diagnosis is not None
    assert "disk is full" in event.diagnosis.what


def test_one_that_was_ended_from_outside_is_the_machines_fault(tmp_path: Path) -> None:
    (event,) = told(tmp_path, Ended(Exit(code=137, lost="somebody removed it")))
    assert event == w.Unfit(why="the trainer is gone: somebody removed it")


def test_what_cannot_be_read_hides_neither_a_save_nor_the_end(tmp_path: Path) -> None:
    folders = Folders(root=tmp_path)
    folders.make()
    save(tmp_path, 20)
    folders.progress.mkdir()
    assert told(tmp_path, Ended(Exit(code=0)), adopted=True) == [
        w.Saved(step=20),
        w.TrainerExited(code=0),
    ]


def test_a_look_that_fails_is_not_the_last(tmp_path: Path) -> None:
    class Stumbles(Ended):
        looks = 0

        def poll(self) -> Exit:
            self.looks += 1
            if self.looks < 3:
                raise ValueError("systemctl said something new")
            return self.end

    events: list[w.Event] = []
    a_watch(tmp_path, Stumbles(Exit(code=1)), events).run()
    assert events == [w.TrainerExited(code=1)]


def test_of_an_adopted_one_all_that_lies_there_is_news(tmp_path: Path) -> None:
    folders = Folders(root=tmp_path)
    folders.make()
    save(tmp_path, 20)
    save(tmp_path, 40)
    folders.progress.write_text('{"step": 20}\n{"step": 41, "total_steps": 60}\n')
    assert told(tmp_path, Ended(Exit(code=0)), adopted=True) == [
        w.Progressed(step=41, total_steps=60),
        w.Saved(step=20),
        w.Saved(step=40),
        w.TrainerExited(code=0),
    ]
    assert told(tmp_path, Ended(Exit(code=0))) == [w.TrainerExited(code=0)]
