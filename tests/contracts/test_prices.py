"""What ports.Prices promises: over the simulated market, and over EC2's wire in the lab."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from spotrunner.adapters.aws.prices import AwsPrices
from spotrunner.adapters.aws.session import Aws
from spotrunner.core.model import Market, Pool, Quote
from spotrunner.lab.endpoint.ec2 import Awkwardness
from spotrunner.lab.endpoint.server import LabEndpoint
from spotrunner.ports import NotAuthorized, Prices, Throttled, Unavailable
from spotrunner.sim.cloud import SimPrices, VirtualClock
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.refusals import throttled
from spotrunner.sim.setups import G4DN, G5, P3
from spotrunner.sim.values import ApiError, Manners
from spotrunner.sim.world import World
from tests.contracts.clouds import POOL, START, a_setup
from tests.contracts.conftest import set_keys

REGION, OTHER_REGION = "us-east-1", "eu-west-1"
TYPES = (G4DN, G5, P3)
ROWS_AT_ONCE = 7
DAY = dt.timedelta(days=1)
FORBIDDEN = ApiError(
    "UnauthorizedOperation", "You are not authorized to perform this operation.", 403
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A market whose time is moved by hand. `fail_within` lets the calls after the first page of
    the next answer fail: without pages that is the next answer itself."""

    prices: Prices
    world: World
    clock: VirtualClock
    fail_within: Callable[[Fault], None]

    def move_price(self, price_usd_micros: int, hours: float = 1) -> None:
        self.clock.advance(hours * 3600)
        self.world.set_price(self.clock.now(), POOL, price_usd_micros)

    def of_pool(self, since: dt.datetime) -> list[Quote]:
        return [quote for quote in self.prices.quotes(REGION, [G4DN], since) if quote.pool == POOL]


@pytest.fixture(params=["sim", "lab"])
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    clock, world = VirtualClock(START), World(a_setup(Manners(throttled=False)), seed=7)
    if request.param == "sim":
        yield Bench(
            prices=SimPrices(world, clock), world=world, clock=clock, fail_within=world.script
        )
        return
    set_keys(monkeypatch)
    wire = Awkwardness(halves=True, throttled_share=0.0)
    with LabEndpoint(world, clock, awkwardness=wire) as endpoint:
        aws = Aws(endpoint_url=endpoint.url)
        yield Bench(
            prices=AwsPrices(aws, rows_at_once=ROWS_AT_ONCE),
            world=world,
            clock=clock,
            fail_within=lambda fault: after_a_page(aws, world, fault),
        )
        aws.close()


def after_a_page(aws: Aws, world: World, fault: Fault) -> None:
    """Script the fault when the next page of prices has been answered."""
    events, name = aws.ec2(REGION).meta.events, "after-call.ec2.DescribeSpotPriceHistory"

    def answered(**_: object) -> None:
        events.unregister(name, answered)
        world.script(fault)

    events.register(name, answered)


def twice(**how: object) -> Fault:
    """What the client's own repetition does not get over."""
    return Fault(action="*", times=2, **how)  # type: ignore[arg-type]


# -- quotes ------------------------------------------------------------------------------------


def test_quotes_begin_with_the_one_in_force_and_come_oldest_first(bench: Bench) -> None:
    for number in range(1, 41):
        bench.move_price(150_000 + 1_000 * number)
    since = START + dt.timedelta(hours=9.5)
    quotes = bench.of_pool(since)
    assert [quote.price_usd_micros_hour for quote in quotes] == [
        150_000 + 1_000 * number for number in range(9, 41)
    ]
    assert quotes[0].at < since < quotes[1].at
    every = bench.prices.quotes(REGION, TYPES, since)
    assert [quote.at for quote in every] == sorted(quote.at for quote in every)
    assert len(set(every)) == len(every)
    assert {quote.pool for quote in every} == bench.prices.offered(REGION, TYPES)


def test_a_window_without_a_change_has_the_price_in_force(bench: Bench) -> None:
    bench.clock.advance(3600)
    (quote,) = bench.of_pool(bench.clock.now())
    assert quote.price_usd_micros_hour == 150_000
    assert quote.at < bench.clock.now()


def test_of_no_types_there_are_no_quotes(bench: Bench) -> None:
    assert bench.prices.quotes(REGION, [], START) == ()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (twice(error=throttled()), Throttled),
        (twice(lose=Lose.BEFORE), Unavailable),
        (twice(lose=Lose.AFTER), Unavailable),
        (twice(error=FORBIDDEN), NotAuthorized),
    ],
    ids=["throttled", "lost", "answer lost", "forbidden"],
)
def test_quotes_come_whole_or_not_at_all(
    bench: Bench, fault: Fault, error: type[Exception]
) -> None:
    """Half of the pages would look like a market in which nothing happened since."""
    for number in range(30):
        bench.move_price(150_000 + number)
    whole = bench.of_pool(START)
    bench.fail_within(fault)
    with pytest.raises(error):
        bench.of_pool(START)
    bench.world.faults.clear()
    assert bench.of_pool(START) == whole


def test_throttling_between_pages_that_passes_is_not_noticed(bench: Bench) -> None:
    if isinstance(bench.prices, SimPrices):
        pytest.skip("one call of the simulated port is one call of the API")
    for number in range(30):
        bench.move_price(150_000 + number)
    whole = bench.of_pool(START)
    bench.fail_within(Fault(action="DescribeSpotPriceHistory", error=throttled()))
    assert bench.of_pool(START) == whole


def test_after_a_day_without_an_answer_nothing_is_missing(bench: Bench) -> None:
    """Who asks from where it stopped, with the row in force there, has every price."""
    for number in range(12):
        bench.move_price(160_000 + 1_000 * number)
    known = bench.of_pool(START)
    stopped_at = bench.clock.now()
    bench.world.script(Fault(action="*", lose=Lose.BEFORE, times=1000))
    for number in range(24):
        bench.move_price(200_000 + 1_000 * number)
        with pytest.raises(Unavailable):
            bench.of_pool(stopped_at)
    bench.world.faults.clear()
    later = bench.of_pool(stopped_at)
    assert later[0] == known[-1]
    assert known + later[1:] == bench.of_pool(START)
    assert len(later) == 25


# -- what is sold where ------------------------------------------------------------------------


def test_what_is_offered_where(bench: Bench) -> None:
    zones = {pool.zone for pool in bench.prices.offered(REGION, [P3])}
    assert zones == {"us-east-1b", "us-east-1d"}
    assert bench.prices.offered(OTHER_REGION, [P3]) == frozenset()


def test_a_type_without_an_on_demand_price_is_absent(bench: Bench) -> None:
    assert bench.prices.on_demand(REGION, [G4DN, "p9.large"]) == {G4DN: 526_000}


def test_zones_are_named_with_the_id_that_all_accounts_share(bench: Bench) -> None:
    assert bench.prices.zones(REGION) == {
        "us-east-1a": "use1-az4",
        "us-east-1b": "use1-az6",
        "us-east-1d": "use1-az2",
    }
    assert bench.prices.zones(OTHER_REGION) == {"eu-west-1a": "euw1-az3", "eu-west-1b": "euw1-az1"}


# -- placement scores --------------------------------------------------------------------------


def test_scores_are_of_zones_by_id(bench: Bench) -> None:
    scores = bench.prices.scores([REGION, OTHER_REGION, REGION], TYPES)
    assert set(scores) == {
        *((REGION, id_) for id_ in ("use1-az4", "use1-az6", "use1-az2")),
        *((OTHER_REGION, id_) for id_ in ("euw1-az3", "euw1-az1")),
    }
    assert set(scores.values()) == {10}, "everything has capacity"
    assert bench.prices.scores([OTHER_REGION, REGION], reversed_types()) == scores


def reversed_types() -> list[str]:
    return [*reversed(TYPES), *TYPES]


def test_a_zone_without_capacity_scores_low(bench: Bench) -> None:
    closed = [Pool(region=OTHER_REGION, zone="eu-west-1a", instance_type=kind) for kind in TYPES]
    for pool in closed[:2]:
        bench.world.set_capacity(START, pool, False, market=Market.SPOT)
    scores = bench.prices.scores([OTHER_REGION], TYPES)
    assert scores[OTHER_REGION, "euw1-az3"] <= 3 < scores[OTHER_REGION, "euw1-az1"]


@pytest.mark.parametrize("types", [(), (G4DN,), (G4DN, G5), (G4DN, G5, G4DN)])
def test_scores_of_too_few_types_are_a_mistake(bench: Bench, types: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="3 instance types"):
        bench.prices.scores([REGION], types)


def test_of_no_regions_there_are_no_scores(bench: Bench) -> None:
    assert bench.prices.scores([], TYPES) == {}


def test_types_that_are_not_sold_score_nothing_and_count_as_types(bench: Bench) -> None:
    scores = bench.prices.scores([REGION], [P3, "p9.large", "p9.xlarge"])
    assert scores == {(REGION, "use1-az6"): 10, (REGION, "use1-az2"): 10}


def test_too_many_questions_for_scores_are_a_throttle(bench: Bench) -> None:
    limit = ApiError(
        "MaxConfigLimitExceeded",
        "You have exceeded your maximum allowed Spot placement configurations.",
    )
    bench.world.script(Fault(action="GetSpotPlacementScores", error=limit, times=2))
    with pytest.raises(Throttled, match="maximum allowed Spot placement configurations"):
        bench.prices.scores([REGION], TYPES)


# -- every read --------------------------------------------------------------------------------

READS: list[Callable[[Prices], object]] = [
    lambda prices: prices.offered(REGION, TYPES),
    lambda prices: prices.quotes(REGION, TYPES, START),
    lambda prices: prices.zones(REGION),
    lambda prices: prices.scores([REGION], TYPES),
]


@pytest.mark.parametrize("read", READS, ids=["offered", "quotes", "zones", "scores"])
def test_what_does_not_come_says_why(bench: Bench, read: Callable[[Prices], object]) -> None:
    for fault, error in (
        (twice(lose=Lose.BEFORE), Unavailable),
        (twice(error=throttled()), Throttled),
        (twice(error=FORBIDDEN), NotAuthorized),
    ):
        bench.world.script(fault)
        with pytest.raises(error):
            read(bench.prices)
        bench.world.faults.clear()
        assert read(bench.prices)
