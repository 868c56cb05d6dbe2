"""The EC2 market as one deterministic state machine with its clock passed in.

Every method takes `now`; the world first does everything that was due until then. The same seed
and the same calls give the same world. It is not safe for several threads: a caller that has some
holds a lock around every call. A `now` older than one seen before counts as the latest seen.

What a caller of EC2 may see comes through the API part, which lags, loses answers and throttles
as the set-up's `Manners` say. What the instances themselves see, and what a script does, is exact.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from spotrunner.core.model import Market, Pool, Refused
from spotrunner.sim import refusals
from spotrunner.sim.bill import charge
from spotrunner.sim.checks import check_parameters, choose_pool, zone_named
from spotrunner.sim.faults import Call, Fault, Faults, refusal
from spotrunner.sim.machine import LISTED_AFTER_END_S, Machine
from spotrunner.sim.pools import Pools
from spotrunner.sim.select import Filters, by_tag_or_token, select_instances, select_spot_requests
from spotrunner.sim.values import (
    Charge,
    Happening,
    ImdsView,
    InstanceRecord,
    Kind,
    LostAnswer,
    Manners,
    PriceRow,
    Reason,
    RunRequest,
    Setup,
    SpotRequestRecord,
    Stage,
)

NOTICE_S = 120
_TOKEN_LIFE = dt.timedelta(hours=24)  # after the end of what it launched
_INSIDE_STATUS_LAG = dt.timedelta(seconds=60)  # until EC2's spot side learns of a shutdown inside

_NO_CAPACITY = (
    "instance-terminated-no-capacity",
    "Your Spot instance was terminated because there is no Spot capacity available that matches"
    " your request.",
)
_BY_PRICE = (
    "instance-terminated-by-price",
    "Your Spot instance was terminated because your Spot request price is lower than the current"
    " Spot price.",
)
_BY_USER = (
    "instance-terminated-by-user",
    "Spot Instance terminated due to user-initiated termination.",
)
_SPOT_TAKEN = Reason(
    code="Server.SpotInstanceTermination",
    message="Server.SpotInstanceTermination: Spot instance termination",
    transition="Server.SpotInstanceTermination",
)
_FROM_INSIDE = Reason(
    code="Client.InstanceInitiatedShutdown",
    message="Client.InstanceInitiatedShutdown: Instance initiated shutdown",
)
_DEATHS = {
    "Server.InternalError": "Internal error on launch",
    "Server.InsufficientInstanceCapacity": "Insufficient capacity to satisfy the launch request",
    "Client.VolumeLimitExceeded": "Volume limit exceeded",
    "Client.InternalError": "Client error on launch",
}


def _death(code: str) -> Reason:
    return Reason(
        code=code, message=f"{code}: {_DEATHS.get(code, 'Instance ended')}", transition=code
    )


def _by_user(at: dt.datetime) -> Reason:
    return Reason(
        code="Client.UserInitiatedShutdown",
        message="Client.UserInitiatedShutdown: User initiated shutdown",
        transition=f"User initiated ({at:%Y-%m-%d %H:%M:%S} GMT)",
    )


class World:
    """See the module. `pools` and `faults` may be read, and written by scripts, between calls."""

    def __init__(self, setup: Setup, seed: int) -> None:
        self.setup = setup
        self.pools = Pools(setup)
        self.now = setup.start
        self.faults = Faults(setup.manners, random.Random(f"{seed}/faults"))
        self._seed = seed
        self._ids = random.Random(f"{seed}/ids")
        self._machines: dict[str, Machine] = {}
        self._listed: dict[str, dict[str, Machine]] = {r.name: {} for r in setup.regions}
        self._tokens: dict[tuple[str, str], tuple[RunRequest, tuple[Machine, ...]]] = {}
        self._due: list[tuple[dt.datetime, int, Callable[[dt.datetime], None]]] = []
        self._numbers = itertools.count()
        self._happened: list[Happening] = []
        if setup.reclaims:
            for pool in sorted(setup.capacity):
                self._watch(pool, random.Random(f"{seed}/{pool}"), setup.start)

    # -- time ------------------------------------------------------------------------------

    def advance(self, now: dt.datetime) -> tuple[Happening, ...]:
        """What happened to instances since the last call of this method, oldest first."""
        self._settle(now)
        happened, self._happened = tuple(self._happened), []
        return happened

    def next_change(self, now: dt.datetime) -> dt.datetime | None:
        """When something next happens by itself; nothing does before that."""
        self._settle(now)
        return self._due[0][0] if self._due else None

    # -- API: what EC2 answers. All raise ApiError, and LostAnswer. ------------------------

    def admit(self, now: dt.datetime, region: str, action: str) -> None:
        """A call that the world does not answer itself (DescribeSubnets …) passes through the same
        throttling, scripted faults and dice as the others."""
        self._settle(now)
        if self.faults.gate(Call(action=action, region=region), self.now):
            raise LostAnswer

    def run_instances(self, now: dt.datetime, request: RunRequest) -> tuple[InstanceRecord, ...]:
        """RunInstances. A token seen before returns what it launched, in its present state;
        with another request it is IdempotentParameterMismatch. Tokens hold per zone when the
        request names one, else per region, until a day after the end of what they launched."""
        self._settle(now)
        zone = zone_named(self.pools, request)
        call = Call(
            action="RunInstances",
            region=request.region,
            zone=zone.name if zone else None,
            instance_type=request.instance_type,
            market=request.market,
        )
        lost = self.faults.gate(call, self.now)
        scope = (zone.name if zone else request.region, request.client_token or "")
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
        self._enter("DescribeInstances", now, region)
        if ids:
            machines = self._known(region, ids)
        else:
            lagging = by_tag_or_token(filters or {})
            machines = [
                machine
                for machine in self._listed[region].values()
                if (machine.filtered_at if lagging else machine.listed_at) <= self.now
            ]
        records = [machine.record(self.now) for machine in machines]
        return tuple(select_instances(records, filters or {}))

    def terminate(
        self, now: dt.datetime, region: str, ids: Sequence[str]
    ) -> tuple[tuple[str, Stage, Stage], ...]:
        """TerminateInstances: (id, stage before, stage after). All or nothing: an unknown id
        raises InvalidInstanceID.NotFound and nothing ends. Ended ones stay as they are."""
        self._settle(now)
        lost = self.faults.gate(Call(action="TerminateInstances", region=region), self.now)
        changes = []
        for machine in self._known(region, ids):
            before = machine.stage
            if before is Stage.STOPPED:
                self._power_off(machine, self.now, _by_user(self.now))
            elif before in (Stage.PENDING, Stage.RUNNING, Stage.STOPPING):
                self._shut_down(machine, self.now, _by_user(self.now))
                machine.status(self.now, "closed", *_BY_USER)
            changes.append((machine.id, before, machine.stage))
        if lost:
            raise LostAnswer
        return tuple(changes)

    def create_tags(
        self, now: dt.datetime, region: str, ids: Sequence[str], tags: Mapping[str, str]
    ) -> None:
        """CreateTags on instances."""
        self._settle(now)
        lost = self.faults.gate(Call(action="CreateTags", region=region), self.now)
        for machine in self._known(region, ids):
            machine.tags.update(tags)
        if lost:
            raise LostAnswer

    def spot_requests(
        self,
        now: dt.datetime,
        region: str,
        ids: Sequence[str] = (),
        filters: Filters | None = None,
    ) -> tuple[SpotRequestRecord, ...]:
        """DescribeSpotInstanceRequests. A notice shows here at once."""
        self._enter("DescribeSpotInstanceRequests", now, region)
        records = [
            machine.spot_record(self.now, self.pools.on_demand(machine.pool))
            for machine in self._listed[region].values()
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
        self._enter("CancelSpotInstanceRequests", now, region)
        by_request = {m.spot_request_id: m for m in self._listed[region].values()}
        cancelled = []
        for id_ in ids:
            machine = by_request.get(id_)
            if machine is None:
                raise refusals.unknown_spot_request(id_)
            if machine.alive:
                text = "Your Spot request is cancelled, but your instance is still running."
                machine.status(self.now, "cancelled", "request-canceled-and-instance-running", text)
            cancelled.append(machine.spot_record(self.now, self.pools.on_demand(machine.pool)))
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
        self._enter("DescribeSpotPriceHistory", now, region)
        pools = [
            pool
            for pool in self.pools.offered(region)
            if (not types or pool.instance_type in types) and (not zones or pool.zone in zones)
        ]
        return tuple(self.pools.history(pools, start or self.now, end or self.now, self.now))

    # -- inside the instances --------------------------------------------------------------

    def imds(self, now: dt.datetime, instance_id: str) -> ImdsView | None:
        """What the instance's metadata service shows; None when there is no machine (any more)."""
        self._settle(now)
        machine = self._machines.get(instance_id)
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
        machine = self._machine(instance_id)
        if machine.stage is not Stage.RUNNING:
            return
        stops = machine.request.shutdown_behavior == "stop"
        if stops and machine.market is Market.ON_DEMAND:
            self._stop(machine, self.now)
        else:
            self._shut_down(machine, self.now, _FROM_INSIDE)
            machine.status(self.now + _INSIDE_STATUS_LAG, "closed", *_BY_USER)

    # -- scripts: what EC2 and fate do -----------------------------------------------------

    def interrupt(self, now: dt.datetime, instance_id: str, *, notice: bool = True) -> None:
        """EC2 takes a spot instance: in 120 s with a notice, at once without. An instance that has
        a notice already keeps its announced time. Raises ApiError if it is not a spot instance
        that is pending or running."""
        self._settle(now)
        machine = self._machine(instance_id)
        if machine.market is not Market.SPOT or not machine.alive:
            raise refusals.bad_parameter(f"{instance_id} is no running spot instance")
        self._reclaim(machine, self.now, notice=notice, status=_NO_CAPACITY)

    def recommend_rebalance(self, now: dt.datetime, instance_id: str) -> None:
        self._settle(now)
        self._rebalance(self._machine(instance_id), self.now)

    def fail(self, now: dt.datetime, instance_id: str) -> None:
        """The host dies: the instance is gone at once, by Server.InternalError. It is billed."""
        self._settle(now)
        machine = self._machine(instance_id)
        if machine.alive:
            self._shut_down(machine, self.now, _death("Server.InternalError"), abrupt=True)
            machine.status(self.now, "closed", "instance-terminated-by-service", "Host failed.")

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
        `reclaim` gives the pool's spot instances notice when it closes."""
        self._settle(now)
        self.pools.force_capacity(pool, market, up)
        if reclaim and up is False:
            self._reclaim_pool(pool, self.now)

    def set_price(self, now: dt.datetime, pool: Pool, usd_micros: int) -> None:
        """The pool's spot price from now until the weather next changes it."""
        self._settle(now)
        self.pools.set_price(pool, self.now, usd_micros)
        for machine in self._spot_in(pool):
            self._watch_price(machine, self.now - dt.timedelta(microseconds=1))
        self._settle(self.now)

    # -- truth: what is so, whatever EC2 shows ---------------------------------------------

    def truth(self, now: dt.datetime) -> tuple[InstanceRecord, ...]:
        """All instances ever launched, without lag, in the order of launch: for the judge of a
        test, never for what is tested."""
        self._settle(now)
        return tuple(machine.record(self.now, fresh=True) for machine in self._machines.values())

    def bill(self, now: dt.datetime) -> tuple[Charge, ...]:
        """A line for every instance ever launched, in the order of launch."""
        self._settle(now)
        return tuple(
            charge(machine, self.now, partial(self.pools.price, machine.pool, machine.market))
            for machine in self._machines.values()
        )

    # -- the clockwork ---------------------------------------------------------------------

    def _settle(self, now: dt.datetime) -> None:
        while self._due and self._due[0][0] <= now:
            at, _, happen = heapq.heappop(self._due)
            self.now = max(self.now, at)
            happen(self.now)
        self.now = max(self.now, now)

    def _at(self, when: dt.datetime, happen: Callable[[dt.datetime], None]) -> None:
        heapq.heappush(self._due, (when, next(self._numbers), happen))

    def _enter(self, action: str, now: dt.datetime, region: str) -> None:
        self.pools.region(region)
        self.admit(now, region, action)

    def _tell(self, kind: Kind, machine: Machine, at: dt.datetime, *, abrupt: bool = False) -> None:
        self._happened.append(Happening(at=at, kind=kind, instance_id=machine.id, abrupt=abrupt))

    # -- finding ---------------------------------------------------------------------------

    def _machine(self, instance_id: str) -> Machine:
        if instance_id not in self._machines:
            raise refusals.unknown_instances([instance_id])
        return self._machines[instance_id]

    def _known(self, region: str, ids: Sequence[str]) -> list[Machine]:
        self.pools.region(region)
        for id_ in ids:
            if not id_.startswith("i-"):
                raise refusals.malformed_instance(id_)
        listed = self._listed[region]
        missing = [i for i in ids if i not in listed or listed[i].known_at > self.now]
        if missing:
            raise refusals.unknown_instances(missing)
        return [listed[id_] for id_ in dict.fromkeys(ids)]

    def _spot_in(self, pool: Pool) -> list[Machine]:
        return [
            machine
            for machine in self._listed[pool.region].values()
            if machine.pool == pool and machine.market is Market.SPOT and machine.alive
        ]

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

    # -- an instance's life ----------------------------------------------------------------

    def _launch(self, call: Call, request: RunRequest) -> tuple[Machine, ...]:
        check_parameters(self.pools, request)
        machines = self._listed[request.region].values()
        zone = zone_named(self.pools, request)
        pool, count = choose_pool(self.pools, request, zone, machines, self.now)
        if self.faults.flaky():
            raise refusals.no_capacity(request.market, request.instance_type, pool.zone, ())
        dies = self.faults.death(call)
        reservation = self._id("r")
        return tuple(
            self._create(pool, request, reservation, index, dies) for index in range(count)
        )

    def _create(
        self, pool: Pool, request: RunRequest, reservation: str, index: int, dies: str | None
    ) -> Machine:
        id_ = self._id("i")
        number = len(self._machines)
        machine = Machine(
            id=id_,
            pool=pool,
            zone=self.pools.zone(pool.region, pool.zone),
            request=request,
            launched_at=self.now,
            reservation_id=reservation,
            launch_index=index,
            private_ip=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            spot_request_id=self._id("sir", 8) if request.market is Market.SPOT else None,
            client_token=request.client_token or self._id("token"),
            dice=random.Random(f"{self._seed}/{id_}"),
            manners=self.faults.manners,
        )
        self._machines[id_] = self._listed[pool.region][id_] = machine
        machine.enter(self.now, Stage.PENDING, Reason(code="pending", message="pending"))
        machine.status(self.now, "active", "fulfilled", "Your spot request is fulfilled.")
        share = machine.manners.pending_death_share
        if dies is None and machine.dice.random() < share:
            dies = machine.dice.choice(["Server.InternalError", "Client.InternalError"])
        wait = machine.draw(machine.manners.pending_s)
        self._at(self.now + wait, partial(self._start, machine, dies))
        return machine

    def _id(self, prefix: str, digits: int = 17) -> str:
        return f"{prefix}-{self._ids.getrandbits(4 * digits):0{digits}x}"

    def _start(self, machine: Machine, dies: str | None, at: dt.datetime) -> None:
        if machine.stage is not Stage.PENDING:
            return
        if dies is None and not self.pools.has_capacity(machine.pool, machine.market, at):
            # The pool went down between the answer and the start.
            dies = "Server.InsufficientInstanceCapacity"
        if dies is not None:
            machine.status(at, "closed", "instance-terminated-launch-failed", dies)
            self._power_off(machine, at, _death(dies))
            return
        machine.running_at = at
        machine.enter(at, Stage.RUNNING, None)
        self._tell(Kind.STARTED, machine, at)
        self._watch_price(machine, at - dt.timedelta(microseconds=1))

    def _shut_down(
        self, machine: Machine, at: dt.datetime, reason: Reason, *, abrupt: bool = False
    ) -> None:
        if machine.running_at is not None and machine.paid_end_at is None:
            machine.paid_end_at = at
        machine.enter(at, Stage.SHUTTING_DOWN, reason)
        self._tell(Kind.ENDING, machine, at, abrupt=abrupt)
        wait = machine.draw(machine.manners.shutting_down_s)
        self._at(at + wait, partial(self._power_off, machine, reason=reason))

    def _power_off(self, machine: Machine, at: dt.datetime, reason: Reason) -> None:
        machine.enter(at, Stage.TERMINATED, reason)
        self._tell(Kind.ENDED, machine, at)
        self._at(at + dt.timedelta(seconds=LISTED_AFTER_END_S), partial(self._forget, machine))

    def _forget(self, machine: Machine, at: dt.datetime) -> None:
        self._listed[machine.pool.region].pop(machine.id, None)

    def _stop(self, machine: Machine, at: dt.datetime) -> None:
        machine.paid_end_at = at
        machine.enter(at, Stage.STOPPING, _FROM_INSIDE)
        self._tell(Kind.ENDING, machine, at)
        wait = machine.draw(machine.manners.shutting_down_s)
        self._at(at + wait, partial(self._stopped, machine))

    def _stopped(self, machine: Machine, at: dt.datetime) -> None:
        if machine.stage is Stage.STOPPING:
            machine.enter(at, Stage.STOPPED, _FROM_INSIDE)
            self._tell(Kind.ENDED, machine, at)

    # -- interruptions ---------------------------------------------------------------------

    def _reclaim(
        self, machine: Machine, at: dt.datetime, *, notice: bool, status: tuple[str, str]
    ) -> None:
        if not notice:
            machine.status(at, "closed", *status)
            self._take(machine, at, abrupt=True)
        elif machine.announced_at is None:
            machine.notice_at = at
            machine.announced_at = at.replace(microsecond=0) + dt.timedelta(seconds=NOTICE_S)
            machine.status(at, "closed", *status)
            self._tell(Kind.NOTICE, machine, at)
            late = machine.draw(machine.manners.reclaim_late_s)
            self._at(machine.announced_at + late, partial(self._take, machine))

    def _take(self, machine: Machine, at: dt.datetime, *, abrupt: bool = False) -> None:
        if machine.alive:
            announced = None if abrupt else machine.announced_at
            machine.taken_at = announced or at
            self._shut_down(machine, at, _SPOT_TAKEN, abrupt=abrupt)

    def _rebalance(self, machine: Machine, at: dt.datetime) -> None:
        if machine.alive and machine.rebalance_at is None:
            machine.rebalance_at = at.replace(microsecond=0)
            self._tell(Kind.REBALANCE, machine, at)

    def _watch(self, pool: Pool, dice: random.Random, after: dt.datetime) -> None:
        """Arrange for the next time that the weather takes the pool's capacity."""
        down = self.pools.next_down(pool, after)
        if down is None:
            return
        manners = self.setup.manners
        if dice.random() < manners.rebalance_share:
            lead = dt.timedelta(seconds=dice.uniform(*manners.rebalance_lead_s))
            self._at(max(after, down - lead), partial(self._rebalance_pool, pool))
        self._at(down, partial(self._pool_down, pool, dice))

    def _pool_down(self, pool: Pool, dice: random.Random, at: dt.datetime) -> None:
        if not self.pools.has_capacity(pool, Market.SPOT, at):
            self._reclaim_pool(pool, at)
        self._watch(pool, dice, at)

    def _reclaim_pool(self, pool: Pool, at: dt.datetime) -> None:
        for machine in self._spot_in(pool):
            # A pending one finds out when it wants to start.
            if machine.stage is Stage.RUNNING:
                notice = machine.dice.random() >= machine.manners.unannounced_share
                self._reclaim(machine, at, notice=notice, status=_NO_CAPACITY)

    def _rebalance_pool(self, pool: Pool, at: dt.datetime) -> None:
        for machine in self._spot_in(pool):
            self._rebalance(machine, at)

    def _watch_price(self, machine: Machine, after: dt.datetime) -> None:
        """Arrange for the time that the price rises above the most that the request allows."""
        limit = machine.request.max_price_usd_micros
        if limit is None or machine.market is not Market.SPOT:
            return
        above = self.pools.next_above(machine.pool, after, limit)
        if above is not None:
            self._at(max(above, self.now), partial(self._outbid, machine))

    def _outbid(self, machine: Machine, at: dt.datetime) -> None:
        limit = machine.request.max_price_usd_micros
        assert limit is not None
        if machine.stage is not Stage.RUNNING or machine.announced_at is not None:
            return
        if self.pools.spot(machine.pool, at) > limit:
            self._reclaim(machine, at, notice=True, status=_BY_PRICE)
        else:
            self._watch_price(machine, at)

    @property
    def manners(self) -> Manners:
        """How it behaves now; scripts may replace `faults.manners` for what comes."""
        return self.faults.manners
