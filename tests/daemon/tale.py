"""A stage with a job on it, and the words that stories are told in."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from spotrunner.adapters.store.memory import MemoryStore
from spotrunner.core.caps import UNCAPPED, Caps
from spotrunner.core.ids import TAG_ATTEMPT, generation_of
from spotrunner.core.model import (
    Attempt,
    Event,
    Head,
    Job,
    JobSpec,
    Limits,
    Pause,
    Report,
)
from spotrunner.core.money import exposure
from spotrunner.core.policy import Policies
from spotrunner.core.states import AttemptState
from spotrunner.ports import Changes, Store, Unavailable
from spotrunner.sim.agents import Durations, SimAgent
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.setups import G4DN, plain_setup
from spotrunner.sim.stage import INSTALLATION, Stage
from spotrunner.sim.trainer import Training
from spotrunner.sim.values import LIGHT, Manners
from tests.daemon.auditor import Auditor

T0 = dt.datetime(2026, 11, 1, 12, 0, tzinfo=dt.timezone.utc)
JOB = "job-aaaa"
LONG_AGO = T0 - dt.timedelta(days=365)


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
    """After every second: accrued + reserved <= cap and EC2's bill <= cap, for every cap; HEAD's
    `seq` and step never fall, and no instance without a recorded intent."""

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
        start: dt.datetime = T0,
        caps: Caps = UNCAPPED,
        **spec: Any,
    ) -> None:
        self._caps_in_force = caps
        super().__init__(
            plain_setup(start, manners=manners),
            store or MemoryStore(),
            seed=seed,
            limits=limits,
            training=training,
            durations=durations,
            policies=policies,
            caps=caps,
        )
        self._last_heads: dict[str, Head] = {}
        self._intended: frozenset[str] = frozenset()
        # the step that each attempt's trainer went on from
        self.began: dict[str, int] = {}
        self._auditor = Auditor(world=self.world, limits=self.limits)
        self.submit(a_spec(**spec), JOB)
        self.back_up()

    def start_daemon(self) -> None:
        self._caps_in_force = self.caps
        super().start_daemon()

    def submit(self, spec: JobSpec, job_id: str = JOB) -> Job:
        job = super().submit(spec, job_id)
        self._promise_money()
        return job

    def step(self) -> None:
        super().step()
        for agent in self.fleet.agents.values():
            if agent.trainer is not None:
                self.began.setdefault(agent.attempt, agent.trainer.step(self.clock.now()))
        self._promise_money()
        self._promise_heads()
        self._promise_intents()

    # -- the promises --------------------------------------------------------------------------

    def _promise_money(self) -> None:
        self._auditor.check(self.store, self._caps_in_force, self.clock.now())

    def _promise_heads(self) -> None:
        for job_id in self._auditor.jobs:
            stored = self.heads.read(job_id)
            head, last = stored.head, self._last_heads.get(job_id)
            if head is None:
                continue
            if last is not None:
                assert head.seq >= last.seq
                assert head.generation >= last.generation
                assert head.step >= last.step or head.damaged is not None
            self._last_heads[job_id] = head

    def _promise_intents(self) -> None:
        """Of launches that EC2 has made since the last look."""
        names = self._auditor.names - self._intended
        if names:
            assert names <= {attempt.id for attempt in self.all_attempts()}
            self._intended |= names

    # -- what there is -------------------------------------------------------------------------

    def attempts(self, job_id: str = JOB) -> tuple[Attempt, ...]:
        return self.store.attempts([job_id])

    def all_attempts(self) -> tuple[Attempt, ...]:
        return self.store.attempts([job.id for job in self.store.jobs()])

    def attempt(self, generation: int, job_id: str = JOB) -> Attempt:
        return next(a for a in self.attempts(job_id) if a.generation == generation)

    def agent(self, generation: int, job_id: str = JOB) -> SimAgent:
        return self.fleet.of(f"{job_id}.{generation}")

    def agents(self, job_id: str = JOB) -> list[SimAgent]:
        """All that there ever were, oldest generation first."""
        everybody = (*self.fleet.gone.values(), *self.fleet.agents.values())
        mine = [agent for agent in everybody if agent.job_id == job_id]
        return sorted(mine, key=lambda agent: generation_of(agent.attempt) or 0)

    def lost_steps(self, job_id: str = JOB) -> list[int]:
        """What each attempt that trained had done beyond where the next one went on from."""
        trained = [agent for agent in self.agents(job_id) if agent.attempt in self.began]
        return [
            max(0, before.steps_done - self.began[after.attempt])
            for before, after in itertools.pairwise(trained)
        ]

    def head(self, job_id: str = JOB) -> Head | None:
        return self.heads.read(job_id).head

    def head_step(self, job_id: str = JOB) -> int:
        head = self.head(job_id)
        return head.step if head else 0

    def events(self, kind: str, job_id: str = JOB) -> list[Event]:
        return [event for _, event in self.store.events(job_id) if event.kind == kind]

    def reports(self) -> Mapping[str, Report]:
        self.services.mailbox.boxes()
        return self.services.mailbox.reports()

    def alive(self) -> list[str]:
        """The attempts that have an instance which EC2 bills."""
        return [
            dict(record.tags)[TAG_ATTEMPT]
            for record in self.world.truth(self.clock.now())
            if record.stage.value in ("pending", "running")
        ]

    def billed_usd_micros(self, job_id: str = JOB) -> int:
        """What EC2 bills for the job until now, disks and addresses too."""
        bill = self._auditor.bill(self.clock.now())
        return sum(line.usd_micros for line in bill.values() if line.job_id == job_id)

    def billed_usd_micros_of(self, attempt: str) -> int:
        return sum(
            line.usd_micros
            for line in self._auditor.bill(self.clock.now()).values()
            if line.attempt == attempt
        )

    def booked_usd_micros(self, job_id: str = JOB) -> int:
        """What the ledger says of attempts that have ended."""
        lines = [line.entry for line in self.store.booked() if line.entry.job_id == job_id]
        return sum(line.cost_usd_micros for line in lines)

    def committed_usd_micros(self, job_id: str = JOB) -> int:
        """Accrued and reserved, by the store."""
        return sum(exposure(attempt, self.limits) for attempt in self.attempts(job_id))

    # -- what happens --------------------------------------------------------------------------

    def until(self, holds: Callable[[], bool], seconds: float = 7200) -> None:
        assert self.run(seconds, holds), f"not within {seconds:.0f} s:\n{self.story()}"

    def until_at(self, when: dt.datetime) -> None:
        self.run((when - self.clock.now()).total_seconds())

    def until_trains(self, generation: int, steps: int = 0, job_id: str = JOB) -> None:
        """Until this attempt's own trainer is past so many steps of the job."""
        name = f"{job_id}.{generation}"

        def trains() -> bool:
            agents = [a for a in self.fleet.agents.values() if a.attempt == name]
            return any(a.trainer is not None and a.steps_done > steps for a in agents)

        self.until(trains)

    def attempt_or_none(self, generation: int, job_id: str = JOB) -> Attempt | None:
        return next((a for a in self.attempts(job_id) if a.generation == generation), None)

    def until_over(self, seconds: float = 4 * 3600) -> None:
        """Until all jobs are over and nothing of them is left."""
        self.until(lambda: not self.store.open_jobs(), seconds)
        assert self.alive() == []

    def until_paused(self, why: Pause, seconds: float = 4 * 3600, job_id: str = JOB) -> None:
        """Until the job is paused for this reason and nothing of it runs."""

        def stands() -> bool:
            live = [a for a in self.attempts(job_id) if a.state.live]
            return self.job(job_id).pause is why and not live

        self.until(stands, seconds)

    def idle(self, until: dt.datetime | Callable[[], bool], seconds: float = 36 * 3600) -> None:
        """Time in which nothing runs: the daemon looks less often, so that a night is quick."""
        tick_s, self.tick_s = self.tick_s, 300
        if isinstance(until, dt.datetime):
            self.until_at(until)
        else:
            self.until(until, seconds)
        self.tick_s = tick_s

    def interrupt(self, generation: int, *, notice: bool = True, job_id: str = JOB) -> None:
        instance = self.agent(generation, job_id).record.id
        self.world.interrupt(self.clock.now(), instance, notice=notice)

    def kill_agent(self, generation: int, *, done: bool = False, job_id: str = JOB) -> None:
        """SIGKILL; what it was doing has happened or not."""
        self.agent(generation, job_id).kill(self.clock.now(), done=done)

    def stall(self, generation: int, job_id: str = JOB) -> None:
        """Its trainer hangs from now on."""
        trainer = self.agent(generation, job_id).trainer
        assert trainer is not None, "there is no trainer"
        trainer.stall(self.clock.now())

    def lose(self, action: str, when: Lose, times: int = 1) -> None:
        self.world.faults.script(Fault(action=action, lose=when, times=times))

    def price(self, usd_micros: int, zones: Iterable[str] = ()) -> None:
        """What a g4dn.xlarge costs from now on, in these zones or everywhere; never above
        on-demand."""
        for region in self.regions:
            for pool in self.world.pools.offered(region):
                if pool.instance_type == G4DN and (not zones or pool.zone in zones):
                    most = self.world.pools.on_demand(pool)
                    self.world.set_price(self.clock.now(), pool, min(usd_micros, most))

    def tamper(self, attempt: Attempt) -> None:
        """Change the record behind the daemon's back."""
        epoch = self.store.lead("a vandal")
        self.store.write(epoch, Changes(attempts=(attempt,)))
        self.start_daemon()

    def back_up(self) -> None:
        self._backup = _copied(self.store)

    def restore_backup(self) -> None:
        """The store as it was when it was backed up: after the submission, unless told."""
        self.store = _copied(self._backup)
        self.start_daemon()

    def break_mail(self) -> None:
        """The daemon's next listing of the mail fails."""
        self.objects.fail_next("list", Unavailable("a bad day"), prefix="mail/")

    def break_receipts(self) -> None:
        """The next receipt cannot be written."""
        self.objects.fail_next("put", Unavailable("a bad day"), prefix="ledger/")

    def story(self) -> str:
        events = [event for job in self.store.jobs() for _, event in self.store.events(job.id)]
        return "\n".join(
            f"{event.at:%d. %H:%M:%S} {event.subject} {event.kind}: {event.why}"
            for event in sorted(events, key=lambda event: event.at)
        )


def _copied(store: Store) -> MemoryStore:
    """As a file's copy would be, but that what ended is booked again and nobody leads."""
    copy = MemoryStore()
    copy.set_installation(INSTALLATION)
    jobs = store.jobs()
    for job in jobs:
        copy.add_job(job, [event for _, event in store.events(job.id)])
    attempts, refusals = store.attempts([job.id for job in jobs]), store.refusals(LONG_AGO)
    copy.write(copy.lead("a copyist"), Changes(attempts=attempts, refusals=refusals))
    for command in store.commands():
        copy.add_command(
            command.job_id,
            command.verb,
            command.at,
            budget_usd_micros=command.budget_usd_micros,
            deadline_at=command.deadline_at,
        )
    copy.hold(store.held_until())
    return copy


def ended(attempt: Attempt) -> bool:
    return attempt.state is AttemptState.ENDED
