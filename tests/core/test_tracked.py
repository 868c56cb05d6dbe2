"""When a source is asked again, and what stays of it when it fails."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import pytest

from spotrunner.core.tracked import RegionMarket, Said, Source
from tests.build import at

EVERY, AGAIN = dt.timedelta(seconds=600), dt.timedelta(seconds=60)
A, AB = frozenset("a"), frozenset("ab")
HEARD: Source[int] = Source[int]().heard({"a": 1}, at(0))


@pytest.mark.parametrize(
    ("source", "keys", "now_s", "due"),
    [
        (Source(), A, 0, True),
        (Source(), frozenset(), 0, False),
        (HEARD, A, 599, False),
        (HEARD, A, 600, True),
        (HEARD, AB, 1, True),  # b was never asked for
        (HEARD, frozenset(), 10_000, False),
        (HEARD.failed(A, at(600), "no"), A, 659, False),
        (HEARD.failed(A, at(600), "no"), A, 660, True),
        (HEARD.failed(A, at(600), "no"), AB, 601, True),
        (HEARD.failed(AB, at(600), "no"), AB, 601, False),
        (HEARD.failed(A, at(600), "no", is_denied=True), A, 1199, False),
        (HEARD.failed(A, at(600), "no", is_denied=True), A, 1200, True),
        (HEARD.only(frozenset()), A, 1, True),
        # as after a restart: nothing was tried, but something is known
        (Source(said={"a": Said(at=at(0), value=1)}), A, 599, False),
        (Source(said={"a": Said(at=at(0), value=1)}), A, 600, True),
    ],
)
def test_when_a_source_is_due(
    source: Source[int], keys: frozenset[str], now_s: float, due: bool
) -> None:
    assert source.is_due(keys, at(now_s), EVERY, AGAIN) is due


def test_a_failure_takes_nothing_away_and_the_next_word_ends_it() -> None:
    failed = HEARD.failed(A, at(600), "no", is_denied=True)
    assert (failed.values, failed.read_at) == ({"a": 1}, at(0))
    again = failed.heard({"b": 2}, at(700))
    assert again.values == {"a": 1, "b": 2}
    assert (again.trouble, again.is_denied, again.read_at) == ("", False, at(0))


def test_a_region_is_as_old_as_its_oldest_part() -> None:
    market = RegionMarket(region="us-east-1")
    assert market.read_at is None
    whole = RegionMarket(
        region="us-east-1",
        zones=Source[Mapping[str, str]]().heard({"us-east-1": {}}, at(30)),
        offered=Source[frozenset[object]]().heard({"a": frozenset()}, at(20)),  # type: ignore[arg-type]
        prices=Source[dict[object, object]]().heard({"a": {}}, at(10)),  # type: ignore[arg-type]
        on_demand=Source[int | None]().heard({"a": None}, at(40)),
    )
    assert whole.read_at == at(10)
    assert whole.on_demand_usd_micros == {}


def test_the_same_trouble_is_said_once() -> None:
    market = RegionMarket(
        region="us-east-1",
        offered=Source().failed(A, at(0), "no route"),
        prices=Source().failed(A, at(0), "no route"),
        on_demand=Source().failed(A, at(0), "not allowed"),
    )
    assert market.trouble == "spot prices, offerings: no route; on-demand prices: not allowed"
