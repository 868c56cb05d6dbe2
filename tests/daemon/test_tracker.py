"""The price history that the daemon keeps: whole, whatever the sources do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence

import pytest
from structlog.testing import capture_logs

from spotrunner.adapters.aws.prices import AwsPrices
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.store.market_memory import MemoryMarket
from spotrunner.core.history import Span, holes
from spotrunner.core.model import Market, Pool, Quote
from spotrunner.daemon.board import FORGOTTEN_AFTER, Board
from spotrunner.daemon.memos import read_spans
from spotrunner.daemon.remembered import HISTORY
from spotrunner.daemon.tracker import KEPT, OVERLAP
from spotrunner.lab.endpoint.ec2 import Awkwardness
from spotrunner.lab.endpoint.server import LabEndpoint
from spotrunner.ports import MarketStore, Memo, Prices, Throttled, Unavailable, ZoneQuote
from spotrunner.sim.cloud import SimPrices, VirtualClock
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.refusals import throttled
from spotrunner.sim.setups import G4DN, G5, P3, plain_setup
from spotrunner.sim.stage import Inline
from spotrunner.sim.values import ApiError, Manners
from spotrunner.sim.world import World
from tests.contracts.conftest import set_keys

START = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.timezone.utc)
EVERY_S = 600
EAST, WEST = "us-east-1", "eu-west-1"
POOL = Pool(region=EAST, zone="us-east-1a", instance_type=G4DN)
ZONE_ID = "use1-az4"
HOUR_S = 3600
HISTORY_ACTION = "DescribeSpotPriceHistory"
FOREVER = 1_000_000


class Watched(SimPrices):
    """Notes since when prices were asked for, of which types; adds rows to what it answers."""

    def __init__(self, world: World, clock: VirtualClock) -> None:
        super().__init__(world, clock)
        self.asked: list[tuple[dt.datetime, tuple[str, ...]]] = []
        self.more: list[Quote] = []
        self.on_demand_asked = 0
        # The next question for this type alone is throttled.
        self.throttle_next = ""

    def quotes(
        self, region: str, instance_types: Sequence[str], since: dt.datetime
    ) -> tuple[Quote, ...]:
        if tuple(instance_types) == (self.throttle_next,):
            self.throttle_next = ""
            raise Throttled("Request limit exceeded.")
        found = super().quotes(region, instance_types, since)
        if region == EAST:
            self.asked.append((since, tuple(instance_types)))
            return (*self.more, *found)
        return found

    def on_demand(self, region: str, instance_types: Sequence[str]) -> Mapping[str, int]:
        self.on_demand_asked += 1
        return super().on_demand(region, instance_types)


class Scene:
    """A market whose time and prices are moved by hand, and a daemon that reads it."""

    def __init__(self, market: MarketStore | None = None, types: Sequence[str] = ()) -> None:
        self.clock = VirtualClock(START)
        self.world = World(plain_setup(START, manners=Manners(throttled=False)), 1)
        self.prices = Watched(self.world, self.clock)
        self.market = market or MemoryMarket()
        self.types = types
        self.start()

    def start(self, prices: Prices | None = None) -> None:
        """A new daemon over the same store."""
        self.board = Board(
            prices or self.prices,
            self.clock,
            Inline(),
            EVERY_S,
            market=self.market,
            types=self.types,
        )

    def asked(self) -> list[tuple[dt.datetime, tuple[str, ...]]]:
        """The questions for prices since the last look."""
        asked, self.prices.asked = self.prices.asked, []
        return asked

    def look(self, *types: str) -> None:
        self.board.look([EAST], types or [G4DN])

    def hours(self, count: int, *, ask: bool = True) -> None:
        """The price moves every hour; the daemon looks six times."""
        for _ in range(count):
            self.move()
            for _ in range(6):
                self.clock.advance(EVERY_S)
                if ask:
                    self.look()

    def move(self) -> None:
        now = self.clock.now()
        hours = int((now - START).total_seconds()) // HOUR_S
        self.world.set_price(now, POOL, 150_000 + 100 * (hours + 1))

    def stored(self, pool: Pool = POOL, zone_id: str = ZONE_ID) -> list[tuple[dt.datetime, int]]:
        rows = self.market.zone_quotes(EAST, [pool.instance_type], START - 2 * KEPT)
        return [(it.at, it.price_usd_micros_hour) for it in rows if it.zone_id == zone_id]

    def told(self, pool: Pool = POOL) -> list[tuple[dt.datetime, int]]:
        """What EC2 itself says now of the whole time."""
        quotes = SimPrices(self.world, self.clock).quotes(
            EAST, [pool.instance_type], self.clock.now() - KEPT
        )
        return [(it.at, it.price_usd_micros_hour) for it in quotes if it.pool == pool]

    def hole(self, instance_type: str = G4DN) -> tuple[Span, ...]:
        now = self.clock.now()
        spans = read_spans(self.market, EAST, instance_type)
        return holes(spans, now - KEPT + OVERLAP, now)

    def trouble(self) -> str:
        return self.board.markets()[EAST].trouble

    def silence(self, action: str = "*", lose: Lose | None = Lose.BEFORE, **how: object) -> None:
        self.world.script(
            Fault(action=action, region=EAST, lose=lose, times=FOREVER, **how)  # type: ignore[arg-type]
        )

    def spot(self) -> dict[str, int]:
        offers = self.board.offers([EAST], [G4DN])
        return {it.pool.zone: it.price_usd_micros_hour for it in offers if it.market is Market.SPOT}


@pytest.fixture
def scene() -> Scene:
    return Scene()


# -- what is read ------------------------------------------------------------------------------


def test_the_first_look_reads_all_that_ec2_remembers(scene: Scene) -> None:
    """The last days first, which rounds need, then each type by itself."""
    scene.look(G4DN, G5)
    both = (G4DN, G5)
    assert scene.asked() == [
        (START - HISTORY, both),
        (START - KEPT, (G4DN,)),
        (START - KEPT, (G5,)),
    ]
    assert scene.stored() == scene.told()
    assert scene.hole() == ()


def test_later_looks_read_what_is_new_and_an_hour_before(scene: Scene) -> None:
    scene.look()
    scene.asked()
    scene.hours(5)
    asked = scene.asked()
    assert len(asked) == 30
    assert asked[-1] == (scene.clock.now() - dt.timedelta(seconds=EVERY_S) - OVERLAP, (G4DN,))
    assert scene.stored() == scene.told()
    assert len(scene.stored()) == 6


def test_a_type_that_is_asked_for_later_gets_its_own_90_days(scene: Scene) -> None:
    scene.look(G4DN)
    scene.clock.advance(EVERY_S)
    scene.asked()
    scene.look(G4DN, P3)
    now = scene.clock.now()
    assert scene.asked() == [(now - HISTORY, (G4DN, P3)), (now - KEPT, (P3,))]
    assert scene.hole(P3) == ()


def test_the_types_of_the_settings_are_read_without_any_job() -> None:
    scene = Scene(types=[G5])
    for _ in range(3):
        scene.board.offers([EAST], [])
        scene.clock.advance(EVERY_S)
    assert [types for _, types in scene.asked()] == [(G5,)] * 4
    scene.clock.advance(FORGOTTEN_AFTER.total_seconds() + EVERY_S)
    assert scene.board.offers([EAST], []) == ()
    assert [types for _, types in scene.asked()] == [(G5,)]
    assert scene.board.quotes()


def test_on_demand_prices_are_read_seldom(scene: Scene) -> None:
    scene.look()
    scene.hours(3)
    assert scene.prices.on_demand_asked == 4
    assert len(scene.asked()) == 20


def test_prices_are_kept_by_zone_id_and_shown_by_zone_name(scene: Scene) -> None:
    scene.look()
    rows = scene.market.zone_quotes(EAST, [G4DN], START - KEPT)
    assert {row.zone_id for row in rows} == {"use1-az4", "use1-az6", "use1-az2"}
    assert set(scene.spot()) == {"us-east-1a", "us-east-1b", "us-east-1d"}


# -- restarts ----------------------------------------------------------------------------------


def test_a_restart_goes_on_where_the_last_daemon_stopped(scene: Scene) -> None:
    scene.look()
    scene.hours(2)
    stopped_at = scene.clock.now()
    scene.hours(3, ask=False)
    scene.asked()
    scene.start()
    scene.look()
    assert scene.asked() == [(stopped_at - OVERLAP, (G4DN,))]
    assert scene.stored() == scene.told()


def test_a_restart_during_an_outage_has_the_last_good_prices_with_their_age(scene: Scene) -> None:
    scene.look()
    scene.hours(2)
    known, read_at = scene.spot(), scene.clock.now()
    offers = scene.board.offers([EAST], [G4DN])
    scene.silence()
    scene.hours(1, ask=False)
    scene.start()
    assert scene.board.offers([EAST], [G4DN]) == offers
    market = scene.board.markets()[EAST]
    # On-demand prices are an hour old by themselves.
    assert market.prices.read_at == read_at == market.offered.read_at
    assert market.on_demand.read_at is not None
    assert "spot prices" in market.trouble
    scene.world.faults.clear()
    scene.clock.advance(EVERY_S / 10)
    assert scene.spot() == {**known, POOL.zone: scene.told()[-1][1]}
    assert scene.trouble() == ""


def test_a_damaged_memo_is_as_good_as_none(scene: Scene) -> None:
    scene.look()
    for key in (f"prices/{EAST}/{G4DN}", f"zones/{EAST}", f"on-demand/{EAST}/{G4DN}"):
        scene.market.remember(Memo(key=key, at=START, body='{"not": "it"'))
    scene.asked()
    scene.start()
    with capture_logs() as logs:
        scene.look()
    assert {it["key"] for it in logs if "damaged" in it["event"]} >= {f"zones/{EAST}"}
    assert [since for since, _ in scene.asked()] == [START - HISTORY, START - KEPT]
    assert len(scene.spot()) == 3


# -- outages -----------------------------------------------------------------------------------


def test_after_a_day_of_outage_nothing_is_missing(scene: Scene) -> None:
    scene.look()
    scene.hours(3)
    stopped_at, known = scene.clock.now(), scene.spot()
    scene.silence()
    scene.hours(24)
    assert scene.spot() == known
    market = scene.board.markets()[EAST]
    assert market.prices.read_at == stopped_at
    assert all(f"{name}: " in market.trouble for name in market.sources)
    assert scene.hole() == (Span(begin=stopped_at, end=scene.clock.now()),)
    scene.world.faults.clear()
    scene.clock.advance(EVERY_S / 10)
    scene.asked()
    scene.look()
    assert scene.asked() == [(stopped_at - OVERLAP, (G4DN,))]
    assert scene.stored() == scene.told()
    assert len(scene.stored()) == 28
    assert scene.hole() == ()
    assert scene.trouble() == ""


def test_after_four_days_of_outage_the_last_days_come_first(scene: Scene) -> None:
    scene.look()
    stopped_at = scene.clock.now()
    scene.silence()
    scene.hours(96)
    scene.world.faults.clear()
    scene.clock.advance(EVERY_S / 10)
    scene.asked()
    scene.look()
    now = scene.clock.now()
    assert scene.asked() == [(now - HISTORY, (G4DN,)), (stopped_at - OVERLAP, (G4DN,))]
    assert scene.stored() == scene.told()
    assert scene.hole() == ()


def test_what_ec2_has_forgotten_stays_a_hole(scene: Scene) -> None:
    scene.look()
    scene.clock.advance((KEPT + dt.timedelta(days=10)).total_seconds())
    scene.look()
    spans = read_spans(scene.market, EAST, G4DN)
    assert len(spans) == 2
    assert spans[1].begin - spans[0].end == dt.timedelta(days=10)


def test_a_failed_read_is_repeated_soon_but_not_in_every_round(scene: Scene) -> None:
    """And it is spoken of once."""
    scene.silence(HISTORY_ACTION)
    tried = set()
    with capture_logs() as logs:
        for _ in range(40):
            scene.look()
            tried.add(scene.board.markets()[EAST].prices.tried_at)
            scene.clock.advance(15)
    assert len(tried) == 600 / 60
    assert [it["what"] for it in logs if it["event"] == "not read"] == ["spot prices"]


def test_throttling_in_the_middle_of_90_days_keeps_what_was_got(scene: Scene) -> None:
    """The last days are there, so that rounds go on; the rest comes with the next read."""
    scene.prices.throttle_next = G5
    scene.look(G4DN, G5)
    assert scene.trouble() == "spot prices: Request limit exceeded."
    assert scene.hole(G4DN) == ()
    (missing,) = scene.hole(G5)
    assert missing.end == START - HISTORY
    assert {it.pool.instance_type for it in scene.board.offers([EAST], [G4DN, G5])} == {G4DN, G5}
    scene.clock.advance(EVERY_S / 10)
    scene.look(G4DN, G5)
    assert scene.hole(G5) == ()
    assert scene.trouble() == ""


def test_what_is_denied_is_not_asked_for_any_sooner(scene: Scene) -> None:
    denied = ApiError("UnauthorizedOperation", "You are not authorized.", 403)
    scene.silence(HISTORY_ACTION, None, error=denied)
    for _ in range(4):
        for _ in range(10):
            scene.look()
            scene.clock.advance(EVERY_S / 10)
        assert "spot prices: " in scene.trouble()
    tried = scene.board.markets()[EAST].prices.tried_at
    assert tried == START + dt.timedelta(seconds=3 * EVERY_S)


@pytest.mark.parametrize(
    ("action", "name"),
    [
        (HISTORY_ACTION, "spot prices"),
        ("DescribeInstanceTypeOfferings", "offerings"),
        ("DescribeAvailabilityZones", "zones"),
        ("GetProducts", "on-demand prices"),
    ],
)
def test_each_source_fails_by_itself(scene: Scene, action: str, name: str) -> None:
    scene.look()
    known = scene.spot()
    scene.silence(action)
    scene.hours(2)
    market = scene.board.markets()[EAST]
    assert market.trouble.startswith(f"{name}: ")
    now = scene.clock.now()
    for other, source in market.sources.items():
        assert source.read_at is not None
        assert (source.read_at < now - dt.timedelta(hours=1)) is (other == name)
    assert market.read_at == market.sources[name].read_at
    if action != HISTORY_ACTION:
        assert scene.spot() == {**known, POOL.zone: scene.told()[-1][1]}


def test_without_the_zones_ids_there_are_offers_and_nothing_is_kept(scene: Scene) -> None:
    scene.silence("DescribeAvailabilityZones")
    scene.look()
    assert len(scene.spot()) == 3
    assert scene.stored() == []
    assert [since for since, _ in scene.asked()] == [START - HISTORY], "no more than is needed"
    scene.world.faults.clear()
    scene.clock.advance(EVERY_S)
    scene.look()
    assert scene.stored() == scene.told()
    assert scene.hole() == ()


def test_one_region_that_is_down_takes_nothing_from_another(scene: Scene) -> None:
    scene.silence()
    offers = scene.board.offers([EAST, WEST], [G4DN])
    assert {offer.pool.region for offer in offers} == {WEST}
    markets = scene.board.markets()
    assert markets[EAST].trouble
    assert markets[EAST].read_at is None
    assert markets[WEST].read_at == START


class Deaf(MemoryMarket):
    """A store that may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False

    def add_quotes(self, quotes: Sequence[ZoneQuote]) -> int:
        self._may_fail()
        return super().add_quotes(quotes)

    def memo(self, key: str) -> Memo | None:
        self._may_fail()
        return super().memo(key)

    def _may_fail(self) -> None:
        if self.fails:
            raise Unavailable("the store: disk full")


def test_a_store_that_fails_is_a_trouble_and_no_end() -> None:
    market = Deaf()
    scene = Scene(market)
    scene.look()
    known = scene.spot()
    market.fails = True
    scene.hours(1)
    assert "disk full" in scene.trouble()
    assert scene.spot() == known
    market.fails = False
    scene.hours(1)
    assert scene.trouble() == ""
    assert scene.stored() == scene.told()


# -- rows --------------------------------------------------------------------------------------


def _row(price: object, at: dt.datetime = START, pool: Pool = POOL) -> Quote:
    return Quote(pool=pool, at=at, price_usd_micros_hour=price)  # type: ignore[arg-type]


LATER = START + dt.timedelta(days=2)
ELSEWHERE = Pool(region=WEST, zone="eu-west-1a", instance_type=G4DN)


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        (_row(0), "its price is no positive number"),
        (_row(-5), "its price is no positive number"),
        (_row(float("nan")), "its price is no positive number"),
        (_row(float("inf")), "its price is no positive number"),
        (_row(True), "its price is no positive number"),
        (_row(150_000, START.replace(tzinfo=None)), "its time has no zone"),
        (_row(150_000, LATER), "its time has not come"),
        (_row(150_000, pool=ELSEWHERE), "nobody asked for this pool"),
    ],
)
def test_bad_rows_are_left_out_and_spoken_of_once(scene: Scene, row: Quote, wrong: str) -> None:
    scene.prices.more = [row, row]
    with capture_logs() as logs:
        scene.look()
        scene.hours(2)
    told = [it for it in logs if it["event"] == "a spot price is left out"]
    assert [it["wrong"] for it in told] == [wrong]
    assert told[0]["pool"] == str(row.pool)
    assert scene.stored() == scene.told()
    assert scene.trouble() == ""


def test_a_price_that_has_not_begun_by_our_clock_waits_for_it(scene: Scene) -> None:
    """Our clock is carried on between two answers of S3, and may be behind."""
    begins_at = START + dt.timedelta(minutes=15)
    scene.prices.more = [_row(190_000, begins_at)]
    with capture_logs() as logs:
        scene.look()
        assert scene.stored() == scene.told()
        scene.clock.advance(EVERY_S)
        scene.look()
    assert scene.stored()[-1] == (begins_at, 190_000), "by then it is near enough"
    assert scene.spot()[POOL.zone] == 150_000, "but not in force"
    assert logs == []


def test_rows_out_of_order_and_twice_are_the_same_rows(scene: Scene) -> None:
    scene.look()
    scene.hours(3, ask=False)
    known = scene.told()
    scene.prices.more = [_row(price, at) for at, price in reversed(known)] * 2
    with capture_logs() as logs:
        scene.look()
    assert scene.stored() == known
    assert logs == []
    quotes = scene.board.quotes()[POOL]
    assert [quote.at for quote in quotes] == sorted(quote.at for quote in quotes)


def test_of_two_prices_for_one_time_the_dearer_counts(scene: Scene) -> None:
    at = scene.told()[-1][0]
    scene.prices.more = [_row(140_000, at), _row(170_000, at)]
    with capture_logs() as logs:
        scene.look()
    assert scene.stored() == [(at, 170_000)]
    assert scene.spot()[POOL.zone] == 170_000
    assert {it["wrong"] for it in logs} == {"another price for the same time"}


# -- asked for by hand -------------------------------------------------------------------------


def test_sync_reads_everything_again_and_counts_what_is_new(scene: Scene) -> None:
    scene.look()
    scene.hours(2, ask=False)
    since = scene.clock.now() - KEPT
    readings = scene.board.sync([EAST, WEST], [G4DN], since, 1.0)
    east, west = readings[EAST], readings[WEST]
    assert east is not None
    assert west is not None
    assert (east.rows, east.new_rows, east.trouble) == (5, 2, "")
    assert (west.rows, west.new_rows) == (2, 2)
    again = scene.board.sync([EAST], [], since, 1.0)[EAST]
    assert again is not None
    assert (again.rows, again.new_rows) == (5, 0)
    assert scene.stored() == scene.told()
    assert scene.spot()[POOL.zone] == scene.told()[-1][1]


def test_sync_fills_a_hole_of_a_store_that_lost_rows(scene: Scene) -> None:
    """Restored from a backup whose words were newer than its rows."""
    scene.look()
    scene.hours(5)
    words = scene.market.memo(f"prices/{EAST}/{G4DN}")
    assert words is not None
    scene.market = MemoryMarket()
    scene.market.remember(words)
    scene.start()
    scene.board.sync([EAST], [G4DN], scene.clock.now() - KEPT, 1.0)
    assert scene.stored() == scene.told()


# -- over EC2's wire ---------------------------------------------------------------------------


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """The emulated AWS, with pages of seven rows."""
    set_keys(monkeypatch)
    scene = Scene()
    wire = Awkwardness(halves=True, throttled_share=0.0)
    with LabEndpoint(scene.world, scene.clock, awkwardness=wire) as endpoint:
        aws = Aws(endpoint_url=endpoint.url)
        scene.start(AwsPrices(aws, rows_at_once=7))
        yield scene
        aws.close()


def test_a_day_of_outage_and_throttling_on_the_wire_leaves_no_hole(wired: Scene) -> None:
    for _ in range(30):
        wired.move()
        wired.clock.advance(HOUR_S)
    wired.look()
    assert wired.stored() == wired.told()
    wired.silence()
    for _ in range(24):
        wired.move()
        wired.clock.advance(HOUR_S)
    wired.look()
    assert wired.trouble()
    wired.world.faults.clear()
    wired.world.script(Fault(action=HISTORY_ACTION, error=throttled(), times=1))
    wired.clock.advance(EVERY_S)
    wired.look()
    wired.clock.advance(EVERY_S)
    wired.look()
    assert wired.trouble() == ""
    assert wired.stored() == wired.told()
    assert len(wired.stored()) == 55
    assert wired.hole() == ()
