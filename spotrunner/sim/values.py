"""What goes into the world and comes out of it: the set-up, requests, records, errors.

Names and states are EC2's own, so that the wire around the world has nothing to translate. Times
are aware UTC, money is integer micro-dollars.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from spotrunner.core.model import Market, Pool
from spotrunner.sim.steps import Steps

# -- the set-up --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Zone:
    name: str  # us-east-1a: another zone in another account
    id: str  # use1-az4: the same zone in every account
    subnet_id: str


@dataclass(frozen=True, kw_only=True)
class Image:
    id: str
    name: str
    root_device: str = "/dev/sda1"  # Ubuntu's; Amazon Linux has /dev/xvda


@dataclass(frozen=True, kw_only=True)
class Region:
    name: str
    zones: tuple[Zone, ...]
    images: tuple[Image, ...]
    vpc_id: str
    security_group_ids: tuple[str, ...]  # the first is the VPC's default group


@dataclass(frozen=True, kw_only=True)
class TypeFacts:
    """An instance type. `family` is the bucket of its vCPU quota: "G and VT", "P", "Standard"."""

    name: str
    vcpus: int
    memory_mib: int
    family: str
    gpu: str | None = None
    gpus: int = 0
    gpu_memory_mib: int = 0


@dataclass(frozen=True, kw_only=True)
class Quota:
    """A vCPU quota of Service Quotas."""

    code: str
    name: str


QUOTAS: Mapping[tuple[str, Market], Quota] = {
    ("G and VT", Market.SPOT): Quota(code="L-3819A6DF", name="All G and VT Spot Instance Requests"),
    ("G and VT", Market.ON_DEMAND): Quota(
        code="L-DB2E81BA", name="Running On-Demand G and VT instances"
    ),
    ("P", Market.SPOT): Quota(code="L-7212CCBC", name="All P4, P3 and P2 Spot Instance Requests"),
    ("P", Market.ON_DEMAND): Quota(code="L-417A185B", name="Running On-Demand P instances"),
    ("Standard", Market.SPOT): Quota(
        code="L-34B43A08",
        name="All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
    ),
    ("Standard", Market.ON_DEMAND): Quota(
        code="L-1216C47A",
        name="Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How awkward EC2 is. Ranges are seconds (least, most), drawn anew for each instance; shares
    are the part of calls or instances that it happens to. The defaults are a bad day, not the
    worst: a cloud that always answers at once lets no bug show itself."""

    pending_s: tuple[float, float] = (3.0, 30.0)
    # from the launch until the instance is in listings, in listings by tag or token, and until
    # describe-by-id and terminate know it
    listed_s: tuple[float, float] = (1.0, 20.0)
    filtered_s: tuple[float, float] = (2.0, 40.0)
    known_s: tuple[float, float] = (0.0, 10.0)
    # how much older than now the state is that a listing shows
    stale_s: tuple[float, float] = (0.0, 5.0)
    shutting_down_s: tuple[float, float] = (5.0, 60.0)
    # EC2 takes an instance this much later than it announced
    reclaim_late_s: tuple[float, float] = (0.0, 20.0)
    # a rebalance recommendation comes this much before the notice, where one comes at all
    rebalance_lead_s: tuple[float, float] = (0.0, 600.0)
    rebalance_share: float = 0.5
    unannounced_share: float = 0.1  # reclaims without a notice
    pending_death_share: float = 0.0  # launches that die before they run
    # any call: the answer lost before or after the effect, an error of the server
    lost_before_share: float = 0.0
    lost_after_share: float = 0.0
    server_error_share: float = 0.0
    # launches refused although the pool has capacity
    flaky_capacity_share: float = 0.0
    throttled: bool = True  # EC2's own request buckets
    # until an image that is made, or copied from another region, can be launched from
    image_s: tuple[float, float] = (120.0, 600.0)
    copy_s: tuple[float, float] = (180.0, 900.0)


# Everything at once, for tests that look for what breaks.
HARSH = Manners(
    pending_death_share=0.05,
    unannounced_share=0.3,
    lost_before_share=0.05,
    lost_after_share=0.08,
    server_error_share=0.04,
    flaky_capacity_share=0.15,
)
# A person waits: short delays, no dice.
LIGHT = Manners(
    pending_s=(2.0, 4.0),
    listed_s=(0.5, 2.0),
    filtered_s=(1.0, 4.0),
    known_s=(0.0, 1.0),
    stale_s=(0.0, 1.0),
    shutting_down_s=(2.0, 6.0),
    reclaim_late_s=(0.0, 3.0),
    rebalance_share=0.0,
    unannounced_share=0.0,
    image_s=(2.0, 5.0),
    copy_s=(3.0, 6.0),
)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The account and the market that a world begins with."""

    start: dt.datetime
    regions: tuple[Region, ...]
    types: tuple[TypeFacts, ...]
    on_demand_usd_micros: Mapping[tuple[str, str], int]  # by (region, type), an hour
    # Spot prices an hour, and whether spot capacity is there. A pool is offered if it has prices.
    prices: Mapping[Pool, Steps[int]]
    capacity: Mapping[Pool, Steps[bool]]
    # how many instances fit into a pool at a time, both markets together
    slots: Mapping[Pool, int] = field(default_factory=dict)
    default_slots: int = 20
    # vCPUs by (region, family, market); absent: no limit
    quotas: Mapping[tuple[str, str, Market], int] = field(default_factory=dict)
    instance_profiles: frozenset[str] = frozenset({"spotrunner-agent"})
    account: str = "123456789012"
    manners: Manners = Manners()
    # Whether a pool that loses its capacity takes its spot instances with it. Without, weather
    # only refuses launches, and instances end when somebody says so.
    reclaims: bool = True


# -- requests and records ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """RunInstances. Two requests are the same request when they are equal: `other` holds, in any
    canonical text, every parameter of the wire that has no field of its own here."""

    region: str
    instance_type: str
    image_id: str
    market: Market
    min_count: int = 1
    max_count: int = 1
    subnet_id: str | None = None
    zone: str | None = None
    client_token: str | None = None
    max_price_usd_micros: int | None = None  # an hour
    user_data: str = ""  # decoded
    tags: tuple[tuple[str, str], ...] = ()
    spot_request_tags: tuple[tuple[str, str], ...] = ()
    security_group_ids: tuple[str, ...] = ()
    instance_profile: str | None = None  # its name
    shutdown_behavior: str = "stop"  # or "terminate": what a shutdown from inside does
    http_tokens: str = "optional"  # or "required"
    hop_limit: int = 1
    instance_metadata_tags: bool = False
    disk_gib: int = 8
    disk_device: str | None = None  # the disk that is so large; None: nothing was asked for
    other: str = ""


@dataclass(frozen=True, kw_only=True)
class MakeRequest:
    """What CreateImage and CopyImage say of the image that is to be."""

    name: str
    description: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    snapshot_tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class CopyRequest:
    """CopyImage; two are the same when they are equal."""

    made: MakeRequest
    source_region: str
    source_image_id: str
    client_token: str | None = None


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """An image of the account's own, as EC2 shows it at a time; `state` is EC2's word."""

    id: str
    name: str
    description: str
    state: str
    state_reason: str
    tags: tuple[tuple[str, str], ...]
    root_device: str
    size_gib: int
    snapshot_id: str
    made_at: dt.datetime
    source_instance_id: str | None
    source_image: tuple[str, str] | None  # region and id


@dataclass(frozen=True, kw_only=True)
class SnapshotRecord:
    id: str
    size_gib: int  # of the disk
    tags: tuple[tuple[str, str], ...]
    began_at: dt.datetime
    done: bool
    progress_percent: int
    used_bytes: int  # what is billed


class Stage(str, enum.Enum):
    """EC2's instance states, with their wire names."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"

    @property
    def code(self) -> int:
        """The wire's state code."""
        return _STAGE_CODES[self]


_STAGE_CODES = {
    Stage.PENDING: 0,
    Stage.RUNNING: 16,
    Stage.SHUTTING_DOWN: 32,
    Stage.TERMINATED: 48,
    Stage.STOPPING: 64,
    Stage.STOPPED: 80,
}


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why an instance is in its state: EC2's StateReason and StateTransitionReason."""

    code: str
    message: str
    transition: str = ""


@dataclass(frozen=True, kw_only=True)
class InstanceRecord:
    """An instance as EC2 shows it at a time."""

    id: str
    pool: Pool
    zone_id: str
    subnet_id: str
    market: Market
    stage: Stage
    launched_at: dt.datetime  # whole seconds, as the wire has it
    reason: Reason | None
    tags: tuple[tuple[str, str], ...]
    client_token: str
    reservation_id: str
    launch_index: int
    private_ip: str
    spot_request_id: str | None
    request: RunRequest


@dataclass(frozen=True, kw_only=True)
class SpotRequestRecord:
    """A spot instance request: state open/active/closed/cancelled, and EC2's status code."""

    id: str
    instance_id: str
    pool: Pool
    state: str
    status_code: str
    status_message: str
    created_at: dt.datetime
    updated_at: dt.datetime
    tags: tuple[tuple[str, str], ...]
    max_price_usd_micros: int


@dataclass(frozen=True, kw_only=True)
class ImdsView:
    """What an instance's metadata service has to say."""

    record: InstanceRecord
    user_data: str
    # spot/instance-action: (action, announced time); None is a 404
    spot_action: tuple[str, dt.datetime] | None
    rebalance_at: dt.datetime | None


@dataclass(frozen=True, kw_only=True)
class PriceRow:
    """A row of the spot price history."""

    at: dt.datetime
    pool: Pool
    zone_id: str
    usd_micros: int
    product: str = "Linux/UNIX"


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """EC2's placement score of a zone, 1 to 10."""

    region: str
    zone_id: str
    score: int


class Kind(str, enum.Enum):
    """What can happen to an instance. One that ends while pending was never STARTED."""

    STARTED = "started"  # it runs: boot it
    REBALANCE = "rebalance"
    NOTICE = "notice"
    ENDING = "ending"  # shutting down: the operating system is told, unless `abrupt`
    ENDED = "ended"  # the power is off


@dataclass(frozen=True, kw_only=True)
class Happening:
    at: dt.datetime
    kind: Kind
    instance_id: str
    abrupt: bool = False  # no warning to the operating system: the machine is simply gone


@dataclass(frozen=True, kw_only=True)
class Charge:
    """One instance's line of the bill. `usd_micros` is what it comes to if nothing more happens to
    it; it only grows, but for the one case that EC2 takes a spot instance in its first hour, which
    makes it 0 (`free`)."""

    instance_id: str
    pool: Pool
    market: Market
    from_at: dt.datetime | None  # None: it never ran
    to_at: dt.datetime | None  # None: it still runs
    usd_micros: int
    free: bool


# -- errors ------------------------------------------------------------------------------------


class ApiError(Exception):
    """EC2's refusal of a call, with the code, text and HTTP status that AWS uses."""

    def __init__(self, code: str, message: str, http_status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.http_status = http_status


class LostAnswer(Exception):
    """No answer comes: the connection broke. What was asked for has or has not happened; the
    caller must not be able to tell."""
