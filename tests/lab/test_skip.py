"""Moving lab time: in hops, behind the gate, with a daemon and agents that follow."""

from __future__ import annotations

import datetime as dt
import threading

import pytest

from spotrunner.lab.clock import LabClock
from spotrunner.lab.gate import CONTROL_KEY, Gate
from spotrunner.lab.skip import HOP, ROUNDS_A_HOP, Skipper
from tests.lab.clients import START, HandClock


class Followers:
    """Agents that report `lag` looks after time moved, and a daemon that counts its rounds."""

    def __init__(self, lag: int) -> None:
        self.wall = HandClock()
        self.clock = LabClock(wall=self.wall.now)
        self.gate = Gate(longest_wait_s=0.0)
        self.lag = lag
        self.looks = 0
        self.unread = 0
        self.waited: list[dt.datetime] = []
        self.rounds: list[dt.datetime] = []
        self.read_at = START
        self.asked: set[dt.datetime] = set()
        self.stops: tuple[dt.datetime, ...] = ()

    def skipper(self) -> Skipper:
        return Skipper(
            clock=self.clock,
            gate=self.gate,
            wake=lambda: None,
            late=self.late,
            behind=self.behind,
            stops=lambda: self.stops,
            make_round=self.make_round,
            old_prices=self.old_prices,
            agents_wait_s=0.3,
            start_wait_s=0.5,
        )

    def late(self, since: dt.datetime) -> tuple[str, ...]:
        assert not self.gate.lets_through(CONTROL_KEY), "the daemon must not look meanwhile"
        assert self.gate.lets_through("ASIA1"), "the agents have to report"
        self.waited.append(since)
        self.looks += 1
        return ("digits-7f3a.1",) if self.looks <= self.lag else ()

    def behind(self) -> tuple[str, ...]:
        """Read the orders of a round in the third look after it."""
        assert self.gate.lets_through(CONTROL_KEY)
        self.unread = max(0, self.unread - 1)
        return ("digits-7f3a.1",) if self.unread else ()

    def old_prices(self, before: dt.datetime) -> tuple[str, ...]:
        """Read in the second look after they have become old."""
        assert self.gate.lets_through(CONTROL_KEY)
        if self.read_at < before and before in self.asked:
            self.read_at = self.clock.now()
        self.asked.add(before)
        return ("us-east-1",) if self.read_at < before else ()

    def make_round(self) -> bool:
        assert self.unread == 0 or self.rounds[-1] == self.clock.now(), "time moved too early"
        self.unread = 3
        assert self.gate.lets_through(CONTROL_KEY)
        assert self.clock.now() - self.read_at < dt.timedelta(hours=1), "nobody waited for prices"
        self.rounds.append(self.clock.now())
        return True


def test_a_skip_is_hops_of_a_third_of_a_paid_step() -> None:
    followers = Followers(lag=2)
    skipped = followers.skipper().skip(dt.timedelta(hours=1, minutes=5))
    assert skipped.now == START + dt.timedelta(hours=1, minutes=5)
    assert dt.timedelta(minutes=10) == HOP
    assert (skipped.hops, skipped.rounds, skipped.late) == (7, 7 * ROUNDS_A_HOP, ())
    steps = [b - a for a, b in zip(followers.rounds, followers.rounds[1:], strict=False)]
    assert max(steps) <= HOP
    assert followers.gate.lets_through(CONTROL_KEY)


def test_prices_are_never_an_hour_old() -> None:
    """Their reading goes on beside the rounds: it is waited for, now and then."""
    followers = Followers(lag=0)
    followers.skipper().skip(dt.timedelta(hours=5))
    assert followers.read_at > START + dt.timedelta(hours=4)


def test_a_hop_ends_where_an_agent_begins_to_stop() -> None:
    """It saves in real time: woken up past the end of what is paid, it would lose its steps."""
    followers = Followers(lag=2)
    minutes = [-5, 4, 25]
    followers.stops = tuple(START + dt.timedelta(minutes=each) for each in minutes)
    followers.skipper().skip(dt.timedelta(minutes=30))
    rounds = [(at - START) // dt.timedelta(minutes=1) for at in followers.rounds[::ROUNDS_A_HOP]]
    assert rounds == [4, 14, 24, 25, 30]


def test_an_agent_that_does_not_follow_is_named_and_not_waited_for_forever() -> None:
    followers = Followers(lag=1_000_000)
    skipped = followers.skipper().skip(dt.timedelta(minutes=5))
    assert skipped.late == ("digits-7f3a.1",)
    assert followers.gate.lets_through(CONTROL_KEY)


def test_time_never_goes_back() -> None:
    with pytest.raises(ValueError, match="back"):
        LabClock().skip(dt.timedelta(seconds=-1))


def test_the_gate_waits_no_longer_than_it_may() -> None:
    gate = Gate(longest_wait_s=30.0)
    gate.close()
    threading.Timer(0.05, gate.open).start()
    assert gate.lets_through(CONTROL_KEY)
