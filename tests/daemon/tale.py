"""A stage with a job on it, and the words that stories are told in."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from spotrunner.adapters.store.memory import MemoryStore
from spotrunner.core.model import Attempt, Event, Head, JobSpec, Limits, Report
from spotrunner.core.money import exposure
from spotrunner.core.policy import Policies
from spotrunner.core.states import AttemptState, JobState
from spotrunner.ports import Changes, Store, Unavailable
from spotrunner.sim.agents import Durations, SimAgent
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.setups import plain_setup
from spotrunner.sim.stage import INSTALLATION, Stage
from spotrunner.sim.trainer import Training
from spotrunner.sim.values import LIGHT, Manners

T0 = dt.datetime(2026, 11, 1, 12, 0, tzinfo=dt.timezone.utc)
JOB = "job-aaaa"


def a_spec(**changes: Any) -> JobSpec:
    fields: dict[str, Any] = {
        "name": "job",
        "run": "python train.py",
        "image": "tensorflow/tensorflow:2.17.0-gpu",
        "instance_types": ("g4dn.xlarge",),
        "regions": ("us-east-1", "eu-west-1"),
        "budget_usd_micros": 5_000_000,
    }
    return JobSpec(**{**fields, **changes})


class Tale(Stage):
    """After every second: accrued + reserved <= cap, at most one unfenced attempt, HEAD's `seq`
    and step never fall, and no instance without a recorded intent."""

    def __init__(
        self,
        *,
        manners: Manners = LIGHT,
        training: Training | None = None,
        durations: Durations | None = None,
        limits: Limits | None = None,
        store: Store | None = None,
        policies: Policies | None = None,
        seed: int = 0,
        **spec: Any,
    ) -> None:
        super().__init__(
            plain_setup(T0, manners=manners),
            store or MemoryStore(),
            seed=seed,
            limits=limits,
            training=training,
            durations=durations,
            policies=policies,
        )
        self._last_head: Head | None = None
        self._forgotten: set[str] = set()
        self.submit(a_spec(**spec), JOB)

    def step(self) -> None:
        super().step()
        self._promise_money()
        self._promise_head()
        self._promise_intents()

    # -- the promises --------------------------------------------------------------------------

    def _promise_money(self) -> None:
        cap = self.job().spec.budget_usd_micros
        if cap is None:
            return
        committed = sum(exposure(attempt, self.limits) for attempt in self.attempts())
        assert committed <= cap, f"{committed} micro-dollars are committed of {cap}"
        billed = sum(charge.usd_micros for charge in self.world.bill(self.clock.now()))
        assert billed <= cap, f"EC2 bills {billed} micro-dollars of {cap}"

    def _promise_head(self) -> None:
        head, last = self.head(), self._last_head
        if head is not None and last is not None:
            assert head.seq >= last.seq
            assert head.generation >= last.generation
            assert head.step >= last.step or head.damaged is not None
        self._last_head = head

    def _promise_intents(self) -> None:
        known = {attempt.id for attempt in self.attempts()} | self._forgotten
        for record in self.world.truth(self.clock.now()):
            assert dict(record.tags)["spotrunner:attempt"] in known

    # -- what there is -------------------------------------------------------------------------

    def attempts(self) -> tuple[Attempt, ...]:
        return self.store.attempts([JOB])

    def attempt(self, generation: int) -> Attempt:
        return next(a for a in self.attempts() if a.generation == generation)

    def agent(self, generation: int) -> SimAgent:
        return self.fleet.of(f"{JOB}.{generation}")

    def head(self) -> Head | None:
        return self.heads.read(JOB).head

    def head_step(self) -> int:
        head = self.head()
        return head.step if head else 0

    def events(self, kind: str) -> list[Event]:
        return [event for _, event in self.store.events(JOB) if event.kind == kind]

    def reports(self) -> Mapping[str, Report]:
        self.services.mailbox.boxes()
        return self.services.mailbox.reports()

    def alive(self) -> list[str]:
        """The attempts that have an instance which EC2 bills."""
        return [
            dict(record.tags)["spotrunner:attempt"]
            for record in self.world.truth(self.clock.now())
            if record.stage.value in ("pending", "running")
        ]

    # -- what happens --------------------------------------------------------------------------

    def until(self, holds: Callable[[], bool], seconds: float = 7200) -> None:
        assert self.run(seconds, holds), f"not within {seconds:.0f} s:\n{self.story()}"

    def until_trains(self, generation: int, steps: int = 0) -> None:
        """Until this attempt's own trainer is past so many steps of the job."""

        def trains() -> bool:
            if self.attempt_or_none(generation) is None:
                return False
            agents = [a for a in self.fleet.agents.values() if a.attempt == f"{JOB}.{generation}"]
            return any(a.trainer is not None and a.steps_done > steps for a in agents)

        self.until(trains)

    def attempt_or_none(self, generation: int) -> Attempt | None:
        return next((a for a in self.attempts() if a.generation == generation), None)

    def until_over(self, seconds: float = 4 * 3600) -> None:
        """Until the job is over and nothing of it is left."""
        self.until(lambda: self.job().state.over and not self.store.open_jobs(), seconds)
        assert self.alive() == []

    def interrupt(self, generation: int, *, notice: bool = True) -> None:
        instance = self.agent(generation).record.id
        self.world.interrupt(self.clock.now(), instance, notice=notice)

    def lose(self, action: str, when: Lose, times: int = 1) -> None:
        self.world.faults.script(Fault(action=action, lose=when, times=times))

    def tamper(self, attempt: Attempt) -> None:
        """Change the record behind the daemon's back."""
        epoch = self.store.lead("a vandal")
        self.store.write(epoch, Changes(attempts=(attempt,)))
        self.start_daemon()

    def restore_backup(self) -> None:
        """The store as it was after the submission."""
        self._forgotten = {attempt.id for attempt in self.attempts()}
        backup = MemoryStore()
        backup.set_installation(INSTALLATION)
        submitted = dataclasses.replace(self.job(), state=JobState.QUEUED)
        backup.add_job(submitted, [event for _, event in self.store.events(JOB)][:1])
        self.store = backup
        self.start_daemon()

    def break_mail(self) -> None:
        """The daemon's next listing of the mail fails."""
        self.objects.fail_next("list", Unavailable("a bad day"), prefix="mail/")

    def story(self) -> str:
        return "\n".join(
            f"{event.at:%H:%M:%S} {event.subject} {event.kind}: {event.why}"
            for _, event in self.store.events(JOB)
        )


def ended(attempt: Attempt) -> bool:
    return attempt.state is AttemptState.ENDED
