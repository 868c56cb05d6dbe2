"""What is spent and reserved under each cap, as it is known outside a round."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spotrunner.core.caps import NOTHING_SPENT, Bound, Spent
from spotrunner.core.ledger import entries
from spotrunner.core.model import Attempt, Job
from spotrunner.core.purse import Balance, Books, Purse
from spotrunner.core.windows import local_day
from spotrunner.web.deps import Deps
from spotrunner.web.moments import Json

_DAY = dt.timedelta(days=1)
# A round writes in between; it does not do so all the time.
_READS = 3


def usd(micros: int | None) -> float | None:
    return None if micros is None else micros / 1_000_000


@dataclass(frozen=True, kw_only=True)
class Account:
    """The jobs that are open, with all of their attempts, at one time."""

    now: dt.datetime
    jobs: Mapping[str, Job]
    attempts: Mapping[str, tuple[Attempt, ...]]
    spent: Spent
    books: Books


def account(deps: Deps) -> Account:
    """Of all jobs. Ended attempts are in the sums, the others are counted one by one: what ends
    between the two readings must not be counted in both."""
    now = deps.clock.now()
    since = local_day(deps.caps.tz, now) - _DAY
    for _ in range(_READS):
        spent, jobs = deps.store.spent(since), deps.store.open_jobs()
        attempts = deps.store.attempts([job.id for job in jobs])
        if spent == deps.store.spent(since):
            break
    return _account(deps, jobs, attempts, spent, now)


def account_of(deps: Deps, job: Job, attempts: Sequence[Attempt]) -> Account:
    """Of this job, and of all others where one of its caps is theirs too."""
    bounds = deps.caps.installation, deps.caps.owner(job.spec.owner)
    if job.spec.sweep or any(bound != Bound() for bound in bounds):
        return account(deps)
    return _account(deps, [job], attempts, NOTHING_SPENT, deps.clock.now())


def _account(
    deps: Deps, jobs: Sequence[Job], attempts: Sequence[Attempt], spent: Spent, now: dt.datetime
) -> Account:
    by_job: dict[str, list[Attempt]] = {job.id: [] for job in jobs}
    for attempt in attempts:
        by_job[attempt.job_id].append(attempt)
    books = Books(
        caps=deps.caps,
        spent=spent,
        jobs=jobs,
        attempts=attempts,
        # A round reads EC2's listings; here whatever is not over counts as alive.
        seen_at=lambda _: now,
        limits=deps.limits,
        now=now,
    )
    return Account(
        now=now,
        jobs={job.id: job for job in jobs},
        attempts={job_id: tuple(found) for job_id, found in by_job.items()},
        spent=spent,
        books=books,
    )


def purse_of(deps: Deps, account: Account, job: Job) -> Purse:
    """What the caps of the job leave for its next step, as a round reckons it."""
    ahead_s = max(deps.limits.step_s, job.spec.unattended_s or 0) + deps.limits.boot_slack_s
    return account.books.purse(job, account.now + dt.timedelta(seconds=ahead_s))


def in_force(purse: Purse, now: dt.datetime) -> tuple[Balance, ...]:
    """Of the caps by day, only today's."""
    return tuple(each for each in purse.balances if each.cap.begin is None or each.cap.begin <= now)


def balance_view(balance: Balance) -> Json:
    """`left_usd` is negative where a cap was lowered below what is spent and reserved already."""
    cap = balance.cap
    return {
        "scope": cap.scope.value,
        "name": cap.name,
        "day": str(cap.day) if cap.day else None,
        "cap_usd": usd(cap.usd_micros),
        "accrued_usd": usd(balance.accrued_usd_micros),
        "reserved_usd": usd(balance.reserved_usd_micros),
        "left_usd": usd(balance.left_usd_micros),
        "words": str(cap),
    }


def split(deps: Deps, attempts: Sequence[Attempt]) -> Json:
    """What the cost consists of: the instances, what lives beside them, bytes between regions."""
    now = deps.clock.now()
    booked = [entry for it in attempts for entry in entries(it, deps.caps.tz, now)]
    return {
        "instance_usd": usd(sum(entry.instance_usd_micros for entry in booked)),
        "extras_usd": usd(sum(entry.extras_usd_micros for entry in booked)),
        "transfer_usd": usd(sum(entry.transfer_usd_micros for entry in booked)),
    }
