"""What is told while nothing ends: no capacity, old prices, the day that is over."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest

from spotrunner.core.alert import Alert, AlertKind
from spotrunner.core.caps import Caps, Spent
from spotrunner.core.model import (
    AlertRules,
    Pause,
)
from spotrunner.core.states import AttemptState, JobState
from tests.build import (
    JOB,
    ON_DEMAND,
    SPOT,
    a_running_snapshot,
    a_snapshot,
    an_attempt,
    an_instance,
    applied,
    at,
    decided,
)
from tests.core.alerting import OTHER, owned, told

# -- no capacity -------------------------------------------------------------------------------


def test_a_job_that_finds_no_instance_is_told_after_half_an_hour() -> None:
    """It counts from the first round in which it waits, over restarts: the job remembers it."""
    first = a_snapshot(jobs=[owned()], offers=())
    plan = decided(first)
    assert not plan.alerts
    for now_s, is_told in ((600 + 1799, False), (600 + 1800, True)):
        later = applied(first, plan, now_s=now_s)
        found = [alert for alert in told(later) if alert.kind is AlertKind.CAPACITY]
        assert bool(found) is is_told
    (alert,) = found
    assert alert.key == f"{JOB}/capacity/2026-11-01T12:10:00+00:00"
    assert alert.title == f"{JOB} has had no instance for 30 minutes"
    assert "known price" in alert.why
    assert alert.command == f"spotrunner explain {JOB}"


@pytest.mark.parametrize(
    "changes",
    [
        {"jobs": [dataclasses.replace(owned(JobState.PAUSED), pause=Pause.USER)]},
        {"held_until": at(10**6)},
        {"brake": "pulled"},
    ],
    ids=["paused", "held", "braked"],
)
def test_what_should_not_run_waits_for_nothing(changes: dict[str, Any]) -> None:
    first = a_snapshot(**{"jobs": [owned()], "offers": (), **changes})
    waiting = [dataclasses.replace(job, waits_since=at(0)) for job in first.jobs]
    snapshot = dataclasses.replace(first, now=at(9000), jobs=tuple(waiting))
    plan = decided(snapshot)
    assert AlertKind.CAPACITY not in {alert.kind for alert in plan.alerts}
    assert [job.waits_since for job in plan.jobs] == [None], "it counts anew afterwards"


def test_an_instance_ends_the_waiting_and_a_launch_does_not() -> None:
    waiting = dataclasses.replace(owned(), waits_since=at(0))
    for attempt, since in (
        (an_attempt(), None),
        (an_attempt(1, AttemptState.PENDING, launched_s=None), at(0)),
    ):
        snapshot = a_running_snapshot(jobs=[waiting], attempt=attempt, instances=(), reports=())
        after = applied(snapshot, decided(snapshot))
        assert after.jobs[0].waits_since == since


# -- prices ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age_s", "is_told"), [(3599, False), (3600, True), (9000, True)])
def test_prices_that_are_missing_for_an_hour_are_told_by_region(
    age_s: float, is_told: bool
) -> None:
    now_s = 10_000
    prices_at = {"us-east-1": at(now_s - age_s), "eu-west-1": at(now_s - 5)}
    trouble = {"us-east-1": "no answer " + "x" * 300, "eu-west-1": "no"}
    found = told(a_snapshot(now_s, jobs=[], prices_at=prices_at, prices_trouble=trouble))
    assert bool(found) is is_told
    if is_told:
        (alert,) = found
        assert alert.kind is AlertKind.PRICES
        assert alert.key == f"prices/us-east-1/{at(now_s - age_s).isoformat()}"
        assert alert.title == f"no spot prices of us-east-1 for {int(age_s) // 60} minutes"
        since = f"{at(now_s - age_s):%H:%M} UTC"
        assert alert.why == f"EC2 has not told them since {since}: no answer {'x' * 189}…"
        assert (alert.job_id, alert.owner, alert.channels) == (None, "", ())
        assert alert.command == "spotrunner prices"


# -- the day -----------------------------------------------------------------------------------

YESTERDAY = dt.date(2026, 10, 31)
SPENT = Spent(by_day={YESTERDAY: 3_500_000}, on_demand_by_day={YESTERDAY: 12_000_000})


def the_day(now_s: float, **changes: Any) -> list[Alert]:
    snapshot = a_snapshot(now_s, **{"jobs": [owned()], "spent": SPENT, **changes})
    return [alert for alert in told(snapshot) if alert.kind is AlertKind.SUMMARY]


def test_yesterday_is_told_once_a_day() -> None:
    """T0 is noon; the summary is due at 08:00."""
    assert not the_day(-4 * 3600 - 1)
    (alert,) = the_day(-4 * 3600)
    assert alert.key == "summary/2026-10-31"
    assert alert.title == "2026-10-31: 3.50 USD spent"
    assert alert.why == "jobs now: 1 active"
    assert alert.cost == "on demand it would have been 12.00 USD"
    assert alert.command == "spotrunner report --since 2026-10-31"
    assert not the_day(600, alerted=frozenset({alert.key}))


def test_it_is_told_late_rather_than_not_at_all() -> None:
    assert the_day(11 * 3600)


@pytest.mark.parametrize(
    ("tz", "now_s"),
    [
        ("Asia/Shanghai", -12 * 3600),  # 08:00 there is 00:00 UTC
        # On this day New York's clocks go back: 08:00 is 13:00 UTC, nine hours after midnight.
        ("America/New_York", 3600),
    ],
)
def test_it_comes_at_its_minute_by_the_clock_of_the_budgets(tz: str, now_s: float) -> None:
    caps = Caps(tz=tz)
    assert not the_day(now_s - 1, caps=caps)
    assert the_day(now_s, caps=caps)


def test_at_midnight_too() -> None:
    rules = AlertRules(summary_min=0)
    assert [alert.key for alert in the_day(-12 * 3600, alert_rules=rules)] == ["summary/2026-10-31"]


def test_of_a_quiet_day_nobody_hears() -> None:
    assert not the_day(600, spent=Spent())
    assert not the_day(600, alert_rules=AlertRules(summary_min=None))


def test_what_still_runs_is_in_yesterdays_sum() -> None:
    """An hour before midnight at 0.16 USD, and the store's own."""
    live = an_attempt(launched_s=-13 * 3600, paid_until_s=9000)
    changes = {
        "attempts": [live],
        "instances": [an_instance(live)],
        "jobs": [owned(), owned(JobState.QUEUED, id=OTHER)],
    }
    (alert,) = the_day(600, **changes)
    assert alert.title == "2026-10-31: 3.66 USD spent"
    assert alert.cost == "on demand it would have been 12.53 USD"
    assert alert.why.startswith("jobs now: ")
    assert (SPOT, ON_DEMAND) == (160_000, 526_000)
