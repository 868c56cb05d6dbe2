"""Pasts that are odd are warned of, and pasts that are wrong are refused, each with its place."""

from __future__ import annotations

import datetime as dt
import gzip
import itertools
from pathlib import Path

import pytest

from spotrunner.core.model import Pool
from spotrunner.sim.history import BadHistory, Gap, History, Row, from_rows
from spotrunner.sim.history_csv import read_folder
from tests.build import T0

HEADER = "timestamp_utc,region,az,instance_type,product,price_usd\n"
KIND = "g4dn.xlarge"
A = Pool(region="us-east-1", zone="us-east-1a", instance_type=KIND)
B = Pool(region="us-east-1", zone="us-east-1b", instance_type=KIND)
DEAR = {("us-east-1", KIND): 526_000}


def a_line(
    at: str = "2026-11-01T12:00:00Z",
    zone: str = "us-east-1a",
    price: str = "0.16",
    kind: str = KIND,
    product: str = "Linux/UNIX",
) -> str:
    return f"{at},{zone[:-1]},{zone},{kind},{product},{price}\n"


def read(folder: Path, *lines: str, on_demand: dict[str, int] | None = None) -> History:
    (folder / "prices.csv").write_text(HEADER + "".join(lines))
    known = {KIND: 526_000} if on_demand is None else on_demand
    return read_folder(folder, {KIND}, {"us-east-1"}, known)


def a_row(hours: float, price: int = 160_000, pool: Pool = A) -> Row:
    at = T0 + dt.timedelta(hours=hours)
    return Row(pool=pool, at=at, price_usd_micros_hour=price, place=f"prices.csv:{hours:g}")


# -- what is read ------------------------------------------------------------------------------


def test_prices_are_a_step_function_by_pool(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        a_line("2026-11-01T12:00:00Z", price="0.16"),
        a_line("2026-11-01T18:00:00", price="0.1701"),
        a_line("2026-11-01T15:00:00Z", "us-east-1b", "0.2"),
        a_line("2026-11-02T12:00:00Z", "us-east-1b", "0.2"),
    )
    assert [each.pool for each in found.pools] == [A, B]
    assert (found.start, found.end) == (T0, T0 + dt.timedelta(hours=24))
    first = found.pools[0]
    assert first.prices.at(T0 + dt.timedelta(hours=5)) == 160_000
    assert first.prices.at(T0 + dt.timedelta(hours=6)) == 170_100
    assert first.on_demand_usd_micros_hour == 526_000
    assert found.warnings == ()
    assert "capacity: synthetic" in found.provenance


def test_packed_files_and_other_types_and_products_beside_it(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "more.csv.gz", "wt") as packed:
        packed.write(HEADER + a_line(zone="us-east-1b") + a_line(product="Windows"))
    found = read(tmp_path, a_line(), a_line(kind="p3.2xlarge"), a_line(zone="eu-west-1a"))
    assert [each.pool for each in found.pools] == [A, B]


def test_on_demand_prices_of_the_folder_and_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "ondemand.csv").write_text(
        f"instance_type,region,gpu,ondemand_usd\n{KIND},us-east-1,T4,0.526\n"
    )
    assert read(tmp_path, a_line(), on_demand={}).pools[0].on_demand_usd_micros_hour == 526_000
    told = read(tmp_path, a_line(), on_demand={KIND: 600_000})
    assert told.pools[0].on_demand_usd_micros_hour == 600_000


def test_one_type_has_one_on_demand_price(tmp_path: Path) -> None:
    header, line = "instance_type,region,ondemand_usd\n", f"{KIND},us-east-1,0.526\n"
    (tmp_path / "ondemand.csv").write_text(header + line + line)
    assert read(tmp_path, a_line(), on_demand={}).pools[0].on_demand_usd_micros_hour == 526_000
    (tmp_path / "ondemand.csv").write_text(header + line + line.replace("0.526", "1.5"))
    with pytest.raises(BadHistory) as raised:
        read(tmp_path, a_line(), on_demand={})
    assert str(raised.value) == (
        "ondemand.csv:3: g4dn.xlarge in us-east-1 costs 1.50 USD an hour here and 0.5260 USD in"
        " line 2: leave one of them"
    )


# -- what is wrong -----------------------------------------------------------------------------

WRONG = {
    "price 0": (a_line(price="0"), "prices.csv:2: us-east-1a/g4dn.xlarge: expected a price above"),
    "negative": (a_line(price="-0.1"), "expected a price above 0 USD an hour, found -0.1"),
    "NaN": (a_line(price="nan"), "expected a price above 0 USD an hour, found nan"),
    "infinite": (a_line(price="inf"), "expected a price above 0 USD an hour, found inf"),
    "no number": (a_line(price="cheap"), "expected a price in USD an hour, found 'cheap'"),
    "absurd": (a_line(price="1e9"), "is no price of an instance"),
    "no time": (a_line(at="yesterday"), "prices.csv:2: expected a time such as"),
    "before time": (a_line(at="0001-01-01T00:00:00+05:00"), "expected a time such as"),
    "a short line": ("2026-11-01,us-east-1\n", "prices.csv:2: expected 6 cells, found 2"),
    "nothing": ("", "has no price of the job's types in its regions"),
}


@pytest.mark.parametrize(("line", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_line_is_refused_with_its_place(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(BadHistory) as raised:
        read(tmp_path, line)
    assert message in str(raised.value)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BadHistory, match="is no folder"):
        read_folder(tmp_path / "absent", {KIND}, {"us-east-1"}, {})
    with pytest.raises(BadHistory, match=r"has no \*\.csv"):
        read_folder(tmp_path, {KIND}, {"us-east-1"}, {})
    (tmp_path / "prices.csv").write_text("time,price\n")
    with pytest.raises(BadHistory, match=r"prices\.csv: has no column timestamp_utc"):
        read_folder(tmp_path, {KIND}, {"us-east-1"}, {})
    (tmp_path / "prices.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadHistory, match=r"prices\.csv cannot be read"):
        read_folder(tmp_path, {KIND}, {"us-east-1"}, {})
    (tmp_path / "prices.csv").unlink()
    (tmp_path / "prices.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(BadHistory, match=r"prices\.csv\.gz cannot be read"):
        read_folder(tmp_path, {KIND}, {"us-east-1"}, {})


def test_a_pool_without_an_on_demand_price_is_left_out_and_said(tmp_path: Path) -> None:
    west = Pool(region="us-west-2", zone="us-west-2a", instance_type=KIND)
    found = from_rows([a_row(0), a_row(0, pool=west)], DEAR, "a past")
    assert [each.pool for each in found.pools] == [A]
    assert found.warnings == (
        "us-west-2a/g4dn.xlarge has no on-demand price and is left out: add --on-demand"
        " g4dn.xlarge=USD, or an ondemand.csv",
    )
    with pytest.raises(BadHistory, match=r"no pool in the folder .* has an on-demand price"):
        read(tmp_path, a_line(), on_demand={})


# -- what is odd -------------------------------------------------------------------------------


def test_spot_above_on_demand_is_asked_about(tmp_path: Path) -> None:
    lines = [
        a_line("2026-11-01T12:00:00Z", price="0.6"),
        a_line("2026-11-01T18:00:00Z", price="0.16"),
        a_line("2026-11-01T18:00:00Z", "us-east-1b", "0.526"),
    ]
    assert read(tmp_path, *lines).warnings == (
        "1 of 2 prices of us-east-1a/g4dn.xlarge are above its on-demand price of 0.5260 USD an"
        " hour: is --on-demand right?",
    )
    (tmp_path / "ondemand.csv").write_text(
        f"instance_type,region,ondemand_usd\n{KIND},us-east-1,0.526\n"
    )
    assert read(tmp_path, *lines, on_demand={}).warnings[0].endswith(": is ondemand.csv right?")


def test_newest_first_is_how_ec2_answers() -> None:
    found = from_rows([a_row(2), a_row(1), a_row(0, 150_000)], DEAR, "a past")
    assert found.warnings == ()
    assert found.pools[0].prices.at(T0) == 150_000


def test_prices_out_of_order_are_sorted_with_a_warning() -> None:
    found = from_rows([a_row(0), a_row(2), a_row(1, 150_000)], DEAR, "a past")
    assert found.warnings == (
        "us-east-1a/g4dn.xlarge: its prices are not in the order of time (from prices.csv:1 on):"
        " sorted",
    )
    assert found.pools[0].prices.at(T0 + dt.timedelta(hours=1.5)) == 150_000


def test_the_same_price_twice_is_no_news_and_another_one_is() -> None:
    assert from_rows([a_row(0), a_row(0)], DEAR, "a past").warnings == ()
    found = from_rows([a_row(0), a_row(0, 170_000), a_row(1)], DEAR, "a past")
    assert found.warnings == (
        "us-east-1a/g4dn.xlarge: two prices at 2026-11-01 12:00:00 (prices.csv:0): the last one"
        " counts",
    )
    assert found.pools[0].prices.at(T0) == 170_000


def test_a_gap_is_warned_of_with_how_long_and_where() -> None:
    found = from_rows([a_row(0), a_row(24), a_row(100), a_row(120)], DEAR, "a past")
    begin = T0 + dt.timedelta(hours=24)
    assert found.gaps == (Gap(begin=begin, end=begin + dt.timedelta(hours=76)),)
    assert found.warnings == (
        "us-east-1a/g4dn.xlarge: no price for 76 h from 2026-11-02 12:00 on: the last one is taken"
        " to hold, and no run starts in there",
    )


def test_a_pool_that_falls_silent_has_a_gap_to_the_end() -> None:
    rows = [a_row(0), *(a_row(24 * day, pool=B) for day in range(6))]
    assert from_rows(rows, DEAR, "a past").gaps == (
        Gap(begin=T0, end=T0 + dt.timedelta(hours=120)),
    )


def test_who_knows_what_was_read_needs_no_guess() -> None:
    rows = [a_row(0), a_row(100)]
    assert from_rows(rows, DEAR, "a past", unread={}).gaps == ()
    gap = Gap(begin=T0, end=T0 + dt.timedelta(hours=3))
    known = from_rows(rows, DEAR, "a past", unread={("us-east-1", KIND): [gap]})
    assert known.gaps == (gap,)


def test_before_the_first_price_nothing_is_taken_to_hold() -> None:
    west = Pool(region="us-west-2", zone="us-west-2a", instance_type=KIND)
    day = dt.timedelta(days=1)
    unread = {
        ("us-east-1", KIND): [Gap(begin=T0 - 400 * day, end=T0)],
        ("us-west-2", KIND): [
            Gap(begin=T0 - 400 * day, end=T0 + day),
            Gap(begin=T0 + 2 * day, end=T0 + 3 * day),
        ],
    }
    rows = [a_row(0), a_row(100), a_row(24, pool=west), a_row(100, pool=west)]
    known = {**DEAR, ("us-west-2", KIND): 526_000}
    assert from_rows(rows, known, "a past", unread=unread).warnings == (
        "the prices of g4dn.xlarge in us-west-2 begin at 2026-11-02 12:00 UTC: no run starts"
        " before",
        "us-west-2a/g4dn.xlarge: no price for 24 h from 2026-11-03 12:00 on: the last one is taken"
        " to hold, and no run starts in there",
    )


def test_warnings_are_few_enough_to_read() -> None:
    rows = itertools.chain.from_iterable(
        (a_row(hours), a_row(hours, 170_000)) for hours in range(40)
    )
    found = from_rows(rows, DEAR, "a past")
    assert len(found.warnings) == 21
    assert found.warnings[-1] == "... and 20 more like these"
