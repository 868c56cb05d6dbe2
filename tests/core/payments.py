"""Random rounds of what pays, `keep` and `place`, for some jobs under shared caps, over midnights.

The world here is kind to agents (they all report, none outstays its time) and hard on money: EC2
launches late or loses its answer, prices come to be known hour by hour, instances end at any time,
each in the dearest way that it may. `balances` counts the caps anew, from the values alone.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
from collections import Counter
from collections.abc import Iterable, Iterator

from spotrunner.core.caps import Bound, Caps, Spent
from spotrunner.core.draft import Draft
from spotrunner.core.keep import keep
from spotrunner.core.ledger import entries
from spotrunner.core.model import Attempt, EndedBy, EndReason, Job, Limits, Phase, Report, Snapshot
from spotrunner.core.money import accrued, bill_end, hour_index, is_free
from spotrunner.core.place import place
from spotrunner.core.policy.named import policies
from spotrunner.core.purse import Balance, Books, Cap, days
from spotrunner.core.states import AttemptState, JobState, advance
from spotrunner.core.windows import Window, midnight
from tests.build import INSTALLATION, OFFERS, T0, a_job, a_request, a_spec

_DAY = dt.timedelta(days=1)
# 1 GiB of disk, and the address.
_EXTRAS = 5_112
_ZONES = ("UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York")


class Payments:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.limits = Limits()
        # So cheap that a cap is filled to the last micro-dollar, or as usual.
        self.dearest = rng.choice([700, 5_000, 526_000])
        self.offers = tuple(
            dataclasses.replace(
                offer,
                price_usd_micros_hour=self.dearest // (n + 2),
                dearest_usd_micros_hour=self.dearest,
            )
            for n, offer in enumerate(OFFERS)
        )
        tz = rng.choice(_ZONES)
        self.caps = Caps(
            tz=tz,
            installation=self._bound(),
            owners={"alice": self._bound()},
            each_owner=self._bound(),
        )
        sweep_budget = self._amount()
        self.jobs = tuple(self._job(n, sweep_budget) for n in range(rng.randint(1, 3)))
        self.attempts: dict[str, Attempt] = {}
        # Most of the night's trouble is at its midnight.
        before = dt.timedelta(seconds=rng.choice([rng.uniform(0, 4000), rng.uniform(0, 86_400)]))
        self.began = self.now = midnight(tz, T0.date() + _DAY) - before
        self.draft = Draft(self._snapshot())

    def step(self) -> None:
        self.now += dt.timedelta(
            seconds=self.rng.choice([1, 7.5, 15, 60, 121, 599.3, 900, 1300, 1750]),
        )
        for attempt in list(self.attempts.values()):
            if attempt.state.live:
                self._live(attempt)
        self.draft = Draft(self._snapshot())
        keep(self.draft)
        place(self.draft, policies())
        self.jobs = tuple(self.draft.jobs.values())
        self.attempts = dict(self.draft.attempts)
        for launch in self.draft.plan().launches:
            self._send(self.attempts[launch.attempt.id])

    def balances(self) -> Iterator[Balance]:
        """Of every cap and every day that was and will be."""
        yield from self._balances_of(self._books())

    def kept_up(self) -> Iterator[Balance]:
        """The same as the round itself has them, before anything was sent."""
        yield from self._balances_of(self.draft.books)

    def counted_anew(self) -> Iterator[Balance]:
        """What `kept_up` should be."""
        before = self.draft.snapshot
        spent = spent_of(self.draft.attempts.values(), self.jobs, self.caps.tz)
        yield from self._balances_of(
            Books(
                caps=self.caps,
                spent=spent,
                jobs=self.jobs,
                attempts=self.draft.attempts.values(),
                seen_at=lambda _: None,
                limits=self.limits,
                now=before.now,
            )
        )

    # -- caps ----------------------------------------------------------------------------------

    def _amount(self, *most_s: int) -> int | None:
        """Of nothing, of hours, or of so little."""
        most = self.rng.choice([None, None, None, 7_200, 40_000, *most_s])
        if most is None:
            return None
        seconds = self.rng.randint(min(1_020, most // 8), most)
        return max(1, (self.dearest + _EXTRAS) * seconds // 3600 + self.rng.randint(-5, 5))

    def _bound(self) -> Bound:
        return Bound(total_usd_micros=self._amount(), day_usd_micros=self._amount(7_200, 400))

    def _job(self, n: int, sweep_budget: int | None) -> Job:
        spec = a_spec(
            owner=self.rng.choice(["alice", "bob"]),
            sweep=self.rng.choice(["", "lr"]),
            sweep_budget_usd_micros=sweep_budget,
            budget_usd_micros=self._amount(),
            unattended_s=self.rng.choice([None, None, 4 * 3600, 30 * 3600]),
            window=self._window(),
            disk_gib=1,
        )
        return a_job(JobState.QUEUED, id=f"job-{n:04d}", spec=spec)

    def _window(self) -> Window | None:
        start_min, stop_min = self.rng.randrange(1440), self.rng.randrange(1440)
        window = Window(
            start_min=start_min, stop_min=stop_min, tz=self.caps.tz, days=tuple(range(7))
        )
        return self.rng.choice([None, None, None, window])

    def _books(self) -> Books:
        return Books(
            caps=self.caps,
            spent=spent_of(self.attempts.values(), self.jobs, self.caps.tz),
            jobs=self.jobs,
            attempts=self.attempts.values(),
            seen_at=lambda _: None,
            limits=self.limits,
            now=self.now,
        )

    def _balances_of(self, books: Books) -> Iterator[Balance]:
        for job in self.jobs:
            for cap in books.caps_of(job, self.now + 3 * _DAY):
                yield books.balance(cap)
                if cap.day is not None:
                    yield from (books.balance(past) for past in self._past(cap))

    def _past(self, cap: Cap) -> Iterator[Cap]:
        for day, begin, end in days(self.caps.tz, self.began, self.now):
            yield dataclasses.replace(cap, day=day, begin=begin, end=end)

    # -- the world -----------------------------------------------------------------------------

    def _snapshot(self) -> Snapshot:
        live = [attempt for attempt in self.attempts.values() if attempt.state.live]
        return Snapshot(
            now=self.now,
            epoch=1,
            installation=INSTALLATION,
            limits=self.limits,
            jobs=self.jobs,
            attempts=tuple(self.attempts.values()),
            reports={
                it.id: Report(attempt=it.id, box=it.id, at=self.now, phase=Phase.TRAIN)
                for it in live
                if it.state in (AttemptState.STARTING, AttemptState.RUNNING)
            },
            held_until=self.rng.choice(
                [None] * 5 + [self.now + dt.timedelta(seconds=self.rng.randint(-600, 7200))]
            ),
            heads={job.id: None for job in self.jobs},
            offers=self.offers,
            caps=self.caps,
            spent=spent_of(self.attempts.values(), self.jobs, self.caps.tz),
        )

    def _live(self, attempt: Attempt) -> None:
        if attempt.launched_at is not None:
            attempt = self._note_prices(attempt)
        latest = bill_end(attempt, self.limits)
        is_over = self.now >= latest
        if attempt.launched_at is None:
            if attempt.state is AttemptState.STARTING and self.rng.random() < 0.5:
                attempt = self._found(attempt)
            elif is_over or self.rng.random() < 0.1:
                attempt = self._ended(attempt, self.now, None)
            elif attempt.state is AttemptState.PENDING and self.rng.random() < 0.3:
                attempt = self._found(attempt)
            elif attempt.state is AttemptState.PENDING and self.rng.random() < 0.2:
                # Its agent speaks before any listing shows it.
                attempt = advance(attempt, AttemptState.REQUESTED)
                attempt = advance(attempt, AttemptState.STARTING)
        elif is_over or self.rng.random() < 0.04:
            by = self.rng.choice([EndedBy.EC2, EndedBy.US, EndedBy.ITSELF])
            attempt = self._ended(attempt, min(self.now, latest), by)
        self.attempts[attempt.id] = attempt

    def _note_prices(self, attempt: Attempt) -> Attempt:
        """Mostly the dearest: no cap may count on less."""
        assert attempt.launched_at is not None
        known, dearest = attempt.hour_prices_usd_micros, attempt.offer.dearest_usd_micros_hour
        while len(known) < hour_index(attempt.launched_at, self.now):
            known = (*known, self.rng.choice([dearest, dearest, self.rng.randint(1, dearest)]))
        running = self.rng.choice([None, dearest, self.rng.randint(1, dearest)])
        return dataclasses.replace(
            attempt, hour_prices_usd_micros=known, running_price_usd_micros=running
        )

    def _found(self, attempt: Attempt) -> Attempt:
        """It turns out when it was launched: a little before it was wanted, by EC2's clock, at the
        soonest, a little after it was last sent at the latest, and never in times to come."""
        assert attempt.sent_at is not None
        most_s = (attempt.sent_at - attempt.intent_at).total_seconds() + self.limits.boot_slack_s
        most_s = min(most_s, (self.now - attempt.intent_at).total_seconds())
        early_s = self.rng.uniform(0, self.limits.clock_s)
        launched_at = attempt.intent_at + dt.timedelta(
            seconds=self.rng.choice([-early_s, most_s, self.rng.uniform(0, most_s)])
        )
        if attempt.state is AttemptState.PENDING:
            attempt = advance(attempt, AttemptState.REQUESTED)
            attempt = advance(attempt, AttemptState.STARTING)
        return dataclasses.replace(attempt, instance_id=f"i-{attempt.id}", launched_at=launched_at)

    def _ended(self, attempt: Attempt, at: dt.datetime, by: EndedBy | None) -> Attempt:
        if attempt.launched_at is None:
            return advance(
                attempt,
                AttemptState.ENDED,
                ended_at=at,
                end_reason=EndReason.REFUSED,
                cost_usd_micros=0,
            )
        at = max(at, attempt.launched_at)
        ended = advance(
            attempt,
            AttemptState.ENDED,
            ended_at=at,
            end_reason=EndReason.FAULT,
            free=is_free(attempt.offer.market, attempt.launched_at, at, by),
            step_before=0,
            step_after=1,
        )
        return dataclasses.replace(ended, cost_usd_micros=accrued(ended, at))

    def _send(self, attempt: Attempt) -> None:
        self.attempts[attempt.id] = dataclasses.replace(
            attempt, sent_at=self.now, request=a_request(attempt.id, attempt.offer)
        )


def spent_of(attempts: Iterable[Attempt], jobs: Iterable[Job], tz: str) -> Spent:
    """What the store would say: the sums of all that has ended."""
    by_id = {job.id: job for job in jobs}
    total: Counter[str] = Counter()
    by_owner: Counter[str] = Counter()
    by_sweep: Counter[str] = Counter()
    by_day: Counter[dt.date] = Counter()
    by_owner_and_day: Counter[tuple[str, dt.date]] = Counter()
    for attempt in attempts:
        if attempt.state.live:
            continue
        assert attempt.ended_at is not None
        spec = by_id[attempt.job_id].spec
        for entry in entries(attempt, tz, attempt.ended_at):
            cost = entry.cost_usd_micros
            total[""] += cost
            by_owner[spec.owner] += cost
            by_sweep[spec.sweep] += cost
            by_day[entry.day] += cost
            by_owner_and_day[spec.owner, entry.day] += cost
    return Spent(
        total_usd_micros=total[""],
        by_owner=by_owner,
        by_sweep=by_sweep,
        by_day=by_day,
        by_owner_and_day=by_owner_and_day,
    )


def words(balance: Balance, now: dt.datetime) -> str:
    """For a test that fails."""
    return (
        f"{now}: {balance.cap} has {balance.accrued_usd_micros} accrued,"
        f" {balance.reserved_usd_micros} reserved: {-balance.left_usd_micros} too much"
    )
