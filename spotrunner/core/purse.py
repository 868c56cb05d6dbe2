"""What the caps of a job leave: accrued + reserved <= cap, for every cap that it is under.

A job has its own budget; its sweep, its owner and the installation may have theirs, in all and by
day. Whatever is to be paid has to fit under each of them, and a day's cap pays only for the part
of the time that lies in that day.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from spotrunner.core.caps import Bound, Caps, Spent
from spotrunner.core.ledger import entries
from spotrunner.core.model import Attempt, Job, Limits
from spotrunner.core.money import (
    HOUR_S,
    MINIMUM_S,
    accrued,
    bill_end,
    exposure_until,
    is_priced,
    late_s,
    seconds_between,
    usd,
)
from spotrunner.core.windows import local_day, midnight

_DAY = dt.timedelta(days=1)
# An instance and what is billed beside it are rounded up each for itself, at each midnight too.
ROUNDED_USD_MICROS = 2


class Scope(str, enum.Enum):
    JOB = "job"
    SWEEP = "sweep"
    OWNER = "owner"
    INSTALLATION = "installation"


@dataclass(frozen=True, kw_only=True)
class Cap:
    """`day` is None for what is bounded in all; else only the time from `begin` to `end` counts."""

    scope: Scope
    name: str
    usd_micros: int
    day: dt.date | None = None
    begin: dt.datetime | None = None
    end: dt.datetime | None = None

    def covers(self, job: Job) -> bool:
        if self.scope is Scope.INSTALLATION:
            return True
        names = {Scope.JOB: job.id, Scope.SWEEP: job.spec.sweep, Scope.OWNER: job.spec.owner}
        return names[self.scope] == self.name

    def __str__(self) -> str:
        whose = {
            Scope.JOB: "the budget",
            Scope.SWEEP: f"the budget of the sweep {self.name}",
            Scope.OWNER: f"{self.name}'s budget",
            Scope.INSTALLATION: "the budget of the installation",
        }[self.scope]
        return f"{whose} of {usd(self.usd_micros)}" + (f" on {self.day}" if self.day else "")


@dataclass(frozen=True, kw_only=True)
class Balance:
    """A cap with what was spent under it (`accrued`) and what may still be (`reserved`)."""

    cap: Cap
    accrued_usd_micros: int
    reserved_usd_micros: int

    @property
    def left_usd_micros(self) -> int:
        """Negative where a cap was lowered below what is spent and reserved already."""
        return self.cap.usd_micros - self.accrued_usd_micros - self.reserved_usd_micros


@dataclass(frozen=True, kw_only=True)
class Purse:
    """What all caps of one job leave; without any, everything can be paid. `priced` is False while
    the price of a living attempt under one of them is unknown: then nothing is left."""

    balances: tuple[Balance, ...] = ()
    priced: bool = True

    @property
    def tightest(self) -> Balance | None:
        return min(self.balances, key=lambda it: it.left_usd_micros, default=None)

    @property
    def left_usd_micros(self) -> int | None:
        """None: no cap."""
        if not self.priced:
            return 0
        return self.tightest.left_usd_micros if self.tightest else None

    def pays_s(self, payment: Payment) -> int:
        """How many of the seconds that it wants can be paid."""
        if not self.balances:
            return payment.wanted_s
        if not self.priced:
            return 0
        assert payment.usd_micros_hour > 0, "what has no price cannot be paid for"
        return max(0, min(_pays_s(each, payment) for each in self.balances))

    def bound_by(self, payment: Payment) -> Balance | None:
        """Under the cap that pays the least of it; None where all pay everything."""
        paid = [(_pays_s(each, payment), each) for each in self.balances]
        pays_s, least = min(paid, key=lambda it: it[0], default=(payment.wanted_s, None))
        return least if pays_s < payment.wanted_s else None


UNBOUNDED = Purse()


@dataclass(frozen=True, kw_only=True)
class Payment:
    """`wanted_s` seconds from `begin` on, with what is due for bytes between regions: at once, and
    an hour. Bytes are booked on the day of the launch, `launched_at`. What is only launched may
    begin `late_s` later, and so on another day; EC2 charges it a minute at the least."""

    begin: dt.datetime
    wanted_s: int
    usd_micros_hour: int
    launched_at: dt.datetime
    moved_usd_micros: int = 0
    moved_usd_micros_hour: int = 0
    late_s: int = 0


def _pays_s(balance: Balance, payment: Payment) -> int:
    if balance.cap.begin is not None and balance.cap.end is not None:
        return _day_pays_s(balance, payment, balance.cap.begin, balance.cap.end)
    left = balance.left_usd_micros - ROUNDED_USD_MICROS - payment.moved_usd_micros
    usd_micros_hour = payment.usd_micros_hour + payment.moved_usd_micros_hour
    return min(payment.wanted_s, max(0, left * HOUR_S // usd_micros_hour))


def _day_pays_s(
    balance: Balance, payment: Payment, midnight: dt.datetime, next_midnight: dt.datetime
) -> int:
    """The day has to pay for what may lie in it; before and after that others do."""
    left = balance.left_usd_micros - 2 * ROUNDED_USD_MICROS
    late = dt.timedelta(seconds=payment.late_s)
    if midnight - late <= payment.launched_at < next_midnight:
        hourly = -(-payment.moved_usd_micros_hour * payment.wanted_s // HOUR_S)
        moved = payment.moved_usd_micros + hourly
        if moved > max(0, left):
            return 0
        left -= moved
    first_s = (midnight - late - payment.begin).total_seconds()
    if first_s >= payment.wanted_s or payment.begin >= next_midnight:
        return payment.wanted_s
    before_s = max(0, int(first_s))
    in_day_s = math.ceil((next_midnight - payment.begin).total_seconds()) - before_s
    pays_s = max(0, left * HOUR_S // payment.usd_micros_hour)
    if payment.late_s and pays_s < MINIMUM_S:
        pays_s = 0
    is_all = pays_s >= min(in_day_s, payment.wanted_s - before_s)
    return payment.wanted_s if is_all else before_s + pays_s


# -- balances ----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Sums:
    """Of one cap: what was spent, and the most that it can come to."""

    accrued: int
    exposed: int


class Books:
    """What is spent and reserved under each cap, kept up while a round changes attempts.

    `attempts` are those that `spent` was read with: the ended ones among them are in its sums.
    `seen_at` says of an attempt when EC2 last showed its instance alive.
    """

    def __init__(
        self,
        *,
        caps: Caps,
        spent: Spent,
        jobs: Iterable[Job],
        attempts: Iterable[Attempt],
        seen_at: Callable[[Attempt], dt.datetime | None],
        limits: Limits,
        now: dt.datetime,
    ) -> None:
        self._caps = caps
        self._spent = spent
        self._jobs = {job.id: job for job in jobs}
        self._attempts: dict[str, dict[str, Attempt]] = {job_id: {} for job_id in self._jobs}
        for attempt in attempts:
            self._attempts.setdefault(attempt.job_id, {})[attempt.id] = attempt
        self._ended = tuple(it for it in self._all() if not it.state.live)
        self._unpriced = {it.id: it.job_id for it in self._all() if _is_unpriced(it)}
        self._seen_at = seen_at
        self._limits = limits
        self._now = now
        self._sums: dict[Cap, _Sums] = {}
        self._sweeps: dict[str, int | None] = {}

    def change(self, value: Job | Attempt) -> None:
        if isinstance(value, Job):
            self._jobs[value.id] = value
            self._sweeps.clear()
            return
        ours, job = self._attempts.setdefault(value.job_id, {}), self._jobs[value.job_id]
        old = ours.get(value.id)
        ours[value.id] = value
        if _is_unpriced(value):
            self._unpriced[value.id] = value.job_id
        else:
            self._unpriced.pop(value.id, None)
        for cap, sums in self._sums.items():
            if cap.covers(job):
                self._add(sums, cap, value, 1)
                if old is not None:
                    self._add(sums, cap, old, -1)

    def purse(self, job: Job, until: dt.datetime) -> Purse:
        """For payments up to `until`."""
        caps = tuple(self.caps_of(job, until))
        return Purse(
            balances=tuple(self.balance(cap) for cap in caps),
            priced=not any(
                cap.covers(self._jobs[job_id]) for job_id in self._unpriced.values() for cap in caps
            ),
        )

    def caps_of(self, job: Job, until: dt.datetime) -> Iterator[Cap]:
        spec = job.spec
        if spec.budget_usd_micros is not None:
            yield Cap(scope=Scope.JOB, name=job.id, usd_micros=spec.budget_usd_micros)
        if spec.sweep and (budget := self._sweep_budget(spec.sweep)) is not None:
            yield Cap(scope=Scope.SWEEP, name=spec.sweep, usd_micros=budget)
        yield from self.bounded(Scope.OWNER, spec.owner, self._caps.owner(spec.owner), until)
        yield from self.bounded(Scope.INSTALLATION, "", self._caps.installation, until)

    def bounded(self, scope: Scope, name: str, bound: Bound, until: dt.datetime) -> Iterator[Cap]:
        """In all, and on each day up to `until`."""
        if bound.total_usd_micros is not None:
            yield Cap(scope=scope, name=name, usd_micros=bound.total_usd_micros)
        if bound.day_usd_micros is not None:
            # What is launched now may be yesterday's, by EC2's clock.
            since = self._now - dt.timedelta(seconds=self._limits.clock_s)
            for day, begin, end in days(self._caps.tz, since, until):
                yield Cap(
                    scope=scope,
                    name=name,
                    usd_micros=bound.day_usd_micros,
                    day=day,
                    begin=begin,
                    end=end,
                )

    def balance(self, cap: Cap) -> Balance:
        if cap not in self._sums:
            self._sums[cap] = self._counted(cap)
        sums = self._sums[cap]
        return Balance(
            cap=cap,
            accrued_usd_micros=sums.accrued,
            reserved_usd_micros=max(0, sums.exposed - sums.accrued),
        )

    # -- caps ----------------------------------------------------------------------------------

    def _sweep_budget(self, sweep: str) -> int | None:
        """The newest job of the sweep that names one has the last word."""
        if not self._sweeps:
            for job in sorted(self._jobs.values(), key=lambda it: (it.submitted_at, it.id)):
                named = job.spec.sweep_budget_usd_micros
                self._sweeps[job.spec.sweep] = named or self._sweeps.get(job.spec.sweep)
        return self._sweeps.get(sweep)

    # -- sums ----------------------------------------------------------------------------------

    def _counted(self, cap: Cap) -> _Sums:
        """`spent` knows all that had ended; those of the open jobs are counted one by one here, so
        that it does not matter when one of them ends, or is open again."""
        known = 0 if cap.scope is Scope.JOB else self._known(cap)
        sums = _Sums(accrued=known, exposed=known)
        if cap.scope is Scope.JOB:
            for attempt in self._attempts.get(cap.name, {}).values():
                self._add(sums, cap, attempt, 1)
            return sums
        for attempt in self._all():
            if cap.covers(self._jobs[attempt.job_id]):
                self._add(sums, cap, attempt, 1)
        for attempt in self._ended:
            if cap.covers(self._jobs[attempt.job_id]):
                self._add(sums, cap, attempt, -1)
        return sums

    def _all(self) -> Iterator[Attempt]:
        return (attempt for ours in self._attempts.values() for attempt in ours.values())

    def _known(self, cap: Cap) -> int:
        spent, day = self._spent, cap.day
        if cap.scope is Scope.SWEEP:
            return spent.by_sweep.get(cap.name, 0)
        if cap.scope is Scope.OWNER and day is not None:
            return spent.by_owner_and_day.get((cap.name, day), 0)
        if cap.scope is Scope.OWNER:
            return spent.by_owner.get(cap.name, 0)
        return spent.total_usd_micros if day is None else spent.by_day.get(day, 0)

    def _add(self, sums: _Sums, cap: Cap, attempt: Attempt, sign: int) -> None:
        if not attempt.state.live:
            final = self._final(cap, attempt)
            sums.accrued += sign * final
            sums.exposed += sign * final
            return
        end = self._end(attempt)
        # We may have been away, and know of no end: it has none the less ended by then.
        until = min(self._now, end)
        sums.accrued += sign * _within(cap, attempt, lambda at: accrued(attempt, at), until)
        sums.exposed += sign * self._exposed(cap, attempt, end)

    def _end(self, attempt: Attempt) -> dt.datetime:
        seen_at, end = self._seen_at(attempt), bill_end(attempt, self._limits)
        return end if seen_at is None else max(end, seen_at)

    def _exposed(self, cap: Cap, attempt: Attempt, end: dt.datetime) -> int:
        late = dt.timedelta(seconds=late_s(attempt, self._limits))
        if late and cap.begin is not None and cap.end is not None:
            earliest = attempt.intent_at - dt.timedelta(seconds=self._limits.clock_s)
            return _launched_by_then(attempt, cap.begin, cap.end, end, earliest, earliest + late)
        within = _within(cap, attempt, lambda at: exposure_until(attempt, at), end)
        return within + _rounded(cap.begin, attempt.launched_at or attempt.intent_at, end)

    def _final(self, cap: Cap, attempt: Attempt) -> int:
        if cap.day is None or cap.begin is None:
            return attempt.cost_usd_micros or 0
        if attempt.ended_at is not None and attempt.ended_at < cap.begin:
            return 0
        booked = entries(attempt, self._caps.tz, self._now)
        return sum(entry.cost_usd_micros for entry in booked if entry.day == cap.day)


def _is_unpriced(attempt: Attempt) -> bool:
    return attempt.state.live and not is_priced(attempt.offer)


def _within(
    cap: Cap, attempt: Attempt, until: Callable[[dt.datetime], int], end: dt.datetime
) -> int:
    """Of what an attempt comes to up to `end`, the part that is the cap's."""
    start = attempt.launched_at or attempt.intent_at

    def so_far(at: dt.datetime) -> int:
        return until(at) if at > start else 0

    if cap.begin is None or cap.end is None:
        return so_far(end)
    return so_far(min(end, cap.end)) - so_far(min(end, cap.begin))


def _launched_by_then(
    attempt: Attempt,
    midnight: dt.datetime,
    next_midnight: dt.datetime,
    end: dt.datetime,
    earliest: dt.datetime,
    latest: dt.datetime,
) -> int:
    """EC2 has not said when it was launched, so its time may lie a little earlier or later: the
    most of it that can be in this day."""
    lives = end - attempt.intent_at
    in_day_s = seconds_between(max(earliest, midnight), min(latest + lives, next_midnight))
    if in_day_s <= 0:
        return 0
    seconds = dt.timedelta(seconds=min(in_day_s, math.ceil(lives.total_seconds())))
    most = exposure_until(attempt, attempt.intent_at + seconds)
    return most + _rounded(midnight, earliest, latest + lives)


def _rounded(midnight: dt.datetime | None, start: dt.datetime, end: dt.datetime) -> int:
    """A day's part is a difference of two bills: as prices come to be known, their roundings move
    by this much."""
    return ROUNDED_USD_MICROS if midnight is not None and start < midnight < end else 0


def days(
    tz: str, begin: dt.datetime, end: dt.datetime
) -> Iterator[tuple[dt.date, dt.datetime, dt.datetime]]:
    """The days of this zone that [begin, end] touches, with their midnights."""
    day = local_day(tz, begin)
    while (first := midnight(tz, day)) <= end:
        yield day, first, midnight(tz, day + _DAY)
        day += _DAY
