"""What the daemon keeps: its jobs and attempts, the market, and the alerts that are due."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from spotrunner.core.alert import Alert
from spotrunner.core.caps import Spent
from spotrunner.core.ledger import Entry
from spotrunner.core.model import Attempt, Command, CommandVerb, Event, Job, Refusal
from spotrunner.core.states import JobState

# -- store -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What one transaction writes: whole new values, keyed by their ids, and events to append."""

    jobs: tuple[Job, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    events: tuple[Event, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    commands_done: tuple[int, ...] = ()
    # each with the channels that it goes to; one without any is only remembered
    alerts: tuple[tuple[Alert, tuple[str, ...]], ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in dataclasses.fields(self))


@dataclass(frozen=True, kw_only=True)
class Booked:
    """A line of the ledger, with whose it is."""

    entry: Entry
    owner: str
    sweep: str


class Store(Protocol):
    """The daemon's memory. Every write is one transaction; nothing of it is seen before its end,
    and what `write` returned from survives a kill -9. Safe to use from several threads."""

    def installation(self) -> str | None:
        """The installation's id, None in a new store."""
        ...

    def set_installation(self, installation: str) -> None:
        """Once; another id later raises Misconfigured."""
        ...

    def lead(self, holder: str, above: int = 0) -> int:
        """Become the leader and return the new epoch, one higher than any before and than `above`
        (the mail may remember what a store restored from a backup does not). From then on writes
        of lower epochs raise StaleEpoch."""
        ...

    def write(self, epoch: int, changes: Changes) -> None:
        """Raises StaleEpoch. Jobs are updated, never created here; `watched_until` is kept as the
        store has it. An attempt that has ended is booked in the ledger, and one that is open again
        is taken out of it. An alert whose key is known changes nothing."""
        ...

    def add_job(self, job: Job, events: Sequence[Event]) -> None:
        """For the API. Raises Misconfigured when the id is taken."""
        ...

    def add_command(
        self,
        job_id: str,
        verb: CommandVerb,
        at: dt.datetime,
        *,
        budget_usd_micros: int | None = None,
        deadline_at: dt.datetime | None = None,
    ) -> Command: ...

    def hold(self, until: dt.datetime | None) -> None:
        """For the API: launch nothing until then; None: go on."""
        ...

    def watch(self, job_id: str, until: dt.datetime) -> None:
        """Somebody looks at the job: raise its `watched_until`. No such job is no error."""
        ...

    def job(self, job_id: str) -> Job | None: ...

    def jobs(self, newest: int | None = None) -> tuple[Job, ...]:
        """Oldest first: all, or only the newest so many."""
        ...

    def jobs_named(self, name: str) -> tuple[Job, ...]:
        """Those with this name in their spec, and so at the beginning of their id; oldest first."""
        ...

    def job_counts(self) -> Mapping[JobState, int]:
        """How many jobs are in each state; a state without any is absent."""
        ...

    def open_jobs(self) -> tuple[Job, ...]:
        """Those that are not over, and those that are but have a live attempt."""
        ...

    def attempts(self, job_ids: Sequence[str]) -> tuple[Attempt, ...]:
        """All attempts of these jobs, by job and generation."""
        ...

    def regions(self) -> frozenset[str]:
        """Every region that an attempt was ever meant for: an orphan may turn up in each."""
        ...

    def commands(self) -> tuple[Command, ...]:
        """Those not done, oldest first."""
        ...

    def events(self, job_id: str, after: int = 0) -> tuple[tuple[int, Event], ...]:
        """A job's events with their numbers, oldest first, with numbers above `after`."""
        ...

    def refusals(self, since: dt.datetime) -> tuple[Refusal, ...]: ...

    def recent_attempts(self, since: dt.datetime) -> tuple[Attempt, ...]:
        """Those of all jobs that are live or ended at `since` or later, by the time of their
        intent."""
        ...

    def held_until(self) -> dt.datetime | None:
        """As it was last told; it may be over."""
        ...

    def cut_days_in(self, tz: str) -> None:
        """The zone whose midnights cut the ledger. Another one than before books all attempts
        anew."""
        ...

    def spent(self, since: dt.date) -> Spent:
        """What ended attempts cost, of all jobs; by day from `since` on."""
        ...

    def booked(self, since: dt.date | None = None) -> tuple[Booked, ...]:
        """The ledger's lines of ended attempts, by day, job and attempt."""
        ...

    def alert_keys(self, since: dt.datetime) -> frozenset[str]:
        """Of the alerts that were raised at `since` or later."""
        ...

    def close(self) -> None: ...


# -- what is kept of the market ----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ZoneQuote:
    """The spot price of a type in a zone, by the zone's *id*, from `at` until the next quote."""

    region: str
    zone_id: str
    instance_type: str
    at: dt.datetime
    price_usd_micros_hour: int


@dataclass(frozen=True, kw_only=True)
class Memo:
    """What an outside source said last, so that its next silence, or our restart, loses nothing.
    `body` is JSON of whoever wrote it."""

    key: str
    at: dt.datetime
    body: str
    etag: str | None = None


class MarketStore(Protocol):
    """What is kept for good of the market. Facts, not decisions: writes need no lead, and the same
    fact again changes nothing. Safe to use from several threads. All raise Unavailable, and
    ValueError for a time without a zone."""

    def add_quotes(self, quotes: Sequence[ZoneQuote]) -> int:
        """How many of them were new. One that is known by (region, zone id, type, at) already keeps
        its price. Raises ValueError for a price that is not positive."""
        ...

    def zone_quotes(
        self,
        region: str,
        instance_types: Sequence[str],
        since: dt.datetime,
        until: dt.datetime | None = None,
    ) -> tuple[ZoneQuote, ...]:
        """Oldest first: those within [since, until], and of each zone and type the one in force at
        `since`, with its own time. Raises ValueError where `until` lies before `since`."""
        ...

    def remember(self, memo: Memo) -> None:
        """Replaces the memo of this key."""
        ...

    def memo(self, key: str) -> Memo | None: ...


# -- alerts ------------------------------------------------------------------------------------


class Notifier(Protocol):
    """Brings alerts to people, over channels that the settings name."""

    @property
    def channels(self) -> frozenset[str]:
        """The names of those there are."""
        ...

    def send(self, channel: str, alert: Alert) -> None:
        """Once; nothing is tried again in here. Raises Undeliverable, also for a name that no
        channel has. A channel that answers late may have taken it all the same."""
        ...


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """An alert that a channel has still to take; `tries` failed so far."""

    alert: Alert
    channel: str
    tries: int


# The `next_at` of a delivery that was given up.
NEVER = dt.datetime(9999, 1, 1, tzinfo=dt.timezone.utc)


class Outbox(Protocol):
    """The alerts that were raised (`Changes`), one delivery a channel. Safe from several threads.
    All raise Unavailable."""

    def due(self, now: dt.datetime) -> tuple[Delivery, ...]:
        """Those not delivered whose next try is at `now` or earlier: the oldest alerts first, at
        most 50. A new delivery is due at once."""
        ...

    def delivered(self, alert_key: str, channel: str, at: dt.datetime) -> None: ...

    def failed(
        self, alert_key: str, channel: str, at: dt.datetime, next_at: dt.datetime, error: str
    ) -> None:
        """One more try has failed, by `error`; the next is due at `next_at` (NEVER: given up)."""
        ...
