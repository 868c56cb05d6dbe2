"""The call that holds the ledger against the data feed: files in a bucket, attempts in a store."""

from __future__ import annotations

import dataclasses
import datetime as dt
import gzip
import itertools
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from spotrunner.adapters.memory import MemoryObjects
from spotrunner.core.datafeed import parse
from spotrunner.core.located import BadFile
from spotrunner.core.model import Attempt, Market, Pool, Quote
from spotrunner.core.reconciled import Reading, Standing, compare
from spotrunner.core.states import AttemptState
from spotrunner.daemon.settings import parse_settings
from spotrunner.ports import Changes, NotAuthorized, NotFound, Unavailable, ZoneQuote
from spotrunner.sim.setups import G4DN
from spotrunner.sim.trainer import Training
from spotrunner.sim.values import LIGHT, Charge
from spotrunner.web import reconcile
from tests.build import T0, a_job, an_attempt, at
from tests.daemon.tale import Tale, ended
from tests.web.conftest import START, Api

HEAD = """\
#Version: 1.0
#Fields: Timestamp UsageType Operation InstanceID MyBidID MyMaxPrice MarketPrice Charge Version
"""
HOUR_S, DAY_S = 3600, 86_400
NOW_S = (START - T0).total_seconds()
FEED = "s3://data-bucket/spot-feed/"
# Two days before the daemon's now.
THEN_S = NOW_S - 2 * DAY_S


def a_line(at_s: float, price: str, charge: str, instance: str = "i-digits-7f3a.1") -> str:
    return (
        f"{at(at_s):%Y-%m-%d %H:%M:%S} UTC\tUSE1-SpotUsage:g4dn.xlarge\tRunInstances:SV001"
        f"\t{instance}\tsir-pwq6nmfp\t0.526 USD\t{price} USD\t{charge} USD\t1"
    )


def put(objects: MemoryObjects, at_s: float, *lines: str, unique: str = "b959dbc6") -> str:
    """A file of the hour that `at_s` lies in."""
    key = f"spot-feed/111122223333.{at(at_s):%Y-%m-%d-%H}.001.{unique}.gz"
    objects.put(key, gzip.compress((HEAD + "\n".join(lines) + "\n").encode()))
    return key.removeprefix("spot-feed/")


def booked(api: Api, *attempts: Attempt) -> None:
    api.store.add_job(a_job(), [])
    api.store.write(api.store.lead("a test"), Changes(attempts=attempts))


def lived(hours: float, generation: int = 1, **changes: Any) -> Attempt:
    fields: dict[str, Any] = {
        "launched_s": THEN_S,
        "ended_at": at(THEN_S + hours * HOUR_S),
        "hour_prices_usd_micros": (160_000,) * 9,
    }
    return an_attempt(generation, AttemptState.ENDED, **{**fields, **changes})


def reconciled(api: Api, **query: Any) -> Any:
    response = api.client.post("/v1/reconcile", params={"feed": FEED, **query})
    assert response.status_code == 200, response.text
    return response.json()


def refused(api: Api, **query: Any) -> tuple[int, dict[str, Any]]:
    response = api.client.post("/v1/reconcile", params={"feed": FEED, **query})
    (error,) = response.json()["errors"]
    return response.status_code, error


# -- what is told ------------------------------------------------------------------------------


def test_a_ledger_and_a_feed_that_agree_in_full(api: Api) -> None:
    booked(api, lived(1.5))
    put(api.data, THEN_S, a_line(THEN_S, "0.1600000000", "0.1600000000"))
    put(api.data, THEN_S + HOUR_S, a_line(THEN_S + HOUR_S, "0.1600000000", "0.0800000000"))
    assert reconciled(api) == {
        "now": "2026-11-21T08:00:00.000000Z",
        "since": "2026-11-14T08:00:00.000000Z",
        "feed": FEED,
        "files": 2,
        "cut_at": None,
        "instances": [
            {
                "instance_id": "i-digits-7f3a.1",
                "instance_type": "g4dn.xlarge",
                "attempt": "digits-7f3a.1",
                "feed_usd_micros": 240_000,
                "ledger_usd_micros": 240_000,
                "left_out_usd_micros": 0,
                "difference_usd_micros": 0,
                "unexplained_usd_micros": 0,
                "standing": "agrees",
                "why": "",
                "readings": ["same", "same"],
            }
        ],
        "feed_usd_micros": 240_000,
        "ledger_usd_micros": 240_000,
        "left_out_usd_micros": 0,
        "difference_usd_micros": 0,
        "unexplained_usd_micros": 0,
        "covered_fraction": 1.0,
        "on_demand_usd_micros": 0,
        "unseen_usd_micros": 0,
        "readings": {"same": 2},
        "findings": [
            "no price changed inside an instance-hour: the feed tells nothing of AWS's two texts"
        ],
        "is_right": True,
        "damages": [],
    }


def test_the_prices_that_we_read_tell_which_of_awss_texts_was_charged(api: Api) -> None:
    api.get("/v1/prices")  # reads the zones' ids
    changes = [(THEN_S - DAY_S, 160_000), (THEN_S + HOUR_S / 2, 320_000)]
    quotes = [
        ZoneQuote(
            region="us-east-1",
            zone_id="use1-az4",
            instance_type=G4DN,
            at=at(at_s),
            price_usd_micros_hour=price,
        )
        for at_s, price in changes
    ]
    api.market.add_quotes(quotes)
    booked(api, lived(1))
    put(api.data, THEN_S, a_line(THEN_S, "0.16", "0.160000"))
    assert reconciled(api)["readings"] == {"hour-start": 1}
    put(api.data, THEN_S, a_line(THEN_S, "0.16", "0.240000"))
    answer = reconciled(api)
    assert answer["readings"] == {"in-effect": 1}
    assert answer["instances"][0]["standing"] == "explained"
    assert answer["is_right"]


def test_rows_that_come_late_and_in_several_files_count_once(api: Api) -> None:
    booked(api, lived(2))
    first = a_line(THEN_S, "0.160", "0.160")
    second = a_line(THEN_S + HOUR_S, "0.160", "0.160")
    put(api.data, THEN_S, first)
    put(api.data, THEN_S + 5 * HOUR_S, second, first)
    put(api.data, THEN_S + 5 * HOUR_S, second, unique="c0ffee00")
    answer = reconciled(api)
    assert (answer["files"], answer["feed_usd_micros"], answer["is_right"]) == (3, 320_000, True)


def test_damage_is_named_and_the_rest_is_read(api: Api) -> None:
    booked(api, lived(2))
    good = a_line(THEN_S + HOUR_S, "0.160", "0.160")
    torn = put(api.data, THEN_S, a_line(THEN_S, "0.160", "0.1x0"), good)
    api.data.put("spot-feed/111122223333.2026-11-19-10.001.deadbeef.gz", b"no gzip")
    answer = reconciled(api)
    assert answer["damages"] == [
        f"{torn}:3: '0.1x0 USD' is no Charge such as 0.160 USD",
        "111122223333.2026-11-19-10.001.deadbeef.gz: it cannot be unpacked (Not a gzipped file"
        " (b'no')); it was left out",
    ]
    assert answer["feed_usd_micros"] == 160_000
    assert not answer["is_right"]
    assert "the feed has nothing for 1 of its 2 hours" in answer["findings"][0]


def test_damage_without_end_is_told_shortly(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "MOST_DAMAGES", 1)
    put(api.data, THEN_S, "junk", "junk", "junk")
    assert reconciled(api)["damages"][1:] == ["2 more"]


def test_a_file_that_goes_while_it_is_read_is_named(api: Api) -> None:
    name = put(api.data, THEN_S, a_line(THEN_S, "0.160", "0.160"))
    api.data.fail_next("get", NotFound("no such key"))
    assert reconciled(api)["damages"] == [f"{name}: it was listed, and is gone; it was left out"]


def test_what_lies_beside_the_feed_is_not_of_it(api: Api) -> None:
    put(api.data, THEN_S, a_line(THEN_S, "0.160", "0.160"))
    line = a_line(THEN_S, "9", "9", "i-other")
    other = gzip.compress((HEAD + line).encode())
    for key in ("README", "old/111122223333.2026-11-19-08.001.x.gz", "2026-11-19.gz"):
        api.data.put(f"spot-feed/{key}", other)
    api.data.put("spot-feeder/111122223333.2026-11-19-08.001.x.gz", other)
    assert reconciled(api)["feed_usd_micros"] == 160_000


# -- from when on ------------------------------------------------------------------------------


def test_only_files_of_that_time_are_read_and_older_ones_for_what_still_lived(api: Api) -> None:
    for day in range(10):
        put(api.data, NOW_S - day * DAY_S, a_line(NOW_S - day * DAY_S, "0.1", "0.1", "i-other"))
    assert reconciled(api, since="3d")["files"] == 4
    booked(api, lived(30, launched_s=NOW_S - 4 * DAY_S, ended_at=at(NOW_S - 2 * DAY_S)))
    assert reconciled(api, since="3d")["files"] == 5
    # what lived before that is not asked about, and neither is what others used
    answer = reconciled(api, since="1d")
    assert [it["feed_usd_micros"] for it in answer["instances"]] == [200_000]


def test_what_the_feed_is_too_young_for_and_what_is_not_there_yet(api: Api) -> None:
    booked(
        api,
        lived(1),
        lived(1, 2, launched_s=NOW_S - 2 * HOUR_S, ended_at=at(NOW_S - HOUR_S)),
    )
    put(api.data, NOW_S - DAY_S, a_line(NOW_S - DAY_S, "0", "0", "i-other"))
    answer = reconciled(api)
    assert [it["standing"] for it in answer["instances"][:2]] == ["before the feed", "awaited"]
    assert answer["left_out_usd_micros"] == 320_000
    assert answer["covered_fraction"] == 0.0
    assert answer["is_right"]


@pytest.mark.parametrize(
    ("bound", "most"), [("MOST_FILES", 2), ("MOST_BYTES", 600), ("MOST_ROWS", 2)]
)
def test_more_files_than_are_read_are_awaited_and_told(
    api: Api, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(reconcile, bound, most)
    booked(api, lived(4))
    for hour in range(4):
        line = a_line(THEN_S + hour * HOUR_S, "0.160", "0.160")
        put(api.data, THEN_S + hour * HOUR_S, line)
    answer = reconciled(api)
    assert (answer["files"], answer["cut_at"]) == (2, "2026-11-19T10:00:00.000000Z")
    assert (answer["feed_usd_micros"], answer["left_out_usd_micros"]) == (320_000, 320_000)
    assert answer["is_right"]


def test_a_listing_without_end_is_cut(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "MOST_LISTED", 1)
    booked(api, lived(4))
    for hour in range(4):
        put(api.data, THEN_S + hour * HOUR_S, a_line(THEN_S + hour * HOUR_S, "0.160", "0.160"))
    answer = reconciled(api)
    assert answer["cut_at"] == "2026-11-19T09:00:00.000000Z"
    assert answer["is_right"]


@pytest.mark.parametrize("since", ["2026-11-18", "2026-11-18T00:00Z", "2026-11-18T01:00+01:00"])
def test_since_is_a_day_or_a_time(api: Api, since: str) -> None:
    put(api.data, THEN_S)
    assert reconciled(api, since=since)["since"] == "2026-11-18T00:00:00.000000Z"


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "key", "words"),
    [
        ({"since": "yesterday"}, "since", "expected how long ago (30d, 12h) or a day"),
        ({"since": "99999999d"}, "since", "found 99999999d"),
        ({"since": "2027-01-01"}, "since", "is not past yet: it is 2026-11-21 08:00 UTC"),
        ({"feed": "my-bucket/feed"}, "feed", "expected s3://BUCKET/PREFIX/, found my-bucket/feed"),
        ({"feed": "s3:///feed"}, "feed", "expected s3://BUCKET/PREFIX/"),
        ({"feed": "s3://My_Bucket/"}, "feed", "expected s3://BUCKET/PREFIX/"),
        ({"feed": ""}, "feed", "aws ec2 create-spot-datafeed-subscription --bucket BUCKET"),
        ({"feed": ""}, "feed", "`data_feed: {bucket: BUCKET, prefix: PREFIX}`"),
    ],
)
def test_what_is_wrong_with_a_query_is_said(
    api: Api, query: dict[str, str], key: str, words: str
) -> None:
    status, error = refused(api, **query)
    assert (status, error["key"]) == (422, key)
    assert words in error["message"]


def test_a_place_without_a_feed_is_told(api: Api) -> None:
    status, error = refused(api)
    assert (status, error["key"]) == (409, "")
    assert error["message"] == f"there is no file of a spot data feed at {FEED}"
    assert "aws ec2 describe-spot-datafeed-subscription" in error["hint"]


def test_a_bucket_that_is_not_there_is_named(api: Api) -> None:
    status, error = refused(api, feed="s3://no-such-bucket/")
    assert status == 424
    assert "there is no bucket no-such-bucket" in error["message"]


@pytest.mark.parametrize("operation", ["list", "get"])
def test_what_the_daemon_may_not_read_says_which_rights_it_needs(api: Api, operation: str) -> None:
    put(api.data, THEN_S)
    api.data.fail_next(operation, NotAuthorized("AccessDenied"))
    status, error = refused(api)
    assert status == 403
    assert f"{FEED} cannot be read (AccessDenied)" in error["message"]
    assert "s3:ListBucket on data-bucket and s3:GetObject" in error["message"]


def test_silence_is_no_empty_feed(api: Api) -> None:
    put(api.data, THEN_S)
    api.data.fail_next("get", Unavailable("no answer"))
    assert refused(api)[0] == 503


# -- the settings ------------------------------------------------------------------------------

LEAST = """\
home: {bucket: my-spotrunner, region: us-east-1}
regions: [us-east-1]
state_dir: state
"""


@pytest.mark.parametrize("data_feed", [FEED])
def test_the_feed_of_the_settings_is_read_where_the_call_names_none(api: Api) -> None:
    booked(api, lived(1))
    put(api.data, THEN_S, a_line(THEN_S, "0.1600000000", "0.1600000000"))
    assert api.post("/v1/reconcile")["feed"] == FEED


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("", None),
        ("data_feed: {bucket: my-feed}", "s3://my-feed/"),
        ("data_feed: {bucket: my-feed, prefix: a/b}", "s3://my-feed/a/b/"),
        ("data_feed: {bucket: my-feed, prefix: spot-feed/}", "s3://my-feed/spot-feed/"),
    ],
)
def test_the_settings_say_where_the_feed_lies(written: str, url: str | None) -> None:
    feed = parse_settings(LEAST + written, "s.yaml", Path()).data_feed
    assert (feed.url if feed else None) == url


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("data_feed: {prefix: a}", "s.yaml:4: data_feed.bucket: "),
        ("data_feed: {bucket: My_Feed}", "expected the name of an S3 bucket"),
        ("data_feed: {bucket: my-feed, prefix: /a}", "data_feed.prefix: expected the prefix"),
        ("data_feed: {bucket: my-feed, prefix: s3://my-feed/a}", "such as spot-feed, found"),
        ("data_feed: s3://my-feed/a", "s.yaml:4: data_feed: "),
    ],
)
def test_what_is_wrong_with_the_setting_is_said(written: str, words: str) -> None:
    with pytest.raises(BadFile, match=r"s\.yaml") as bad:
        parse_settings(LEAST + written, "s.yaml", Path())
    assert words in str(bad.value)


# -- against a bill that somebody else drew up -------------------------------------------------


def test_after_a_story_ledger_and_feed_agree_to_the_micro_dollar() -> None:
    """The simulated market bills by itself (sim/bill): an attempt that EC2 took in its first hour,
    and three hours with a price that changes in the middle of one, until the agent fell silent and
    was ended by us: then EC2 tells the second of the end."""
    at_once = dataclasses.replace(LIGHT, pending_s=(0.0, 0.0))
    tale = Tale(manners=at_once, training=Training(total_steps=10**6))
    tale.until_trains(1, steps=100)
    tale.interrupt(1)
    tale.until_trains(2, steps=100)
    pool = tale.attempt(2).offer.pool
    tale.run(1.5 * HOUR_S)
    changed_at = tale.clock.now()
    tale.world.set_price(changed_at, pool, 200_000)
    tale.run(1.5 * HOUR_S)
    tale.agent(2).mute = True
    tale.until(lambda: ended(tale.attempt(1)) and ended(tale.attempt(2)))

    page = parse(HEAD + "\n".join(_feed_of(tale)), "the-bill")
    assert page.damages == ()
    first = Quote(pool=pool, at=at(-DAY_S), price_usd_micros_hour=_price(tale, pool, at(0)))
    then = Quote(pool=pool, at=changed_at, price_usd_micros_hour=200_000)
    now = tale.clock.now() + dt.timedelta(days=2)
    over = [attempt for attempt in tale.attempts() if ended(attempt)]
    found = compare(
        [row for row in page.rows if row.instance_id in {it.instance_id for it in over}],
        over,
        now,
        quotes={pool: [first, then]},
    )
    assert [it.difference_usd_micros for it in found.instances] == [0, 0]
    assert {it.standing for it in found.instances} == {Standing.AGREES}
    assert found.instances[0].why.startswith("free: EC2 took it in its first hour")
    assert found.feed_usd_micros > 450_000
    assert found.readings[Reading.HOUR_START] == 1
    assert found.findings[-1].startswith("AWS charges the price at the start of an instance-hour")


def _price(tale: Tale, pool: Pool, when: dt.datetime) -> int:
    return tale.world.pools.price(pool, Market.SPOT, when)


def _feed_of(tale: Tale) -> Iterator[str]:
    """The bill as AWS's feed would print it: a line an instance-hour."""
    now = tale.clock.now()
    for charge in tale.world.bill(now):
        begin = charge.from_at
        if begin is None or charge.market is not Market.SPOT:
            continue
        left_s, weighted, told = math.ceil(((charge.to_at or now) - begin).total_seconds()), 0, 0
        for hour in itertools.count():
            start = begin + dt.timedelta(hours=hour)
            price = _price(tale, charge.pool, start)
            weighted += min(left_s, HOUR_S) * price
            so_far = 0 if charge.free else math.ceil(weighted / HOUR_S)
            yield _line(charge, start, price, so_far - told)
            left_s, told = left_s - HOUR_S, so_far
            if left_s <= 0:
                break
        assert told == charge.usd_micros


def _line(charge: Charge, start: dt.datetime, price: int, micros: int) -> str:
    kind = charge.pool.instance_type
    return (
        f"{start:%Y-%m-%d %H:%M:%S} UTC\tUSE1-SpotUsage:{kind}\tRunInstances:SV001"
        f"\t{charge.instance_id}\tsir-pwq6nmfp\t0.526 USD\t{Decimal(price).scaleb(-6):f} USD"
        f"\t{Decimal(micros).scaleb(-6):f} USD\t1"
    )
