"""Instances in virtual time: the agent's real state machine, its real HEAD swaps and letters; only
boots, transfers and the trainer are modelled."""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from spotrunner.agent import words as w
from spotrunner.agent.holder import FencedOff, Holder
from spotrunner.agent.machine import Machine
from spotrunner.core.ids import TAG_ATTEMPT, TAG_JOB, generation_of
from spotrunner.core.model import CheckpointRef, Head, Manifest, Order
from spotrunner.ports import Heads, Mailbox, PortError
from spotrunner.sim.trainer import SimTrainer, Training
from spotrunner.sim.values import Happening, InstanceRecord, Kind
from spotrunner.sim.world import World


@dataclass(frozen=True, kw_only=True)
class Durations:
    """How long an instance takes for what is not modelled closer, in seconds."""

    boot_s: float = 40.0  # from running to the agent's first instruction
    again_s: float = 5.0  # ... and from an agent's death to that of the next one
    fetch_s: float = 30.0
    restore_s: float = 5.0
    commit_s: float = 4.0
    outputs_s: float = 6.0
    # what a checkpoint weighs, both ways
    checkpoint_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Services:
    """What an agent talks to, and the dice for its nonces."""

    world: World
    mailbox: Mailbox
    heads: Heads
    dice: random.Random

    def nonce(self) -> str:
        return f"{self.dice.getrandbits(48):012x}"


class SimAgent:
    """One instance from its boot to its end. `run(now)` does everything that is due.

    `mute` cuts it off from S3: it goes on by itself, as a partitioned instance does. `kill` ends
    the agent's own process: its trainer lives on, and a new agent comes.
    """

    def __init__(
        self,
        record: InstanceRecord,
        services: Services,
        training: Training,
        durations: Durations,
        first_step_s: int,
        now: dt.datetime,
    ) -> None:
        tags = dict(record.tags)
        self.record = record
        self.attempt, self.job_id = tags[TAG_ATTEMPT], tags[TAG_JOB]
        self.mute = False
        self.trainer: SimTrainer | None = None
        self.steps_done = 0
        self._services = services
        self._training = training
        self._durations = durations
        self._first_step_s = first_step_s
        self._watches = False
        self._task: tuple[int, w.Task] | None = None
        self._begin()
        # the newest checkpoint on the disk
        self._on_disk = 0
        self._moved_bytes = 0
        self._fail_safe_at = now + dt.timedelta(seconds=first_step_s)
        self._events: list[tuple[dt.datetime, int, Callable[[dt.datetime], w.Event | None]]] = []
        self._numbers = itertools.count()
        self._after(now, self._durations.boot_s, lambda _: w.Started())

    def _begin(self) -> None:
        """A process of the agent that knows nothing yet."""
        generation = generation_of(self.attempt) or 0
        self.machine = Machine(
            w.Config(
                attempt=self.attempt,
                box=self.attempt,
                generation=generation,
                first_step_s=self._first_step_s,
            )
        )
        self._holder = Holder(
            heads=self._services.heads,
            job_id=self.job_id,
            attempt=self.attempt,
            generation=generation,
            nonce=self._services.nonce,
        )
        self._order: Order | None = None

    def kill(self, now: dt.datetime, *, done: bool) -> None:
        """SIGKILL. What it was doing has happened (`done`), or not; nobody hears of it."""
        if not self._has_started or self.machine.off:
            return
        if done and self._task is not None:
            self._answer(self._task[1], now)
        self._events.clear()
        self._task, self._watches = None, False
        self._begin()
        self._after(now, self._durations.again_s, lambda _: w.Started())

    # -- time ----------------------------------------------------------------------------------

    def run(self, now: dt.datetime) -> None:
        if now >= self._fail_safe_at:
            self._services.world.shutdown_from_inside(now, self.record.id)
            return
        while self._events and self._events[0][0] <= now:
            at, _, make = heapq.heappop(self._events)
            event = make(now)
            if event is not None:
                self._hear(event, max(at, now))
        self._run_trainer(now)
        if not self._has_started:
            return
        self._look_at_imds(now)
        if now >= self.machine.next_deadline():
            self._hear(w.Tick(), now)

    def _run_trainer(self, now: dt.datetime) -> None:
        trainer = self.trainer
        if trainer is None:
            return
        for trained in trainer.due(now):
            if self._watches:
                self._hear(trained, now)
        self.steps_done = max(self.steps_done, trainer.step(now))

    @property
    def _has_started(self) -> bool:
        return bool(self.machine.story)

    def _look_at_imds(self, now: dt.datetime) -> None:
        view = self._services.world.imds(now, self.record.id)
        if view is not None and view.spot_action is not None:
            self._hear(w.NoticeSeen(at=view.spot_action[1]), now)

    def _hear(self, event: w.Event, now: dt.datetime) -> None:
        for instruction in self.machine.on(event, now):
            self._do(instruction, now)

    def _after(
        self, now: dt.datetime, seconds: float, make: Callable[[dt.datetime], w.Event | None]
    ) -> None:
        at = now + dt.timedelta(seconds=seconds)
        heapq.heappush(self._events, (at, next(self._numbers), make))

    # -- instructions --------------------------------------------------------------------------

    def _do(self, instruction: w.Instruction, now: dt.datetime) -> None:
        if isinstance(instruction, w.Task):
            self._do_task(instruction, now)
        elif isinstance(instruction, w.StartTrainer):
            self._start_trainer(instruction, now)
        elif isinstance(instruction, w.Adopt):
            self._adopt(now)
        elif isinstance(instruction, w.Signal):
            if self.trainer is not None:
                self.trainer.signal(instruction.signal, now)
        elif isinstance(instruction, w.ArmTimer):
            self._fail_safe_at = now + dt.timedelta(minutes=instruction.minutes)
        elif isinstance(instruction, w.PowerOff):
            self._services.world.shutdown_from_inside(now, self.record.id)
        elif not self.mute:
            self._correspond(instruction, now)

    def _correspond(self, instruction: w.Instruction, now: dt.datetime) -> None:
        """Letters are fire and forget: one that is lost is written again at its own pace."""
        try:
            if isinstance(instruction, w.Post):
                self._services.mailbox.post_report(instruction.report)
            elif isinstance(instruction, w.PollOrder):
                order = self._services.mailbox.order(self.attempt, self._order)
                if order is not None:
                    self._order = order
                    self._hear(w.OrderSeen(order=order), now)
            elif isinstance(instruction, w.ReadHead):
                head = self._services.heads.read(self.job_id).head
                self._hear(w.HeadSeen(head=head), now)
        except PortError:
            return

    def _start_trainer(self, instruction: w.StartTrainer, now: dt.datetime) -> None:
        if self.trainer is not None:
            assert self.trainer.exited, f"two trainers on {self.attempt}"
            self._on_disk = max(self._on_disk, self.trainer.complete)
        self._watches = True
        self.trainer = SimTrainer(self._training, 0 if instruction.fresh else self._on_disk, now)

    def _adopt(self, now: dt.datetime) -> None:
        assert self.trainer is not None, f"{self.attempt} has no trainer to adopt"
        self._watches = True
        for seen in self.trainer.found():
            self._hear(seen, now)

    def _do_task(self, task: w.Task, now: dt.datetime) -> None:
        number = next(self._numbers)
        self._task = (number, task)
        self._after(now, self._seconds(task), lambda at: self._finish(number, task, at))

    def _finish(self, number: int, task: w.Task, now: dt.datetime) -> w.Event:
        if self._task is not None and self._task[0] == number:
            self._task = None
        return self._answer(task, now)

    def _seconds(self, task: w.Task) -> float:
        durations = self._durations
        if isinstance(task, w.Fetch):
            return durations.fetch_s
        if isinstance(task, w.Restore):
            return durations.restore_s
        if isinstance(task, w.Commit):
            return durations.commit_s
        return durations.outputs_s if isinstance(task, w.CommitOutputs) else 0.2

    def _answer(self, task: w.Task, now: dt.datetime) -> w.Event:
        """What came of the task, at the time it is over."""
        if self.mute and not isinstance(task, (w.Identify, w.Fetch)):
            return w.Undone(task=task, why="S3 cannot be reached")
        try:
            return self._perform(task)
        except FencedOff as error:
            return w.Fenced(why=str(error))
        except PortError as error:
            return w.Undone(task=task, why=str(error))

    def _perform(self, task: w.Task) -> w.Event:
        if isinstance(task, w.Identify):
            has_trainer = self.trainer is not None
            return w.Identified(launched_at=self.record.launched_at, has_trainer=has_trainer)
        if isinstance(task, w.Fetch):
            return w.Fetched()
        if isinstance(task, w.TakeHead):
            return w.HeadTaken(head=self._holder.take())
        if isinstance(task, w.Restore):
            self._on_disk = task.ref.step
            return w.Restored(step=task.ref.step, moved_bytes=self._moved())
        if isinstance(task, w.FallBack):
            head = self.machine.head
            assert head is not None
            assert head.manifest is not None
            return w.HeadTaken(head=self._holder.fall_back(head.manifest))
        if isinstance(task, w.KeepLogs):
            return w.LogsKept()
        if isinstance(task, w.Farewell):
            self._services.mailbox.post_report(task.report)
            return w.Posted()
        return w.Committed(
            head=self._commit(task),
            commit_s=self._durations.commit_s,
            moved_bytes=self._moved() if isinstance(task, w.Commit) else self._moved_bytes,
        )

    def _moved(self) -> int:
        self._moved_bytes += self._durations.checkpoint_bytes
        return self._moved_bytes

    def _commit(self, task: w.Task) -> Head:
        if isinstance(task, w.Commit):
            return self._holder.commit(self._store(task.step), final=task.final)
        if isinstance(task, w.CommitOutputs):
            return self._holder.finish(f"jobs/{self.job_id}/outputs/{self.attempt}/MANIFEST.json")
        return self._holder.finalize()

    def _store(self, step: int) -> CheckpointRef:
        folder = f"jobs/{self.job_id}/checkpoints/{step:08d}-{self._services.nonce()}/"
        manifest = Manifest(step=step, attempt=self.attempt, files=())
        digest = self._services.heads.write_manifest(folder, manifest)
        return CheckpointRef(folder=folder, step=step, manifest_sha256=digest)


class SimFleet:
    """All instances of a world that carry an attempt's tag."""

    def __init__(
        self,
        services: Services,
        training: Training | None = None,
        durations: Durations | None = None,
    ) -> None:
        self.agents: dict[str, SimAgent] = {}
        self.gone: dict[str, SimAgent] = {}
        self._services = services
        self.training = training or Training()
        self.durations = durations or Durations()

    def run(self, now: dt.datetime) -> None:
        for happening in self._services.world.advance(now):
            self._follow(happening, now)
        for agent in list(self.agents.values()):
            agent.run(now)

    def of(self, attempt: str) -> SimAgent:
        """The agent of an attempt, also after its end."""
        everybody = (*self.agents.values(), *self.gone.values())
        return next(agent for agent in everybody if agent.attempt == attempt)

    def _follow(self, happening: Happening, now: dt.datetime) -> None:
        if happening.kind is Kind.STARTED:
            self._boot(happening.instance_id, now)
        elif happening.kind is Kind.ENDED or happening.abrupt:
            agent = self.agents.pop(happening.instance_id, None)
            if agent is not None:
                self.gone[happening.instance_id] = agent

    def _boot(self, instance_id: str, now: dt.datetime) -> None:
        view = self._services.world.imds(now, instance_id)
        if view is None or TAG_ATTEMPT not in dict(view.record.tags):
            return
        self.agents[instance_id] = SimAgent(
            view.record,
            self._services,
            self.training,
            self.durations,
            _first_step_s(view.user_data),
            now,
        )


def _first_step_s(user_data: str) -> int:
    """What the fail-safe timer of this boot script counts."""
    found = re.search(r"^first_step_minutes=(\d+)$", user_data, re.MULTILINE)
    assert found is not None, "this is not our user-data"
    return int(found[1]) * 60
