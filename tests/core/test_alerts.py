"""What people are told: each thing once, with why, what it costs and what to type."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest

from spotrunner.core.alert import Alert, AlertKind, text
from spotrunner.core.caps import Bound, Caps, Spent
from spotrunner.core.model import (
    AlertRules,
    CommandVerb,
    EndedBy,
    EndReason,
    InstanceState,
    Pause,
    Phase,
    Snapshot,
)
from spotrunner.core.states import AttemptState, JobState
from spotrunner.core.windows import Window
from tests.build import (
    JOB,
    a_command,
    a_head,
    a_job,
    a_notice,
    a_report,
    a_running_snapshot,
    a_snapshot,
    a_spec,
    an_attempt,
    an_instance,
    an_offer,
    applied,
    at,
    decided,
)
from tests.core.alerting import ID, OTHER, a_running_job, only, owned, told

# -- what has happened -------------------------------------------------------------------------


def test_an_alert_says_what_happened_why_what_it_costs_and_what_to_type() -> None:
    alert = only(a_running_job(reports=(a_report(notice=a_notice(700)),)), AlertKind.INTERRUPTED)
    assert alert == Alert(
        key=f"{ID}/notice/2026-11-01T12:10:00+00:00",
        at=at(600),
        kind=AlertKind.INTERRUPTED,
        job_id=JOB,
        owner="alice",
        channels=("phone", "mail"),
        title=f"{ID} is being interrupted",
        why="EC2 takes the instance at 12:11:40",
        cost="0.0264 USD so far of 5.00 USD",
        command=f"spotrunner explain {JOB}",
    )
    assert text(alert).splitlines() == [alert.title, alert.why, alert.cost, alert.command]


def gone(by: EndedBy) -> Snapshot:
    dead = an_instance(state=InstanceState.ENDED, ended_s=595, ended_by=by)
    return a_running_job(instances=(dead,))


FAILED = (a_report(phase=Phase.FAILED, message="exit 1"),)
CASES = {
    "taken without a notice": (
        gone(EndedBy.EC2),
        AlertKind.INTERRUPTED,
        f"EC2 took {ID} without a notice",
        f"spotrunner explain {JOB}",
    ),
    "failed": (
        a_running_job(reports=FAILED),
        AlertKind.FAILED,
        f"{JOB} has failed",
        f"spotrunner logs {JOB}",
    ),
    "succeeded": (
        a_running_job(head=a_head(500, done="outputs")),
        AlertKind.SUCCEEDED,
        f"{JOB} is done",
        f"spotrunner show {JOB}",
    ),
    "paused by the user": (
        a_running_job(commands=(a_command(CommandVerb.PAUSE),)),
        AlertKind.PAUSED,
        f"{JOB} is paused",
        f"spotrunner resume {JOB}",
    ),
    "paused by its budget": (
        a_snapshot(jobs=[owned(budget_usd_micros=1_000)], offers=[an_offer()]),
        AlertKind.PAUSED,
        f"{JOB} is paused",
        f"spotrunner extend {JOB} --budget USD",
    ),
    "resumed": (
        a_snapshot(
            jobs=[dataclasses.replace(owned(JobState.PAUSED), pause=Pause.USER)],
            commands=(a_command(CommandVerb.RESUME),),
        ),
        AlertKind.RESUMED,
        f"{JOB} goes on",
        f"spotrunner explain {JOB}",
    ),
    "an orphan of no attempt": (
        a_snapshot(jobs=[owned()], instances=[an_instance(an_attempt(7))]),
        AlertKind.ORPHAN,
        f"an instance of {JOB} had no owner: it is being ended",
        f"spotrunner explain {JOB}",
    ),
    "an orphan of an attempt that was given up": (
        a_snapshot(
            jobs=[owned()],
            attempts=[an_attempt(1, AttemptState.ENDED, end_reason=EndReason.LOST)],
            instances=[an_instance()],
        ),
        AlertKind.ORPHAN,
        f"an instance of {JOB} had no owner: it is being ended",
        f"spotrunner explain {JOB}",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_people_are_told_of_a_story(name: str) -> None:
    snapshot, kind, title, command = CASES[name]
    alert = only(snapshot, kind)
    assert (alert.title, alert.command) == (title, command)
    assert alert.why
    assert "so far" in alert.cost
    assert (alert.owner, alert.channels) == ("alice", ("phone", "mail"))


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_told_twice(name: str) -> None:
    """Neither in the next round, nor of the same facts again by a daemon that has forgotten them
    but for the keys."""
    snapshot = CASES[name][0]
    plan = decided(snapshot)
    assert plan.alerts
    later = applied(snapshot, plan, now_s=615)
    assert not told(later)
    assert not told(dataclasses.replace(snapshot, alerted=later.alerted))


@pytest.mark.parametrize("by", [EndedBy.US, EndedBy.ITSELF])
def test_an_end_that_ec2_did_not_want_is_no_interruption(by: EndedBy) -> None:
    assert AlertKind.INTERRUPTED not in {alert.kind for alert in told(gone(by))}


def test_an_announced_end_is_told_at_its_notice_only() -> None:
    noticed = an_attempt(1, AttemptState.INTERRUPTED, notice=a_notice(590))
    dead = an_instance(noticed, InstanceState.ENDED, ended_s=595, ended_by=EndedBy.EC2)
    assert not told(a_running_job(attempt=noticed, instances=(dead,)))


def test_two_pauses_are_two_alerts() -> None:
    """The same thing at another time is another thing."""
    keys = {
        only(a_running_job(now_s, commands=(a_command(CommandVerb.PAUSE),)), AlertKind.PAUSED).key
        for now_s in (600, 700)
    }
    assert len(keys) == 2


def test_success_and_failure_are_told_once_for_ever() -> None:
    """A job that is over in two stores, one of them restored, was over once."""
    keys = {
        only(a_running_job(now_s, head=a_head(500, done="outputs")), AlertKind.SUCCEEDED).key
        for now_s in (600, 700)
    }
    assert keys == {f"{JOB}/succeeded"}


def test_an_instance_of_ours_that_no_job_knows_is_told_once() -> None:
    stray = dataclasses.replace(an_instance(), job_id="gone-aaaa", attempt_id="gone-aaaa.7")
    alone = a_snapshot(600, jobs=(), instances=(stray,))
    said = only(alone, AlertKind.ORPHAN)
    assert said.key == f"orphan/{stray.id}"
    assert f"{stray.id} in us-east-1a/g4dn.xlarge had no owner" in said.title
    assert (said.job_id, said.command) == (None, "spotrunner reconcile")
    assert told(dataclasses.replace(alone, alerted=frozenset({said.key}))) == ()


def test_where_nobody_is_to_be_told_nobody_is() -> None:
    snapshot = a_running_job(reports=(a_report(notice=a_notice(700)),), alert_rules=None)
    assert not told(snapshot)


# -- shares of a cap ---------------------------------------------------------------------------


def spending(budget: int, now_s: float = 1800, **changes: Any) -> Snapshot:
    """0.08 USD are spent by then: half an hour at 0.16."""
    attempt = an_attempt(launched_s=0, paid_until_s=7200)
    changes = {"jobs": [owned(budget_usd_micros=budget)], "attempt": attempt, **changes}
    return a_running_snapshot(now_s, **changes)


@pytest.mark.parametrize(
    ("budget", "percent"),
    [
        (160_001, None),
        (160_000, 50),  # at the share is over it
        (100_001, 50),
        (100_000, 80),  # only the highest
        (80_001, 80),
        (80_000, 100),
        (1, 100),
    ],
)
def test_a_share_of_a_cap_is_told_when_it_is_spent(budget: int, percent: int | None) -> None:
    found = [alert for alert in told(spending(budget)) if "is spent" in alert.title]
    assert [alert.key for alert in found] == (
        [f"cap/job/{JOB}/all/{budget}/{percent}"] if percent else []
    )


def test_it_says_whose_cap_what_is_left_and_how_to_raise_it() -> None:
    snapshot = spending(900_000, alert_rules=AlertRules(percents=(5,)))
    (alert,) = [each for each in told(snapshot) if "is spent" in each.title]
    assert alert.title == f"{JOB}: 5 % of the budget of 0.9000 USD is spent"
    # 7200 s and 115 of slack at 0.526 USD an hour are reserved in all.
    assert alert.cost == "0.0800 USD spent, 0.9888 USD reserved, 0.0000 USD left"
    assert alert.command == f"spotrunner extend {JOB} --budget USD"


def test_the_shares_are_told_upwards_only() -> None:
    """What was told stays told: a cost that turns out less, free in the end, is no news."""
    budget = 100_000
    keys = {percent: f"cap/job/{JOB}/all/{budget}/{percent}" for percent in (50, 80, 100)}
    for alerted, found in (((50,), [80]), ((80,), []), ((100,), []), ((), [80])):
        snapshot = spending(budget, alerted=frozenset(keys[each] for each in alerted))
        told_now = [alert.key for alert in told(snapshot) if alert.key in keys.values()]
        assert told_now == [keys[each] for each in found]


def test_a_cap_that_was_raised_is_another_one() -> None:
    before = frozenset({f"cap/job/{JOB}/all/100000/80", f"cap/job/{JOB}/all/100000/50"})
    found = [alert.key for alert in told(spending(101_000, alerted=before))]
    assert f"cap/job/{JOB}/all/101000/50" in found


def test_a_shared_cap_is_told_once_for_all_its_jobs() -> None:
    caps = Caps(owners={"alice": Bound(day_usd_micros=100_000)})
    jobs = [owned(), owned(id=OTHER)]
    found = [a for a in told(spending(0, jobs=jobs, caps=caps)) if a.key.startswith("cap/owner")]
    (alert,) = found
    assert alert.key == "cap/owner/alice/2026-11-01/100000/80"
    assert alert.title == "80 % of alice's budget of 0.1000 USD on 2026-11-01 is spent"
    assert alert.command == "spotrunner budget"
    assert (alert.job_id, alert.owner, alert.channels) == (None, "alice", ())


def test_the_cap_of_the_installation_is_told_to_who_looks_after_it() -> None:
    caps = Caps(installation=Bound(total_usd_micros=100_000))
    found = told(spending(0, jobs=[owned()], caps=caps))
    (alert,) = [alert for alert in found if alert.key == "cap/installation//all/100000/80"]
    assert (alert.job_id, alert.owner, alert.channels) == (None, "", ())


def test_the_cap_of_a_sweep_is_told_to_each_owner_in_it() -> None:
    sweep: dict[str, Any] = {"sweep": "lr", "sweep_budget_usd_micros": 100_000}
    jobs = [owned(**sweep), owned(id=OTHER, **sweep), owned(id="third-0000", owner="bob", **sweep)]
    found = [a for a in told(spending(0, jobs=jobs)) if a.key.startswith("cap/sweep")]
    assert [(alert.key, alert.owner) for alert in found] == [
        (f"cap/sweep/lr/{owner}/all/100000/80", owner) for owner in ("alice", "bob")
    ]
    assert {(alert.job_id, alert.channels) for alert in found} == {(None, ())}
    heard = frozenset({found[0].key})
    later = told(spending(0, jobs=jobs, alerted=heard))
    assert [a.owner for a in later if a.key.startswith("cap/sweep")] == ["bob"]


def test_what_the_last_job_spent_is_told_though_it_ends_in_this_round() -> None:
    caps = Caps(each_owner=Bound(total_usd_micros=100_000))
    snapshot = spending(100_000, caps=caps, head=a_head(500, done="outputs"))
    plan = decided(snapshot)
    assert [job.state for job in plan.jobs] == [JobState.SUCCEEDED]
    by_key = {alert.key: alert for alert in plan.alerts}
    assert "cap/owner/alice/all/100000/80" in by_key
    assert by_key[f"cap/job/{JOB}/all/100000/80"].command == f"spotrunner show {JOB}"


def test_what_a_job_that_was_over_still_costs_is_told() -> None:
    """An instance of it turned up in the listings."""
    over = owned(JobState.CANCELLED, budget_usd_micros=100_000)
    found = told(spending(0, jobs=[over]))
    assert f"cap/job/{JOB}/all/100000/80" in {alert.key for alert in found}


def test_a_days_cap_is_told_again_on_the_next_day() -> None:
    caps = Caps(each_owner=Bound(day_usd_micros=100_000))
    spent = {dt.date(2026, 11, day): 90_000 for day in (1, 2)}
    spent_by = Spent(by_owner_and_day={("alice", day): usd for day, usd in spent.items()})
    keys = set()
    for now_s in (600, 600 + 86_400):
        found = told(a_snapshot(now_s, jobs=[owned()], caps=caps, spent=spent_by))
        keys |= {alert.key for alert in found if alert.key.startswith("cap/")}
    assert keys == {f"cap/owner/alice/2026-11-0{day}/100000/80" for day in (1, 2)}


def test_tomorrows_cap_is_no_news_today() -> None:
    """Its reservation reaches over midnight; nothing of it is spent."""
    caps = Caps(tz="Asia/Shanghai", each_owner=Bound(day_usd_micros=1))
    found = told(a_snapshot(4 * 3600 - 60, jobs=[owned()], caps=caps))
    assert not [alert for alert in found if "2026-11-02" in alert.key]


@pytest.mark.parametrize(("percents", "said"), [((50, 100), True), ((50,), False)])
def test_the_last_step_is_the_whole_cap(percents: tuple[int, ...], said: bool) -> None:
    """A cap is never spent to the last cent: what it stops is 100 percent."""
    snapshot = a_running_snapshot(
        900, jobs=[owned(budget_usd_micros=300_000)], alert_rules=AlertRules(percents=percents)
    )
    found = [alert for alert in told(snapshot) if "last-step" in alert.key]
    assert bool(found) is said
    if said:
        (alert,) = found
        assert alert.kind is AlertKind.CAP
        assert alert.title == f"{JOB} stops: its cap is reached"
        assert "pays no further step" in alert.why
        assert alert.command == f"spotrunner extend {JOB} --budget USD"
        assert alert.key == f"cap/job/{JOB}/all/300000/last-step"
        assert alert.cost.endswith(" left")


def test_a_job_that_is_launched_again_at_its_cap_does_not_tell_it_again() -> None:
    first = a_running_snapshot(900, jobs=[owned(budget_usd_micros=300_000)])
    (said,) = [alert for alert in told(first) if "last-step" in alert.key]
    again = a_running_snapshot(
        900,
        jobs=first.jobs,
        attempt=an_attempt(2),
        attempts=[an_attempt(1, AttemptState.ENDED), an_attempt(2)],
    )
    assert [alert.key for alert in told(again) if "last-step" in alert.key] == [said.key]
    assert not told(dataclasses.replace(again, alerted=frozenset({said.key})))
    raised = a_running_snapshot(900, jobs=[owned(budget_usd_micros=300_001)])
    (other,) = [alert for alert in told(raised) if "last-step" in alert.key]
    assert other.key != said.key


def test_a_job_without_a_known_price_is_not_told_to_raise_its_cap() -> None:
    unpriced = an_attempt(offer=dataclasses.replace(an_offer(), dearest_usd_micros_hour=0))
    found = told(a_running_snapshot(900, jobs=[owned()], attempt=unpriced, offers=()))
    assert [alert.title for alert in found] == [f"{JOB} stops: it cannot be paid"]
    assert found[0].key == f"{JOB}/last-step/2026-11-01"
    assert found[0].command == f"spotrunner explain {JOB}"


def test_where_a_shared_cap_stops_it_the_jobs_own_is_not_to_be_raised() -> None:
    caps = Caps(each_owner=Bound(total_usd_micros=300_000))
    snapshot = a_running_snapshot(900, jobs=[owned()], caps=caps)
    (alert,) = [alert for alert in told(snapshot) if "last-step" in alert.key]
    assert alert.command == "spotrunner budget"
    assert alert.title == f"alice's budget of 0.3000 USD is reached: {JOB} stops"
    assert (alert.job_id, alert.owner, alert.channels) == (None, "alice", ())


# -- forecasts ---------------------------------------------------------------------------------


def paced(now_s: float = 720, *, budget: int = 5_000_000, **changes: Any) -> Snapshot:
    """It has trained since 120 s, one step a second, and needs ten hours in all."""
    spec = {
        "budget_usd_micros": budget,
        "deadline_at": changes.pop("deadline_at", None),
        "owner": "alice",
        "tz": changes.pop("tz", "UTC"),
        "window": changes.pop("window", None),
    }
    steps = changes.pop("steps", 36_000)
    report = a_report(ID, now_s - 10, step=600, total_steps=steps, steps_per_s=1.0)
    return a_running_snapshot(
        now_s, jobs=[a_job(spec=a_spec(**spec))], reports=(report,), head=a_head(600), **changes
    )


def test_a_cap_that_will_stop_it_is_foretold() -> None:
    """1 USD and 35,400 s to go, at 0.176112 USD an hour."""
    alert = only(paced(budget=1_000_000), AlertKind.FORECAST)
    # 0.031734 are spent, 0.135528 are for the last step: 0.832738 pay 17,022 s.
    assert alert.title == f"{JOB} will reach its cap at 16:55 UTC"
    assert alert.why == "the budget of 1.00 USD ends with 49 % done"
    assert alert.command == f"spotrunner extend {JOB} --budget USD"
    assert alert.key == f"{JOB}/forecast/job/all/1000000"


def test_a_cap_that_pays_to_the_end_is_not() -> None:
    assert not told(paced())


def test_a_pace_that_is_younger_than_ten_minutes_foretells_nothing() -> None:
    assert not told(paced(719, budget=1_000_000))
    assert told(paced(720, budget=1_000_000))


def test_it_is_foretold_again_for_another_cap_and_for_another_day() -> None:
    keys = {only(paced(budget=b), AlertKind.FORECAST).key for b in (1_000_000, 1_200_000)}
    assert len(keys) == 2
    caps = Caps(each_owner=Bound(day_usd_micros=400_000))
    keys = set()
    for days in (0, 1):
        first_step_s = days * 86_400 + 120
        attempt = an_attempt(
            launched_s=first_step_s - 100,
            first_step_s=first_step_s,
            paid_until_s=first_step_s + 1800,
        )
        alert = only(paced(first_step_s + 600, attempt=attempt, caps=caps), AlertKind.FORECAST)
        assert alert.command == "spotrunner budget"
        keys.add(alert.key)
    assert keys == {f"{JOB}/forecast/owner/2026-11-0{day}/400000" for day in (1, 2)}


def test_a_deadline_that_will_be_missed_is_foretold_once_for_each() -> None:
    """It will be done at 720 + 35,400 s, at 22:02 UTC."""
    late, done = at(720 + 35_399), at(720 + 35_400)
    alert = only(paced(deadline_at=late), AlertKind.DEADLINE)
    assert alert.title == f"{JOB} will miss its deadline, 22:01 UTC"
    assert alert.why == "at its pace it will be done at 22:02 UTC"
    assert alert.command == f"spotrunner extend {JOB} --deadline TIME"
    assert alert.key == f"{JOB}/late/{late.isoformat()}"
    found = told(paced(deadline_at=done))
    assert not [alert for alert in found if alert.kind is AlertKind.DEADLINE]


def test_times_are_told_in_the_jobs_zone() -> None:
    """A quarter past eight in the evening there: what comes after midnight has its date."""
    found = told(paced(deadline_at=at(3 * 3600), tz="Asia/Shanghai"))
    (alert,) = [alert for alert in found if alert.kind is AlertKind.DEADLINE]
    assert alert.title == f"{JOB} will miss its deadline, 23:00 (Asia/Shanghai)"
    assert alert.why == "at its pace it will be done at 2026-11-02 06:02 (Asia/Shanghai)"
    alert = only(paced(budget=1_000_000, tz="Asia/Shanghai"), AlertKind.FORECAST)
    assert alert.title == f"{JOB} will reach its cap at 2026-11-02 00:55 (Asia/Shanghai)"


def test_what_will_never_be_done_is_told_without_a_time() -> None:
    window = Window(start_min=720, stop_min=780, tz="UTC", days=(6,))
    snapshot = paced(deadline_at=at(3 * 3600), tz="Asia/Shanghai", window=window, steps=10**9)
    alert = only(snapshot, AlertKind.DEADLINE)
    assert alert.why == "at its pace it will never be done"
