"""Whether the caps of a new job let it start, and what they should be if not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from spotrunner.core.amounts import cents_up
from spotrunner.core.caps import Caps
from spotrunner.core.located import Problem
from spotrunner.core.market import (
    first_step_s,
    move_usd_micros,
    rate_usd_micros_hour,
    start_payment,
    start_usd_micros,
)
from spotrunner.core.model import Job, JobSpec, Limits, Offer
from spotrunner.core.money import HOUR_S, start_s, usd
from spotrunner.core.purse import ROUNDED_USD_MICROS, Balance, Purse, Scope
from spotrunner.web.deps import Deps
from spotrunner.web.moments import duration, minute
from spotrunner.web.money import account_of, in_force, purse_of


@dataclass(frozen=True, kw_only=True)
class Start:
    """A launch on the offer that needs the least in reserve, as core/place will count it."""

    spec: JobSpec
    offer: Offer
    limits: Limits

    @property
    def usd_micros(self) -> int:
        """What a cap has to leave for it."""
        return start_usd_micros(self.spec, self.offer, self.limits)

    def is_paid_by(self, balance: Balance, now: dt.datetime) -> bool:
        purse, step_s = Purse(balances=(balance,)), self.limits.step_s
        pays_s = first_step_s(purse, self.spec, self.offer, now, step_s, self.limits)
        return pays_s >= self.limits.boot_allowance_s

    def short_usd_micros(self, balance: Balance) -> int:
        """What the cap lacks of it, however long the job waits. A day is rounded at both its
        ends."""
        more = 0 if balance.cap.day is None else ROUNDED_USD_MICROS
        return self.usd_micros + more + _gone_usd_micros(balance) - balance.cap.usd_micros

    def __str__(self) -> str:
        beside = "its disk and its address"
        if move_usd_micros(self.spec, self.offer.pool.region):
            beside = "its disk, its address and bringing its data"
        return (
            f"the first {start_s(self.limits)} s on {self.offer.pool}, with {beside}, need"
            f" {cents(self.usd_micros)} in reserve"
        )


def purse_of_new(deps: Deps, job: Job) -> Purse:
    """What the caps leave of a job that is not submitted yet."""
    account = account_of(deps, job, ())
    account.books.change(job)
    return purse_of(deps, account, job)


def least_start(spec: JobSpec, offers: Iterable[Offer], limits: Limits) -> Start | None:
    """None where nothing is offered in the job's market."""
    starts = [
        Start(spec=spec, offer=offer, limits=limits)
        for offer in offers
        if offer.market is spec.market
    ]
    return min(starts, key=lambda start: start.usd_micros, default=None)


def never_paid(start: Start, purse: Purse, caps: Caps, now: dt.datetime) -> Iterator[Problem]:
    """Each cap under which the job can never start."""
    for each in in_force(purse, now):
        cap, short, gone = each.cap, start.short_usd_micros(each), _gone_usd_micros(each)
        if short <= 0:
            continue
        whose = usd(cap.usd_micros) if cap.scope is Scope.JOB else str(cap)
        spent = f", of which {usd(gone)} are spent," if gone else ""
        yield Problem(
            key=_key(start.spec, each),
            message=f"{whose}{spent} does not pay a start: {start}",
            hint=_raised(start.spec, each, caps, cap.usd_micros + short),
        )


def not_now(start: Start, purse: Purse, now: dt.datetime) -> Iterator[Problem]:
    """Each cap under which the job will start, but not yet."""
    for each in in_force(purse, now):
        if start.is_paid_by(each, now) or start.short_usd_micros(each) > 0:
            continue
        cap, accrued = each.cap, each.accrued_usd_micros
        until = f"until {minute(cap.end)}, or " if cap.end else ""
        yield Problem(
            key=_key(start.spec, each),
            message=f"{cap} has {usd(accrued)} spent and {usd(each.reserved_usd_micros)} reserved,"
            f" and {start}: it waits {until}until other jobs leave so much",
        )


def _gone_usd_micros(balance: Balance) -> int:
    """What is spent for good. Of a day's cap it comes back with the next day; and what others have
    reserved, when they end."""
    return balance.accrued_usd_micros if balance.cap.day is None else 0


def unattended(start: Start, purse: Purse, now: dt.datetime) -> Problem | None:
    """A cap that does not pay so far ahead. The job starts all the same, with shorter steps."""
    wanted_s = start.spec.unattended_s
    if wanted_s is None:
        return None
    payment = start_payment(start.spec, start.offer, now, wanted_s, start.limits)
    bound, pays_s = purse.bound_by(payment), purse.pays_s(payment)
    if bound is None:
        return None
    most = rate_usd_micros_hour(start.spec, start.offer) * wanted_s // HOUR_S
    return Problem(
        key="unattended",
        message=f"{duration(wanted_s)} on {start.offer.pool} may come to {cents(most)}, and"
        f" {bound.cap} pays {duration(pays_s)} of it: it is paid ahead by less",
    )


def cents(usd_micros: int) -> str:
    """USD, up to a whole cent: a number that is surely enough."""
    return f"{cents_up(usd_micros) / 1_000_000:.2f} USD"


def _key(spec: JobSpec, balance: Balance) -> str:
    """What of the job file puts it under this cap."""
    has_budget = spec.sweep_budget_usd_micros is not None
    return {
        Scope.JOB: "budget",
        Scope.SWEEP: "sweep.budget" if has_budget else "sweep",
        Scope.OWNER: "owner",
        Scope.INSTALLATION: "",
    }[balance.cap.scope]


def _raised(spec: JobSpec, balance: Balance, caps: Caps, usd_micros: int) -> str:
    """How a cap is raised to what would do, where it is not the job's own."""
    cap, amount = balance.cap, f"{cents_up(usd_micros) / 1_000_000:.2f}"
    bound = f"{'total' if cap.day is None else 'day'}: {amount}"
    if cap.scope is Scope.JOB:
        return ""
    if cap.scope is Scope.SWEEP:
        return f"{amount} would do: sweep: {{name: {spec.sweep}, budget: {amount}}}"
    if cap.scope is Scope.OWNER:
        whose = f"owners: {{{cap.name}" if cap.name in caps.owners else "each_owner"
        bound = f"{whose}: {{{bound}}}" + ("}" if cap.name in caps.owners else "")
    return f"{amount} would do, in the daemon's settings: budgets: {{{bound}}}"
