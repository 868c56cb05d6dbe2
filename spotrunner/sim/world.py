"""The EC2 market as one deterministic state machine with its clock passed in.

Every method takes `now`; the world first does everything that was due until then. The same seed
and the same calls give the same world. It is not safe for several threads: a caller that has some
holds a lock around every call. A `now` older than one seen before counts as the latest seen.

What a caller of EC2 may see comes through the API part, which lags, loses answers and throttles
as the set-up's `Manners` say. What the instances themselves see, and what a script does, is exact.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from spotrunner.core.model import Market, Pool, Refused
from spotrunner.sim import reasons, refusals
from spotrunner.sim.bill import charge
from spotrunner.sim.checks import check_parameters, choose_pool, zone_named
from spotrunner.sim.faults import Call, Fault, refusal
from spotrunner.sim.images import Images
from spotrunner.sim.lives import Lives
from spotrunner.sim.machine import Machine
from spotrunner.sim.select import Filters, by_tag_or_token, select_instances, select_spot_requests
from spotrunner.sim.values import (
    Charge,
    Happening,
    ImdsView,
    InstanceRecord,
    LostAnswer,
    MakeRequest,
    PriceRow,
    RunRequest,
    ScoreRow,
    Setup,
    SpotRequestRecord,
    Stage,
)

R = TypeVar("R")

_TOKEN_LIFE = dt.timedelta(hours=24)  # after the end of what it launched
_INSIDE_STATUS_LAG = dt.timedelta(seconds=60)  # until EC2's spot side learns of a shutdown inside


class World:
    """See the module. `pools` and `faults` may be read, and written by scripts, between calls."""

    def __init__(self, setup: Setup, seed: int) -> None:
        self.setup = setup
        self._lives = Lives(setup, seed)
        self.pools = self._lives.pools
        self.faults = self._lives.faults
        self.images = Images(setup=setup, seed=seed)
        self._tokens: dict[tuple[str, str], tuple[RunRequest, tuple[Machine, ...]]] = {}

    @property
    def now(self) -> dt.datetime:
        """The latest time that it was told."""
        return self._lives.now

    # -- time ------------------------------------------------------------------------------

    def advance(self, now: dt.datetime) -> tuple[Happening, ...]:
        """What happened to instances since the last call of this method, oldest first."""
        self._settle(now)
        happened, self._lives.happened = tuple(self._lives.happened), []
        return happened

    def next_change(self, now: dt.datetime) -> dt.datetime | None:
        """When something may next happen by itself; nothing does before that."""
        self._settle(now)
        return self._lives.next_due()

    # -- API: what EC2 answers. All raise ApiError, and LostAnswer. ------------------------

    def admit(self, now: dt.datetime, region: str, action: str) -> None:
        """A read that the world does not answer itself (DescribeSubnets …) passes through the same
        throttling, scripted faults and dice as the others."""
        if self._lost(now, region, action):
            raise LostAnswer

    def run_instances(self, now: dt.datetime, request: RunRequest) -> tuple[InstanceRecord, ...]:
        """RunInstances. A token seen before returns what it launched, in its present state;
        with another request it is IdempotentParameterMismatch. Tokens hold per zone when the
        request names one, else per region, until a day after the end of what they launched."""
        self._settle(now)
        zone = zone_named(self.pools, request)
        scope = (zone.name if zone else request.region, request.client_token or "")
        call = Call(
            action="RunInstances",
            region=request.region,
            zone=zone.name if zone else None,
            instance_type=request.instance_type,
            market=request.market,
            replays=scope in self._tokens and self._tokens[scope][0] == request,
        )
        lost = self.faults.gate(call, self.now)
        machines = self._launched_with(scope, request)
        if machines is None:
            machines = self._launch(call, request)
            if request.client_token:
                self._tokens[scope] = (request, machines)
        if lost:
            raise LostAnswer
        return tuple(machine.record(self.now, fresh=True) for machine in machines)

    def describe(
        self,
        now: dt.datetime,
        region: str,
        ids: Sequence[str] = (),
        filters: Filters | None = None,
    ) -> tuple[InstanceRecord, ...]:
        """DescribeInstances, all pages, in the order of launch. By ids it raises
        InvalidInstanceID.NotFound if one is unknown, which a new one is for a few seconds;
        listings lag more, and those by tag or token the most."""
        self.admit(now, region, "DescribeInstances")
        if ids:
            machines = self._known(region, ids)
        else:
            lagging = by_tag_or_token(filters or {})
            machines = [
                machine
                for machine in self._lives.listed[region].values()
                if (machine.filtered_at if lagging else machine.listed_at) <= self.now
            ]
        records = [machine.record(self.now) for machine in machines]
        return tuple(select_instances(records, filters or {}))

    def terminate(
        self, now: dt.datetime, region: str, ids: Sequence[str]
    ) -> tuple[tuple[str, Stage, Stage], ...]:
        """TerminateInstances: (id, stage before, stage after). All or nothing: an unknown id
        raises InvalidInstanceID.NotFound and nothing ends. Ended ones stay as they are."""
        lost = self._lost(now, region, "TerminateInstances")
        changes = []
        for machine in self._known(region, ids):
            before = machine.stage
            if before is Stage.STOPPED:
                self._lives.power_off(machine, self.now, reasons.by_user(self.now))
            elif before in (Stage.PENDING, Stage.RUNNING, Stage.STOPPING):
                self._lives.shut_down(machine, self.now, reasons.by_user(self.now))
                machine.status(self.now, "closed", *reasons.BY_USER)
            changes.append((machine.id, before, machine.stage))
        if lost:
            raise LostAnswer
        return tuple(changes)

    def create_tags(
        self, now: dt.datetime, region: str, ids: Sequence[str], tags: Mapping[str, str]
    ) -> None:
        """CreateTags on instances."""
        lost = self._lost(now, region, "CreateTags")
        for machine in self._known(region, ids):
            machine.tags.update(tags)
        if lost:
            raise LostAnswer

    def create_image(
        self, now: dt.datetime, region: str, instance_id: str, request: MakeRequest
    ) -> str:
        """CreateImage without a reboot: the id of the image, which is pending."""
        lost = self._lost(now, region, "CreateImage")
        (machine,) = self._known(region, [instance_id])
        made = self.images.make(self.now, machine.record(self.now, fresh=True), request)
        if lost:
            raise LostAnswer
        return made

    def of_images(
        self,
        now: dt.datetime,
        region: str,
        action: str,
        act: Callable[[Images, dt.datetime], R],
    ) -> R:
        """Any other action on the account's images and snapshots: what `act` makes of them."""
        lost = self._lost(now, region, action)
        answer = act(self.images, self.now)
        if lost:
            raise LostAnswer
        return answer

    def spot_requests(
        self,
        now: dt.datetime,
        region: str,
        ids: Sequence[str] = (),
        filters: Filters | None = None,
    ) -> tuple[SpotRequestRecord, ...]:
        """DescribeSpotInstanceRequests. A notice shows here at once."""
        self.admit(now, region, "DescribeSpotInstanceRequests")
        records = [
            machine.spot_record(self.now, self.pools.on_demand(machine.pool))
            for machine in self._lives.listed[region].values()
            if machine.spot_request_id is not None and machine.listed_at <= self.now
        ]
        for missing in set(ids) - {record.id for record in records}:
            raise refusals.unknown_spot_request(missing)
        if ids:
            records = [record for record in records if record.id in ids]
        return tuple(select_spot_requests(records, filters or {}))

    def cancel_spot_requests(
        self, now: dt.datetime, region: str, ids: Sequence[str]
    ) -> tuple[SpotRequestRecord, ...]:
        """CancelSpotInstanceRequests: the instance of a one-time request goes on."""
        lost = self._lost(now, region, "CancelSpotInstanceRequests")
        by_request = {m.spot_request_id: m for m in self._lives.listed[region].values()}
        cancelled = []
        for id_ in ids:
            machine = by_request.get(id_)
            if machine is None:
                raise refusals.unknown_spot_request(id_)
            if machine.alive:
                machine.status(self.now, "cancelled", *reasons.CANCELLED)
            cancelled.append(machine.spot_record(self.now, self.pools.on_demand(machine.pool)))
        if lost:
            raise LostAnswer
        return tuple(cancelled)

    def price_history(
        self,
        now: dt.datetime,
        region: str,
        types: Sequence[str] = (),
        zones: Sequence[str] = (),
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
    ) -> tuple[PriceRow, ...]:
        """DescribeSpotPriceHistory, all pages, newest first: the rows within [start, end] and,
        as EC2 does, the one of each pool in force at `start`. Nothing older than 90 days."""
        self.admit(now, region, "DescribeSpotPriceHistory")
        pools = [
            pool
            for pool in self.pools.offered(region)
            if (not types or pool.instance_type in types) and (not zones or pool.zone in zones)
        ]
        return tuple(self.pools.history(pools, start or self.now, end or self.now, self.now))

    def placement_scores(
        self, now: dt.datetime, region: str, types: Sequence[str], regions: Sequence[str]
    ) -> tuple[ScoreRow, ...]:
        """GetSpotPlacementScores, asked in `region` for single zones of `regions`, for one instance
        of any of the types: the best ten, the best first."""
        self.admit(now, region, "GetSpotPlacementScores")
        return tuple(self.pools.scores(regions, types, self.now))

    # -- inside the instances --------------------------------------------------------------

    def imds(self, now: dt.datetime, instance_id: str) -> ImdsView | None:
        """What the instance's metadata service shows; None when there is no machine (any more)."""
        self._settle(now)
        machine = self._lives.machines.get(instance_id)
        if machine is None or machine.stage in (Stage.PENDING, Stage.STOPPED, Stage.TERMINATED):
            return None
        announced = machine.announced_at
        # An instance that its owner terminated shows no action any more.
        ours = machine.stage is Stage.SHUTTING_DOWN and machine.taken_at is None
        return ImdsView(
            record=machine.record(self.now, fresh=True),
            user_data=machine.request.user_data,
            spot_action=None if announced is None or ours else ("terminate", announced),
            rebalance_at=machine.rebalance_at,
        )

    def shutdown_from_inside(self, now: dt.datetime, instance_id: str) -> None:
        """The operating system powers off. A spot instance of a one-time request ends whatever
        its shutdown behaviour says, since it cannot be stopped."""
        self._settle(now)
        machine = self._lives.find(instance_id)
        if machine.stage is not Stage.RUNNING:
            return
        stops = machine.request.shutdown_behavior == "stop"
        if stops and machine.market is Market.ON_DEMAND:
            self._lives.stop(machine, self.now)
        else:
            self._lives.shut_down(machine, self.now, reasons.FROM_INSIDE)
            machine.status(self.now + _INSIDE_STATUS_LAG, "closed", *reasons.BY_USER)

    # -- scripts: what EC2 and fate do -----------------------------------------------------

    def interrupt(self, now: dt.datetime, instance_id: str, *, notice: bool = True) -> None:
        """EC2 takes a spot instance: in 120 s with a notice, at once without. An instance that has
        a notice already keeps its announced time. Raises ApiError if it is not a spot instance
        that is pending or running."""
        self._settle(now)
        machine = self._lives.find(instance_id)
        if machine.market is not Market.SPOT or not machine.alive:
            raise refusals.bad_parameter(f"{instance_id} is no running spot instance")
        self._lives.reclaim(machine, self.now, notice=notice, status=reasons.NO_CAPACITY)

    def recommend_rebalance(self, now: dt.datetime, instance_id: str) -> None:
        self._settle(now)
        self._lives.rebalance(self._lives.find(instance_id), self.now)

    def fail(self, now: dt.datetime, instance_id: str) -> None:
        """The host dies: the instance is gone at once, by Server.InternalError. It is billed."""
        self._settle(now)
        machine = self._lives.find(instance_id)
        if machine.alive:
            self._lives.shut_down(
                machine, self.now, reasons.death("Server.InternalError"), abrupt=True
            )
            machine.status(self.now, "cancelled", *reasons.BY_SERVICE)

    def script(self, fault: Fault) -> None:
        """Let something go wrong with the next calls that fit."""
        self.faults.script(fault)

    def refuse(self, pool: Pool, market: Market, meaning: Refused, times: int = 1) -> None:
        """The next launches in the pool are refused, in EC2's words for this meaning."""
        self.faults.script(refusal(pool, market, meaning, times))

    def set_capacity(
        self,
        now: dt.datetime,
        pool: Pool,
        up: bool | None,
        *,
        market: Market = Market.SPOT,
        reclaim: bool = False,
    ) -> None:
        """Open or close a pool whatever the weather says (None: as the weather says again).
        `reclaim` gives the pool's spot instances notice when it closes; one that is pending then
        ends when it wants to start, if the set-up lets pools take instances at all."""
        self._settle(now)
        self.pools.force_capacity(pool, market, up)
        if reclaim and up is False:
            self._lives.reclaim_pool(pool, self.now)

    def set_price(self, now: dt.datetime, pool: Pool, usd_micros: int) -> None:
        """The pool's spot price from now (its second) until the weather next changes it."""
        self._settle(now)
        self.pools.set_price(pool, self.now.replace(microsecond=0), usd_micros)
        self._watch_prices(pool)

    def fix_price(self, now: dt.datetime, pool: Pool, usd_micros: int | None) -> None:
        """The pool's spot price from now (its second) whatever the weather says (None: as the
        weather says again)."""
        self._settle(now)
        self.pools.fix_price(pool, self.now.replace(microsecond=0), usd_micros)
        self._watch_prices(pool)

    def _watch_prices(self, pool: Pool) -> None:
        for machine in self._lives.spot_in(pool):
            self._lives.watch_price(machine)
        self._settle(self.now)

    # -- truth: what is so, whatever EC2 shows ---------------------------------------------

    def truth(self, now: dt.datetime) -> tuple[InstanceRecord, ...]:
        """All instances ever launched, without lag, in the order of launch: for the judge of a
        test, never for what is tested."""
        self._settle(now)
        return tuple(
            machine.record(self.now, fresh=True) for machine in self._lives.machines.values()
        )

    def bill(self, now: dt.datetime) -> tuple[Charge, ...]:
        """A line for every instance ever launched, in the order of launch."""
        self._settle(now)
        return tuple(
            charge(machine, self.now, partial(self.pools.price, machine.pool, machine.market))
            for machine in self._lives.machines.values()
        )

    # -- below the surface -----------------------------------------------------------------

    def _settle(self, now: dt.datetime) -> None:
        self._lives.settle(now)

    def _lost(self, now: dt.datetime, region: str, action: str) -> bool:
        """Let a call in. True: do what it asks for, but let nobody know."""
        self._settle(now)
        self.pools.region(region)
        return self.faults.gate(Call(action=action, region=region), self.now)

    def _known(self, region: str, ids: Sequence[str]) -> list[Machine]:
        for id_ in ids:
            if not id_.startswith("i-"):
                raise refusals.malformed_instance(id_)
        listed = self._lives.listed[region]
        missing = [i for i in ids if i not in listed or listed[i].known_at > self.now]
        if missing:
            raise refusals.unknown_instances(missing)
        return [listed[id_] for id_ in dict.fromkeys(ids)]

    def _launched_with(
        self, scope: tuple[str, str], request: RunRequest
    ) -> tuple[Machine, ...] | None:
        if not request.client_token or scope not in self._tokens:
            return None
        first, machines = self._tokens[scope]
        ends = [machine.ended_at() for machine in machines]
        if all(end is not None and end + _TOKEN_LIFE < self.now for end in ends):
            del self._tokens[scope]
            return None
        if first != request:
            raise refusals.token_mismatch()
        return machines

    def _launch(self, call: Call, request: RunRequest) -> tuple[Machine, ...]:
        check_parameters(self.pools, self.images, request, self.now)
        machines = self._lives.listed[request.region].values()
        zone = zone_named(self.pools, request)
        pool, count = choose_pool(self.pools, request, zone, machines, self.now)
        if self.faults.flaky():
            raise refusals.no_capacity(request.market, request.instance_type, pool.zone, ())
        dies = self.faults.death(call)
        reservation = self._lives.new_id("r")
        return tuple(
            self._lives.create(pool, request, reservation, index, dies) for index in range(count)
        )
