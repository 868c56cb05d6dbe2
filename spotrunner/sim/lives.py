"""The clockwork below the world: instances that start, are interrupted and end by themselves.

`settle` does everything that is due; everything else here happens at the time it is given, which
its callers have settled before.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import random
from collections.abc import Callable
from functools import partial

from spotrunner.core.model import Market, Pool
from spotrunner.sim import reasons, refusals
from spotrunner.sim.faults import Faults
from spotrunner.sim.machine import Machine
from spotrunner.sim.pools import Pools
from spotrunner.sim.values import Happening, Kind, Reason, RunRequest, Setup, Stage

NOTICE_S = 120
LISTED_AFTER_END_S = 3600  # EC2 shows a terminated instance for about an hour


class Lives:
    def __init__(self, setup: Setup, seed: int) -> None:
        self.pools = Pools(setup)
        self.faults = Faults(setup.manners, random.Random(f"{seed}/faults"))
        self.now = setup.start
        self.machines: dict[str, Machine] = {}  # all ever, in the order of launch
        self.listed: dict[str, dict[str, Machine]] = {r.name: {} for r in setup.regions}
        self.happened: list[Happening] = []
        self._seed = seed
        self._ids = random.Random(f"{seed}/ids")
        self._due: list[tuple[dt.datetime, int, Callable[[dt.datetime], None]]] = []
        self._numbers = itertools.count()
        self._reclaims = setup.reclaims
        if setup.reclaims:
            for pool in sorted(setup.capacity):
                self._watch_pool(pool, random.Random(f"{seed}/{pool}"), setup.start)

    # -- time ------------------------------------------------------------------------------

    def settle(self, now: dt.datetime) -> None:
        while self._due and self._due[0][0] <= now:
            at, _, happen = heapq.heappop(self._due)
            self.now = max(self.now, at)
            happen(self.now)
        self.now = max(self.now, now)

    def next_due(self) -> dt.datetime | None:
        return self._due[0][0] if self._due else None

    def _at(self, when: dt.datetime, happen: Callable[[dt.datetime], None]) -> None:
        # The number keeps the order of what is due at the same time.
        heapq.heappush(self._due, (when, next(self._numbers), happen))

    def _tell(self, kind: Kind, machine: Machine, at: dt.datetime, *, abrupt: bool = False) -> None:
        self.happened.append(Happening(at=at, kind=kind, instance_id=machine.id, abrupt=abrupt))

    # -- finding ---------------------------------------------------------------------------

    def find(self, instance_id: str) -> Machine:
        """Raises ApiError."""
        if instance_id not in self.machines:
            raise refusals.unknown_instances([instance_id])
        return self.machines[instance_id]

    def spot_in(self, pool: Pool) -> list[Machine]:
        """The pool's spot instances that are pending or running."""
        return [
            machine
            for machine in self.listed[pool.region].values()
            if machine.pool == pool and machine.market is Market.SPOT and machine.alive
        ]

    def new_id(self, prefix: str, digits: int = 17) -> str:
        return f"{prefix}-{self._ids.getrandbits(4 * digits):0{digits}x}"

    # -- an instance's life ----------------------------------------------------------------

    def create(
        self, pool: Pool, request: RunRequest, reservation: str, index: int, dies: str | None
    ) -> Machine:
        """A new instance, pending. `dies` is the reason code of an end before it runs."""
        id_, number = self.new_id("i"), len(self.machines) + 10
        machine = Machine(
            id=id_,
            pool=pool,
            zone=self.pools.zone(pool.region, pool.zone),
            request=request,
            launched_at=self.now,
            reservation_id=reservation,
            launch_index=index,
            private_ip=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            spot_request_id=self.new_id("sir", 8) if request.market is Market.SPOT else None,
            client_token=request.client_token or self.new_id("token"),
            dice=random.Random(f"{self._seed}/{id_}"),
            manners=self.faults.manners,
        )
        self.machines[id_] = self.listed[pool.region][id_] = machine
        machine.enter(self.now, Stage.PENDING, reasons.PENDING)
        machine.status(self.now, "active", *reasons.FULFILLED)
        if dies is None and machine.dice.random() < machine.manners.pending_death_share:
            dies = machine.dice.choice(["Server.InternalError", "Client.InternalError"])
        wait = machine.draw(machine.manners.pending_s)
        self._at(self.now + wait, partial(self._start, machine, dies))
        return machine

    def _start(self, machine: Machine, dies: str | None, at: dt.datetime) -> None:
        if machine.stage is not Stage.PENDING:
            return
        if dies is None and self._dried_up(machine, at):
            dies = "Server.InsufficientInstanceCapacity"
        if dies is not None:
            machine.status(at, "closed", *reasons.SYSTEM_ERROR)
            self.power_off(machine, at, reasons.death(dies))
            return
        machine.running_at = at
        machine.enter(at, Stage.RUNNING, None)
        self._tell(Kind.STARTED, machine, at)
        self.watch_price(machine)

    def _dried_up(self, machine: Machine, at: dt.datetime) -> bool:
        """The pool went down between the answer and the start."""
        open_ = self.pools.has_capacity(machine.pool, machine.market, at)
        return self._reclaims and not open_

    def shut_down(
        self, machine: Machine, at: dt.datetime, reason: Reason, *, abrupt: bool = False
    ) -> None:
        """It ends: the bill stops now, the power goes off a while later."""
        if machine.running_at is not None and machine.paid_end_at is None:
            machine.paid_end_at = at
        machine.enter(at, Stage.SHUTTING_DOWN, reason)
        self._tell(Kind.ENDING, machine, at, abrupt=abrupt)
        wait = machine.draw(machine.manners.shutting_down_s)
        self._at(at + wait, partial(self.power_off, machine, reason=reason))

    def power_off(self, machine: Machine, at: dt.datetime, reason: Reason) -> None:
        machine.enter(at, Stage.TERMINATED, reason)
        self._tell(Kind.ENDED, machine, at)
        self._at(at + dt.timedelta(seconds=LISTED_AFTER_END_S), partial(self._forget, machine))

    def _forget(self, machine: Machine, at: dt.datetime) -> None:
        self.listed[machine.pool.region].pop(machine.id, None)

    def stop(self, machine: Machine, at: dt.datetime) -> None:
        """A shutdown from inside that keeps the instance, stopped and unbilled."""
        machine.paid_end_at = at
        machine.enter(at, Stage.STOPPING, reasons.FROM_INSIDE)
        self._tell(Kind.ENDING, machine, at)
        wait = machine.draw(machine.manners.shutting_down_s)
        self._at(at + wait, partial(self._stopped, machine))

    def _stopped(self, machine: Machine, at: dt.datetime) -> None:
        if machine.stage is Stage.STOPPING:
            machine.enter(at, Stage.STOPPED, reasons.FROM_INSIDE)
            self._tell(Kind.ENDED, machine, at)

    # -- interruptions ---------------------------------------------------------------------

    def reclaim(
        self, machine: Machine, at: dt.datetime, *, notice: bool, status: tuple[str, str]
    ) -> None:
        """EC2 wants it back: with a notice, or at once. A second notice changes nothing."""
        if not notice:
            machine.status(at, "closed", *status)
            self._take(machine, at, abrupt=True)
        elif machine.announced_at is None:
            machine.announced_at = at.replace(microsecond=0) + dt.timedelta(seconds=NOTICE_S)
            # The status says so at once, while the instance still runs.
            machine.status(at, "closed", *status)
            self._tell(Kind.NOTICE, machine, at)
            late = machine.draw(machine.manners.reclaim_late_s)
            self._at(machine.announced_at + late, partial(self._take, machine))

    def _take(self, machine: Machine, at: dt.datetime, *, abrupt: bool = False) -> None:
        if machine.alive:
            announced = None if abrupt else machine.announced_at
            machine.taken_at = announced or at
            self.shut_down(machine, at, reasons.SPOT_TAKEN, abrupt=abrupt)

    def reclaim_pool(self, pool: Pool, at: dt.datetime) -> None:
        for machine in self.spot_in(pool):
            # A pending one finds out when it wants to start.
            if machine.stage is Stage.RUNNING:
                notice = machine.dice.random() >= machine.manners.unannounced_share
                self.reclaim(machine, at, notice=notice, status=reasons.NO_CAPACITY)

    def rebalance(self, machine: Machine, at: dt.datetime) -> None:
        if machine.alive and machine.rebalance_at is None:
            machine.rebalance_at = at.replace(microsecond=0)
            self._tell(Kind.REBALANCE, machine, at)

    def _watch_pool(self, pool: Pool, dice: random.Random, after: dt.datetime) -> None:
        """Arrange for the next time that the weather takes the pool's capacity."""
        down = self.pools.next_down(pool, after)
        if down is None:
            return
        manners = self.faults.manners
        if dice.random() < manners.rebalance_share:
            lead = dt.timedelta(seconds=dice.uniform(*manners.rebalance_lead_s))
            self._at(max(after, down - lead), partial(self._rebalance_pool, pool))
        self._at(down, partial(self._pool_down, pool, dice))

    def _pool_down(self, pool: Pool, dice: random.Random, at: dt.datetime) -> None:
        if not self.pools.has_capacity(pool, Market.SPOT, at):
            self.reclaim_pool(pool, at)
        self._watch_pool(pool, dice, at)

    def _rebalance_pool(self, pool: Pool, at: dt.datetime) -> None:
        for machine in self.spot_in(pool):
            self.rebalance(machine, at)

    def watch_price(self, machine: Machine) -> None:
        """Arrange for the time that the price rises above the most that the request allows."""
        limit = machine.request.max_price_usd_micros
        if limit is None or machine.market is not Market.SPOT:
            return
        if self.pools.spot(machine.pool, self.now) > limit:
            self._at(self.now, partial(self._outbid, machine))
            return
        above = self.pools.next_above(machine.pool, self.now, limit)
        if above is not None:
            self._at(above, partial(self._outbid, machine))

    def _outbid(self, machine: Machine, at: dt.datetime) -> None:
        limit = machine.request.max_price_usd_micros
        assert limit is not None
        if machine.stage is not Stage.RUNNING or machine.announced_at is not None:
            return
        if self.pools.spot(machine.pool, at) > limit:
            self.reclaim(machine, at, notice=True, status=reasons.BY_PRICE)
        else:
            self.watch_price(machine)
