"""AWS's spot data feed: lines as AWS prints them, and everything that can be wrong with them."""

from __future__ import annotations

import datetime as dt
import gzip
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core import datafeed
from spotrunner.core.datafeed import Row, hour_of, once, parse, read

HEAD = """\
#Version: 1.0
#Fields: Timestamp UsageType Operation InstanceID MyBidID MyMaxPrice MarketPrice Charge Version
"""
# The example of AWS's user guide, and two lines as older feeds print them.
GUIDE = (
    "2023-12-09 07:13:47 UTC\tUSE2-SpotUsage:c7a.medium\tRunInstances:SV050\ti-0c3e0c0b046e050df"
    "\tsir-pwq6nmfp\t0.0510000000 USD\t0.0142000000 USD\t0.0142000000 USD\t1"
)
PART = (
    "2021-02-20 18:52:50 UTC\tUSW2-SpotUsage:x1.16xlarge\tRunInstances:SV002\ti-0053c2917e2afa2f0"
    "\tsir-yb3gavgp\t6.669 USD\t2.001 USD\t0.073 USD\t2"
)
SMALL = PART.replace("USW2-SpotUsage:x1.16xlarge", "SpotUsage")
NAME = "111122223333.2023-12-09-07.001.b959dbc6.gz"


def one(line: str) -> Row:
    page = parse(HEAD + line + "\n", NAME)
    assert page.damages == ()
    (row,) = page.rows
    return row


# -- a line ------------------------------------------------------------------------------------


def test_the_line_of_the_user_guide() -> None:
    assert one(GUIDE) == Row(
        file=NAME,
        line=3,
        at=dt.datetime(2023, 12, 9, 7, 13, 47, tzinfo=dt.timezone.utc),
        instance_id="i-0c3e0c0b046e050df",
        instance_type="c7a.medium",
        market_usd_micros_hour=14_200,
        charge_usd_micros=14_200,
        coarse_usd_micros=1,
        version=1,
    )


def test_a_part_of_an_hour_in_three_decimals_may_be_half_a_thousandth_off() -> None:
    row = one(PART)
    assert (row.market_usd_micros_hour, row.charge_usd_micros) == (2_001_000, 73_000)
    assert (row.coarse_usd_micros, row.version) == (500, 2)


def test_the_one_type_that_has_no_name_is_m1_small() -> None:
    assert one(SMALL).instance_type == "m1.small"


@pytest.mark.parametrize(
    ("printed", "micros", "coarse"),
    [
        ("0 USD", 0, 500_000),
        ("1 USD", 1_000_000, 500_000),
        ("0.160 USD", 160_000, 500),
        ("0.00001 USD", 10, 5),
        ("0.000001 USD", 1, 1),
        ("0.0000005 USD", 1, 1),  # half up
        ("0.0000004999 USD", 0, 1),
        ("0.0394444444 USD", 39_444, 1),
        ("0.0394445000 USD", 39_445, 1),
        ("999999999.999999999999 USD", 1_000_000_000_000_000, 1),
    ],
)
def test_dollars_are_exact_to_the_micro_dollar(printed: str, micros: int, coarse: int) -> None:
    row = one(GUIDE.replace("0.0142000000 USD\t1", f"{printed}\t1"))
    assert (row.charge_usd_micros, row.coarse_usd_micros) == (micros, coarse)


@given(st.decimals(min_value=0, max_value=10_000, places=10))
def test_no_charge_is_further_off_than_it_says(charge: Decimal) -> None:
    row = one(GUIDE.replace("0.0142000000 USD\t1", f"{charge:f} USD\t1"))
    assert abs(charge * 1_000_000 - row.charge_usd_micros) <= row.coarse_usd_micros


def test_other_columns_are_found_by_their_names() -> None:
    text = (
        "#Version: 1.0\n#Fields: Version Charge MarketPrice InstanceID Zone UsageType Timestamp\n"
        "1\t0.1 USD\t0.2 USD\ti-1\tuse1-az4\tUSE1-SpotUsage:g5.xlarge\t2023-12-09 07:13:47 UTC\n"
    )
    (row,) = parse(text, NAME).rows
    assert (row.instance_id, row.charge_usd_micros, row.instance_type) == (
        "i-1",
        100_000,
        "g5.xlarge",
    )


# -- damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("\tsir-pwq6nmfp", "", "expected 9 fields with tabs between, found 8"),
        ("\t", " ", "expected 9 fields with tabs between, found 1"),
        ("2023-12-09 07:13:47 UTC", "2023-12-09 07:13:47 PST", "is no Timestamp such as"),
        ("2023-12-09", "2023-02-30", "'2023-02-30 07:13:47 UTC' is no Timestamp"),
        ("i-0c3e0c0b046e050df", "", "'' is no InstanceID"),
        ("SpotUsage:c7a.medium", "BoxUsage:c7a.medium", "is no UsageType of a spot instance"),
        ("0.0142000000 USD\t1", "0.0142000000 EUR\t1", "'0.0142000000 EUR' is no Charge such as"),
        ("0.0142000000 USD\t1", "-0.014 USD\t1", "'-0.014 USD' is no Charge"),
        ("0.0142000000 USD\t1", "1e3 USD\t1", "'1e3 USD' is no Charge"),
        ("0.0142000000 USD\t0", "USD\t0", "'USD' is no MarketPrice"),
        ("USD\t1", "USD\tone", "'one' is no Version"),
    ],
)
def test_a_damaged_line_is_named_and_left_out(old: str, new: str, words: str) -> None:
    page = parse(HEAD + "\n".join([PART, GUIDE.replace(old, new), SMALL]), NAME)
    assert len(page.rows) == 2
    (damage,) = page.damages
    assert str(damage).startswith(f"{NAME}:4: ")
    assert words in str(damage)


def test_a_file_of_another_version_is_not_guessed_at() -> None:
    page = parse(HEAD.replace("1.0", "2.0") + GUIDE, NAME)
    assert page.rows == ()
    assert [str(it) for it in page.damages] == [
        f"{NAME}:1: expected version 1.0 of the format, found #Version: 2.0; it was left out"
    ]


def test_a_file_without_a_column_that_is_needed_is_left_out() -> None:
    page = parse(HEAD.replace(" Charge", "") + GUIDE, NAME)
    assert page.rows == ()
    assert [str(it) for it in page.damages] == [
        f"{NAME}:2: the format lacks Charge; it was left out"
    ]


def test_a_file_that_is_wrong_throughout_says_so_shortly() -> None:
    damages = parse("junk\n" * 1000, NAME).damages
    assert len(damages) == datafeed.MOST_PROBLEMS_A_FILE + 1
    assert str(damages[-1]) == f"{NAME}: 980 more lines of it cannot be read"


@given(st.text())
def test_no_text_is_too_strange_to_be_parsed(text: str) -> None:
    assert len(parse(text, NAME).rows) <= text.count("\n") + 1


# -- a file ------------------------------------------------------------------------------------


def test_a_file_as_it_lies_in_the_bucket() -> None:
    page = read(gzip.compress((HEAD + GUIDE).encode()), NAME)
    assert [row.instance_id for row in page.rows] == ["i-0c3e0c0b046e050df"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ""),  # nothing in it, and nothing wrong
        (b"not packed", "it cannot be unpacked"),
        (gzip.compress((HEAD + GUIDE).encode())[:-12], "it cannot be unpacked"),
        (gzip.compress(b"\xff\xfe"), "it is not UTF-8 text"),
    ],
)
def test_a_damaged_file_is_named_and_left_out(body: bytes, words: str) -> None:
    page = read(body, NAME)
    assert page.rows == ()
    assert [words in it.message for it in page.damages] == ([True] if words else [])


def test_a_file_is_not_unpacked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datafeed, "MOST_FILE_BYTES", 1 << 20)
    (damage,) = read(gzip.compress(b"\n" * (2 << 20)), NAME).damages
    assert str(damage) == f"{NAME}: it holds more than 1 MiB; it was left out"


@pytest.mark.parametrize(
    ("name", "hour"),
    [
        (NAME, "2023-12-09T07:00:00+00:00"),
        ("111122223333.2014-03-17-20.001.pwBdGTJG.gz", "2014-03-17T20:00:00+00:00"),
        ("111122223333.2023-02-30-07.001.b959dbc6.gz", None),
        ("111122223333.2023-12-09.001.b959dbc6.gz", None),
        ("1.2023-12-09-07.001.b959dbc6.gz", None),
        ("old/111122223333.2023-12-09-07.001.b959dbc6.gz", None),
        ("README", None),
    ],
)
def test_the_hour_of_a_file_is_in_its_name(name: str, hour: str | None) -> None:
    found = hour_of(name)
    assert (found.isoformat() if found else None) == hour


# -- several files -----------------------------------------------------------------------------


def rows_of(*lines: str) -> list[Row]:
    """Each line in a file of its own."""
    return [row for n, line in enumerate(lines) for row in parse(HEAD + line, f"file-{n}").rows]


def test_a_row_that_lies_in_several_files_counts_once() -> None:
    found = once(rows_of(GUIDE, PART, GUIDE, GUIDE))
    assert [row.instance_id for row in found.rows] == ["i-0053c2917e2afa2f0", "i-0c3e0c0b046e050df"]
    assert found.contradictions == ()


def test_the_last_delivery_of_an_hour_counts_in_whatever_order_they_come() -> None:
    later = GUIDE.replace("0.0142000000 USD\t1", "0.0100000000 USD\t2")
    for lines in ((GUIDE, later), (later, GUIDE)):
        found = once(rows_of(*lines))
        assert [row.charge_usd_micros for row in found.rows] == [10_000]
        assert found.contradictions == ()


def test_of_two_rows_that_contradict_each_other_the_dearer_counts_and_is_named() -> None:
    other = GUIDE.replace("0.0142000000 USD\t1", "0.0150000000 USD\t1")
    found = once(rows_of(other, GUIDE, GUIDE))
    assert [row.charge_usd_micros for row in found.rows] == [15_000]
    assert found.contradictions == (
        "file-1:3 and file-0:3 contradict each other about i-0c3e0c0b046e050df at"
        " 2023-12-09 07:13:47 UTC: the dearer counts",
    )


def test_hours_and_instances_are_kept_apart() -> None:
    hour = GUIDE.replace("07:13:47", "08:13:47")
    other = GUIDE.replace("i-0c3", "i-0d3")
    assert len(once(rows_of(GUIDE, hour, other)).rows) == 3
