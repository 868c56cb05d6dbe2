"""The values that cross every boundary of the product, and the limits it lives by.

All are frozen and built by keyword. Times are aware UTC, money is integer micro-dollars (1 USD =
1,000,000), and a name ends with its unit. Nothing here knows AWS's wire formats or a database.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from spotrunner.core.caps import NOTHING_SPENT, UNCAPPED, Caps, Spent
from spotrunner.core.diagnosis import Diagnosis
from spotrunner.core.hazard import MEASURED, Hazards
from spotrunner.core.letters import Notice as Notice
from spotrunner.core.letters import Order as Order
from spotrunner.core.letters import Phase as Phase
from spotrunner.core.letters import Report as Report
from spotrunner.core.letters import TakeOver as TakeOver
from spotrunner.core.letters import Verb as Verb
from spotrunner.core.limits import Limits as Limits
from spotrunner.core.milestones import NOTHING_REACHED, Milestones
from spotrunner.core.saving import ASKED_FOR, Saving
from spotrunner.core.secret_ref import SecretRef
from spotrunner.core.sight import Sight
from spotrunner.core.states import AttemptState, JobState
from spotrunner.core.windows import Window


class Market(str, enum.Enum):
    """How EC2 sells an instance."""

    SPOT = "spot"
    ON_DEMAND = "on-demand"


@dataclass(frozen=True, kw_only=True, order=True)
class Pool:
    """Where an instance can be had: capacity and spot prices are per pool."""

    region: str
    zone: str
    instance_type: str

    def __str__(self) -> str:
        return f"{self.zone}/{self.instance_type}"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A pool with a market and what it costs now.

    `dearest_usd_micros_hour` is the most that an hour can come to while the instance lives (the
    on-demand price, since EC2 never charges more for spot): reservations are made with it.
    """

    pool: Pool
    market: Market
    price_usd_micros_hour: int
    dearest_usd_micros_hour: int


@dataclass(frozen=True, kw_only=True)
class Quote:
    """The spot price of a pool from `at` until the pool's next quote."""

    pool: Pool
    at: dt.datetime
    price_usd_micros_hour: int


class DataMode(str, enum.Enum):
    """How data reaches the disk of an instance."""

    COPY = "copy"  # all of it, before the training
    MOUNT = "mount"  # read-only, what is read when it is read, through a bounded cache


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A prefix in S3 (`s3://bucket/prefix/`) and the folder below the data directory it fills.
    `bytes` and the bucket's `region`, as they were at submission, price a move across regions."""

    source: str
    target: str
    mode: DataMode = DataMode.COPY
    bytes: int | None = None
    region: str | None = None


@dataclass(frozen=True, kw_only=True)
class PriceLimit:
    """The price an hour above which a job would rather wait: micro-dollars, or a share of the
    pool's on-demand price (one of the two). Above it for `after_s` the job stops; at its `resume`
    and below it starts again, so that a price at the limit stops it only once."""

    after_s: int
    pause_usd_micros: int | None = None
    resume_usd_micros: int | None = None
    pause_share: float | None = None
    resume_share: float | None = None

    def pause_at(self, offer: Offer) -> int:
        """Micro-dollars an hour, for this offer's pool."""
        return _limit(self.pause_usd_micros, self.pause_share, offer)

    def resume_at(self, offer: Offer) -> int:
        return _limit(self.resume_usd_micros, self.resume_share, offer)


def _limit(usd_micros: int | None, share: float | None, offer: Offer) -> int:
    if usd_micros is not None:
        return usd_micros
    assert share is not None, "a limit is a price or a share"
    return int(share * offer.dearest_usd_micros_hour)


# The image of a job that runs without a container, on the machine's own Python.
NO_IMAGE = "none"


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What the user wants trained: the checked job file."""

    name: str
    run: str
    image: str
    instance_types: tuple[str, ...]
    regions: tuple[str, ...]
    setup: str | None = None
    workdir_sha256: str | None = None
    data: tuple[DataSource, ...] = ()
    envs: tuple[tuple[str, str], ...] = ()
    market: Market = Market.SPOT
    budget_usd_micros: int | None = None
    retries: int = 0
    # False: the trainer knows no SIGUSR1, so a notice stops it at once with SIGTERM.
    handles_save_signal: bool = True
    disk_gib: int = 100
    # region -> image id, for GPUs that no current public image drives (p3) or a baked image
    amis: tuple[tuple[str, str], ...] = ()
    # -- when and where (core/policy)
    policy: str = "cheapest"
    deadline_at: dt.datetime | None = None
    # how long the whole training takes on the first of `instance_types`, where the user says it
    work_s: int | None = None
    # type -> useful work a second against the other types named here, where the user says it
    speeds: tuple[tuple[str, float], ...] = ()
    # a bid, an hour: EC2 ends what costs more. None, which is better: up to the on-demand price.
    max_price_usd_micros: int | None = None
    # -- whose it is, and what it may cost (core/caps)
    owner: str = ""
    # jobs of one sweep share its cap: the one that the newest of them names
    sweep: str = ""
    sweep_budget_usd_micros: int | None = None
    # -- measured: where its checkpoints lie ("" while nobody has said so), and the most that its
    # agents have moved there or back from one report to the next
    home_region: str = ""
    lump_bytes: int = 0
    # -- nights (core/pause)
    tz: str = "UTC"  # in which its user tells times
    window: Window | None = None
    price_limit: PriceLimit | None = None
    # how far ahead it is paid for, for a control host that sleeps; None: Limits.step_s
    unattended_s: int | None = None
    # the names of the channels that its alerts go to; empty: its owner's
    alerts: tuple[str, ...] = ()
    # -- on the instance
    secrets: tuple[SecretRef, ...] = ()
    saving: Saving = ASKED_FOR
    # how long a trainer may make no step before it counts as stalled; None: by its own pace
    stall_after_s: int | None = None
    # inside the container, and not as a user without rights: for a `setup` that installs packages
    as_root: bool = False


class Pause(str, enum.Enum):
    """Why a job is paused."""

    BUDGET = "budget"  # its caps pay no further step
    PRICE = "price"  # every offer is above its price limit
    WINDOW = "window"  # its window is closed
    USER = "user"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A spec with its fate. `reason` says why it paused, failed or was cancelled, or waits."""

    id: str
    spec: JobSpec
    state: JobState
    submitted_at: dt.datetime
    pause: Pause | None = None
    reason: str = ""
    ended_at: dt.datetime | None = None
    # How many forced checkpoints the user has asked for; the agent saves when the number rises.
    checkpoints_asked: int = 0
    # Until when somebody looks at it: reports and logs come faster meanwhile.
    watched_until: dt.datetime | None = None
    # Since when it has wanted an instance and had none.
    waits_since: dt.datetime | None = None
    # When the user gave it another budget last.
    extended_at: dt.datetime | None = None


class EndReason(str, enum.Enum):
    """Why an attempt ended."""

    DONE = "done"
    FAILED = "failed"  # the trainer exited with an error
    INTERRUPTED = "interrupted"  # EC2 took the instance
    REFUSED = "refused"  # EC2 never gave one
    LOST = "lost"  # neither an instance nor a refusal was ever seen
    SILENT = "silent"  # no report for too long; somebody else took HEAD over
    SUPERSEDED = "superseded"  # a later attempt holds HEAD
    MOVED = "moved"  # its replacement, which the policy wanted, was ready and took over
    UNPAID = "unpaid"  # it stopped at the end of its paid time
    PAUSED = "paused"  # its job was paused: by the user, the price or the window
    BUDGET = "budget"  # the cap allows no further step
    CANCELLED = "cancelled"
    ORPHANED = "orphaned"  # an instance of ours that no live attempt owned
    BOOT = "boot"  # it did not reach its first step in the boot limit
    FAULT = "fault"  # EC2's own fault, or a machine that died


@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """One RunInstances request in one zone, complete: it is stored before it is sent, and a retry
    sends exactly the stored values, since EC2 compares every byte with the token's first use."""

    client_token: str
    pool: Pool
    market: Market
    image_id: str
    root_device: str  # the image's name for its root disk, such as /dev/sda1
    subnet_id: str
    user_data: str
    disk_gib: int
    tags: tuple[tuple[str, str], ...]
    security_group_ids: tuple[str, ...] = ()
    instance_profile: str | None = None
    max_price_usd_micros: int | None = None  # an hour; spot only
    baked: bool = False  # the container's image is on the machine image already


@dataclass(frozen=True, kw_only=True)
class CheckpointRef:
    """A committed checkpoint: its folder in the bucket, and the digest of its MANIFEST.json."""

    folder: str
    step: int
    manifest_sha256: str


@dataclass(frozen=True, kw_only=True)
class Head:
    """jobs/<job>/checkpoints/HEAD.json: who holds the job, and what a reader may trust.

    Changed by compare-and-swap only; `seq` rises by one at every swap.
    """

    seq: int
    generation: int
    attempt: str
    nonce: str
    manifest: CheckpointRef | None = None
    previous: CheckpointRef | None = None
    final: bool = False
    done: str | None = None  # the key of the outputs' manifest
    # set by the swap that fell back to `previous` because `manifest` failed its digests
    damaged: CheckpointRef | None = None

    @property
    def step(self) -> int:
        """The step a reader would resume from; 0 before any checkpoint."""
        return self.manifest.step if self.manifest else 0


@dataclass(frozen=True, kw_only=True)
class ManifestFile:
    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """MANIFEST.json of a checkpoint or of outputs: written last, after every file it names."""

    step: int
    attempt: str
    files: tuple[ManifestFile, ...]


class InstanceState(str, enum.Enum):
    PENDING = "pending"
    RUNNING = "running"
    ENDING = "ending"  # shutting-down or stopping: no longer billed
    ENDED = "ended"


class EndedBy(str, enum.Enum):
    """Who ended an instance, as far as EC2 says."""

    EC2 = "ec2"  # a spot interruption, announced or not
    PRICE = "price"  # the same, because the spot price rose above our bid
    US = "us"  # TerminateInstances
    ITSELF = "itself"  # shut down from inside
    FAULT = "fault"  # an error of EC2's
    UNKNOWN = "unknown"

    @property
    def interruption(self) -> bool:
        return self in (EndedBy.EC2, EndedBy.PRICE)


@dataclass(frozen=True, kw_only=True)
class Instance:
    """What EC2 says exists. The ids of owner come from the tags put on at launch."""

    id: str
    pool: Pool
    market: Market
    state: InstanceState
    launched_at: dt.datetime
    client_token: str | None = None
    installation: str | None = None
    job_id: str | None = None
    attempt_id: str | None = None
    ended_at: dt.datetime | None = None
    ended_by: EndedBy | None = None

    @property
    def billed(self) -> bool:
        return self.state in (InstanceState.PENDING, InstanceState.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One placement of a job. Its id is the EC2 ClientToken and a tag; its box carries its name."""

    id: str
    job_id: str
    generation: int
    state: AttemptState
    offer: Offer
    intent_at: dt.datetime
    paid_until: dt.datetime
    # The first paid step: what the fail-safe timer in the user-data was rendered from.
    first_paid_s: int
    # Where HEAD stood when this attempt was wanted, and when it ended.
    step_before: int = 0
    step_after: int | None = None
    replaces: str | None = None
    request: LaunchRequest | None = None
    sent_at: dt.datetime | None = None
    instance_id: str | None = None
    launched_at: dt.datetime | None = None
    first_step_at: dt.datetime | None = None
    # What its trainer reported last: what a step takes on this type.
    steps_per_s: float | None = None
    total_steps: int | None = None
    notice: Notice | None = None
    # When the first commit after the notice was done.
    safe_at: dt.datetime | None = None
    # The price of each instance-hour that is over, and of the one that runs (core/money.billed).
    hour_prices_usd_micros: tuple[int, ...] = ()
    running_price_usd_micros: int | None = None
    # What lives and is billed beside the instance, an hour: its disk and its public address.
    extras_usd_micros_hour: int = 0
    # Bringing data from other regions: the data sets at the launch, checkpoints as reported, and
    # what is reserved for the checkpoints of the time that is paid for.
    transfer_usd_micros: int = 0
    moved_bytes: int = 0
    traffic_usd_micros: int = 0
    traffic_reserved_usd_micros: int = 0
    # The order that the agent should find, and the number of the last one that surely lies there.
    order: Order | None = None
    order_posted_n: int = 0
    # Why we want it ended, from the moment we do; becomes end_reason unless EC2 was quicker.
    ending: EndReason | None = None
    ending_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    end_reason: EndReason | None = None
    end_detail: str = ""
    cost_usd_micros: int | None = None
    # EC2 took it within its first hour, so the instance itself cost nothing.
    free: bool = False
    # Nobody can say any more how, or when, it ended: the dearer case is booked.
    estimated: bool = False
    # What its agent told of the way up, of its image and of its trainer's end; kept for good.
    milestones: Milestones = NOTHING_REACHED
    image_digest: str = ""
    diagnosis: Diagnosis | None = None
    # Its trainer was last found stalled then, and so often started again in place.
    stalled_at: dt.datetime | None = None
    restarts: int = 0
    # False: its trainer ended by SIGUSR1, so no attempt of the job is asked for checkpoints again.
    handles_save_signal: bool = True


class Refused(str, enum.Enum):
    """What a refused launch meant; the adapter's table maps EC2's codes to it."""

    CAPACITY = "capacity"
    PRICE = "price"
    QUOTA = "quota"
    OFFERING = "offering"
    PERMISSION = "permission"
    CONFIG = "config"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """EC2 would not give (or took back) a pool: remembered so that the next try goes elsewhere."""

    pool: Pool
    market: Market
    at: dt.datetime
    meaning: Refused
    message: str = ""
    # zones that EC2 itself named as having capacity
    hint_zones: tuple[str, ...] = ()


class CommandVerb(str, enum.Enum):
    CANCEL = "cancel"
    CHECKPOINT = "checkpoint"
    PAUSE = "pause"
    RESUME = "resume"
    EXTEND = "extend"  # another budget, another deadline


@dataclass(frozen=True, kw_only=True)
class Command:
    """What a user asked for through the API; written down first, it acts only in a round."""

    id: int
    at: dt.datetime
    job_id: str
    verb: CommandVerb
    # of EXTEND: what is given changes
    budget_usd_micros: int | None = None
    deadline_at: dt.datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of a job's story."""

    at: dt.datetime
    job_id: str
    subject: str  # a job's or an attempt's id
    kind: str
    why: str
    data: Mapping[str, str | int | float | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AlertRules:
    """When somebody is told: at these percents of a cap, and once a day at this minute of the
    budgets' zone (None: never)."""

    percents: tuple[int, ...] = (50, 80, 100)
    summary_min: int | None = 480


USUAL_ALERTS = AlertRules()


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All that one round knows. `now` was read before anything else, so that nothing in here can
    look older than it is; HEADs were read after the reports, so that whatever a report says that
    it did is in them. A region that did not answer is None in `instances`: unknown, not empty.
    """

    now: dt.datetime
    epoch: int
    installation: str
    limits: Limits
    jobs: tuple[Job, ...] = ()  # every job that is not over, and those with a live attempt
    attempts: tuple[Attempt, ...] = ()  # all attempts of these jobs, ended ones too
    commands: tuple[Command, ...] = ()
    instances: Mapping[str, tuple[Instance, ...] | None] = field(default_factory=dict)
    # instance ids that describe-by-id answered NotFound for
    not_found: frozenset[str] = frozenset()
    reports: Mapping[str, Report] = field(default_factory=dict)  # by attempt
    # When all of it had been read; None: at once.
    read_at: dt.datetime | None = None
    # When the mail was last read: an agent is silent only as far as we listened. None: just now.
    mail_at: dt.datetime | None = None
    # by job; a job whose HEAD could not be read is absent, one without a HEAD yet is None
    heads: Mapping[str, Head | None] = field(default_factory=dict)
    # every attempt id that the mail knows, so that a restored store hands out no old generation
    boxes: frozenset[str] = frozenset()
    offers: tuple[Offer, ...] = ()
    # the spot price history of the last days, by pool, oldest first
    quotes: Mapping[Pool, tuple[Quote, ...]] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    # what we saw of spot capacity ourselves (core/sight.sights), with EC2's placement score, 1 to
    # 10, and the Spot Advisor's band, 0 to 4, where they are known
    sights: Mapping[Pool, Sight] = field(default_factory=dict)
    scores: Mapping[Pool, int] = field(default_factory=dict)
    bands: Mapping[Pool, int] = field(default_factory=dict)
    hazards: Hazards = MEASURED
    # -- money that all jobs share, and what was spent by attempts that have ended
    caps: Caps = UNCAPPED
    spent: Spent = NOTHING_SPENT
    # where the home bucket is: traffic from and to other regions is paid for; "" where nobody pays
    home_region: str = ""
    # until when nothing is launched, and what runs is paid on (`spotrunner hold`)
    held_until: dt.datetime | None = None
    # why nothing may be launched at all, until somebody says so (`spotrunner panic`)
    brake: str | None = None
    # -- alerts
    alert_rules: AlertRules | None = USUAL_ALERTS  # None: nobody is there to be told
    # the keys of those of the last weeks: each is raised once
    alerted: frozenset[str] = frozenset()
    # the regions that do not tell their spot prices: since when, and what the last try said
    prices_at: Mapping[str, dt.datetime] = field(default_factory=dict)
    prices_trouble: Mapping[str, str] = field(default_factory=dict)
