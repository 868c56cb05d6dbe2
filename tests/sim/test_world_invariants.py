"""Whatever is called in whatever order, with everything going wrong at once, the simulated market
keeps the promises that EC2 keeps."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spotrunner.core.model import Market, Pool
from spotrunner.sim.setups import G5, lab_setup
from spotrunner.sim.values import (
    HARSH,
    ApiError,
    Charge,
    InstanceRecord,
    LostAnswer,
    RunRequest,
    Stage,
)
from spotrunner.sim.world import World
from tests.sim.worlds import POOL, START, a_request

T = TypeVar("T")

POOLS = (
    POOL,
    Pool(region="us-east-1", zone="us-east-1a", instance_type=G5),
    Pool(region="eu-west-1", zone="eu-west-1b", instance_type=POOL.instance_type),
)
ORDER = [
    Stage.PENDING,
    Stage.RUNNING,
    Stage.STOPPING,
    Stage.STOPPED,
    Stage.SHUTTING_DOWN,
    Stage.TERMINATED,
]
ALLOWED = {
    "RequestLimitExceeded",
    "InternalError",
    "InsufficientInstanceCapacity",
    "MaxSpotInstanceCountExceeded",
    "VcpuLimitExceeded",
    "SpotMaxPriceTooLow",
    "InvalidInstanceID.NotFound",
}


class AnyMarket(RuleBasedStateMachine):
    """Weather, users and EC2's moods against a world."""

    @initialize(seed=st.integers(0, 10_000))
    def begin(self, seed: int) -> None:
        self.world = World(lab_setup(seed, START, manners=HARSH, reclaims=True), seed)
        self.now = START
        self.sent: dict[str, RunRequest] = {}
        self.answered: dict[str, tuple[str, ...]] = {}  # token -> instance ids
        self.true_stage: dict[str, Stage] = {}
        self.ended_by_then: dict[str, dt.datetime] = {}
        self.shown_stage: dict[str, Stage] = {}
        self.charges: dict[str, Charge] = {}
        self.announced: dict[str, dt.datetime] = {}

    def asked(self, call: Callable[..., T], *args: Any) -> T | None:
        """The answer to a call made now; None where EC2 refused as it may."""
        try:
            return call(self.now, *args)
        except LostAnswer:
            return None
        except ApiError as error:
            if error.code not in ALLOWED:
                raise
            return None

    # -- what people do --------------------------------------------------------------------

    @rule(
        pool=st.sampled_from(POOLS),
        market=st.sampled_from(Market),
        count=st.integers(1, 3),
        most=st.sampled_from([None, 60_000, 200_000]),
    )
    def launch(self, pool: Pool, market: Market, count: int, most: int | None) -> None:
        token = f"token-{len(self.sent)}"
        self.sent[token] = a_request(
            self.world,
            pool,
            market=market,
            client_token=token,
            max_count=count,
            max_price_usd_micros=most if market is Market.SPOT else None,
            tags=(("token", token),),
        )
        self.send(token)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def launch_again(self, data: st.DataObject) -> None:
        self.send(data.draw(st.sampled_from(sorted(self.sent))))

    def send(self, token: str) -> None:
        records = self.asked(self.world.run_instances, self.sent[token])
        if records:
            ids = tuple(record.id for record in records)
            first = self.answered.setdefault(token, ids)
            assert ids == first or self.all_over(first)
            self.answered[token] = ids

    @precondition(lambda self: self.true_stage)
    @rule(data=st.data())
    def terminate(self, data: st.DataObject) -> None:
        record = self.drawn(data)
        self.asked(self.world.terminate, record.pool.region, [record.id])

    @precondition(lambda self: self.true_stage)
    @rule(data=st.data())
    def shut_down_from_inside(self, data: st.DataObject) -> None:
        self.world.shutdown_from_inside(self.now, self.drawn(data).id)

    # -- what fate does --------------------------------------------------------------------

    @precondition(lambda self: self.true_stage)
    @rule(data=st.data(), notice=st.booleans())
    def interrupt(self, data: st.DataObject, notice: bool) -> None:
        record = self.drawn(data)
        if record.market is Market.SPOT and record.stage in (Stage.PENDING, Stage.RUNNING):
            self.world.interrupt(self.now, record.id, notice=notice)

    @precondition(lambda self: self.true_stage)
    @rule(data=st.data())
    def host_dies(self, data: st.DataObject) -> None:
        self.world.fail(self.now, self.drawn(data).id)

    @rule(pool=st.sampled_from(POOLS), usd_micros=st.sampled_from([50_000, 150_000, 400_000]))
    def price_moves(self, pool: Pool, usd_micros: int) -> None:
        self.world.set_price(self.now, pool, usd_micros)

    @rule(pool=st.sampled_from(POOLS), up=st.sampled_from([True, False, None]))
    def capacity_moves(self, pool: Pool, up: bool | None) -> None:
        self.world.set_capacity(self.now, pool, up, reclaim=True)

    @rule(seconds=st.sampled_from([0.5, 1, 3, 15, 60, 130, 900, 4000, 90_000]))
    def time_passes(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)

    def drawn(self, data: st.DataObject) -> InstanceRecord:
        number = data.draw(st.integers(0, len(self.true_stage) - 1))
        return self.world.truth(self.now)[number]

    # -- what must hold --------------------------------------------------------------------

    @invariant()
    def no_instance_goes_back(self) -> None:
        for record in self.world.truth(self.now):
            before = self.true_stage.get(record.id, Stage.PENDING)
            assert ORDER.index(before) <= ORDER.index(record.stage)
            self.true_stage[record.id] = record.stage
            if record.stage is Stage.TERMINATED:
                self.ended_by_then.setdefault(record.id, self.now)

    @invariant()
    def one_token_launches_once(self) -> None:
        launches: dict[str, dict[str, tuple[str, ...]]] = {}
        for record in self.world.truth(self.now):
            of_token = launches.setdefault(record.client_token, {})
            ids = of_token.get(record.reservation_id, ())
            of_token[record.reservation_id] = (*ids, record.id)
        for of_token in launches.values():
            for earlier in list(of_token.values())[:-1]:
                assert self.all_over(earlier)

    @invariant()
    def what_is_shown_is_true_but_old(self) -> None:
        """And what was shown once stays shown, at least until it is terminated."""
        for region in self.world.setup.regions:
            listing = self.asked(self.world.describe, region.name)
            if listing is None:
                continue
            shown = {record.id: record.stage for record in listing}
            for record in self.world.truth(self.now):
                if record.pool.region == region.name:
                    self.check_shown(record, shown.get(record.id))

    def check_shown(self, true: InstanceRecord, shown: Stage | None) -> None:
        before = self.shown_stage.get(true.id)
        if shown is None:
            assert before is None or true.stage is Stage.TERMINATED
            return
        assert ORDER.index(shown) <= ORDER.index(true.stage)
        assert before is None or ORDER.index(before) <= ORDER.index(shown)
        self.shown_stage[true.id] = shown

    @invariant()
    def the_bill_only_grows_but_for_the_free_hour(self) -> None:
        for line in self.world.bill(self.now):
            before = self.charges.get(line.instance_id)
            assert line.usd_micros >= 0
            if before is not None and before.to_at is not None:
                assert line == before, "what has ended changes no more"
            elif before is not None and not line.free:
                assert line.usd_micros >= before.usd_micros
            assert not line.free or line.market is Market.SPOT
            self.charges[line.instance_id] = line

    @invariant()
    def an_announced_time_never_moves(self) -> None:
        for id_ in self.true_stage:
            view = self.world.imds(self.now, id_)
            if view is not None and view.spot_action is not None:
                assert self.announced.setdefault(id_, view.spot_action[1]) == view.spot_action[1]

    @invariant()
    def quotas_and_places_hold(self) -> None:
        occupying = [
            record
            for record in self.world.truth(self.now)
            if record.stage not in (Stage.TERMINATED, Stage.STOPPED)
        ]
        for region in self.world.setup.regions:
            for market in Market:
                gpus = [
                    record
                    for record in occupying
                    if record.pool.region == region.name and record.market is market
                ]
                limit = self.world.pools.quota(region.name, "G and VT", market)
                assert limit is not None
                assert 4 * len(gpus) <= limit

    def all_over(self, ids: Iterable[str]) -> bool:
        """Terminated for long: only then may a token launch again."""
        day = dt.timedelta(hours=24)
        # 90,000 s is the longest step of time, and an end is seen after the step it lies in
        slack = dt.timedelta(seconds=90_000)
        ends = [self.ended_by_then.get(id_) for id_ in ids]
        return all(end is not None and end - slack + day <= self.now for end in ends)


TestAnyMarket = AnyMarket.TestCase
TestAnyMarket.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
