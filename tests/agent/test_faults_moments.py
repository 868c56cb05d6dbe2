"""A notice, and a kill -9 of the agent, at every moment of an attempt: whole agents as processes of
their own, against an S3 and a metadata service that hold them at the moment that is meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from spotrunner.core.model import Phase, Verb
from tests.agent.faulty_s3 import Fault
from tests.agent.imds_server import DOCUMENT
from tests.agent.rented import SEED_STEP, Account, Rented
from tests.agent.told import JOB

pytestmark = pytest.mark.slow

CHECKPOINT, HEAD = "*/checkpoints/000*/state.json", "*/HEAD.json"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """`held` is the request of S3 by whose arrival the moment is known, and that waits until what
    the test has in mind has happened."""

    name: str
    held: Fault | None = None
    run: str = "150 0.02"
    image: str = "tensorflow/tensorflow:2.17.0-gpu"
    hangs: str = ""
    is_up: bool = False  # no trainer has been started
    has_head: bool = True  # ... and HEAD is ours by then
    stops: bool = False
    reached: Callable[[Rented], object] = lambda machine: machine.account.s3.met

    def begin(self, account: Account) -> Rented:
        """Returns at the moment."""
        account.submit(self.run, image=self.image)
        machine = account.rent()
        if self.hangs:
            machine.imds.script.hangs.add(self.hangs)
        if not self.stops:
            self._hold(account)
        machine.start()
        if self.stops:
            machine.until_report(lambda report: report.phase is Phase.TRAIN and report.step)
            self._hold(account)
            machine.order(verb=Verb.STOP)
        machine.until(lambda: self.reached(machine))
        return machine

    def _hold(self, account: Account) -> None:
        if self.held is not None:
            account.s3.script(Fault(**vars(self.held)))

    def goes_on(self, machine: Rented) -> None:
        machine.imds.script.hangs.clear()
        machine.imds.script.released.set()
        (machine.tools / "released").touch()
        machine.account.s3.release()


def held(method: str, path: str, after: int = 0) -> Fault:
    return Fault(kind="held", method=method, path=path, after=after)


def asks_who_it_is(machine: Rented) -> bool:
    return any(path == DOCUMENT for _, path, _ in machine.imds.script.seen)


def has_begun_to_save(machine: Rented) -> bool:
    """What is being restored has such a name, too."""
    return trains(machine) and any(machine.state.glob("checkpoints/.partial-*"))


def trains(machine: Rented) -> bool:
    report = machine.report
    return report is not None and (report.step or 0) > SEED_STEP


def is_over(machine: Rented) -> bool:
    return bool(machine.calls("shutdown -P now"))


MOMENTS = [
    Moment(name="boot", hangs=DOCUMENT, reached=asks_who_it_is, is_up=True, has_head=False),
    Moment(
        name="image pull",
        image="held:1",
        reached=lambda machine: machine.calls("docker pull"),
        is_up=True,
        has_head=False,
    ),
    Moment(name="data copy", held=held("GET", "*/datasets/*"), is_up=True, has_head=False),
    Moment(name="take-over", held=held("PUT", HEAD), is_up=True),
    Moment(name="restore", held=held("GET", CHECKPOINT), is_up=True),
    Moment(name="training", reached=trains),
    Moment(name="saving", run="60 0.02 slow", reached=has_begun_to_save),
    Moment(name="uploading", held=held("PUT", CHECKPOINT)),
    Moment(name="commit", held=held("PUT", HEAD, after=1)),
    Moment(name="outputs", held=held("PUT", "*/outputs/2/model.json")),
    Moment(name="handover", held=held("PUT", CHECKPOINT), run="9000 0.02", stops=True),
    Moment(name="after the end", run="40 0.02", reached=is_over),
]
every_moment = pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name)


@every_moment
def test_a_notice_loses_nothing_and_leaves_nothing(account: Account, moment: Moment) -> None:
    machine = moment.begin(account)
    machine.notice()
    if moment.name == "after the end":
        was = account.head
        assert account.holds() == was
        return
    seen = machine.until_report(lambda report: report.notice)
    moment.goes_on(machine)
    if moment.is_up:
        _gives_way(machine, moment)
    elif moment.stops:
        machine.until_phase(Phase.STOPPED)
        assert account.holds().final
    else:
        _hands_over(machine, seen.step or 0)


def _gives_way(machine: Rented, moment: Moment) -> None:
    machine.until_phase(Phase.IDLE)
    head = machine.account.holds()
    assert not machine.calls("docker run"), "nothing was started that would be taken at once"
    assert head.step == SEED_STEP
    assert head.final, "its successor need not wait"
    assert head.generation == (2 if moment.has_head else 1)


def _hands_over(machine: Rented, at_least: int) -> None:
    """It saves, goes on until its replacement is ready, and ends; or it was at its end anyway."""

    def is_safe() -> bool:
        report = machine.report
        assert report is not None
        assert report.notice is not None
        saved_at = report.committed_at
        return report.phase is Phase.DONE or bool(saved_at and saved_at > report.notice.seen_at)

    machine.until(is_safe)
    machine.order(replacement_ready=True)
    machine.until_phase(Phase.IDLE, Phase.DONE)
    head = machine.account.holds()
    assert head.final
    # Of a job that is done nobody needs a checkpoint of the last steps.
    assert head.done is not None or head.step >= at_least


@every_moment
def test_a_killed_agent_goes_on_where_it_was(account: Account, moment: Moment) -> None:
    """What its predecessor had sent arrives when the new one is at work already."""
    machine = moment.begin(account)
    machine.kill()
    written_by = machine.report
    machine.start()
    machine.until(lambda: machine.report != written_by)
    moment.goes_on(machine)
    machine.until_phase(Phase.STOPPED if moment.stops else Phase.DONE)
    head = account.holds()
    assert head.generation == 2
    if moment.stops:
        assert head.final
        assert head.step > SEED_STEP
    else:
        assert account.model()["trail"] == [f"{JOB}.1"], "the trainer was started once"
