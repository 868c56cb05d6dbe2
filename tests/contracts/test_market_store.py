"""The contract of ports.MarketStore, over memory and SQLite."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import itertools
import random
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from spotrunner.adapters.store.sqlite import open_store
from spotrunner.ports import MarketStore, Memo, Unavailable, ZoneQuote
from tests.contracts.values import T0, a_zone_quote, at

REGION = "us-east-1"
TYPE = "g4dn.xlarge"
NAIVE = T0.replace(tzinfo=None)
SHANGHAI = dt.timezone(dt.timedelta(hours=8))


def history(market: MarketStore, since: float = 0, until: float | None = None) -> list[ZoneQuote]:
    end = None if until is None else at(until)
    return list(market.zone_quotes(REGION, [TYPE], at(since), end))


# -- what is added -----------------------------------------------------------------------------


def test_a_new_market_knows_nothing(market: MarketStore) -> None:
    assert history(market) == []
    assert market.zone_quotes(REGION, [], at(0)) == ()
    assert market.add_quotes([]) == 0
    assert market.memo("advisor") is None


def test_only_new_quotes_count(market: MarketStore) -> None:
    quotes = [a_zone_quote(n) for n in range(4)]
    assert market.add_quotes(quotes[:3]) == 3
    assert market.add_quotes(quotes[:3]) == 0
    assert market.add_quotes(quotes) == 1
    assert history(market) == quotes


def test_a_known_quote_keeps_its_price(market: MarketStore) -> None:
    quote = a_zone_quote()
    market.add_quotes([quote])
    assert market.add_quotes([dataclasses.replace(quote, price_usd_micros_hour=1)]) == 0
    assert history(market) == [quote]


def test_of_quotes_that_share_a_key_in_one_call_the_first_counts(market: MarketStore) -> None:
    quote, dearer = a_zone_quote(), a_zone_quote(price_usd_micros_hour=900_000)
    assert market.add_quotes([quote, quote, dearer, a_zone_quote(1), quote]) == 2
    assert history(market) == [quote, a_zone_quote(1)]


@pytest.mark.parametrize(
    "other",
    [
        {"region": "eu-west-1"},
        {"zone_id": "use1-az5"},
        {"instance_type": "g5.xlarge"},
        {"at": at(0.000001)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_quote_is_known_by_all_of_its_key(market: MarketStore, other: dict[str, object]) -> None:
    changed = dataclasses.replace(a_zone_quote(price_usd_micros_hour=1), **other)  # type: ignore[arg-type]
    assert market.add_quotes([a_zone_quote(), changed]) == 2
    assert market.zone_quotes(changed.region, [changed.instance_type], changed.at)[-1] == changed


def test_one_time_in_two_zones_of_the_clock_is_one_time(market: MarketStore) -> None:
    assert market.add_quotes([a_zone_quote()]) == 1
    assert market.add_quotes([a_zone_quote(at=T0.astimezone(SHANGHAI))]) == 0
    found = market.zone_quotes(REGION, [TYPE], T0.astimezone(SHANGHAI), T0.astimezone(SHANGHAI))
    assert found == (a_zone_quote(),)


def test_quotes_may_come_in_any_order(market: MarketStore) -> None:
    quotes = [a_zone_quote(n, zone_id=f"use1-az{z}") for n in range(6) for z in (1, 2)]
    mixed = random.Random(7).sample(quotes, len(quotes))
    for part in (mixed[:5], mixed[5:8], mixed[8:]):
        assert market.add_quotes(part) == len(part)
    assert history(market) == quotes


def test_the_same_price_again_is_a_quote(market: MarketStore) -> None:
    """Of a price that is confirmed we know how old it is."""
    assert market.add_quotes([a_zone_quote(0), a_zone_quote(60)]) == 2


def test_prices_of_any_size_come_back(market: MarketStore) -> None:
    prices = [1, 2**31, 2**63 - 1]
    market.add_quotes([a_zone_quote(n, price_usd_micros_hour=p) for n, p in enumerate(prices)])
    assert [quote.price_usd_micros_hour for quote in history(market)] == prices


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("price", [0, -1, float("nan")])
def test_a_price_is_above_0_or_nothing_is_written(market: MarketStore, price: int) -> None:
    wrong = a_zone_quote(1, price_usd_micros_hour=price)
    with pytest.raises(ValueError, match=rf"above 0, found {price} micro-dollars.*{TYPE} in use1"):
        market.add_quotes([a_zone_quote(0), wrong, a_zone_quote(2)])
    assert history(market) == []


def test_times_have_a_zone(market: MarketStore) -> None:
    with pytest.raises(ValueError, match="a quote has no time zone"):
        market.add_quotes([a_zone_quote(), a_zone_quote(at=NAIVE)])
    with pytest.raises(ValueError, match="since has no time zone"):
        market.zone_quotes(REGION, [TYPE], NAIVE)
    with pytest.raises(ValueError, match="until has no time zone"):
        market.zone_quotes(REGION, [TYPE], at(0), NAIVE)
    with pytest.raises(ValueError, match="the memo advisor has no time zone"):
        market.remember(Memo(key="advisor", at=NAIVE, body="{}"))
    assert history(market) == []
    assert market.memo("advisor") is None


def test_a_window_ends_after_it_begins(market: MarketStore) -> None:
    with pytest.raises(ValueError, match="before it begins"):
        history(market, since=1, until=0)


# -- windows -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "until", "wanted"),
    [
        (0, None, [10, 20, 30]),
        (9.999999, None, [10, 20, 30]),
        (10, None, [10, 20, 30]),
        (19.999999, None, [10, 20, 30]),
        (20, None, [20, 30]),
        (25, None, [20, 30]),
        (999, None, [30]),
        (0, 9.999999, []),
        (0, 10, [10]),
        (15, 29.999999, [10, 20]),
        (15, 30, [10, 20, 30]),
        (15, 15, [10]),
        (20, 20, [20]),
        (999, 1000, [30]),
    ],
)
def test_a_window_begins_with_what_is_in_force(
    market: MarketStore, since: float, until: float | None, wanted: list[int]
) -> None:
    market.add_quotes([a_zone_quote(n) for n in (30, 10, 20)])
    assert history(market, since, until) == [a_zone_quote(n) for n in wanted]


def test_in_force_is_one_of_each_zone_and_type(market: MarketStore) -> None:
    """However long ago it was, and whatever the others did since."""
    year = -365 * 86_400
    old = a_zone_quote(year, zone_id="use1-az1")
    newer = [a_zone_quote(n, zone_id="use1-az2") for n in (-10, -5, 3)]
    late = a_zone_quote(4, zone_id="use1-az3")
    other = [a_zone_quote(n, instance_type="g5.xlarge", zone_id="use1-az1") for n in (-20, -10)]
    market.add_quotes([*newer, old, late, *other])
    found = market.zone_quotes(REGION, ["g5.xlarge", TYPE], at(0))
    assert found == (old, other[1], newer[1], newer[2], late)


def test_only_what_is_asked_for_is_found(market: MarketStore) -> None:
    here = [a_zone_quote(), a_zone_quote(instance_type="g5.xlarge")]
    there = a_zone_quote(region="eu-west-1", zone_id="euw1-az1")
    market.add_quotes([*here, there])
    assert market.zone_quotes(REGION, ["g5.xlarge"], at(0)) == (here[1],)
    assert market.zone_quotes("eu-west-1", [TYPE, "g5.xlarge"], at(0)) == (there,)
    assert market.zone_quotes(REGION, ["p9.huge", TYPE, TYPE], at(0)) == (here[0],)
    assert market.zone_quotes(REGION, ["p9.huge"], at(0)) == ()
    assert market.zone_quotes(REGION, ["g4dn", "%", "G4DN.xlarge"], at(0)) == ()
    assert market.zone_quotes("us-east-2", [TYPE], at(0)) == ()


def test_quotes_of_one_time_come_by_type_and_zone(market: MarketStore) -> None:
    wanted = [
        a_zone_quote(seconds, instance_type=name, zone_id=zone)
        for seconds in (0, 1)
        for name in ("g4dn.xlarge", "g5.xlarge")
        for zone in ("use1-az1", "use1-az2")
    ]
    market.add_quotes(wanted[::-1])
    assert list(market.zone_quotes(REGION, ["g5.xlarge", TYPE], at(0))) == wanted


_QUOTES = st.lists(
    st.builds(
        a_zone_quote,
        st.integers(0, 20),
        zone_id=st.sampled_from(["use1-az1", "use1-az2"]),
        instance_type=st.sampled_from([TYPE, "g5.xlarge"]),
        price_usd_micros_hour=st.integers(1, 3),
    ),
    max_size=30,
)


# A market is made once and shared by the examples: each has a region of its own.
_NUMBERS = itertools.count()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(parts=st.lists(_QUOTES, max_size=3), since=st.integers(0, 21), length=st.integers(0, 21))
def test_a_market_finds_what_its_definition_says(
    market: MarketStore, parts: list[list[ZoneQuote]], since: int, length: int
) -> None:
    region = f"region-{next(_NUMBERS)}"
    known: dict[tuple[str, str, dt.datetime], ZoneQuote] = {}
    for part in parts:
        here = [dataclasses.replace(it, region=region) for it in part]
        before = len(known)
        for it in here:
            known.setdefault((it.instance_type, it.zone_id, it.at), it)
        assert market.add_quotes(here) == len(known) - before
    window = at(since), at(since + length)
    wanted = {it for it in known.values() if window[0] <= it.at <= window[1]}
    for pool in {key[:2] for key in known}:
        earlier = [it for key, it in known.items() if key[:2] == pool and it.at <= window[0]]
        wanted.update(sorted(earlier, key=lambda it: it.at)[-1:])
    found = market.zone_quotes(region, [TYPE, "g5.xlarge"], *window)
    assert set(found) == wanted
    assert [it.at for it in found] == sorted(it.at for it in wanted)


# -- memos -------------------------------------------------------------------------------------


def test_a_memo_is_replaced_whole(market: MarketStore) -> None:
    first = Memo(key="advisor", at=at(1), body='{"a": 1}', etag='"x"')
    market.remember(first)
    assert market.memo("advisor") == first
    second = Memo(key="advisor", at=at(0), body="[]")
    market.remember(second)
    market.remember(second)
    assert market.memo("advisor") == second


def test_memos_have_keys_of_any_kind(market: MarketStore) -> None:
    long = "scores/" + ",".join(f"g{n}.xlarge" for n in range(99))
    memos = [
        Memo(key=key, at=at(number), body="x" * 10**number)
        for number, key in enumerate(["", "a", "A", "%", long, "ж"])
    ]
    for memo in memos:
        market.remember(memo)
    assert [market.memo(memo.key) for memo in memos] == memos
    assert market.memo("b") is None


# -- several threads, restarts, size -----------------------------------------------------------


def together(*acts: Callable[[], int]) -> list[int]:
    """Run all at once; an error in any is raised."""
    with ThreadPoolExecutor(len(acts)) as executor:
        return [it.result(timeout=60) for it in [executor.submit(act) for act in acts]]


def test_two_that_add_the_same_count_each_once(market: MarketStore) -> None:
    quotes = [a_zone_quote(n, zone_id=f"use1-az{z}") for n in range(200) for z in (1, 2)]

    def add(step: int) -> int:
        return sum(market.add_quotes(quotes[::step][n : n + 50]) for n in range(0, 400, 50))

    def remember_and_read() -> int:
        for n in range(40):
            market.remember(Memo(key="advisor", at=at(n), body="{}"))
            assert market.memo("advisor") is not None
            times = [quote.at for quote in history(market)]
            assert times == sorted(times)
        return 0

    counts = together(
        lambda: add(1), lambda: add(1), lambda: add(-1), remember_and_read, remember_and_read
    )
    assert sum(counts) == len(quotes)
    assert history(market) == quotes


def test_readers_see_a_call_whole_or_not_at_all(market: MarketStore) -> None:
    def add() -> int:
        return sum(
            market.add_quotes([a_zone_quote(n, zone_id=f"use1-az{z}") for z in range(5)])
            for n in range(40)
        )

    def read() -> int:
        counts = [len(history(market, since=-1)) for _ in range(40)]
        assert all(count % 5 == 0 for count in counts)
        return 0

    assert sum(together(add, read, read)) == 200


def test_a_market_that_is_closed_opens_as_it_was(tmp_path: Path) -> None:
    memo = Memo(key="advisor", at=at(1), body="{}", etag='"x"')
    store = open_store(tmp_path / "store.sqlite")
    store.market.add_quotes([a_zone_quote()])
    store.market.remember(memo)
    store.close()
    store = open_store(tmp_path / "store.sqlite")
    assert store.market.zone_quotes(REGION, [TYPE], at(5)) == (a_zone_quote(),)
    assert store.market.memo("advisor") == memo
    assert store.market.add_quotes([a_zone_quote()]) == 0
    store.close()


def test_writes_need_no_lead(tmp_path: Path) -> None:
    """And take none from whoever leads."""
    store = open_store(tmp_path / "store.sqlite")
    epoch = store.lead("a")
    store.market.add_quotes([a_zone_quote()])
    assert store.lead("b") == epoch + 1
    store.close()


def test_a_market_that_stays_locked_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spotrunner.adapters.store.sqlite.BUSY_S", 0.01)
    path = tmp_path / "store.sqlite"
    store = open_store(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            store.market.add_quotes([a_zone_quote()])
        with pytest.raises(Unavailable, match="locked"):
            store.market.remember(Memo(key="advisor", at=T0, body="{}"))
        assert store.market.zone_quotes(REGION, [TYPE], at(0)) == ()
        other.execute("ROLLBACK")
    assert store.market.add_quotes([a_zone_quote()]) == 1
    store.close()


DAYS, POOLS, A_DAY = 90, 100, 22


@pytest.mark.slow
def test_ninety_days_of_a_hundred_pools(market: MarketStore) -> None:
    """What the first run brings, in one call: more rows than any database has parameters."""
    types = [f"g{n}.xlarge" for n in range(POOLS // 5)]
    quotes = [
        a_zone_quote(
            day * 86_400 + n * 3_600,
            instance_type=name,
            zone_id=f"use1-az{zone}",
            price_usd_micros_hour=100_000 + n,
        )
        for day in range(DAYS)
        for n in range(A_DAY)
        for name in types
        for zone in range(5)
    ]
    assert market.add_quotes(quotes) == len(quotes) == DAYS * A_DAY * POOLS
    assert market.add_quotes(quotes[-POOLS:]) == 0
    assert len(market.zone_quotes(REGION, types, at(0))) == len(quotes)
    # The last hours of the last day have no quotes of their own.
    last = market.zone_quotes(REGION, types, at(DAYS * 86_400))
    assert set(last) == set(quotes[-POOLS:])
    assert len(last) == POOLS
