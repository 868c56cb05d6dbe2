"""What the board reads of a market, and when."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
from structlog.testing import capture_logs

from spotrunner.adapters.store.market_memory import MemoryMarket
from spotrunner.core.model import Market, Pool, Quote
from spotrunner.daemon import board
from spotrunner.daemon.board import FORGOTTEN_AFTER, Board
from spotrunner.daemon.tracker import Reading
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
        self.bug: Exception | None = None

    def quotes(
        self, region: str, instance_types: Sequence[str], since: dt.datetime
    ) -> tuple[Quote, ...]:
        self.read.append((region, tuple(instance_types)))
        if self.bug is not None:
            raise self.bug
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
        self.since: list[dt.datetime] = []

    def quotes(
        self, region: str, instance_types: Sequence[str], since: dt.datetime
    ) -> tuple[Quote, ...]:
        if region == WEST:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            assert self.let.wait(LONGEST_S)
            self.at_once -= 1
            self.since.append(since)
        return super().quotes(region, instance_types, since)


LONGEST_S = 20.0
WORKERS = 4
SYNCED_SINCE = START - dt.timedelta(days=1)


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

    def sync(
        self, regions: Sequence[str], timeout_s: float = LONGEST_S
    ) -> Mapping[str, Reading | None]:
        return self.board.sync(regions, [G4DN], SYNCED_SINCE, timeout_s)

    def submit(self, work: Callable[[], object]) -> None:
        self._executor.submit(work)

    def finish(self) -> None:
        """All that is under way comes to its end."""
        self.prices.let.set()
        self._executor.shutdown()

    def regions(self) -> set[str]:
        return {offer.pool.region for offer in self.board.offers([EAST, WEST], [G4DN])}


@pytest.fixture
def threads() -> Iterator[Threads]:
    with ThreadPoolExecutor(WORKERS) as executor:
        scene = Threads(executor)
        yield scene
        scene.prices.let.set()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each wait, for how many reads."""
    waits: list[int] = []

    def counted(reads: Collection[Future[Reading]], timeout: float) -> object:
        waits.append(len(reads))
        return wait(reads, timeout=timeout)

    monkeypatch.setattr(board, "wait", counted)
    return waits


def test_a_slow_region_is_waited_for_once_and_answers_later(
    threads: Threads, waits: list[int]
) -> None:
    threads.sync([EAST])
    assert threads.regions() == {EAST}
    assert waits == [1, 1], "for the sync, and for the western region"
    for _ in range(3):
        assert threads.regions() == {EAST}
    assert waits == [1, 1], "not for the same read again"
    threads.finish()
    assert threads.regions() == {EAST, WEST}


def test_a_region_that_is_known_is_not_waited_for(threads: Threads) -> None:
    """The patience is so long that a wait would show."""
    threads.start(patience_s=LONGEST_S)
    threads.prices.let.set()
    assert threads.regions() == {EAST, WEST}
    threads.prices.let.clear()
    threads.clock.advance(EVERY_S)
    assert threads.regions() == {EAST, WEST}
    assert threads.board.markets()[WEST].read_at == START
    threads.finish()
    threads.regions()
    assert threads.board.markets()[WEST].prices.read_at == threads.clock.now()


def test_a_sync_keeps_no_round_waiting(threads: Threads, waits: list[int]) -> None:
    assert threads.sync([WEST], timeout_s=0.0) == {WEST: None}
    assert waits == [1]
    threads.board.look([WEST], [G4DN])
    assert waits == [1]


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


def test_syncs_that_wait_for_the_same_read_are_one_and_hold_no_thread(threads: Threads) -> None:
    threads.regions()
    for _ in range(2 * WORKERS):
        assert threads.sync([WEST], timeout_s=0.0) == {WEST: None}
    told = threads.sync([EAST])[EAST]
    assert told is not None, "a thread was free for it"
    threads.prices.let.set()
    threads.sync([WEST])
    assert threads.prices.since.count(SYNCED_SINCE) == 1


def test_a_sync_that_asks_for_more_widens_the_one_that_waits(threads: Threads) -> None:
    threads.regions()
    threads.sync([WEST], timeout_s=0.0)
    since = START - dt.timedelta(days=90)
    threads.board.sync([WEST], [G5], since, timeout_s=0.0)
    threads.prices.let.set()
    threads.sync([WEST])
    threads.finish()
    assert threads.prices.since[-1] == since
    assert threads.board.look([WEST], [])[WEST].types == {G4DN, G5}


def test_the_check_of_a_region_that_does_not_answer_is_bounded(threads: Threads) -> None:
    for _ in range(WORKERS):
        threads.submit(threads.prices.let.wait)
    told = threads.board.offered([EAST], [G4DN])
    assert isinstance(told[EAST], Unavailable)


# -- bugs of ours ------------------------------------------------------------------------------


def test_a_bug_in_a_read_is_the_regions_trouble_and_ends_no_round(scene: Scene) -> None:
    first = scene.board.offers([EAST], [G4DN])
    scene.clock.advance(EVERY_S)
    scene.prices.bug = KeyError("Location")
    with capture_logs() as logged:
        assert scene.board.offers([EAST], [G4DN]) == first
    assert [line["log_level"] for line in logged] == ["error"]
    assert "KeyError" in scene.board.markets()[EAST].trouble
    assert scene.board.markets()[EAST].read_at == START
    scene.types_read()
    scene.board.offers([EAST], [G4DN])
    assert scene.types_read() == set(), "it is not asked again in every round"
    scene.prices.bug = None
    scene.clock.advance(EVERY_S / 10)
    scene.board.offers([EAST], [G4DN])
    assert not scene.board.markets()[EAST].trouble


def test_a_sync_that_ends_by_a_bug_says_so(scene: Scene) -> None:
    scene.prices.bug = KeyError("Location")
    told = scene.board.sync([EAST], [G4DN], START, timeout_s=1.0)[EAST]
    assert told is not None
    assert "KeyError" in told.trouble
