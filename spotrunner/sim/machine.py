"""One instance's life inside the world: what is true of it, and what EC2 shows of that when."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass, field

from spotrunner.core.model import Market, Pool
from spotrunner.sim.values import (
    InstanceRecord,
    Manners,
    Reason,
    RunRequest,
    SpotRequestRecord,
    Stage,
    Zone,
)

_NEXT = {
    Stage.PENDING: {Stage.RUNNING, Stage.SHUTTING_DOWN, Stage.TERMINATED},
    Stage.RUNNING: {Stage.SHUTTING_DOWN, Stage.STOPPING},
    Stage.STOPPING: {Stage.STOPPED, Stage.SHUTTING_DOWN},
    Stage.STOPPED: {Stage.SHUTTING_DOWN, Stage.TERMINATED},
    Stage.SHUTTING_DOWN: {Stage.TERMINATED},
    Stage.TERMINATED: set[Stage](),
}


@dataclass(frozen=True, kw_only=True)
class Passage:
    at: dt.datetime
    stage: Stage
    reason: Reason | None


@dataclass(frozen=True, kw_only=True)
class SpotStatus:
    at: dt.datetime
    state: str
    code: str
    message: str


@dataclass(kw_only=True)
class Machine:
    """Mutable, and never leaves the world: others see records made from it."""

    id: str
    pool: Pool
    zone: Zone
    request: RunRequest
    launched_at: dt.datetime
    reservation_id: str
    launch_index: int
    private_ip: str
    spot_request_id: str | None
    client_token: str
    dice: random.Random
    manners: Manners
    passages: list[Passage] = field(default_factory=list)
    statuses: list[SpotStatus] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    running_at: dt.datetime | None = None
    paid_end_at: dt.datetime | None = None  # when the bill stopped
    announced_at: dt.datetime | None = None
    rebalance_at: dt.datetime | None = None
    taken_at: dt.datetime | None = None  # EC2 interrupted it; the announced time if there was one

    def __post_init__(self) -> None:
        self.listed_at = self.launched_at + self.draw(self.manners.listed_s)
        self.filtered_at = max(
            self.listed_at, self.launched_at + self.draw(self.manners.filtered_s)
        )
        self.known_at = self.launched_at + self.draw(self.manners.known_s)
        self.stale = self.draw(self.manners.stale_s)
        self.tags = dict(self.request.tags)

    def draw(self, seconds: tuple[float, float]) -> dt.timedelta:
        return dt.timedelta(seconds=self.dice.uniform(*seconds))

    @property
    def market(self) -> Market:
        return self.request.market

    @property
    def stage(self) -> Stage:
        return self.passages[-1].stage

    @property
    def alive(self) -> bool:
        """It has a machine that it keeps until told otherwise."""
        return self.stage in (Stage.PENDING, Stage.RUNNING)

    @property
    def occupies(self) -> bool:
        """It counts against capacity and quota."""
        return self.stage not in (Stage.TERMINATED, Stage.STOPPED)

    def enter(self, at: dt.datetime, stage: Stage, reason: Reason | None) -> None:
        assert not self.passages or stage in _NEXT[self.stage], f"{self.id}: {self.stage} {stage}"
        self.passages.append(Passage(at=at, stage=stage, reason=reason))

    def status(self, at: dt.datetime, state: str, code: str, message: str) -> None:
        if self.spot_request_id is not None:
            self.statuses.append(SpotStatus(at=at, state=state, code=code, message=message))

    def ended_at(self) -> dt.datetime | None:
        return self.passages[-1].at if self.stage is Stage.TERMINATED else None

    def record(self, when: dt.datetime, *, fresh: bool = False) -> InstanceRecord:
        """As EC2 shows it at `when`: its state as it was a little earlier, unless `fresh`."""
        seen = when if fresh else when - self.stale
        passage = self.passages[0]
        for later in self.passages:
            if later.at <= seen:
                passage = later
        return InstanceRecord(
            id=self.id,
            pool=self.pool,
            zone_id=self.zone.id,
            subnet_id=self.zone.subnet_id,
            market=self.market,
            stage=passage.stage,
            launched_at=self.launched_at.replace(microsecond=0),
            reason=passage.reason,
            tags=tuple(sorted(self.tags.items())),
            client_token=self.client_token,
            reservation_id=self.reservation_id,
            launch_index=self.launch_index,
            private_ip=self.private_ip,
            spot_request_id=self.spot_request_id,
            request=self.request,
        )

    def spot_record(self, when: dt.datetime, ceiling_usd_micros: int) -> SpotRequestRecord:
        """Its spot request at `when`; statuses are shown at once, which is how a notice can be
        read from outside."""
        assert self.spot_request_id is not None
        status = self.statuses[0]
        for later in self.statuses:
            if later.at <= when:
                status = later
        return SpotRequestRecord(
            id=self.spot_request_id,
            instance_id=self.id,
            pool=self.pool,
            state=status.state,
            status_code=status.code,
            status_message=status.message,
            created_at=self.launched_at.replace(microsecond=0),
            updated_at=status.at.replace(microsecond=0),
            tags=self.request.spot_request_tags,
            max_price_usd_micros=self.request.max_price_usd_micros or ceiling_usd_micros,
        )
