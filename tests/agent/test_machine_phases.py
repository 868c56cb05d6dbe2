"""A notice in every phase, as a table: events in, instructions out, and the promises at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spotrunner.agent import words as w
from spotrunner.core.model import Phase, TakeOver, Verb
from tests.agent.test_machine_random import World, run_out
from tests.agent.told import OLD, a_head

BASE = 5


def answers_until(world: World, kind: type[w.Task]) -> None:
    """Every task is done at once, up to this one, which is under way."""
    for _ in range(12):
        if isinstance(world.task(), kind):
            return
        world.answer("good")
    raise AssertionError(f"it never came to {kind.__name__}")


def boots(world: World) -> None:
    world.on(w.Started())


def fetches(world: World) -> None:
    boots(world)
    answers_until(world, w.Fetch)


def has_its_image(world: World) -> None:
    fetches(world)
    world.orders()
    world.on(w.DataThere())
    world.on(w.ImageThere(digest="sha256:1"))


def waits_for_an_order(world: World) -> None:
    fetches(world)
    world.answer("good")
    assert world.told.machine.phase is Phase.READY


def waits_for_the_old_one(world: World) -> None:
    fetches(world)
    world.orders(take_over=TakeOver(attempt=OLD))
    world.answer("good")
    assert world.task() is None


def takes_over(world: World) -> None:
    fetches(world)
    world.orders()
    answers_until(world, w.TakeHead)


def restores(world: World) -> None:
    takes_over(world)
    answers_until(world, w.Restore)


def falls_back(world: World) -> None:
    restores(world)
    world.answer("bad")
    assert isinstance(world.task(), w.FallBack)


def imports(world: World) -> None:
    restores(world)
    world.answer("good")
    assert world.lives


def trains(world: World) -> None:
    imports(world)
    world.work(w.Progressed(step=BASE + 1))


def saves(world: World) -> None:
    """It was asked to, and is at it."""
    trains(world)
    world.orders(checkpoints_asked=1)


def uploads(world: World) -> None:
    trains(world)
    world.work(w.Saved(step=BASE + 1))
    assert isinstance(world.task(), w.Commit)


def hands_over(world: World) -> None:
    trains(world)
    world.orders(replacement_ready=True)
    world.work(w.Saved(step=BASE + 2))
    world.obey()


def uploads_its_outputs(world: World) -> None:
    trains(world)
    world.work(w.TrainerExited(code=0))
    answers_until(world, w.CommitOutputs)


def keeps_its_logs(world: World) -> None:
    trains(world)
    world.orders(verb=Verb.STOP)
    world.obey()
    answers_until(world, w.KeepLogs)


def says_farewell(world: World) -> None:
    uploads_its_outputs(world)
    answers_until(world, w.Farewell)


def is_off(world: World) -> None:
    says_farewell(world)
    world.answer("good")
    assert world.told.machine.off


PHASES: list[Callable[[World], None]] = [
    boots,
    fetches,
    has_its_image,
    waits_for_an_order,
    waits_for_the_old_one,
    takes_over,
    restores,
    falls_back,
    imports,
    trains,
    saves,
    uploads,
    hands_over,
    uploads_its_outputs,
    keeps_its_logs,
    says_farewell,
    is_off,
]
in_every_phase = pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
# ... and what befalls the task that is under way at the notice
in_every_weather = pytest.mark.parametrize("answer", ["good", "undone", "killed", "killed late"])


def a_world() -> World:
    world = World()
    world.head = a_head(BASE, attempt=OLD, generation=3, previous=BASE - 1)
    return world


def befalls(world: World, answer: str) -> None:
    if answer.startswith("killed"):
        world.dies(done=answer == "killed late")
    else:
        world.answer(answer)


@in_every_phase
@in_every_weather
@pytest.mark.parametrize("in_s", [120, 20, 0, -60])
def test_a_notice_ends_it_with_everything_kept(
    phase: Callable[[World], None], answer: str, in_s: int
) -> None:
    world = a_world()
    phase(world)
    had_trainer = world.started
    world.notice(in_s)
    befalls(world, answer)
    if answer.startswith("killed"):
        world.notice(in_s)  # the metadata service says it to the next agent, too
    run_out(world)
    _keeps_the_promises(world, had_trainer, BASE - (phase is falls_back))


def _keeps_the_promises(world: World, had_trainer: bool, least: int) -> None:
    head = world.head
    assert world.told.machine.off
    assert not world.lives, "no trainer outlives its machine's end"
    assert head.step >= max(least, world.saved)
    assert had_trainer or not world.started, "nothing is begun that would be taken at once"
    # Otherwise its last report says that nothing more comes of it, which frees its successor too.
    assert head.final or not had_trainer
    assert head.final or world.told.last_report.phase in (Phase.IDLE, Phase.STOPPED)


@in_every_phase
def test_both_channels_at_once_are_one_ending(phase: Callable[[World], None]) -> None:
    """IMDS tells the agent, and EC2 the daemon, which orders a stop and has a replacement; in
    either order."""
    for first in ("notice", "order"):
        world = a_world()
        phase(world)
        had_trainer = world.started
        if first == "notice":
            world.notice(120)
        world.orders(verb=Verb.STOP, replacement_ready=True)
        if first == "order":
            world.notice(120)
        run_out(world)
        _keeps_the_promises(world, had_trainer, BASE - (phase is falls_back))
        assert world.told.signals().count(w.Sig.STOP) <= 1
