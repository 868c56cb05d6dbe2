"""One run of a back-test: the daemon's own `decide` over a modelled job, from event to event.

What the daemon reads is made of plain values: the job, its attempts, instances and reports
(sim/lifetimes), HEAD, offers at the prices of the time, and the refusals and sights that come of
what it tried. What it decides is done as daemon/act does it. Nothing happens between two events,
so time jumps from one to the next: a price, a notice, an end, a commit, a payment that is due, a
cool-down that ends, and the moment at which the policy wants to look again.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass

from spotrunner.core.decide import decide
from spotrunner.core.hazard import MEASURED, Hazards
from spotrunner.core.market import cooldown_s
from spotrunner.core.model import (
    Attempt,
    EndReason,
    Event,
    Instance,
    Job,
    JobSpec,
    Limits,
    Market,
    Offer,
    Pause,
    Pool,
    Quote,
    Refusal,
    Refused,
    Snapshot,
)
from spotrunner.core.money import accrued, seconds_between
from spotrunner.core.plan import Plan
from spotrunner.core.policy import NEVER, Choice, Policy
from spotrunner.core.situation import Situation
from spotrunner.core.speed import speeds
from spotrunner.core.states import AttemptState, JobState, advance
from spotrunner.core.windows import NEVER as NOT_EVER
from spotrunner.core.windows import next_change
from spotrunner.sim.lifetimes import Life, Paces, Work
from spotrunner.sim.scene import Scene
from spotrunner.sim.sightings import Sightings

JOB = "back-test"
# A refused launch has another pool to try at once; a job has never so many pools.
ROUNDS_AT_ONCE = 200
# What ends is looked at so often, as the daemon would.
_ENDING_S = 30
_MOST_ROUNDS = 2_000_000
_PAID_ON = (AttemptState.REQUESTED, AttemptState.STARTING, AttemptState.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What became of one run. `finished_at` is None where it did not end by `until`, and `why`
    says what held it. Times of machines are in seconds, of spot and of on-demand."""

    policy: str
    start: dt.datetime
    finished_at: dt.datetime | None
    deadline_at: dt.datetime | None
    cost_usd_micros: int
    spot_s: int
    on_demand_s: int
    interruptions: int
    moves: int
    launches: int
    refusals: int
    rounds: int
    why: str = ""

    @property
    def finish_s(self) -> float | None:
        """From the start to the end."""
        return None if self.finished_at is None else self._gone_s(self.finished_at)

    @property
    def in_time(self) -> bool:
        """It ended, and not after its deadline."""
        if self.finished_at is None:
            return False
        return self.deadline_at is None or self.finished_at <= self.deadline_at

    @property
    def on_demand_share(self) -> float:
        """Of the time that machines were paid for or free."""
        return self.on_demand_s / max(1, self.on_demand_s + self.spot_s)

    def _gone_s(self, at: dt.datetime) -> float:
        return (at - self.start).total_seconds()


class _Remembering:
    """A policy that keeps when it wants to be asked again."""

    def __init__(self, policy: Policy) -> None:
        self.name = policy.name
        self.needs_deadline = policy.needs_deadline
        self.look_s = NEVER
        self._policy = policy

    def choose(self, situation: Situation) -> Choice:
        choice = self._policy.choose(situation)
        self.look_s = min(choice.look_s, _wanes_s(situation))
        return choice


def _wanes_s(situation: Situation) -> float:
    """After how long the slack is used up to a look, and then all: what is not committed yet does
    not count as progress, so that the slack of a job wanes between two commits as that of one that
    stands still, while its policy may count on progress."""
    slack_s, look_s = situation.slack_s, situation.look_s
    if slack_s <= 0 or slack_s == NEVER:
        return NEVER
    return (slack_s - look_s if slack_s > look_s else slack_s) + 1


class Replay:
    """`spec.deadline_at` is of this run; `limits.changeover_s` is what policies plan with until the
    first launch is measured, `hazards` what they weigh capacity with. `run` once; `attempts` and
    `events` tell the story."""

    def __init__(
        self,
        spec: JobSpec,
        policy: Policy,
        scene: Scene,
        *,
        paces: Paces = Paces(),  # noqa: B008 - frozen
        limits: Limits = Limits(),  # noqa: B008 - frozen
        hazards: Hazards = MEASURED,
        keeps_events: bool = False,
    ) -> None:
        assert spec.work_s is not None, "a back-test needs to know the work"
        self.now = scene.start
        self.events: list[Event] = []
        self._scene = scene
        self._paces = paces
        self._limits = limits
        self._hazards = hazards
        self._policy = _Remembering(policy)
        self._policies = {policy.name: self._policy}
        self._keeps_events = keeps_events
        self._job = Job(
            id=JOB,
            spec=dataclasses.replace(spec, policy=policy.name),
            state=JobState.QUEUED,
            submitted_at=scene.start,
        )
        self._work = Work(math.ceil(spec.work_s))
        self._rates = rates(spec)
        self._attempts: dict[str, Attempt] = {}
        self._refused: str | None = None  # the last one, whose generation counts
        self._lives: dict[str, Life] = {}
        self._cooling: list[Refusal] = []
        self._sightings = Sightings(limits.capacity_cooldown_s)
        self._offers: tuple[Offer, ...] = ()
        self._priced_at: dt.datetime | None = None
        self._round_at: dt.datetime | None = scene.start
        self._launches = self._refusals = self._rounds = 0

    def run(self) -> Run:
        while not self._is_over():
            at = self._next_at()
            if at is None or at > self._scene.until:
                return self._result(self._held_by())
            self.now = at
            for life in list(self._lives.values()):
                if life.run(at):
                    self._want_round(at + _s(self._paces.lag_s))
            self._wake_heirs()
            if self._round_at is not None and at >= self._round_at:
                self._rounds_now()
        return self._result("" if self._job.state is JobState.SUCCEEDED else self._job.reason)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Those that EC2 accepted, oldest first, as they are now."""
        return tuple(each for each in self._attempts.values() if each.launched_at is not None)

    @property
    def job(self) -> Job:
        return self._job

    def _held_by(self) -> str:
        """Why it did not end. A budget that pays no further launch holds for ever; any other reason
        would have passed."""
        reason = self._job.reason
        if self._job.pause is Pause.BUDGET:
            return reason
        return "the history ended before the job did" + (f": {reason}" if reason else "")

    # -- time ----------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        return self._job.state.over and not any(it.state.live for it in self._attempts.values())

    def _next_at(self) -> dt.datetime | None:
        times = [at for life in self._lives.values() if (at := life.next_at()) is not None]
        if self._round_at is not None:
            times.append(self._round_at)
        return max(self.now, min(times)) if times else None

    def _want_round(self, at: dt.datetime) -> None:
        self._round_at = at if self._round_at is None else min(self._round_at, at)

    def _wake_heirs(self) -> None:
        """Whoever waits for HEAD looks at it itself."""
        for life in self._lives.values():
            life.try_head(self.now)

    def _rounds_now(self) -> None:
        for _ in range(ROUNDS_AT_ONCE):
            if not self._round():
                break
        self._round_at = min((at for at in self._timers() if at > self.now), default=None)

    def _timers(self) -> Iterator[dt.datetime]:
        """When a round may decide differently, though nothing happens."""
        change = self._scene.next_change(self.now)
        if change is not None:
            yield change
        window = self._job.spec.window
        if window is not None and (opens := next_change(window, self.now)) != NOT_EVER:
            yield opens
        yield from self._dear_for_long()
        if self._policy.look_s != NEVER:
            yield self.now + _s(min(max(1.0, self._policy.look_s), 1e8))
        for refusal in self._cooling:
            yield self._warm_at(refusal)
        for attempt in self._attempts.values():
            if attempt.state in _PAID_ON:
                yield from self._half_times(attempt)
            elif attempt.state.live:
                yield self.now + _s(_ENDING_S)

    def _dear_for_long(self) -> Iterator[dt.datetime]:
        """When a price that began of late will have lasted for `pause_after`."""
        limit = self._job.spec.price_limit
        if limit is None:
            return
        for quotes in self._quotes().values():
            for quote in reversed(quotes):
                if (at := quote.at + _s(limit.after_s)) <= self.now:
                    break
                yield at

    def _half_times(self, attempt: Attempt) -> Iterator[dt.datetime]:
        """Of a step; a job that is unattended has longer ones (core/keep)."""
        usual_s = self._limits.step_s
        for step_s in {usual_s, max(usual_s, self._job.spec.unattended_s or 0)}:
            yield attempt.paid_until - _s(step_s / 2)

    def _warm_at(self, refusal: Refusal) -> dt.datetime:
        return refusal.at + _s(cooldown_s(refusal.meaning, self._limits))

    # -- a round -------------------------------------------------------------------------------

    def _round(self) -> bool:
        """True where a launch was refused, so that another pool is tried at once."""
        self._rounds += 1
        assert self._rounds < _MOST_ROUNDS, f"no end at {self.now}: {self._job}"
        self._policy.look_s = NEVER
        plan = decide(self._snapshot(), self._policies)
        self._write_down(plan)
        for posted in plan.orders:
            self._post(posted.order.attempt)
        for termination in plan.terminations:
            for life in self._lives.values():
                if life.instance().id == termination.instance_id:
                    life.terminate(self.now)
                    self._want_round(self.now)
        return any([self._is_refused(launch.attempt.id) for launch in plan.launches])

    def _snapshot(self) -> Snapshot:
        self._cooling = [each for each in self._cooling if self._warm_at(each) > self.now]
        reports = {name: life.report(self.now) for name, life in self._lives.items()}
        return Snapshot(
            now=self.now,
            epoch=1,
            installation=JOB,
            limits=self._limits,
            jobs=(self._job,),
            attempts=tuple(self._attempts.values()),
            instances=self._listings(),
            reports={name: report for name, report in reports.items() if report is not None},
            heads={JOB: self._work.head},
            offers=self._offers_now(),
            quotes=self._quotes(),
            # What has cooled down keeps nobody away any more (core/market._left_out).
            refusals=tuple(self._cooling),
            sights=self._sightings.at(self.now),
            hazards=self._hazards,
            alert_rules=None,
        )

    def _listings(self) -> dict[str, tuple[Instance, ...] | None]:
        found: dict[str, tuple[Instance, ...] | None] = dict.fromkeys(self._job.spec.regions, ())
        for life in self._lives.values():
            region = life.attempt.offer.pool.region
            found[region] = (*(found.get(region) or ()), life.instance())
        return found

    def _offers_now(self) -> tuple[Offer, ...]:
        change = self._scene.next_change(self._priced_at) if self._priced_at else self.now
        if change is not None and change <= self.now:
            self._offers, self._priced_at = self._scene.offers_at(self.now), self.now
        return self._offers

    def _quotes(self) -> dict[Pool, tuple[Quote, ...]]:
        """As far back as an instance that lives was launched."""
        since: dict[Pool, dt.datetime] = {}
        for life in self._lives.values():
            pool, launched_at = life.attempt.offer.pool, life.attempt.launched_at
            assert launched_at is not None
            since[pool] = min(launched_at, since.get(pool, launched_at))
        by_pool = self._scene.by_pool
        return {pool: by_pool[pool].quotes(at, self.now) for pool, at in since.items()}

    def _write_down(self, plan: Plan) -> None:
        for job in plan.jobs:
            self._job = job
        for attempt in plan.attempts:
            self._keep(attempt)
            if not attempt.state.live:
                self._lives.pop(attempt.id, None)
        for refusal in plan.refusals:
            self._refuse(refusal)
        if self._keeps_events:
            self.events.extend(plan.events)

    def _keep(self, attempt: Attempt) -> None:
        self._attempts[attempt.id] = attempt
        self._sightings.attempt(attempt)

    def _post(self, name: str) -> None:
        attempt = self._attempts[name]
        assert attempt.order is not None
        self._attempts[name] = dataclasses.replace(attempt, order_posted_n=attempt.order.n)
        if name in self._lives:
            self._lives[name].obey(attempt.order, self.now)

    def _is_refused(self, name: str) -> bool:
        """Send a launch; EC2 has the pool, or not."""
        attempt = dataclasses.replace(self._attempts[name], sent_at=self.now)
        pool, is_spot = attempt.offer.pool, attempt.offer.market is Market.SPOT
        bid = self._job.spec.max_price_usd_micros
        scene = self._scene.by_pool[pool]
        if is_spot and not scene.gives(self.now, bid):
            self._refused_launch(attempt)
            return True
        attempt = advance(
            attempt,
            AttemptState.REQUESTED,
            instance_id=f"i-{name}",
            launched_at=self.now,
        )
        self._launches += 1
        taking = scene.takes(self.now, bid) if is_spot else None
        life = Life(attempt, self._rates[pool.instance_type], taking, self._work, self._paces)
        self._keep(attempt)
        self._lives[name] = life
        if attempt.order is not None:
            life.obey(attempt.order, self.now)
        return False

    def _refused_launch(self, attempt: Attempt) -> None:
        self._refusals += 1
        ended = advance(
            attempt,
            AttemptState.ENDED,
            ended_at=self.now,
            end_reason=EndReason.REFUSED,
            cost_usd_micros=0,
        )
        # Of refused attempts nothing is ever read but the highest generation.
        if self._refused is not None:
            del self._attempts[self._refused]
        self._refused = ended.id
        self._attempts[ended.id] = ended
        self._refuse(
            Refusal(
                pool=ended.offer.pool,
                market=ended.offer.market,
                at=self.now,
                meaning=Refused.CAPACITY,
                message="EC2 has no capacity here",
            )
        )

    def _refuse(self, refusal: Refusal) -> None:
        self._cooling.append(refusal)
        self._sightings.refusal(refusal)

    # -- the end -------------------------------------------------------------------------------

    def _result(self, why: str) -> Run:
        launched = self.attempts
        by_market = {market: 0 for market in Market}
        for attempt in launched:
            assert attempt.launched_at is not None
            lived_s = seconds_between(attempt.launched_at, attempt.ended_at or self.now)
            by_market[attempt.offer.market] += lived_s
        return Run(
            policy=self._policy.name,
            start=self._scene.start,
            finished_at=self._work.done_at,
            deadline_at=self._job.spec.deadline_at,
            cost_usd_micros=sum(accrued(attempt, self.now) for attempt in launched),
            spot_s=by_market[Market.SPOT],
            on_demand_s=by_market[Market.ON_DEMAND],
            interruptions=sum(it.end_reason is EndReason.INTERRUPTED for it in launched),
            moves=sum(it.end_reason is EndReason.MOVED for it in launched),
            launches=self._launches,
            refusals=self._refusals,
            rounds=self._rounds,
            why=why,
        )


def rates(spec: JobSpec) -> dict[str, float]:
    """Steps a second by type: 1 on the job's first one."""
    known = speeds(spec, {})
    first = known[spec.instance_types[0]]
    return {name: speed / first for name, speed in known.items()}


def _s(seconds: float) -> dt.timedelta:
    return dt.timedelta(seconds=seconds)
