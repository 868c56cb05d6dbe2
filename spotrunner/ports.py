"""What the daemon and the agent need of the world, as contracts in words.

Every implementation is held to its contract by one suite (tests/contracts). Errors carry meaning:
no code of AWS's leaves `adapters/aws/errors.py`. All methods block; all have time-outs of their
own; none retries for longer than its time-out.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from spotrunner.core.alert import Alert
from spotrunner.core.baked import Need
from spotrunner.core.caps import Spent
from spotrunner.core.ledger import Entry
from spotrunner.core.model import (
    Attempt,
    Command,
    CommandVerb,
    Event,
    Head,
    Instance,
    Job,
    LaunchRequest,
    Manifest,
    Order,
    Pool,
    Quote,
    Refusal,
    Refused,
    Report,
)
from spotrunner.core.secret_place import SecretPlace
from spotrunner.core.states import JobState

# -- errors by meaning -------------------------------------------------------------------------


class PortError(Exception):
    """Anything that a port can answer instead of a result."""


class GaveWay(PortError):
    """Left in the middle, since whoever asked for it said that something else is more urgent."""


class Unavailable(PortError):
    """The other side did not answer, or said that it cannot now. Nothing is known of the outcome
    of a *write* then; a read may simply be repeated later."""


class Throttled(Unavailable):
    """The other side asks for fewer calls. The call had no effect."""


class NotAuthorized(PortError):
    """Credentials or permissions do not allow it. Never retried hot; the message names the fix."""


class Misconfigured(PortError):
    """What was asked for cannot be had as asked: a wrong name, image, subnet, bucket."""


class LaunchRefused(PortError):
    """EC2 gave nothing, for good: this request will not turn into an instance later.

    `meaning` decides the cool-down; `hint_zones` are zones that EC2 named as having capacity.
    """

    def __init__(self, meaning: Refused, message: str, hint_zones: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.meaning = meaning
        self.hint_zones = hint_zones


class OutcomeUnknown(PortError):
    """The answer to a launch was lost: it may have happened. Look it up, or send it again as is."""


class TokenMismatch(PortError):
    """The token was used before with other bytes, so it *was* launched: look it up."""


class NotFound(PortError):
    """No object has this key."""


class PreconditionFailed(PortError):
    """A conditional write was refused (412 or 409). Read before you judge: with retries below us
    the refusal may be the echo of our own success."""


class StaleEpoch(PortError):
    """Another daemon leads now; this one may not write any more."""


# -- clock -------------------------------------------------------------------------------------


class Clock(Protocol):
    """The time all decisions use: S3's, as its answers' `Date` headers tell it, carried on by the
    monotonic clock between two answers; the machine's own wall clock only before the first."""

    def now(self) -> dt.datetime:
        """Aware UTC."""
        ...


# -- cloud -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Launched:
    instance_id: str
    at: dt.datetime


class Cloud(Protocol):
    """EC2 over several regions. Listings lag and page; absence proves nothing."""

    def launch(self, request: LaunchRequest) -> Launched:
        """Send one RunInstances request as it stands. The same request again returns the same
        instance. Raises LaunchRefused, Throttled (not launched), OutcomeUnknown, TokenMismatch,
        NotAuthorized, Misconfigured."""
        ...

    def instances(self, region: str, installation: str) -> tuple[Instance, ...]:
        """All instances with this installation's tag, ended ones for as long as EC2 lists them.
        Raises Unavailable, Throttled, NotAuthorized."""
        ...

    def by_token(self, region: str, client_token: str) -> tuple[Instance, ...]:
        """Instances launched with this token, whatever their tags; empty may be lag."""
        ...

    def by_id(self, region: str, instance_id: str) -> Instance:
        """One instance. Raises NotFound when EC2 knows no such id (also shortly after a launch)."""
        ...

    def terminate(self, region: str, instance_ids: Sequence[str]) -> None:
        """Ask EC2 to end them; returning is not yet their end. Ids that EC2 does not know are
        no error. Raises Unavailable, Throttled, NotAuthorized."""
        ...


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a launch in a region needs to name: the account's set-up, looked up and kept a while."""

    region: str
    subnets: Mapping[str, str]  # zone -> subnet id
    security_group_ids: tuple[str, ...]
    instance_profile: str | None


@dataclass(frozen=True, kw_only=True)
class Image:
    """A machine image. `root_device` is the name of its root disk: a disk that is asked for by
    another name is a second one, and the root keeps the image's size. One that was `baked` has the
    container's image on it."""

    id: str
    root_device: str
    baked: bool = False


class Sites(Protocol):
    def site(self, region: str) -> Site:
        """Raises Unavailable, NotAuthorized, Misconfigured (no subnet, named group missing)."""
        ...

    def image(
        self,
        region: str,
        instance_type: str,
        named: str | None = None,
        need: Need | None = None,
    ) -> Image:
        """The machine image for the type's GPU, or the one whose id a job has `named`; where nobody
        has named one, the newest baked one that has what is needed. Raises Unavailable,
        NotAuthorized, Misconfigured (none for the type, with what to set; no such image in the
        region)."""
        ...


class Prices(Protocol):
    """What is sold where, and for how much. Prices are Linux/UNIX, USD."""

    def offered(self, region: str, instance_types: Sequence[str]) -> frozenset[Pool]:
        """The pools in which EC2 offers these types at all."""
        ...

    def quotes(
        self, region: str, instance_types: Sequence[str], since: dt.datetime
    ) -> tuple[Quote, ...]:
        """Spot quotes in force at `since` and after, oldest first. Raises Unavailable."""
        ...

    def on_demand(self, region: str, instance_types: Sequence[str]) -> Mapping[str, int]:
        """Micro-dollars an hour by type; a type without a price is absent. Raises Unavailable."""
        ...

    def zones(self, region: str) -> Mapping[str, str]:
        """The region's zones: this account's name -> the id that means the same everywhere
        (`us-east-1a` -> `use1-az4`). Raises Unavailable."""
        ...

    def scores(
        self, regions: Sequence[str], instance_types: Sequence[str]
    ) -> Mapping[tuple[str, str], int]:
        """EC2's spot placement scores, 1 (unlikely) to 10, by (region, zone id), for one instance
        of any of these types: at least three, or EC2 scores everything low. EC2 limits how many
        different questions a day may be asked. Raises Unavailable, NotAuthorized."""
        ...


@dataclass(frozen=True, kw_only=True)
class Advice:
    """AWS's Spot Advisor on a type in a region: what spot saves against on-demand (a fraction), and
    how often it was interrupted in the past month: 0 (under 5 %), 1 (5-10 %), 2 (10-15 %),
    3 (15-20 %), 4 (over 20 %). By region and not by zone, and a month old: a prior, no forecast."""

    saved_fraction: float
    band: int


@dataclass(frozen=True, kw_only=True)
class AdvisorPage:
    """The advisor's file, by (region, instance type); `etag` names this version of it."""

    etag: str
    advice: Mapping[tuple[str, str], Advice]


class Advisor(Protocol):
    def read(self, etag: str | None) -> AdvisorPage | None:
        """None when the file still has this etag. Raises Unavailable, also for a file that cannot
        be read as what it was."""
        ...


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


# -- objects -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    key: str
    bytes: int
    etag: str
    modified_at: dt.datetime


@dataclass(frozen=True, kw_only=True)
class Blob:
    body: bytes
    etag: str


@dataclass(frozen=True, kw_only=True)
class Content:
    """What went over the wire, measured on its way."""

    bytes: int
    sha256: str


def always() -> bool:
    """Nothing is more urgent."""
    return True


class Objects(Protocol):
    """One bucket. Keys have no leading slash. Writes are atomic, reads are strongly consistent.

    A conditional write that raises PreconditionFailed or Unavailable says nothing of who won:
    read the object. All raise Unavailable, NotAuthorized and (wrong bucket) Misconfigured.
    """

    def get(self, key: str) -> Blob:
        """Raises NotFound."""
        ...

    def get_if_changed(self, key: str, etag: str | None) -> Blob | None:
        """None when the object still has this etag. Raises NotFound."""
        ...

    def put(
        self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False
    ) -> str:
        """Write and return the new etag. At most one condition. Raises PreconditionFailed."""
        ...

    def put_encrypted(self, key: str, body: bytes, kms_key: str | None = None) -> None:
        """Write what only those can read who may use this key of KMS; None: AWS's own for S3. With
        a key of its own, readers and writers without a right to it get NotAuthorized."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """In the order of the keys, over all pages."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Missing keys are no error."""
        ...

    def upload(
        self,
        path: Path,
        key: str,
        *,
        if_absent: bool = False,
        may_go_on: Callable[[], bool] = always,
    ) -> Content:
        """A file, in parts where it is large; `may_go_on` is asked before each. The bytes are read
        once, and what comes back is of what was sent. Raises PreconditionFailed, GaveWay,
        FileNotFoundError and other OSErrors."""
        ...

    def download(self, key: str, path: Path) -> Content:
        """Into a new file; nothing is left at `path` on an error. Raises NotFound, OSError."""
        ...

    def presigned(self, key: str, lifetime_s: int) -> str:
        """A URL that anybody may GET for that long."""
        ...


class Buckets(Protocol):
    """The other buckets that a job may read (its `data`)."""

    def objects(self, bucket: str) -> Objects: ...

    def region(self, bucket: str) -> str:
        """Where it is. Raises Unavailable, NotAuthorized, Misconfigured (no such bucket)."""
        ...


# -- secrets -----------------------------------------------------------------------------------


class Secrets(Protocol):
    """Secrets where AWS keeps them. No error has a value in its text, and each names the place."""

    def read(self, place: SecretPlace) -> str:
        """Raises NotFound, NotAuthorized (with what to allow), Misconfigured (it is no text, or has
        no such key), Throttled, Unavailable."""
        ...


# -- mailbox -----------------------------------------------------------------------------------


class Mailbox(Protocol):
    """Letters between the daemon and its agents, as objects under `mail/` (DESIGN.md, Objects).

    A letter that cannot be read as its type is reported by the log and treated as absent: an agent
    of another version must not stop the daemon.
    """

    def boxes(self) -> frozenset[str]:
        """The boxes that have an order or a report now, from one listing of `mail/`; refreshes
        what `reports` returns. Raises Unavailable."""
        ...

    def reports(self) -> Mapping[str, Report]:
        """The latest report of rank 0 by attempt, as of the last `boxes()`; only letters that
        changed since are read. Raises Unavailable."""
        ...

    def brake(self) -> str | None:
        """Why nothing may be launched (`spotrunner panic` leaves word beside the boxes), as of the
        last `boxes()`; None: nobody says so."""
        ...

    def release_brake(self) -> None:
        """None there is no error. Raises Unavailable."""
        ...

    def highest_epoch(self) -> int:
        """Of all orders that lie in the boxes; 0 without any. Reads each. Raises Unavailable."""
        ...

    def post_order(self, order: Order) -> None:
        """Replace the box's order unless a higher `(epoch, n)` lies there already.
        Raises Unavailable, StaleEpoch (a higher epoch lies there)."""
        ...

    def order(self, box: str, last: Order | None) -> Order | None:
        """For an agent: the order if it is newer than `last`, by `(epoch, n)`, else None."""
        ...

    def post_report(self, report: Report) -> None: ...

    def archive(self, box: str, job_id: str) -> None:
        """Move the letters of an ended box to `jobs/<job>/mail/`. Again is no error."""
        ...


# -- receipts ----------------------------------------------------------------------------------


class Receipts(Protocol):
    """What was paid for, beside the store: each attempt's record under `ledger/` in the home
    bucket, written before it is launched or paid on and when it has ended. A store that was lost,
    or restored from a backup, learns from them what it has spent. All raise Unavailable."""

    def put(self, attempt: Attempt) -> None:
        """Replaces the attempt's receipt."""
        ...

    def names(self) -> frozenset[str]:
        """The attempts that have one."""
        ...

    def read(self, attempt: str) -> Attempt | None:
        """None where there is none, or it cannot be read as one (the log says so)."""
        ...


# -- head --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StoredHead:
    head: Head | None  # None: there is none yet
    etag: str | None


class Heads(Protocol):
    """jobs/<job>/checkpoints/HEAD.json, and the manifests that it names."""

    def read(self, job_id: str) -> StoredHead:
        """Raises Unavailable."""
        ...

    def swap(self, job_id: str, head: Head, etag: str | None) -> None:
        """Compare-and-swap (etag None: only if there is none). Raises PreconditionFailed or
        Unavailable: in both cases read, and judge by what lies there (core/head.judge)."""
        ...

    def write_manifest(self, folder: str, manifest: Manifest) -> str:
        """Write `<folder>/MANIFEST.json` once and return its sha256."""
        ...

    def read_manifest(self, folder: str) -> tuple[Manifest, str]:
        """The manifest and its sha256. Raises NotFound, Unavailable."""
        ...


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


# -- alerts ------------------------------------------------------------------------------------


class Undeliverable(PortError):
    """A channel did not take an alert: it can be sent again later. The message names the channel
    and the trouble, and nothing that is secret of it."""


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


@dataclass(frozen=True, kw_only=True)
class RegistryLogin:
    """For `docker login`."""

    user: str
    password: str = field(repr=False)
    expires_at: dt.datetime


class Registries(Protocol):
    """Passwords of the account's own registries of container images."""

    def login(self, region: str) -> RegistryLogin:
        """Valid for hours. Raises NotAuthorized with what to grant, and Unavailable."""
        ...
