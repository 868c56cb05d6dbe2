"""Rounds of `decide` over random facts, with what it decided applied back.

Facts are made by a bare model of what can be true of an instance: it exists or not, lives at most
as long as its last order or its fail-safe timer lets it, is listed late, reports or not. Answers
get lost, regions and mail go silent, terminate fails. Nothing in here knows how `decide` works.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import random
from dataclasses import dataclass
from typing import Any

from spotrunner.core.caps import UNCAPPED, Caps
from spotrunner.core.decide import decide
from spotrunner.core.model import (
    Attempt,
    Command,
    CommandVerb,
    EndedBy,
    EndReason,
    Head,
    Instance,
    InstanceState,
    Job,
    Limits,
    Notice,
    Phase,
    Pool,
    Quote,
    Refusal,
    Refused,
    Report,
    Snapshot,
)
from spotrunner.core.money import billed, is_free
from spotrunner.core.plan import Plan
from spotrunner.core.policy.named import policies
from spotrunner.core.purse import Books
from spotrunner.core.states import AttemptState, JobState, advance
from tests.build import INSTALLATION, JOB, OFFERS, T0, a_head, a_job, a_request, a_spec
from tests.core.payments import spent_of

HOUR = dt.timedelta(hours=1)
# An hour of the address, and of 100 GiB of gp3 at 0.08 and 0.088 USD a month of 720 hours.
EXTRAS = {"us-east-1": 5_000 + 100 * 80_000 / 720, "eu-west-1": 5_000 + 100 * 88_000 / 720}
# Listings show a new instance within this, and an ended one for an hour.
MOST_LAG_S = 800
_WORDS = (Phase.BOOT, Phase.READY, *[Phase.TRAIN] * 8, Phase.HANDOVER, Phase.IDLE, Phase.UNPAID)


@dataclass
class Machine:
    """What is true of an instance."""

    attempt: str
    id: str
    offer_pool: Pool
    launched_at: dt.datetime
    listed_at: dt.datetime
    # its timer, or its last order: it ends itself then
    lives_until: dt.datetime
    ended_at: dt.datetime | None = None
    ended_by: EndedBy | None = None
    notice: Notice | None = None
    step: int = 0

    @property
    def generation(self) -> int:
        return int(self.attempt.rpartition(".")[2])


class Rounds:
    """One job, its store and the world; `step` is one round."""

    def __init__(
        self,
        rng: random.Random,
        budget: int | None,
        caps: Caps = UNCAPPED,
        nights: dict[str, Any] | None = None,
    ) -> None:
        """`nights` are what its spec says of windows, prices and unattended hours."""
        self.rng = rng
        self.limits = Limits()
        self.now = T0
        self.caps = caps
        spec = a_spec(budget_usd_micros=budget, **(nights or {}))
        self.jobs: dict[str, Job] = {JOB: a_job(JobState.QUEUED, spec=spec)}
        self.held_until: dt.datetime | None = None
        self.attempts: dict[str, Attempt] = {}
        self.refusals: tuple[Refusal, ...] = ()
        self.machines: list[Machine] = []
        self.reports: dict[str, Report] = {}
        self.mail_at = T0
        self.boxes: set[str] = set()
        self.head: Head | None = None
        self.quotes: dict[Pool, tuple[Quote, ...]] = {
            offer.pool: (
                Quote(
                    pool=offer.pool, at=T0 - HOUR, price_usd_micros_hour=offer.price_usd_micros_hour
                ),
            )
            for offer in OFFERS
        }
        self.plan = Plan()
        self.snapshot = Snapshot(now=T0, epoch=1, installation=INSTALLATION, limits=self.limits)

    # -- a round -------------------------------------------------------------------------------

    def step(self) -> None:
        self._pass_time()
        self._move_prices()
        for machine in self.machines:
            self._live(machine)
        self._report()
        self.snapshot = self._observe()
        self.plan = decide(self.snapshot, policies())
        self._write_down()
        self._act()

    def bill(self) -> int:
        """What EC2 charges until now."""
        return sum(self._charge(machine, self.now) for machine in self.machines)

    def bill_between(self, begin: dt.datetime, end: dt.datetime) -> int:
        """Of the seconds between two midnights; a free hour's are."""
        return sum(
            self._charge(machine, min(self.now, end)) - self._charge(machine, min(self.now, begin))
            for machine in self.machines
        )

    def books(self) -> Books:
        """Made anew of what is written down."""
        attempts = tuple(self.attempts.values())
        return Books(
            caps=self.caps,
            spent=spent_of(attempts, self.jobs.values(), self.caps.tz),
            jobs=self.jobs.values(),
            attempts=attempts,
            seen_at=lambda _: None,
            limits=self.limits,
            now=self.now,
        )

    # -- the world -----------------------------------------------------------------------------

    def _pass_time(self) -> None:
        seconds = self.rng.choice([5, 15, 15, 60, 240, 600, 1500])
        self.now += dt.timedelta(seconds=seconds)
        for machine in self.machines:
            if machine.ended_at is None and self.now >= machine.lives_until:
                self._end(machine, machine.lives_until, EndedBy.ITSELF)

    def _move_prices(self) -> None:
        for offer in OFFERS:
            if self._rarely():
                price = self.rng.randint(1000, offer.dearest_usd_micros_hour)
                quote = Quote(pool=offer.pool, at=self.now, price_usd_micros_hour=price)
                self.quotes[offer.pool] = (*self.quotes[offer.pool], quote)

    def _live(self, machine: Machine) -> None:
        if machine.ended_at is not None:
            return
        if machine.notice is not None and self.now >= machine.notice.at:
            self._end(machine, machine.notice.at, EndedBy.EC2)
        elif self._rarely():
            by = self.rng.choice([EndedBy.EC2, EndedBy.ITSELF, EndedBy.FAULT])
            self._end(machine, self.now, by)
        elif self._rarely():
            machine.notice = Notice(at=self.now + dt.timedelta(seconds=120), seen_at=self.now)
        elif self.rng.random() < 0.6:
            self._train(machine)

    def _train(self, machine: Machine) -> None:
        """It may take HEAD over and bring it forward, as far as fencing lets it."""
        held = self.head.generation if self.head else 0
        if machine.generation < held or (self.head is not None and self.head.done):
            return
        step = (self.head.step if self.head else 0) + self.rng.choice([0, 0, 10])
        done = "outputs" if self.rng.random() < 0.02 else None
        self.head = a_head(step, attempt=machine.attempt, done=done)
        machine.step = step

    def _end(self, machine: Machine, at: dt.datetime, by: EndedBy) -> None:
        machine.ended_at, machine.ended_by = at, by

    def _report(self) -> None:
        for machine in self.machines:
            if machine.ended_at is None and self.rng.random() < 0.7:
                self.reports[machine.attempt] = Report(
                    attempt=machine.attempt,
                    box=machine.attempt,
                    at=self.now - dt.timedelta(seconds=self.rng.choice([0, 5, 100])),
                    phase=self.rng.choice(_WORDS),
                    notice=machine.notice,
                    step=machine.step,
                    first_step_at=machine.launched_at if machine.step else None,
                )

    def _charge(self, machine: Machine, at: dt.datetime) -> int:
        if at <= machine.launched_at:
            return 0
        attempt = self.attempts[machine.attempt]
        market = attempt.offer.market
        end = machine.ended_at
        until = at if end is None else min(at, end)
        seconds = max(60, int((until - machine.launched_at).total_seconds()))
        extras = math.ceil(seconds * EXTRAS[machine.offer_pool.region] / 3600)
        if end is not None and is_free(market, machine.launched_at, end, machine.ended_by):
            return extras
        hours = int((until - machine.launched_at) / HOUR) + 1
        prices = [
            self._price(machine.offer_pool, machine.launched_at + n * HOUR) for n in range(hours)
        ]
        return extras + billed(seconds, prices, 0)

    def _price(self, pool: Pool, at: dt.datetime) -> int:
        return [q for q in self.quotes[pool] if q.at <= at][-1].price_usd_micros_hour

    # -- what the daemon sees of it ------------------------------------------------------------

    def _observe(self) -> Snapshot:
        regions = {pool.region: None if self._rarely() else () for pool in self.quotes}
        instances: dict[str, tuple[Instance, ...] | None] = {
            region: None
            if listed is None
            else tuple(self._listed(m) for m in self.machines if self._is_listed(m, region))
            for region, listed in regions.items()
        }
        reads_mail = not self._rarely()
        self.mail_at = self.now if reads_mail else self.mail_at
        commands: tuple[Command, ...] = ()
        if self.rng.random() < 0.04:
            verb = self.rng.choice([*CommandVerb, CommandVerb.PAUSE, CommandVerb.RESUME])
            budget = (self.jobs[JOB].spec.budget_usd_micros or 0) + self.rng.randint(1, 200_000)
            raised = budget if verb is CommandVerb.EXTEND else None
            commands = (
                Command(id=1, at=self.now, job_id=JOB, verb=verb, budget_usd_micros=raised),
            )
        if self.rng.random() < 0.02:
            self.held_until = self.now + dt.timedelta(seconds=self.rng.randint(0, 3600))
        return Snapshot(
            now=self.now,
            epoch=1,
            installation=INSTALLATION,
            limits=self.limits,
            jobs=tuple(self.jobs.values()),
            attempts=tuple(self.attempts.values()),
            commands=commands,
            instances=instances,
            not_found=self._denied(instances),
            reports=dict(self.reports) if reads_mail else {},
            mail_at=self.mail_at,
            heads={} if self._rarely() else {JOB: self.head},
            boxes=frozenset(self.boxes) if reads_mail else frozenset(),
            offers=() if self._rarely() else OFFERS,
            quotes=self.quotes,
            refusals=self.refusals,
            caps=self.caps,
            spent=spent_of(self.attempts.values(), self.jobs.values(), self.caps.tz),
            held_until=self.held_until,
        )

    def _is_listed(self, machine: Machine, region: str) -> bool:
        forgotten = machine.ended_at is not None and self.now > machine.ended_at + HOUR
        here = machine.offer_pool.region == region
        return here and self.now >= machine.listed_at and not forgotten

    def _listed(self, machine: Machine) -> Instance:
        offer = self.attempts[machine.attempt].offer
        ended = machine.ended_at is not None
        return Instance(
            id=machine.id,
            pool=offer.pool,
            market=offer.market,
            state=InstanceState.ENDED if ended else InstanceState.RUNNING,
            launched_at=machine.launched_at,
            installation=INSTALLATION,
            job_id=JOB,
            attempt_id=machine.attempt,
            ended_at=machine.ended_at,
            ended_by=machine.ended_by,
        )

    def _denied(self, instances: dict[str, tuple[Instance, ...] | None]) -> frozenset[str]:
        """By id, EC2 denies whatever its listing does not show."""
        shown = {i.id for listed in instances.values() for i in listed or ()}
        known = {a.instance_id for a in self.attempts.values() if a.state.live}
        return frozenset(id for id in known if id is not None and id not in shown)

    # -- what becomes of the plan --------------------------------------------------------------

    def _write_down(self) -> None:
        self.jobs.update({job.id: job for job in self.plan.jobs})
        self.attempts.update({attempt.id: attempt for attempt in self.plan.attempts})
        self.refusals = (*self.refusals, *self.plan.refusals)

    def _act(self) -> None:
        mail_works = not self._rarely()
        for act in self.plan.orders:
            if mail_works:
                self._post(act.order.attempt)
        for termination in self.plan.terminations:
            for machine in self.machines:
                if machine.id == termination.instance_id and self.rng.random() < 0.8:
                    self._end(machine, machine.ended_at or self.now, machine.ended_by or EndedBy.US)
        for launch in self.plan.launches:
            attempt = self.attempts[launch.attempt.id]
            if attempt.order is not None and attempt.order_posted_n >= attempt.order.n:
                self._send(attempt)
        for archive in self.plan.archives:
            self.boxes.discard(archive.box)
            self.reports.pop(archive.box, None)

    def _post(self, attempt_id: str) -> None:
        attempt = self.attempts[attempt_id]
        assert attempt.order is not None
        self.attempts[attempt_id] = dataclasses.replace(attempt, order_posted_n=attempt.order.n)
        self.boxes.add(attempt_id)
        for machine in self.machines:
            if machine.attempt == attempt_id and self.rng.random() < 0.9:
                machine.lives_until = max(machine.lives_until, attempt.order.paid_until)

    def _send(self, attempt: Attempt) -> None:
        attempt = dataclasses.replace(
            attempt, sent_at=self.now, request=a_request(attempt.id, attempt.offer)
        )
        self.attempts[attempt.id] = attempt
        outcome = self.rng.choice(["given", "given", "given", "lost", "never came", "refused"])
        exists = [m for m in self.machines if m.attempt == attempt.id]
        if outcome == "refused" and not exists:
            self._refuse(attempt)
        elif outcome in ("given", "lost"):
            machine = exists[0] if exists else self._launch(attempt)
            if outcome == "given":
                self.attempts[attempt.id] = advance(
                    attempt,
                    AttemptState.REQUESTED,
                    instance_id=machine.id,
                    launched_at=machine.launched_at,
                )

    def _launch(self, attempt: Attempt) -> Machine:
        launched_at = self.now + dt.timedelta(seconds=self.rng.randint(0, 5))
        # The timer is late, by up to what was reserved for that.
        late_s = self.rng.randint(0, self.limits.boot_slack_s)
        machine = Machine(
            attempt=attempt.id,
            id=f"i-{attempt.id}",
            offer_pool=attempt.offer.pool,
            launched_at=launched_at,
            listed_at=launched_at + dt.timedelta(seconds=self.rng.randint(0, MOST_LAG_S)),
            lives_until=launched_at + dt.timedelta(seconds=attempt.first_paid_s + late_s),
        )
        self.machines.append(machine)
        return machine

    def _refuse(self, attempt: Attempt) -> None:
        self.attempts[attempt.id] = advance(
            attempt,
            AttemptState.ENDED,
            ended_at=self.now,
            end_reason=EndReason.REFUSED,
            cost_usd_micros=0,
        )
        refusal = Refusal(
            pool=attempt.offer.pool,
            market=attempt.offer.market,
            at=self.now,
            meaning=Refused.CAPACITY,
        )
        self.refusals = (*self.refusals, refusal)

    def _rarely(self) -> bool:
        return self.rng.random() < 0.08
