"""A whole installation in virtual time: the daemon's rounds, the cloud, S3 and the instances.

The daemon, the decisions, the ledger, the mail, HEAD and the agent's state machine are the same
code as in production; the market, S3 and the trainer are modelled, and time is moved by hand.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import email.utils
import random
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from spotrunner.adapters import codec
from spotrunner.adapters.aws.clock import ServerClock
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.adapters.mail import ObjectMailbox
from spotrunner.adapters.memory import MemoryObjects
from spotrunner.adapters.receipts import ObjectReceipts
from spotrunner.adapters.store.market_memory import MemoryMarket
from spotrunner.core.caps import UNCAPPED, Caps
from spotrunner.core.catalogue import Architecture
from spotrunner.core.model import USUAL_ALERTS, AlertRules, CommandVerb, Event, Job, JobSpec, Limits
from spotrunner.core.policy import Policies
from spotrunner.core.policy.named import policies as all_policies
from spotrunner.core.states import JobState
from spotrunner.daemon.act import Actor
from spotrunner.daemon.board import Board
from spotrunner.daemon.forget import Forgetter
from spotrunner.daemon.hints import Hints
from spotrunner.daemon.lookout import FittedHazards, Lookout
from spotrunner.daemon.observe import Observer
from spotrunner.daemon.reconcile import Reconciler
from spotrunner.daemon.recover import recover
from spotrunner.daemon.request import AgentArchive, RequestMaker
from spotrunner.ports import Store, Unavailable
from spotrunner.sim.agents import Durations, Services, SimFleet
from spotrunner.sim.cloud import SimCloud, SimPrices, SimSites, VirtualClock
from spotrunner.sim.trainer import Training
from spotrunner.sim.values import Setup
from spotrunner.sim.world import World

T = TypeVar("T")

INSTALLATION = "5170c4fe"
# How often a refused launch may ask for another round at once.
ROUNDS_AT_ONCE = 20


class Inline(Executor):
    """Runs each call where it is submitted: order without threads."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            future.set_exception(error)
        return future


class DaemonClock:
    """The daemon's: its host's is wrong by `skew`, and S3's answers put that right, as the real
    one's do."""

    def __init__(self, right: VirtualClock) -> None:
        self._right = right
        self.skew = dt.timedelta()
        self.restart()

    def restart(self) -> None:
        self._clock = ServerClock(
            monotonic=lambda: self._right.now().timestamp(),
            wall=lambda: (self._right.now() + self.skew).timestamp(),
        )

    def hear(self) -> None:
        """An answer of S3's; one that refuses bears the time too."""
        now = self._right.now()
        date = email.utils.format_datetime(now, usegmt=True)
        self._clock.learn(date, now.timestamp(), now.timestamp())

    def now(self) -> dt.datetime:
        return self._clock.now()


class Stage:
    """`run` moves the time second by second; the daemon has a round every `tick_s`, while it is
    up. The store outlives a daemon that is killed and started again."""

    def __init__(
        self,
        setup: Setup,
        store: Store,
        *,
        seed: int = 0,
        limits: Limits | None = None,
        training: Training | None = None,
        durations: Durations | None = None,
        policies: Policies | None = None,
        tick_s: int = 15,
        caps: Caps = UNCAPPED,
        alert_rules: AlertRules = USUAL_ALERTS,
    ) -> None:
        self.clock = VirtualClock(setup.start)
        self.daemon_clock = DaemonClock(self.clock)
        self.world = World(setup, seed)
        self.objects = MemoryObjects(self.clock)
        self.store = store
        self.market = MemoryMarket()
        self.heads = ObjectHeads(self.objects)
        self.receipts = ObjectReceipts(self.objects)
        self.limits = limits or Limits()
        self.caps = caps  # a new one counts from the daemon's next start on
        self.alert_rules = alert_rules
        self.tick_s = tick_s
        self.services = Services(
            world=self.world,
            mailbox=ObjectMailbox(self.objects),
            heads=self.heads,
            dice=random.Random(f"{seed}/nonces"),
        )
        self.fleet = SimFleet(self.services, training, durations)
        self.regions = tuple(region.name for region in setup.regions)  # of the settings
        self._policies = policies or all_policies()
        self._reconciler: Reconciler | None = None
        self._is_up = False
        self._next_tick = setup.start
        if store.installation() is None:
            store.set_installation(INSTALLATION)
        self.start_daemon()

    # -- the daemon's life ---------------------------------------------------------------------

    def start_daemon(self) -> None:
        """It needs S3 to start; where that is away, it is started again every tick. Whichever ran
        before is gone."""
        self._is_up, self._reconciler = True, None
        self.daemon_clock.restart()
        self.daemon_clock.hear()
        with contextlib.suppress(Unavailable):
            self._reconciler = self._new_reconciler()

    def _new_reconciler(self) -> Reconciler:
        regions = self.regions
        sites = SimSites(self.world)
        executor = Inline()
        mailbox = ObjectMailbox(self.objects)
        cloud = SimCloud(self.world, self.clock)
        observer = Observer(
            store=self.store,
            cloud=cloud,
            mailbox=mailbox,
            heads=self.heads,
            lookout=self._lookout(executor),
            clock=self.daemon_clock,
            executor=executor,
            regions=regions,
            installation=INSTALLATION,
            limits=self.limits,
            caps=self.caps,
            alert_rules=self.alert_rules,
            home_region=self.regions[0],
        )
        maker = RequestMaker(
            store=self.store,
            sites=sites,
            objects=self.objects,
            installation=INSTALLATION,
            bucket="home",
            home_region=regions[0],
            archives={
                Architecture.X86_64: AgentArchive(key="agent/archive.tar.gz", sha256="0" * 64)
            },
            endpoint_url=None,
        )
        actor = Actor(
            store=self.store,
            cloud=cloud,
            mailbox=mailbox,
            receipts=self.receipts,
            request_for=maker,
            clock=self.daemon_clock,
            executor=executor,
        )
        self.store.cut_days_in(self.caps.tz)
        epoch = self.store.lead("stage", above=mailbox.highest_epoch())
        recover(
            store=self.store,
            receipts=self.receipts,
            objects=self.objects,
            epoch=epoch,
            now=self.daemon_clock.now(),
        )
        return Reconciler(
            store=self.store,
            observer=observer,
            actor=actor,
            policies=self._policies,
            epoch=epoch,
            afterwards=Forgetter(
                store=self.store, objects=self.objects, executor=executor, epoch=epoch
            ).look,
        )

    def _lookout(self, executor: Executor) -> Lookout:
        prices = SimPrices(self.world, self.clock)
        return Lookout(
            store=self.store,
            board=Board(prices, self.daemon_clock, executor, every_s=600, market=self.market),
            hints=Hints(
                prices=prices,
                advisor=None,
                market=self.market,
                clock=self.daemon_clock,
                executor=executor,
                regions=self.regions,
                scores_every_s=6 * 3600,
            ),
            hazards=FittedHazards(self.market),
            clock=self.daemon_clock,
            limits=self.limits,
        )

    def kill_daemon(self) -> None:
        self._is_up = False
        self._reconciler = None

    # -- time ----------------------------------------------------------------------------------

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Move on by so many seconds, or until something holds; True if it does."""
        end = self.clock.now() + dt.timedelta(seconds=seconds)
        while self.clock.now() < end:
            self.step()
            if until is not None and until():
                return True
        return False

    def step(self) -> None:
        """One second."""
        now = self.clock.advance(1)
        self.fleet.run(now)
        if now >= self._next_tick:
            self._next_tick = now + dt.timedelta(seconds=self.tick_s)
            if self._is_up and self._reconciler is None:
                self.start_daemon()
            self.round()

    def round(self) -> None:
        """A round of the daemon, and those that it asks for, if it is up."""
        self.daemon_clock.hear()
        for _ in range(ROUNDS_AT_ONCE):
            if self._reconciler is None or not self._reconciler.run_once().again:
                return

    # -- users ---------------------------------------------------------------------------------

    def submit(self, spec: JobSpec, job_id: str = "job-aaaa") -> Job:
        job = Job(id=job_id, spec=spec, state=JobState.QUEUED, submitted_at=self.clock.now())
        submitted = Event(
            at=job.submitted_at, job_id=job.id, subject=job.id, kind="submitted", why="by the user"
        )
        self.objects.put(f"jobs/{job.id}/spec.json", codec.to_json(spec))
        self.store.add_job(job, [submitted])
        return job

    def command(
        self,
        job_id: str,
        verb: CommandVerb,
        *,
        budget_usd_micros: int | None = None,
        deadline_at: dt.datetime | None = None,
    ) -> None:
        """As the API takes it; while S3 is away it takes no other budget or deadline."""
        if verb is CommandVerb.EXTEND:
            try:
                self._rewrite_spec(job_id, budget_usd_micros, deadline_at)
            except Unavailable:
                return
        self.store.add_command(
            job_id,
            verb,
            self.clock.now(),
            budget_usd_micros=budget_usd_micros,
            deadline_at=deadline_at,
        )

    def _rewrite_spec(
        self, job_id: str, budget_usd_micros: int | None, deadline_at: dt.datetime | None
    ) -> None:
        spec = self.job(job_id).spec
        extended = dataclasses.replace(
            spec,
            budget_usd_micros=budget_usd_micros or spec.budget_usd_micros,
            deadline_at=deadline_at or spec.deadline_at,
        )
        self.objects.put(f"jobs/{job_id}/spec.json", codec.to_json(extended))

    def job(self, job_id: str = "job-aaaa") -> Job:
        job = self.store.job(job_id)
        assert job is not None, job_id
        return job
