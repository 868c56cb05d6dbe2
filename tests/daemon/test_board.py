"""What the board reads of a market, and when."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from spotrunner.adapters.store.market_memory import MemoryMarket
from spotrunner.core.model import Market, Pool, Quote
from spotrunner.daemon.board import FORGOTTEN_AFTER, Board
from spotrunner.ports import Unavailable
from spotrunner.sim.cloud import SimPrices, VirtualClock
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.setups import G4DN, G5, P3, plain_setup
from spotrunner.sim.stage import Inline
from spotrunner.sim.world import World

START = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.timezone.utc)
EVERY_S = 600
EAST, WEST = "us-east-1", "eu-west-1"
DAY_S = int(FORGOTTEN_AFTER.total_seconds())


class Prices(SimPrices):
    """Notes the types of every read."""

    def __init__(self, world: World, clock: VirtualClock) -> None:
        super().__init__(world, clock)
        self.read: list[tuple[str, tuple[str, ...]]] = []

    def quotes(
        self, region: str, instance_types: Sequence[str], since: dt.datetime
    ) -> tuple[Quote, ...]:
        self.read.append((region, tuple(instance_types)))
        return super().quotes(region, instance_types, since)


class Scene:
    def __init__(self) -> None:
        self.clock = VirtualClock(START)
        self.world = World(plain_setup(START), 1)
        self.prices = Prices(self.world, self.clock)
        self.board = Board(self.prices, self.clock, Inline(), EVERY_S, market=MemoryMarket())

    def types_read(self) -> set[str]:
        """Those of the reads since the last look."""
        read, self.prices.read = self.prices.read, []
        return {name for _, names in read for name in names}


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_offers_are_those_of_the_types_that_are_asked_for(scene: Scene) -> None:
    scene.board.offers([EAST], [G4DN, G5])
    offers = scene.board.offers([EAST], [G5])
    assert {offer.pool.instance_type for offer in offers} == {G5}
    assert {offer.market for offer in offers} == set(Market)
    assert scene.board.offers([EAST], []) == ()


def test_what_is_known_is_read_again_only_when_it_is_old(scene: Scene) -> None:
    first = scene.board.offers([EAST], [G4DN])
    assert scene.types_read() == {G4DN}
    scene.clock.advance(EVERY_S - 1)
    assert scene.board.offers([EAST], [G4DN]) == first
    assert scene.types_read() == set()
    scene.clock.advance(1)
    scene.board.offers([EAST], [G4DN])
    assert scene.types_read() == {G4DN}


def test_a_new_type_is_read_at_once_and_the_others_with_it(scene: Scene) -> None:
    scene.board.offers([EAST], [G4DN])
    scene.types_read()
    scene.board.offers([EAST], [G5])
    assert scene.types_read() == {G4DN, G5}


def test_what_nobody_asked_for_during_a_day_is_forgotten(scene: Scene) -> None:
    """A look at many types must not make all later reads long ones."""
    scene.board.offers([EAST], [G4DN, G5, P3])
    told: list[set[str]] = []
    for _ in range(2 * DAY_S // 3600):
        scene.clock.advance(3600)
        scene.types_read()
        scene.board.offers([EAST], [G4DN])
        told.append(scene.types_read())
    assert told[:23] == [{G4DN, G5, P3}] * 23
    assert told[23:] == [{G4DN}] * 25
    assert {pool.instance_type for pool in scene.board.quotes()} == {G4DN}


def test_what_is_asked_for_again_stays(scene: Scene) -> None:
    scene.board.offers([EAST], [G4DN, G5])
    scene.clock.advance(DAY_S - 1)
    scene.board.offers([EAST], [G5])
    scene.clock.advance(EVERY_S)
    scene.types_read()
    scene.board.offers([EAST], [G5])
    assert scene.types_read() == {G5}


def test_each_region_is_asked_only_for_its_own_types(scene: Scene) -> None:
    scene.board.offers([EAST], [G5])
    scene.board.offers([WEST], [G4DN])
    assert set(scene.prices.read) == {(EAST, (G5,)), (WEST, (G4DN,))}


def test_a_region_that_does_not_answer_keeps_what_was_known(scene: Scene) -> None:
    first = scene.board.offers([EAST], [G4DN])
    scene.clock.advance(EVERY_S)
    scene.world.script(Fault(action="DescribeSpotPriceHistory", lose=Lose.BEFORE))
    assert scene.board.offers([EAST], [G4DN]) == first
    assert scene.board.markets()[EAST].trouble
    assert scene.board.markets()[EAST].read_at == START
    scene.clock.advance(EVERY_S / 10)
    scene.board.offers([EAST], [G4DN])
    assert not scene.board.markets()[EAST].trouble


def test_a_region_says_what_it_offers_or_why_it_does_not(scene: Scene) -> None:
    """Evidence for a refusal, so it is not kept; and no price is read for it."""
    scene.world.script(Fault(action="DescribeInstanceTypeOfferings", lose=Lose.BEFORE))
    silent = scene.board.offered([EAST, WEST], [G4DN, P3])
    assert isinstance(silent[EAST], Unavailable)
    assert _types(silent[WEST]) == {G4DN}
    told = scene.board.offered([EAST, WEST], [G4DN, P3])
    assert {region: _types(pools) for region, pools in told.items()} == {
        EAST: {G4DN, P3},
        WEST: {G4DN},
    }
    assert scene.prices.read == []


def _types(told: object) -> set[str]:
    assert isinstance(told, frozenset)
    return {pool.instance_type for pool in told if isinstance(pool, Pool)}


# -- with threads ------------------------------------------------------------------------------


class Slow(SimPrices):
    """Answers for the western region only when it is let; counts who reads a region at once."""

    def __init__(self, world: World, clock: VirtualClock) -> None:
        super().__init__(world, clock)
        self.let = threading.Event()
        self.at_once = 0
        self.most_at_once = 0

    def quotes(
        self, region: str, instance_types: Sequence[str], since: dt.datetime
    ) -> tuple[Quote, ...]:
        if region == WEST:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            assert self.let.wait(LONGEST_S)
            self.at_once -= 1
        return super().quotes(region, instance_types, since)


LONGEST_S = 20.0


class Threads:
    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.clock = VirtualClock(START)
        self.world = World(plain_setup(START), 1)
        self.prices = Slow(self.world, self.clock)
        self.market = MemoryMarket()
        self._executor = executor
        self.start()

    def start(self, patience_s: float = 0.05) -> None:
        self.board = Board(
            self.prices, self.clock, self._executor, EVERY_S, patience_s, market=self.market
        )

    def regions(self) -> set[str]:
        return {offer.pool.region for offer in self.board.offers([EAST, WEST], [G4DN])}


@pytest.fixture
def threads() -> Iterator[Threads]:
    with ThreadPoolExecutor(4) as executor:
        scene = Threads(executor)
        yield scene
        scene.prices.let.set()


def test_a_slow_region_keeps_nobody_waiting_and_answers_later(threads: Threads) -> None:
    # The eastern region is there as soon as its thread has run.
    assert any(threads.regions() == {EAST} for _ in range(100))
    threads.prices.let.set()
    assert any(threads.regions() == {EAST, WEST} for _ in range(100))


def test_while_a_region_is_slow_what_the_store_has_of_it_is_served(threads: Threads) -> None:
    threads.prices.let.set()
    threads.start(patience_s=LONGEST_S)
    assert threads.regions() == {EAST, WEST}
    threads.prices.let.clear()
    threads.clock.advance(EVERY_S)
    threads.start()
    assert threads.regions() == {EAST, WEST}
    assert threads.board.markets()[WEST].read_at == START


def test_sync_waits_for_the_read_that_is_under_way(threads: Threads) -> None:
    threads.regions()
    since = START - dt.timedelta(days=90)
    assert threads.board.sync([WEST], [G4DN], since, timeout_s=0.01) == {WEST: None}
    threads.prices.let.set()
    told = threads.board.sync([WEST], [G4DN], since, timeout_s=LONGEST_S)[WEST]
    assert told is not None
    assert (told.rows, told.new_rows) == (2, 0)
    assert threads.prices.most_at_once == 1
