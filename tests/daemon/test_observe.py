"""What a round is told of prices that do not come: only what is true of EC2 itself."""

from __future__ import annotations

import datetime as dt

import pytest

from spotrunner.core.model import CommandVerb, Snapshot
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.setups import G4DN, G5
from tests.daemon.tale import JOB, LONG_AGO, Tale, a_spec

EAST, WEST = "us-east-1", "eu-west-1"
HOUR_S = 3600
ALWAYS = 10**6


def snapshot(tale: Tale) -> Snapshot:
    assert tale._reconciler is not None
    return tale._reconciler._observer.snapshot(1)


def told_of_prices(tale: Tale) -> list[str]:
    return sorted(key for key in tale.store.alert_keys(LONG_AGO) if key.startswith("prices/"))


def silence(tale: Tale, region: str = EAST) -> None:
    action = "DescribeSpotPriceHistory"
    tale.world.script(Fault(action=action, region=region, lose=Lose.BEFORE, times=ALWAYS))


def wait(tale: Tale, seconds: float) -> None:
    tale.idle(tale.clock.now() + dt.timedelta(seconds=seconds))


def test_a_region_that_fails_for_two_hours_is_told_once_since_its_last_answer() -> None:
    tale = Tale()
    tale.run(60)
    answered_at = snapshot(tale).now - dt.timedelta(minutes=1)
    silence(tale)
    wait(tale, 50 * 60)
    assert snapshot(tale).prices_at.keys() == {EAST}
    assert told_of_prices(tale) == []
    wait(tale, 70 * 60)
    (key,) = told_of_prices(tale)
    since = snapshot(tale).prices_at[EAST]
    assert key == f"prices/{EAST}/{since.isoformat()}"
    assert abs(since - answered_at) < dt.timedelta(minutes=1)
    assert "DescribeSpotPriceHistory" in snapshot(tale).prices_trouble[EAST]


def test_an_outage_that_outlives_the_daemon_is_told_once() -> None:
    tale = Tale()
    tale.run(60)
    silence(tale)
    wait(tale, 2 * HOUR_S)
    before = told_of_prices(tale)
    tale.kill_daemon()
    tale.start_daemon()
    wait(tale, 2 * HOUR_S)
    assert told_of_prices(tale) == before != []


def test_a_region_that_never_told_any_is_told_an_hour_after_that_was_seen() -> None:
    tale = Tale()
    silence(tale, WEST)
    tale.start_daemon()
    wait(tale, 50 * 60)
    since = snapshot(tale).prices_at
    assert since.keys() == {WEST}
    assert told_of_prices(tale) == []
    wait(tale, HOUR_S)
    assert snapshot(tale).prices_at == since
    assert told_of_prices(tale) == [f"prices/{WEST}/{since[WEST].isoformat()}"]


@pytest.mark.parametrize("away_s", [2 * HOUR_S, 30 * HOUR_S])
def test_a_daemon_that_was_away_tells_nothing_of_a_healthy_region(away_s: int) -> None:
    tale = Tale()
    tale.run(60)
    tale.kill_daemon()
    tale.clock.advance(away_s)
    tale.start_daemon()
    tale.run(120)
    assert snapshot(tale).prices_at == {}
    assert told_of_prices(tale) == []


def test_an_answer_ends_it_and_the_next_outage_is_another() -> None:
    tale = Tale()
    tale.run(60)
    silence(tale)
    wait(tale, 2 * HOUR_S)
    tale.world.faults.clear()
    wait(tale, 1800)
    assert snapshot(tale).prices_at == {}
    silence(tale)
    wait(tale, 2 * HOUR_S)
    assert len(told_of_prices(tale)) == 2


def test_a_type_that_never_told_any_is_missed_since_this_outage() -> None:
    tale = Tale(instance_types=(G4DN,))
    silence(tale)
    tale.start_daemon()
    wait(tale, 1800)
    tale.world.faults.clear()
    wait(tale, 1800)
    tale.command(JOB, CommandVerb.CANCEL)
    tale.until_over()
    tale.clock.advance(30 * HOUR_S)
    silence(tale)
    begun_at = tale.clock.now()
    tale.submit(a_spec(instance_types=(G5,)), "job-bbbb")
    assert snapshot(tale).prices_at == {EAST: begun_at}


def test_what_nobody_asks_for_any_more_is_not_missed() -> None:
    """The last try failed, and then the last job ended: a day later no type is read."""
    tale = Tale()
    tale.run(60)
    silence(tale)
    tale.run(1200)
    tale.command(JOB, CommandVerb.CANCEL)
    tale.until_over()
    tale.clock.advance(30 * HOUR_S)
    assert snapshot(tale).prices_at == {}
