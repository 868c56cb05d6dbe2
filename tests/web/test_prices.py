"""The calls about prices."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest

from spotrunner.core.hazard import MEASURED
from spotrunner.core.model import Pool
from spotrunner.daemon import memos
from spotrunner.ports import ZoneQuote
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.setups import G4DN, G5, P3
from tests.web.conftest import START, Api

DAY_S = 86_400
POOL = Pool(region="us-east-1", zone="us-east-1a", instance_type=G4DN)


def row(answer: Any, zone: str = "us-east-1a", kind: str = G4DN) -> dict[str, Any]:
    (found,) = (it for it in answer["pools"] if (it["zone"], it["instance_type"]) == (zone, kind))
    return dict(found)


def test_a_pool_in_full(api: Api) -> None:
    api.get("/v1/prices")
    api.clock.advance(DAY_S)
    api.world.set_price(api.clock.now(), POOL, 300_000)
    api.clock.advance(DAY_S)
    assert row(api.get("/v1/prices", since="2d", steps=True)) == {
        "region": "us-east-1",
        "zone": "us-east-1a",
        "zone_id": "use1-az4",
        "instance_type": G4DN,
        "price_usd_hour": 0.3,
        "price_since": "2026-11-22T08:00:00.000000Z",
        "change_fraction": 1.0,
        "min_usd_hour": 0.15,
        "mean_usd_hour": 0.225,
        "max_usd_hour": 0.3,
        "known_s": 2.0 * DAY_S,
        "ondemand_usd_hour": 0.526,
        "saved_fraction": pytest.approx(1 - 0.3 / 0.526),
        "offered": True,
        "steps": [
            ["2026-11-21T08:00:00.000000Z", "2026-11-22T08:00:00.000000Z", 0.15],
            ["2026-11-22T08:00:00.000000Z", "2026-11-23T08:00:00.000000Z", 0.3],
        ],
    }


def test_the_types_of_the_settings_in_all_regions_unless_others_are_named(api: Api) -> None:
    answer = api.get("/v1/prices")
    assert {it["instance_type"] for it in answer["pools"]} == {G4DN}
    assert {it["region"] for it in answer["pools"]} == {"us-east-1", "eu-west-1"}
    prices = [it["price_usd_hour"] for it in answer["pools"]]
    assert prices == sorted(prices)
    assert "steps" not in answer["pools"][0]
    named = api.get("/v1/prices", type=[G5], region=["eu-west-1"])
    assert {(it["instance_type"], it["region"]) for it in named["pools"]} == {(G5, "eu-west-1")}
    assert list(named["regions"]) == ["eu-west-1"]


def test_the_age_and_the_trouble_of_every_source(api: Api) -> None:
    api.get("/v1/prices")
    api.clock.advance(3600)
    api.world.script(
        Fault(action="DescribeSpotPriceHistory", region="us-east-1", lose=Lose.BEFORE, times=9)
    )
    regions = api.get("/v1/prices")["regions"]
    east = regions["us-east-1"]
    assert east["read_at"] == "2026-11-21T08:00:00.000000Z"
    assert east["trouble"].startswith("spot prices: ")
    assert east["sources"]["spot prices"]["tried_at"] == "2026-11-21T09:00:00.000000Z"
    assert east["sources"]["zones"] == {
        "read_at": "2026-11-21T09:00:00.000000Z",
        "tried_at": "2026-11-21T09:00:00.000000Z",
        "trouble": "",
    }
    assert regions["eu-west-1"]["trouble"] == ""


def test_times_that_were_never_read_are_named(api: Api) -> None:
    api.get("/v1/prices")
    api.clock.advance(100 * DAY_S)
    answer = api.get("/v1/prices", since="101d", region="us-east-1")
    assert answer["unknown"] == [
        {
            "region": "us-east-1",
            "instance_type": G4DN,
            "from": "2026-11-21T08:00:00.000000Z",
            "to": "2026-12-01T08:00:00.000000Z",
        }
    ]


@pytest.mark.parametrize(("minutes", "is_unknown"), [(29, False), (31, True), (5 * 24 * 60, True)])
def test_the_time_since_a_last_read_that_is_long_ago_is_unknown(
    api: Api, minutes: int, is_unknown: bool
) -> None:
    api.get("/v1/prices")
    api.clock.advance(minutes * 60)
    api.world.script(Fault(action="DescribeSpotPriceHistory", lose=Lose.BEFORE, times=99))
    answer = api.get("/v1/prices", since="6d", region="us-east-1")
    now = dt.timedelta(minutes=minutes) + START
    hole = {
        "region": "us-east-1",
        "instance_type": G4DN,
        "from": "2026-11-21T08:00:00.000000Z",
        "to": f"{now:%Y-%m-%dT%H:%M:%S.%fZ}",
    }
    assert answer["unknown"] == ([hole] if is_unknown else [])


def test_what_was_never_read_at_all_is_told_by_its_region(api: Api) -> None:
    api.world.script(Fault(action="DescribeSpotPriceHistory", lose=Lose.BEFORE, times=99))
    answer = api.get("/v1/prices", region="us-east-1")
    assert answer["unknown"] == []
    assert answer["regions"]["us-east-1"]["read_at"] is None
    assert {it["price_usd_hour"] for it in answer["pools"]} == {None}


def test_with_the_steps_come_the_hazards_that_rounds_decide_with(api: Api) -> None:
    assert "hazards" not in api.get("/v1/prices")
    assert api.get("/v1/prices", steps=True)["hazards"]["lost_weight"] == MEASURED.lost_weight
    fitted = dataclasses.replace(MEASURED, lost_weight=-0.5)
    memos.HAZARDS.write(api.market, fitted, START)
    told = api.get("/v1/prices", steps=True)["hazards"]
    assert told["lost_weight"] == -0.5
    assert tuple(told["lost_an_hour"]) == MEASURED.lost_an_hour


def test_where_the_zones_ids_are_not_known_the_last_days_are_shown(api: Api) -> None:
    api.world.script(Fault(action="DescribeAvailabilityZones", lose=Lose.BEFORE, times=99))
    found = row(api.get("/v1/prices"))
    assert found["price_usd_hour"] == 0.15
    assert found["zone_id"] is None
    assert found["known_s"] > 0


def test_a_pool_that_is_offered_no_more_is_marked(api: Api) -> None:
    """As with p3: the price table still lists it."""
    old = ZoneQuote(
        region="us-east-1",
        zone_id="use1-az4",
        instance_type=P3,
        at=START - dt.timedelta(days=9),
        price_usd_micros_hour=918_000,
    )
    api.market.add_quotes([old])
    answer = api.get("/v1/prices", type=[P3], region=["us-east-1"])
    assert {it["zone"]: it["offered"] for it in answer["pools"]} == {
        "us-east-1a": False,
        "us-east-1b": True,
        "us-east-1d": True,
    }
    assert row(answer, "us-east-1a", P3)["price_usd_hour"] == 0.918


@pytest.mark.parametrize(
    ("query", "key", "words"),
    [
        ({"type": ["g5.xlarg"]}, "type", "nearest: g5.xlarge"),
        ({"type": ["g4ad.xlarge"]}, "type", "cannot be used: its GPU is AMD's"),
        ({"region": ["us-est-1"]}, "region", "nearest of the daemon's: us-east-1"),
        ({"region": ["eu-north-1"]}, "region", "add it to `regions` in the daemon's settings"),
        ({"region": ["mars"]}, "region", "mars is not an AWS region"),
        ({"since": "yesterday"}, "since", "expected how long ago (30d, 12h) or a day"),
        ({"since": "2026-11-31"}, "since", "found 2026-11-31"),
        ({"since": "99999999d"}, "since", "found 99999999d"),
        ({"since": "2026-11-21T08:00Z"}, "since", "is not past yet: it is 2026-11-21 08:00 UTC"),
        ({"since": "2027-01-01"}, "since", "is not past yet"),
    ],
)
def test_what_is_wrong_with_a_query_is_said(
    api: Api, query: dict[str, Any], key: str, words: str
) -> None:
    response = api.client.get("/v1/prices", params=query)
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["key"] == key
    assert words in error["message"]


@pytest.mark.parametrize("since", ["2026-11-01", "2026-11-01T00:00Z", "2026-11-01T01:00+01:00"])
def test_since_is_a_day_or_a_time(api: Api, since: str) -> None:
    assert api.get("/v1/prices", since=since)["since"] == "2026-11-01T00:00:00.000000Z"


# -- sync --------------------------------------------------------------------------------------


def test_sync_tells_the_rows_by_region(api: Api) -> None:
    first = api.post("/v1/prices/sync", {"days": 90})
    assert first["since"] == "2026-08-23T08:00:00.000000Z"
    assert first["regions"]["us-east-1"] == {"rows": 3, "new_rows": 3, "trouble": ""}
    api.clock.advance(3600)
    api.world.set_price(api.clock.now() - dt.timedelta(seconds=60), POOL, 200_000)
    again = api.post("/v1/prices/sync", {"days": 1, "regions": ["us-east-1"], "types": [G5]})
    assert again["regions"] == {"us-east-1": {"rows": 6, "new_rows": 3, "trouble": ""}}


def test_sync_tells_what_a_silent_region_said(api: Api) -> None:
    api.world.script(Fault(action="*", region="eu-west-1", lose=Lose.BEFORE, times=99))
    told = api.post("/v1/prices/sync", {})["regions"]
    assert told["us-east-1"]["trouble"] == ""
    assert told["eu-west-1"]["rows"] == 0
    assert "Connection" in told["eu-west-1"]["trouble"]


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"days": 0}, "days"),
        ({"days": 91}, "days"),
        ({"days": True}, "days"),
        ({"day": 5}, "day"),
        ({"types": ["g5"]}, "type"),
        ({"regions": ["eu-north-1"]}, "region"),
    ],
)
def test_a_wrong_sync_reads_nothing(api: Api, body: dict[str, Any], key: str) -> None:
    response = api.client.post("/v1/prices/sync", json=body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["key"] == key
    assert api.board.markets() == {}
