"""The clock: chrony's own words (captured from chronyd 4.3), or S3's time."""

from __future__ import annotations

import datetime as dt
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.agent.clock_check import CHRONY, S3, ClockCheck, parse_tracking
from spotrunner.core.figures import ClockState
from tests.agent.told import T0

FOLLOWS = (
    "7F000001,127.0.0.1,9,1795284056.922122436,-0.000001132,0.000000004,0.000001132,-0.056,-0.001,"
    "0.104,0.000007184,0.000002022,1.0,Normal\n"
)
# `chronyc tracking` said of it: "5.249997139 seconds slow of NTP time"
SLOW = (
    "7F000001,127.0.0.1,9,1795284061.839997119,5.249997139,0.000000085,0.000000356,0.069,0.001,"
    "0.195,0.000006630,0.000003677,1.0,Normal\n"
)
ALONE = (
    "00000000,,0,0.000000000,0.000000000,0.000000000,0.000000000,0.000,0.000,0.000,1.000000000,"
    "1.000000000,0.0,Not synchronised\n"
)
NO_DAEMON = "506 Cannot talk to daemon\n"


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (FOLLOWS, ClockState(synchronised=True, offset_s=0.000001132, source=CHRONY)),
        (SLOW, ClockState(synchronised=True, offset_s=-5.249997139, source=CHRONY)),
        (ALONE, ClockState(synchronised=False, source=CHRONY)),
        (FOLLOWS.replace("-0.000001132", "nan"), ClockState(synchronised=False, source=CHRONY)),
        (FOLLOWS.replace("-0.000001132", "?"), None),
        (NO_DAEMON, None),
        ("", None),
    ],
)
def test_what_chrony_says(text: str, state: ClockState | None) -> None:
    assert parse_tracking(text) == state


@given(st.one_of(st.text(), st.lists(st.text(), min_size=14, max_size=14).map(",".join)))
def test_no_answer_is_too_odd_to_be_read(text: str) -> None:
    state = parse_tracking(text)
    assert state is None or state.source == CHRONY


class Server:
    """S3's time stands still."""

    def now(self) -> dt.datetime:
        return T0


def check(said: str, *, ahead_s: float, exit_code: int = 0) -> ClockCheck:
    command = f"printf %s {shlex.quote(said)}; exit {exit_code}"
    return ClockCheck(
        server=Server(),
        command=("/bin/sh", "-c", command),
        wall_s=lambda: T0.timestamp() + ahead_s,
    )


def test_chrony_is_believed_before_s3() -> None:
    """S3 tells whole seconds."""
    assert check(FOLLOWS, ahead_s=7).state().offset_s == 0.000001132


def test_of_a_clock_that_follows_nobody_s3_tells_the_offset() -> None:
    assert check(ALONE, ahead_s=7).state() == ClockState(
        synchronised=False, offset_s=7.0, source=CHRONY
    )


@pytest.mark.parametrize(
    ("ahead_s", "synchronised"), [(0.0, True), (-1.0, True), (1.001, False), (-90.5, False)]
)
def test_without_chrony_s3_has_to_do(ahead_s: float, synchronised: bool) -> None:
    expected = ClockState(synchronised=synchronised, offset_s=ahead_s, source=S3)
    assert check(NO_DAEMON, ahead_s=ahead_s, exit_code=1).state() == expected
    absent = ClockCheck(
        server=Server(), command=("/no/chronyc",), wall_s=lambda: T0.timestamp() + ahead_s
    )
    assert absent.state() == expected
