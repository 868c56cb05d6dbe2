"""`spotrunner reconcile`, against the real API over a store and a bucket in memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import Any

import pytest

from spotrunner.core.model import Attempt
from spotrunner.core.states import AttemptState
from spotrunner.ports import Changes
from spotrunner.web import reconcile
from tests.build import a_job, an_attempt, at
from tests.cli.conftest import Behind, Run

pytestmark = pytest.mark.usefixtures("here")

HEAD = """\
#Version: 1.0
#Fields: Timestamp UsageType Operation InstanceID MyBidID MyMaxPrice MarketPrice Charge Version
"""
HOUR_S, DAY_S = 3600, 86_400
FEED = ("--feed", "s3://data-bucket/spot-feed")

TABLE = """\
INSTANCE         TYPE         ATTEMPT            FEED    LEDGER  NOT COMPARED  DIFFERENCE  RESULT  WHY
i-digits-7f3a.1  g4dn.xlarge  digits-7f3a.1  0.160000  0.160000      0.000000    0.000000  agrees
in all                                       0.160000  0.160000      0.000000    0.000000
"""  # noqa: E501 - as it is printed


def lived(generation: int = 1, **changes: Any) -> Attempt:
    """An hour, on the first day of the feed."""
    fields: dict[str, Any] = {
        "launched_s": 0,
        "ended_at": at(HOUR_S),
        "hour_prices_usd_micros": (160_000,),
    }
    return an_attempt(generation, AttemptState.ENDED, **{**fields, **changes})


def booked(behind: Behind, *attempts: Attempt) -> None:
    behind.store.add_job(a_job(), [])
    behind.store.write(behind.store.lead("a test"), Changes(attempts=attempts))


def put(behind: Behind, charge: str, instance: str = "i-digits-7f3a.1", hour: int = 0) -> None:
    when = at(hour * HOUR_S)
    line = (
        f"{when:%Y-%m-%d %H:%M:%S} UTC\tUSE1-SpotUsage:g4dn.xlarge\tRunInstances:SV001\t{instance}"
        f"\tsir-pwq6nmfp\t0.526 USD\t0.1600000000 USD\t{charge} USD\t1\n"
    )
    key = f"spot-feed/111122223333.{when:%Y-%m-%d-%H}.001.{instance.replace('.', '-')}.gz"
    behind.buckets.objects("data-bucket").put(key, gzip.compress((HEAD + line).encode()))


@pytest.fixture
def later(here: None, behind: Behind) -> Behind:
    """Two days after T0: whatever the feed has for the first hours, it has."""
    behind.clock.advance(2 * DAY_S)
    return behind


# -- what is printed ---------------------------------------------------------------------------


def test_a_ledger_that_is_right(later: Behind, run: Run) -> None:
    booked(later, lived())
    put(later, "0.1600000000")
    said = run("reconcile", *FEED)
    assert (said.code, said.out) == (0, TABLE)
    assert said.err.splitlines() == [
        "USD, since 10-27 12:00:00 UTC: 1 file of s3://data-bucket/spot-feed/",
        "the feed covers 100% of what the ledger has for them",
        "no price changed inside an instance-hour: the feed tells nothing of AWS's two texts",
    ]


def test_a_difference_that_nothing_explains_fails(later: Behind, run: Run) -> None:
    booked(later, lived())
    put(later, "0.1700010000")
    said = run("reconcile", *FEED)
    assert said.code == 1
    assert said.err.splitlines()[-1] == (
        "spotrunner: 0.010001 USD differ and nothing explains it: look at what `differs` or is"
        " `not in the ledger`"
    )
    assert "digits-7f3a.1 (i-digits-7f3a.1): the feed has 0.1700 USD, the ledger 0.1600 USD" in (
        said.err
    )


def test_up_to_a_cent_is_told_and_fails_nobody(later: Behind, run: Run) -> None:
    booked(later, lived())
    put(later, "0.1700000000")
    said = run("reconcile", *FEED)
    assert said.code == 0
    assert "0.010000  differs" in said.out


def test_money_of_somebody_else_is_found(later: Behind, run: Run) -> None:
    put(later, "0.1600000000", "i-0123456789abcdef0")
    said = run("reconcile", *FEED)
    assert said.code == 1
    assert "i-0123456789abcdef0  g4dn.xlarge  -" in said.out
    assert "that this ledger knows nothing of" in said.err


def test_as_json(later: Behind, run: Run) -> None:
    booked(later, lived())
    put(later, "0.5000000000")
    said = run("reconcile", *FEED, "--since", "2026-11-01", "-o", "json")
    answer = json.loads(said.out)
    assert (said.code, answer["is_right"]) == (1, False)
    assert answer["since"] == "2026-11-01T00:00:00.000000Z"
    assert answer["instances"][0]["difference_usd_micros"] == 340_000


def test_as_csv(later: Behind, run: Run) -> None:
    booked(later, lived())
    put(later, "0.1500000000")
    said = run("reconcile", *FEED, "-o", "csv")
    assert said.code == 0
    (line,) = csv.DictReader(io.StringIO(said.out))
    assert line == {
        "instance_id": "i-digits-7f3a.1",
        "instance_type": "g4dn.xlarge",
        "attempt": "digits-7f3a.1",
        "feed_usd": "0.150000",
        "ledger_usd": "0.160000",
        "left_out_usd": "0.000000",
        "difference_usd": "-0.010000",
        "standing": "differs",
        "why": "the feed charges for some 225 s less",
    }


def test_where_there_is_nothing_to_compare(later: Behind, run: Run) -> None:
    put(later, "0.1600000000", hour=-1000)
    said = run("reconcile", *FEED)
    assert (said.code, said.out) == (0, "")
    assert "no spot instance lived in that time, and the feed has none" in said.err


def test_damage_and_files_that_were_not_read_are_told(
    later: Behind, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "MOST_FILES", 1)
    put(later, "lots")
    put(later, "0.1600000000", hour=1)
    notes = run("reconcile", *FEED).err.splitlines()
    assert notes[-2].startswith("there are more files than are read: those from 11-01 13:00:00 UTC")
    assert notes[-1].startswith("not read: 111122223333.2026-11-01-12.001.")
    assert notes[-1].endswith(":3: 'lots USD' is no Charge such as 0.160 USD")


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--feed: no data feed is known: name it as s3://BUCKET/PREFIX/"),
        ([], "aws ec2 create-spot-datafeed-subscription --bucket BUCKET --prefix PREFIX"),
        (["--feed", "my-bucket"], "--feed: expected s3://BUCKET/PREFIX/, found my-bucket"),
        ([*FEED, "--since", "soon"], "--since: expected how long ago (30d, 12h) or a day"),
        ([*FEED, "-o", "xml"], "'xml' is not one of"),
    ],
)
def test_bad_input(run: Run, arguments: list[str], words: str) -> None:
    said = run("reconcile", *arguments)
    assert (said.code, said.out) == (2, "")
    assert words in " ".join(said.err.split())


def test_a_place_without_a_feed_says_where_to_look(run: Run) -> None:
    said = run("reconcile", *FEED)
    assert said.code == 1
    assert said.err == (
        "spotrunner: there is no file of a spot data feed at s3://data-bucket/spot-feed/; the first"
        " comes some hours after a spot instance ran; aws ec2 describe-spot-datafeed-subscription"
        " says where they are put\n"
    )
