"""Placement scores and the Spot Advisor: asked seldom, kept, and priors only."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import pytest
from structlog.testing import capture_logs

from spotrunner.adapters.store.market_memory import MemoryMarket
from spotrunner.core.catalogue import TYPES, USABLE
from spotrunner.core.model import Market, Pool
from spotrunner.daemon.board import Board
from spotrunner.daemon.hints import SCORED_TYPES, Hints, priors, scored_types
from spotrunner.ports import Advice, AdvisorPage, Memo, NotAuthorized, PortError, Unavailable
from spotrunner.sim.cloud import SimPrices, VirtualClock
from spotrunner.sim.faults import Fault
from spotrunner.sim.setups import G4DN, G5, P3, plain_setup
from spotrunner.sim.stage import Inline
from spotrunner.sim.values import ApiError, Manners
from spotrunner.sim.world import World

START = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.timezone.utc)
EAST, WEST = "us-east-1", "eu-west-1"
REGIONS = (EAST, WEST)
HOUR_S, DAY_S = 3600, 86_400
SCORES_EVERY_S = 6 * HOUR_S
POOL = Pool(region=EAST, zone="us-east-1a", instance_type=G4DN)


class Scored(SimPrices):
    def __init__(self, world: World, clock: VirtualClock) -> None:
        super().__init__(world, clock)
        self.asked: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self.failing = ""  # a region

    def scores(
        self, regions: Sequence[str], instance_types: Sequence[str]
    ) -> Mapping[tuple[str, str], int]:
        self.asked.append((tuple(regions), tuple(instance_types)))
        if self.failing in regions:
            raise Unavailable("no answer")
        return super().scores([it for it in regions if it in REGIONS], instance_types)


class File:
    """The advisor's file, which names its version as the server would."""

    def __init__(self) -> None:
        self.page = AdvisorPage(
            etag='"1"',
            advice={
                (EAST, G4DN): Advice(saved_fraction=0.7, band=1),
                (WEST, G4DN): Advice(saved_fraction=-0.1, band=4),
                (EAST, "m5.large"): Advice(saved_fraction=0.5, band=0),
            },
        )
        self.asked: list[str | None] = []
        self.error: Exception | None = None

    def read(self, etag: str | None) -> AdvisorPage | None:
        self.asked.append(etag)
        if self.error is not None:
            raise self.error
        return None if etag == self.page.etag else self.page


class Scene:
    def __init__(self) -> None:
        self.clock = VirtualClock(START)
        self.world = World(plain_setup(START, manners=Manners(throttled=False)), 1)
        self.prices = Scored(self.world, self.clock)
        self.file = File()
        self.market = MemoryMarket()
        self.board = Board(self.prices, self.clock, Inline(), 600, market=self.market)
        self.board.look(REGIONS, [G4DN, G5, P3])
        self.start()

    def start(self, types: Sequence[str] = (), regions: Sequence[str] = REGIONS) -> None:
        self.hints = Hints(
            prices=self.prices,
            advisor=self.file,
            market=self.market,
            clock=self.clock,
            executor=Inline(),
            regions=regions,
            types=types,
            scores_every_s=SCORES_EVERY_S,
        )

    def asked(self) -> list[tuple[str, ...]]:
        """The types of the questions since the last look."""
        asked, self.prices.asked = self.prices.asked, []
        assert all(regions == tuple(sorted(REGIONS)) for regions, _ in asked)
        return [types for _, types in asked]

    def scores(self) -> Mapping[Pool, int]:
        return self.hints.scores(self.board.markets())

    def bands(self) -> Mapping[Pool, int]:
        return self.hints.bands(self.board.markets())


@pytest.fixture
def scene() -> Scene:
    return Scene()


# -- placement scores --------------------------------------------------------------------------


@pytest.mark.parametrize("gpu", sorted({TYPES[name].gpu.name for name in USABLE}))
def test_each_gpu_is_asked_about_with_three_usable_types(gpu: str) -> None:
    chosen = scored_types(gpu)
    assert len(set(chosen)) == SCORED_TYPES
    assert set(chosen) <= set(USABLE)
    assert TYPES[chosen[0]].gpu.name == gpu
    assert chosen == scored_types(gpu)


def test_a_gpu_with_few_types_is_asked_about_with_those_like_it() -> None:
    assert scored_types("H200") == ("p5en.48xlarge", "p5.48xlarge", "p4de.24xlarge")


def test_one_question_a_gpu_in_six_hours(scene: Scene) -> None:
    """Only for the GPUs that somebody uses."""
    for _ in range(4 * SCORES_EVERY_S // 600):
        scene.hints.look([G4DN, "g4dn.2xlarge"])
        scene.clock.advance(600)
    assert scene.asked() == [scored_types("T4")] * 4
    scene.start(types=[G5])
    scene.hints.look([])
    assert scene.asked() == [scored_types("A10G")]


def test_scores_are_of_pools_by_the_accounts_own_zone_names(scene: Scene) -> None:
    assert scene.scores() == {}
    for kind in scored_types("T4"):
        pool = Pool(region=EAST, zone="us-east-1a", instance_type=kind)
        if kind == G4DN:
            scene.world.set_capacity(START, pool, False, market=Market.SPOT)
    scene.hints.look([G4DN])
    scores = scene.scores()
    assert {pool.instance_type for pool in scores} == {G4DN}
    assert scores[POOL] < scores[Pool(region=EAST, zone="us-east-1b", instance_type=G4DN)]
    assert {pool.region for pool in scores} == set(REGIONS)


def test_scores_outlive_a_restart_and_silence(scene: Scene) -> None:
    scene.hints.look([G4DN])
    known = scene.scores()
    limit = ApiError("MaxConfigLimitExceeded", "You have exceeded your maximum.")
    scene.world.script(Fault(action="GetSpotPlacementScores", error=limit, times=2))
    scene.clock.advance(SCORES_EVERY_S)
    scene.start()
    scene.asked()
    for _ in range(11):
        scene.hints.look([G4DN])
        assert scene.scores() == known
        source = scene.hints.sources()["placement scores of T4"]
        assert source.read_at == START
        assert "exceeded your maximum" in source.trouble
        scene.clock.advance(HOUR_S)
    assert len(scene.asked()) == 2, "a limit is not asked against"
    scene.clock.advance(HOUR_S)
    scene.hints.look([G4DN])
    assert scene.hints.sources()["placement scores of T4"].trouble == ""


def test_ten_regions_that_fail_take_nothing_from_the_others(scene: Scene) -> None:
    """Each question has its own trouble and is asked again by itself; both outlive a restart."""
    regions = [WEST, *(f"eu-west-{n}" for n in range(2, 11)), EAST]
    scene.start(regions=regions)
    scene.prices.failing = WEST
    scene.hints.look([G4DN])
    assert {pool.region for pool in scene.scores()} == {EAST}
    troubles = {name: source.trouble for name, source in scene.hints.sources().items()}
    assert troubles == {
        "placement scores of T4 in eu-west-1 to eu-west-9": "no answer",
        "placement scores of T4 in us-east-1": "",
        "Spot Advisor": "",
    }
    scene.prices.failing = ""
    scene.clock.advance(HOUR_S)
    scene.prices.asked = []
    scene.hints.look([G4DN])
    assert [len(where) for where, _ in scene.prices.asked] == [10]
    known = scene.scores()
    assert {pool.region for pool in known} == {EAST, WEST}
    scene.start(regions=regions)
    scene.hints.look([G4DN])
    assert scene.scores() == known
    assert len(scene.prices.asked) == 1


def test_a_damaged_memo_of_scores_is_asked_for_again(scene: Scene) -> None:
    scene.market.remember(Memo(key="scores/T4", at=START, body='[["us-east-1","use1-az4",99]]'))
    scene.hints.look([G4DN])
    assert scene.asked() == [scored_types("T4")]
    assert scene.scores()[POOL] <= 10


# -- the advisor -------------------------------------------------------------------------------


def test_the_advisor_is_read_once_a_day_by_its_version(scene: Scene) -> None:
    for _ in range(3 * 24):
        scene.hints.look([])
        scene.clock.advance(HOUR_S)
    assert scene.file.asked == [None, '"1"', '"1"']
    assert scene.bands()[POOL] == 1
    assert {pool.instance_type for pool in scene.bands()} == {G4DN}
    assert scene.hints.sources()["Spot Advisor"].read_at == START + dt.timedelta(days=2)


def test_a_new_version_replaces_the_old_one(scene: Scene) -> None:
    scene.hints.look([])
    advice = {(EAST, G4DN): Advice(saved_fraction=0.7, band=3)}
    scene.file.page = AdvisorPage(etag='"2"', advice=advice)
    scene.clock.advance(DAY_S)
    scene.hints.look([])
    assert set(scene.bands().values()) == {3}


@pytest.mark.parametrize(("error", "tries"), [(Unavailable("503"), 24), (NotAuthorized("403"), 1)])
def test_an_advisor_that_is_down_leaves_what_it_said(
    scene: Scene, error: PortError, tries: int
) -> None:
    scene.hints.look([])
    known = scene.bands()
    scene.clock.advance(DAY_S)
    scene.start()
    scene.file.error = error
    scene.file.asked = []
    for _ in range(24):
        scene.hints.look([])
        scene.clock.advance(HOUR_S)
    assert len(scene.file.asked) == tries
    assert scene.bands() == known
    assert scene.hints.sources()["Spot Advisor"].trouble == str(error)


def test_a_bug_in_a_read_is_the_sources_trouble_and_ends_no_round(scene: Scene) -> None:
    scene.hints.look([])
    known = scene.bands()
    scene.clock.advance(DAY_S)
    scene.file.error = KeyError("instance_types")
    scene.file.asked = []
    with capture_logs() as logged:
        for _ in range(6):
            scene.hints.look([])
            scene.clock.advance(600)
    assert len(scene.file.asked) == 1, "it is asked again after an hour"
    assert [line["log_level"] for line in logged] == ["error"]
    assert scene.bands() == known
    assert "KeyError" in scene.hints.sources()["Spot Advisor"].trouble
    scene.file.error = None
    scene.clock.advance(600)
    scene.hints.look([])
    assert scene.hints.sources()["Spot Advisor"].trouble == ""


def test_a_damaged_memo_of_the_advisor_is_read_without_its_version(scene: Scene) -> None:
    scene.market.remember(Memo(key="advisor", at=START, body="{}", etag='"1"'))
    scene.hints.look([])
    assert scene.file.asked == [None]
    assert scene.bands()[POOL] == 1


# -- priors ------------------------------------------------------------------------------------

OTHER = Pool(region=WEST, zone="eu-west-1a", instance_type=G4DN)


@pytest.mark.parametrize(
    ("score", "band", "share"),
    [
        (1, None, 0.1),
        (3, None, 0.3),
        (9, 4, 0.9),
        (10, None, 0.95),
        (None, 0, 0.9),
        (None, 2, 0.7),
        (None, 4, 0.5),
    ],
)
def test_a_score_tells_more_than_a_band(score: int | None, band: int | None, share: float) -> None:
    scores = {} if score is None else {POOL: score}
    bands = {} if band is None else {POOL: band}
    assert priors(scores, {**bands, OTHER: 1}) == {POOL: share, OTHER: 0.8}
