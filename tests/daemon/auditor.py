"""Who holds every cap against what was spent under it, second by second.

Two figures may never be above a cap: what the store says is spent and reserved, and what EC2 bills
for all instances that there ever were, those too that the store has forgotten. A cap that is set
lower than what is committed already may be exceeded by just that.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from spotrunner.core.caps import Caps
from spotrunner.core.charges import extras_usd_micros_hour
from spotrunner.core.ids import TAG_ATTEMPT, TAG_JOB
from spotrunner.core.model import Attempt, Job, Limits
from spotrunner.core.money import bill_end
from spotrunner.core.purse import Books, Cap, Scope
from spotrunner.core.windows import local_day
from spotrunner.ports import Store
from spotrunner.sim.values import Charge, InstanceRecord, Stage
from spotrunner.sim.world import World

_DAY = dt.timedelta(days=1)
_LEAST_S = 60

Key = tuple[Scope, str, dt.date | None]


@dataclass(frozen=True, kw_only=True)
class Line:
    """What EC2 charges for one instance until now: itself, and its disk and address."""

    job_id: str
    attempt: str
    instance: int
    extras: int
    is_free: bool

    @property
    def usd_micros(self) -> int:
        return self.instance + self.extras


Lines = Mapping[str, Line]


@dataclass(frozen=True, kw_only=True)
class _Most:
    """What may be committed and billed under a cap at most, and what was committed last."""

    figure: int
    committed: int
    bound: int
    bill_bound: int


@dataclass(kw_only=True)
class Auditor:
    world: World
    limits: Limits
    # every job that there ever was: a store may forget some
    jobs: dict[str, Job] = field(default_factory=dict)
    _mosts: dict[Key, _Most] = field(default_factory=dict)
    _kinds: set[tuple[Scope, str, bool]] = field(default_factory=set)
    # what every instance had cost when a day began
    _begun: dict[dt.date, Lines] = field(default_factory=dict)
    # the attempts that ever had an instance
    names: frozenset[str] = frozenset()
    _seen: tuple[object, ...] = ()
    _committed: Mapping[Cap, int] = field(default_factory=dict)

    def check(self, store: Store, caps: Caps, now: dt.datetime) -> None:
        jobs = store.jobs()
        attempts = store.attempts([job.id for job in jobs])
        self.jobs.update((job.id, job) for job in jobs)
        records = self.world.truth(now)
        alive = {_tag(it, TAG_ATTEMPT) for it in records if _is_alive(it)}
        day = local_day(caps.tz, now)
        # What is committed does not change with time, unless an instance outlives its money.
        outlives = [it for it in attempts if it.id in alive and bill_end(it, self.limits) < now]
        seen = (jobs, attempts, caps, day, len(records))
        if outlives or seen != self._seen:
            self._committed = self._count(store, caps, now, jobs, attempts, alive)
        elif not alive:
            return  # nor does what is billed
        self._seen = seen
        self.names = frozenset(_tag(it, TAG_ATTEMPT) for it in records)
        bill = self._bill(records, now)
        self._begun.setdefault(day, bill)
        for cap, committed in self._committed.items():
            self._hold(cap, committed, self._billed(cap, bill))

    def bill(self, now: dt.datetime) -> Lines:
        return self._bill(self.world.truth(now), now)

    # -- inside --------------------------------------------------------------------------------

    def _count(
        self,
        store: Store,
        caps: Caps,
        now: dt.datetime,
        jobs: Sequence[Job],
        attempts: Sequence[Attempt],
        alive: Container[str],
    ) -> dict[Cap, int]:
        """Accrued and reserved under each cap, by the store."""
        books = Books(
            caps=caps,
            spent=store.spent(local_day(caps.tz, now) - _DAY),
            jobs=jobs,
            attempts=attempts,
            seen_at=lambda attempt: now if attempt.id in alive else None,
            limits=self.limits,
            now=now,
        )
        until = max([now, *(bill_end(it, self.limits) for it in attempts if it.state.live)])
        found = {}
        for cap in dict.fromkeys(cap for job in jobs for cap in books.caps_of(job, until)):
            balance = books.balance(cap)
            found[cap] = balance.accrued_usd_micros + balance.reserved_usd_micros
        return found

    def _bill(self, records: Sequence[InstanceRecord], now: dt.datetime) -> Lines:
        by_id = {record.id: record for record in records}
        charges = self.world.bill(now)
        return {it.instance_id: self._line(by_id[it.instance_id], it, now) for it in charges}

    def _line(self, record: InstanceRecord, charge: Charge, now: dt.datetime) -> Line:
        job_id, extras = _tag(record, TAG_JOB), 0
        if charge.from_at is not None:
            lived_s = math.ceil(((charge.to_at or now) - charge.from_at).total_seconds())
            disk_gib = self.jobs[job_id].spec.disk_gib
            hourly = extras_usd_micros_hour(record.pool.region, disk_gib)
            extras = -(-max(_LEAST_S, lived_s) * hourly // 3600)
        return Line(
            job_id=job_id,
            attempt=_tag(record, TAG_ATTEMPT),
            instance=charge.usd_micros,
            extras=extras,
            is_free=charge.free,
        )

    def _hold(self, cap: Cap, committed: int, billed: int) -> None:
        key, kind = (cap.scope, cap.name, cap.day), (cap.scope, cap.name, cap.day is not None)
        before, figure = self._mosts.get(key), cap.usd_micros
        bound = bill_bound = figure
        if before is not None and figure < before.figure:
            bound = max(figure, before.committed)
            bill_bound = max(bound, billed)
        elif before is not None:
            bound = max(figure, min(before.bound, before.committed))
            bill_bound = max(figure, before.bill_bound)
        elif kind not in self._kinds:
            # Set only now: what was spent and reserved under no cap at all is not undone.
            bound = max(figure, committed)
            bill_bound = max(bound, billed)
        assert committed <= bound, f"{committed} micro-dollars are committed of {bound}: {cap}"
        assert billed <= bill_bound, f"EC2 bills {billed} micro-dollars of {bill_bound}: {cap}"
        self._kinds.add(kind)
        self._mosts[key] = _Most(
            figure=figure, committed=committed, bound=bound, bill_bound=bill_bound
        )

    def _billed(self, cap: Cap, bill: Lines) -> int:
        mine = {id_: line for id_, line in bill.items() if cap.covers(self.jobs[line.job_id])}
        if cap.day is None:
            return sum(line.usd_micros for line in mine.values())
        begun, over = self._begun.get(cap.day), self._begun.get(cap.day + _DAY)
        if begun is None:
            return 0  # it has not begun
        return sum(
            _of_day(begun.get(id_), over.get(id_) if over else line, line.is_free)
            for id_, line in mine.items()
        )


def _of_day(begun: Line | None, over: Line | None, is_free: bool) -> int:
    """What was taken for free costs nothing on any of its days, but for its disk and address."""
    if over is None:
        return 0
    extras = over.extras - (begun.extras if begun else 0)
    instance = over.instance - (begun.instance if begun else 0)
    return extras if is_free else extras + instance


def _tag(record: InstanceRecord, name: str) -> str:
    return dict(record.tags)[name]


def _is_alive(record: InstanceRecord) -> bool:
    return record.stage in (Stage.PENDING, Stage.RUNNING)
