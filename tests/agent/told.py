"""A machine with a clock in its hand, to tell stories with."""

from __future__ import annotations

import datetime as dt
from typing import TypeVar

from spotrunner.agent import words as w
from spotrunner.agent.machine import Machine
from spotrunner.core.model import CheckpointRef, Head, Order, Phase, Report, TakeOver, Verb

T0 = dt.datetime(2026, 11, 2, 8, 0, tzinfo=dt.timezone.utc)
JOB = "digits-7f3a"
ME = f"{JOB}.4"
OLD = f"{JOB}.3"

I = TypeVar("I")  # noqa: E741 -- an instruction


def a_ref(step: int) -> CheckpointRef:
    folder = f"jobs/{JOB}/checkpoints/{step:08d}-abc/"
    return CheckpointRef(folder=folder, step=step, manifest_sha256="00" * 32)


def a_head(
    step: int | None = None,
    *,
    attempt: str = ME,
    generation: int = 4,
    final: bool = False,
    done: str | None = None,
    previous: int | None = None,
) -> Head:
    return Head(
        seq=1,
        generation=generation,
        attempt=attempt,
        nonce="n",
        manifest=None if step is None else a_ref(step),
        previous=None if previous is None else a_ref(previous),
        final=final,
        done=done,
    )


class Told:
    """Feeds events and time to a machine and keeps all it said. `s` are seconds since T0."""

    def __init__(self, config: w.Config | None = None) -> None:
        self.machine = Machine(
            config or w.Config(attempt=ME, box=ME, generation=4, first_step_s=1800)
        )
        self.now = T0
        self.said: list[w.Instruction] = []
        self.step = 1000
        self.order = Order(
            box=ME,
            epoch=1,
            n=1,
            attempt=ME,
            generation=4,
            verb=Verb.RUN,
            paid_until=T0 + dt.timedelta(seconds=7200),
        )

    # -- events

    def on(self, event: w.Event) -> list[w.Instruction]:
        said = self.machine.on(event, self.now)
        self.said += said
        return said

    def at(self, s: float) -> dt.datetime:
        return T0 + dt.timedelta(seconds=s)

    def wait_until(self, s: float) -> list[w.Instruction]:
        """Let time pass, with a tick at every deadline on the way; returns all that was said."""
        said: list[w.Instruction] = []
        while (due := self.machine.next_deadline()) <= self.at(s):
            self.now = max(due, self.now)
            said += self.on(w.Tick())
        self.now = max(self.at(s), self.now)
        return said + self.on(w.Tick())

    def works_until(self, s: float, *, every_s: float = 60.0) -> list[w.Instruction]:
        """Let time pass, with a line of progress of a step every so often."""
        said: list[w.Instruction] = []
        while (next_s := (self.now - T0).total_seconds() + every_s) <= s:
            said += self.wait_until(next_s)
            self.step += 1
            said += self.on(w.Progressed(step=self.step))
        return said + self.wait_until(s)

    def orders(
        self,
        *,
        n: int | None = None,
        epoch: int = 1,
        verb: Verb = Verb.RUN,
        paid_until_s: float = 7200,
        take_over: TakeOver | None = None,
        replacement_ready: bool = False,
        checkpoints_asked: int = 0,
        watched: bool = False,
        save_every_s: int | None = None,
        handles_save_signal: bool = True,
        attempt: str = ME,
    ) -> list[w.Instruction]:
        self.order = Order(
            box=ME,
            epoch=epoch,
            n=self.order.n + 1 if n is None else n,
            attempt=attempt,
            generation=4,
            verb=verb,
            paid_until=self.at(paid_until_s),
            why="cancelled" if verb is Verb.STOP else "",
            take_over=take_over,
            replacement_ready=replacement_ready,
            checkpoints_asked=checkpoints_asked,
            watched=watched,
            save_every_s=save_every_s,
            handles_save_signal=handles_save_signal,
        )
        return self.on(w.OrderSeen(order=self.order))

    # -- chapters

    def boots(self, take_over: TakeOver | None = None) -> list[w.Instruction]:
        """Up to READY, with an order read, launched at T0."""
        self.on(w.Started())
        self.on(w.Identified(launched_at=T0))
        self.orders(take_over=take_over)
        return self.on(w.Fetched())

    def trains(
        self,
        step: int | None = None,
        *,
        handles_save_signal: bool = True,
        stall_after_s: int | None = None,
    ) -> None:
        """Up to TRAIN from HEAD at `step`."""
        self.on(w.Started())
        self.on(w.Identified(launched_at=T0))
        self.orders()
        self.on(w.Fetched(handles_save_signal=handles_save_signal, stall_after_s=stall_after_s))
        self.on(w.HeadTaken(head=a_head(step)))
        if step is not None:
            self.on(w.Restored(step=step))
        assert self.machine.phase is Phase.TRAIN

    def finds_trainer(self) -> list[w.Instruction]:
        """A new agent on a machine whose trainer lives on, up to its Fetch."""
        self.machine, self.said = Machine(self.machine.config), []
        self.on(w.Started())
        return self.on(w.Identified(launched_at=T0, has_trainer=True))

    def measures(self, save_s: float, commit_s: float, step: int) -> None:
        """A save at `step` and its commit, so that both are measured."""
        self.on(w.SaveTook(save_s=save_s))
        self.on(w.Saved(step=step))
        self.on(w.Committed(head=a_head(step), commit_s=commit_s))

    def leaves(self) -> None:
        """The trainer obeys, and every task is done at once."""
        step = self.machine.head.step if self.machine.head else None
        if w.Sig.STOP not in self.signals():
            paid_until_s = (self.order.paid_until - T0).total_seconds()
            self.orders(replacement_ready=True, paid_until_s=paid_until_s)
        self.on(w.TrainerExited(code=75))
        self.on(w.Committed(head=a_head(step, final=True)))
        self.on(w.LogsKept())
        self.on(w.Posted())

    def notice(self, in_s: float = 120.0) -> list[w.Instruction]:
        return self.on(w.NoticeSeen(at=self.now + dt.timedelta(seconds=in_s)))

    # -- what was said

    def count(self, kind: type[w.Instruction]) -> int:
        return len(only(self.said, kind))

    def signals(self) -> list[w.Sig]:
        return [s.signal for s in only(self.said, w.Signal)]

    @property
    def last_report(self) -> Report:
        return [s.report for s in self.said if isinstance(s, w.Post | w.Farewell)][-1]


def only(said: list[w.Instruction], kind: type[I]) -> list[I]:
    return [one for one in said if isinstance(one, kind)]
