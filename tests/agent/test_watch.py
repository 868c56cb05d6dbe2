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


def told(root: Path, trainer: Ended, *, adopted: bool = False) -> list[w.Event]:
    folders = Folders(root=root)
    folders.make()
    keys = Keys(job_id=JOB, attempt=f"{JOB}.4", generation=4)
    logs = LogShipper(Bucket().objects, keys, folders.trainer_log, folders.shipped)
    events: list[w.Event] = []
    watch = TrainerWatch(trainer, folders, events.append, lambda: None, logs, adopted=adopted)  # type: ignore[arg-type]
    assert watch.look() == trainer.end
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


def test_one_that_was_ended_from_outside_is_the_machines_fault(tmp_path: Path) -> None:
    (event,) = told(tmp_path, Ended(Exit(code=137, lost="somebody removed it")))
    assert event == w.Unfit(why="the trainer is gone: somebody removed it")


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
