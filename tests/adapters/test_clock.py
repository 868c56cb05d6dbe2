"""S3's time from its `Date` headers: right within a second and a round trip, without jitter."""

from __future__ import annotations

import datetime as dt
import email.utils

import hypothesis.strategies as st
from hypothesis import given

from spotrunner.adapters.aws.clock import DRIFT, ServerClock

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
NOON = dt.datetime(2026, 11, 3, 12, tzinfo=dt.timezone.utc).timestamp()
# Of floats, and of datetimes that have microseconds.
ROUNDING_S = 1e-4


class Bench:
    """A server and a machine. `real` is the server's true time; the machine's monotonic clock
    started at 1000, and its wall clock is `wall_error_s` off."""

    def __init__(self, wall_error_s: float = 0.0) -> None:
        self.real = NOON
        self.monotonic = 1000.0
        self.clock = ServerClock(
            monotonic=lambda: self.monotonic, wall=lambda: self.real + wall_error_s
        )

    def pass_s(self, seconds: float) -> None:
        self.real += seconds
        self.monotonic += seconds

    def ask(self, there_s: float, back_s: float) -> None:
        """A request that takes this long each way."""
        sent_at = self.monotonic
        self.pass_s(there_s)
        date = email.utils.formatdate(int(self.real), usegmt=True)
        self.pass_s(back_s)
        self.clock.learn(date, sent_at, self.monotonic)

    @property
    def error_s(self) -> float:
        return (self.clock.now() - EPOCH).total_seconds() - self.real


_trips = st.tuples(
    st.floats(0, 30), st.floats(0, 2), st.floats(0, 2)
)  # seconds before it, there and back
_walls = st.floats(-1e6, 1e6)


def test_before_the_first_answer_the_machines_own_clock_counts() -> None:
    assert Bench().error_s == 0.0
    assert abs(Bench(wall_error_s=3600).error_s - 3600) < 1e-3


@given(wall_error_s=_walls, trips=st.lists(_trips, min_size=1, max_size=12))
def test_it_is_never_off_by_more_than_a_second_and_a_round_trip(
    wall_error_s: float, trips: list[tuple[float, float, float]]
) -> None:
    bench = Bench(wall_error_s)
    for wait_s, there_s, back_s in trips:
        bench.pass_s(wait_s)
        bench.ask(there_s, back_s)
        assert abs(bench.error_s) <= 1.0 + there_s + back_s + ROUNDING_S
    shortest = min(there_s + back_s for _, there_s, back_s in trips)
    assert abs(bench.error_s) <= 1.0 + shortest + DRIFT * 500


@given(trips=st.lists(_trips, min_size=1, max_size=12), later=_trips)
def test_what_it_knows_does_not_get_worse(
    trips: list[tuple[float, float, float]], later: tuple[float, float, float]
) -> None:
    bench = Bench(wall_error_s=40)
    for wait_s, there_s, back_s in trips:
        bench.pass_s(wait_s)
        bench.ask(there_s, back_s)
    before = abs(bench.error_s)
    wait_s, there_s, back_s = later
    bench.pass_s(wait_s)
    bench.ask(there_s, back_s)
    # An estimate moves only to where the truth must be, so only towards it.
    assert abs(bench.error_s) <= before + ROUNDING_S


def test_a_clock_that_agrees_does_not_jitter() -> None:
    """Answers at all phases of the second leave a right clock where it is."""
    bench = Bench()
    for _ in range(200):
        bench.pass_s(0.37)
        bench.ask(0.02, 0.03)
        assert abs(bench.error_s) <= ROUNDING_S


@given(jump_s=st.floats(10, 1e7), ahead=st.booleans(), trip=_trips)
def test_a_jump_of_the_server_is_followed_at_once(
    jump_s: float, ahead: bool, trip: tuple[float, float, float]
) -> None:
    bench = Bench()
    bench.ask(0.05, 0.05)
    bench.real += jump_s if ahead else -jump_s
    bench.pass_s(trip[0])
    bench.ask(trip[1], trip[2])
    assert abs(bench.error_s) <= 1.0 + trip[1] + trip[2] + ROUNDING_S


def test_drift_of_the_monotonic_clock_is_followed() -> None:
    bench = Bench()
    for _ in range(600):
        bench.real += 60.0
        bench.monotonic += 60.0 * (1 - 5e-5)  # 4 seconds a day
        bench.ask(0.05, 0.05)
        assert abs(bench.error_s) <= 1.2


def test_what_is_no_date_changes_nothing() -> None:
    bench = Bench()
    for date in ("", "soon", "Tue, 03 Nov 2026", "2026-11-03T12:00:00Z", "Tue, 03 Nov 2099 12:00"):
        bench.clock.learn(date, bench.monotonic, bench.monotonic)
    assert bench.error_s == 0.0
