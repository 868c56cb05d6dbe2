"""Pause, resume, extend: what is written down, what is refused, and what is said about it. Figures
are reckoned by hand: g4dn.xlarge in us-east-1 is 0.526 USD an hour on demand."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import Any

import pytest

from spotrunner.core.caps import Bound, Caps
from spotrunner.core.model import (
    Command,
    CommandVerb,
    EndReason,
    Job,
    Market,
    Pause,
    PriceLimit,
)
from spotrunner.core.states import AttemptState, JobState
from spotrunner.core.windows import Window
from spotrunner.ports import Changes
from tests.build import (
    JOB,
    T0,
    a_job,
    a_report,
    a_snapshot,
    a_spec,
    an_attempt,
    an_offer,
    at,
    decided,
    kinds,
)
from tests.web.conftest import START, Api

NOW_S = (START - T0).total_seconds()
HOUR = dt.timedelta(hours=1)
# 22:00 there is 14:00 UTC; 21 November 2026 is a Saturday.
NIGHTS = Window(start_min=22 * 60, stop_min=7 * 60, tz="Asia/Shanghai", days=tuple(range(7)))
SHARE = PriceLimit(after_s=600, pause_share=0.4, resume_share=0.38)
DOLLARS = PriceLimit(after_s=600, pause_usd_micros=600_000, resume_usd_micros=570_000)


@pytest.fixture
def caps() -> Caps:
    return Caps(owners={"alice": Bound(total_usd_micros=1_000_000)})


def _put(api: Api, state: JobState = JobState.ACTIVE, *attempts: Any, **changes: Any) -> Job:
    spec = {
        "market": Market.ON_DEMAND,
        "regions": ("us-east-1",),
        **{key: changes.pop(key) for key in list(changes) if key not in ("pause", "reason")},
    }
    job = a_job(state, spec=a_spec(**spec), **changes)
    api.store.add_job(job, [])
    api.store.write(api.store.lead("a test"), Changes(attempts=attempts))
    return job


def _running(**changes: Any) -> Any:
    """For a quarter of an hour, and paid for another one: 0.04 USD are spent, and EC2 may charge
    1920 s at the on-demand price at most, 0.280534 USD."""
    fields = {
        "intent_s": NOW_S - 900,
        "sent_s": NOW_S - 900,
        "launched_s": NOW_S - 900,
        "first_step_s": NOW_S - 800,
        "paid_until_s": NOW_S + 900,
    }
    return an_attempt(**{**fields, **changes})


def _spent(usd_micros: int) -> Any:
    return an_attempt(
        1,
        AttemptState.ENDED,
        end_reason=EndReason.BUDGET,
        ended_at=START - HOUR,
        cost_usd_micros=usd_micros,
    )


def _refused(api: Api, call: str, body: Any = None) -> tuple[int, str]:
    response = api.client.post(f"/v1/jobs/{JOB}/{call}", json=body)
    assert api.store.commands() == ()
    assert not api.wakes
    (problem,) = response.json()["errors"]
    key = f"{problem['key']}: " if problem["key"] else ""
    hint = f"; {problem['hint']}" if problem["hint"] else ""
    return response.status_code, f"{key}{problem['message']}{hint}"


def _extended(api: Api, **body: Any) -> list[str]:
    """The warnings."""
    answer = api.post(f"/v1/jobs/{JOB}/extend", body)
    assert len(api.wakes) == 1
    return [f"{it['key']}: {it['message']}" for it in answer["warnings"]]


# -- pause and resume --------------------------------------------------------------------------


def test_what_the_user_paused_the_user_resumes(api: Api) -> None:
    _put(api, JobState.PAUSED, pause=Pause.USER, reason="paused by the user")
    api.post(f"/v1/jobs/{JOB}/resume")
    (command,) = api.store.commands()
    assert (command.verb, command.at) == (CommandVerb.RESUME, START)
    assert len(api.wakes) == 1


def test_a_pause_can_be_taken_back_before_a_round_has_seen_it(api: Api) -> None:
    _put(api)
    for call in ("pause", "resume"):
        api.post(f"/v1/jobs/{JOB}/{call}")
    assert [it.verb for it in api.store.commands()] == [CommandVerb.PAUSE, CommandVerb.RESUME]
    again = api.client.post(f"/v1/jobs/{JOB}/resume")
    assert again.status_code == 409
    assert len(api.store.commands()) == 2


@pytest.mark.parametrize(
    ("state", "changes", "words"),
    [
        (JobState.ACTIVE, {}, "is not paused: it is active"),
        (
            JobState.PAUSED,
            {"pause": Pause.BUDGET},
            "is paused by a budget: it goes on with a higher budget: spotrunner extend"
            f" {JOB} --budget USD",
        ),
        (
            JobState.PAUSED,
            {"pause": Pause.BUDGET, "owner": "alice"},
            "is paused by a budget: it goes on when alice's budget of 1.00 USD is raised in the"
            " daemon's settings",
        ),
        (
            JobState.PAUSED,
            {"pause": Pause.BUDGET, "sweep": "lr", "sweep_budget_usd_micros": 2_000_000},
            "is paused by a budget: it goes on when the budget of the sweep lr of 2.00 USD is"
            " raised: by the newest job of the sweep that names one",
        ),
        (
            JobState.PAUSED,
            {"pause": Pause.WINDOW, "window": NIGHTS},
            "is paused by its window: it goes on at 14:00 UTC, when its window opens",
        ),
        (
            JobState.PAUSED,
            {"pause": Pause.PRICE, "price_limit": DOLLARS},
            "is paused by the price: it goes on when an offer costs at most 0.5700 USD an hour",
        ),
        (
            JobState.PAUSED,
            {"pause": Pause.PRICE, "price_limit": SHARE},
            "is paused by the price: it goes on when an offer costs at most 38 % of on-demand",
        ),
    ],
)
def test_what_pauses_by_itself_ends_by_itself(
    api: Api, state: JobState, changes: dict[str, Any], words: str
) -> None:
    _put(api, state, **changes)
    assert _refused(api, "resume") == (409, f"{JOB} {words}")


# -- extend ------------------------------------------------------------------------------------


def test_another_budget_and_another_deadline_are_written_down(api: Api) -> None:
    _put(api, JobState.ACTIVE, _running(), work_s=3600, policy="deadline")
    answer = api.post(f"/v1/jobs/{JOB}/extend", {"budget": "12.5", "deadline": "6h"})
    assert (answer["id"], answer["verb"], answer["budget_usd"]) == (JOB, "extend", 12.5)
    assert answer["deadline_at"] == "2026-11-21T14:00:00.000000Z"
    assert answer["warnings"] == []
    assert api.store.commands() == (
        Command(
            id=answer["command"],
            at=START,
            job_id=JOB,
            verb=CommandVerb.EXTEND,
            budget_usd_micros=12_500_000,
            deadline_at=START + 6 * HOUR,
        ),
    )


def test_it_lies_with_the_job_for_a_daemon_whose_store_was_lost(api: Api) -> None:
    _put(api, JobState.ACTIVE, _running())
    assert _extended(api, budget="12.5") == []
    spec = json.loads(api.home.get(f"jobs/{JOB}/spec.json").body)
    assert spec["budget_usd_micros"] == 12_500_000


def test_what_is_not_given_stays_as_it_is(api: Api) -> None:
    _put(api, JobState.ACTIVE, _running(), deadline_at=START + HOUR, work_s=60)
    assert _extended(api, budget=7) == []
    (command,) = api.store.commands()
    assert (command.budget_usd_micros, command.deadline_at) == (7_000_000, None)


@pytest.mark.parametrize(
    ("tz", "text", "at"),
    [
        ("Asia/Shanghai", "07:00", "2026-11-21T23:00:00.000000Z"),
        ("UTC", "07:00", "2026-11-22T07:00:00.000000Z"),
        ("UTC", "2026-11-22T18:00+01:00", "2026-11-22T17:00:00.000000Z"),
    ],
)
def test_a_time_of_day_is_one_of_the_jobs_zone(api: Api, tz: str, text: str, at: str) -> None:
    _put(api, tz=tz, work_s=60, policy="deadline")
    assert api.post(f"/v1/jobs/{JOB}/extend", {"deadline": text})["deadline_at"] == at


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (None, "nothing is to be changed: give a budget, a deadline or both"),
        ({"budget": None}, "nothing is to be changed: give a budget, a deadline or both"),
        ({"budget": "0"}, "budget: expected more than 0 USD, found 0"),
        ({"budget": -3}, "budget: expected more than 0 USD, found -3"),
        (
            {"deadline": 1320},
            "deadline: without quotes YAML makes 1320 of a time of day: put it in",
        ),
        ({"deadline": "soon"}, "deadline: expected a time with its zone"),
        ({"deadline": "2026-11-21T07:00Z"}, "deadline: 2026-11-21T07:00Z was 1h ago: it is"),
        ({"deadlin": "12h"}, "deadlin: unknown key; did you mean deadline?"),
    ],
)
def test_what_no_job_file_may_say_is_refused(api: Api, body: Any, words: str) -> None:
    _put(api)
    status, said = _refused(api, "extend", body)
    assert status == 422
    assert said.startswith(words)


def test_a_budget_below_what_is_paid_for_says_what_happens(api: Api) -> None:
    _put(api, JobState.ACTIVE, _running())
    assert _extended(api, budget="0.10") == [
        "budget: 0.0400 USD are spent and 0.2405 USD reserved already, 0.1805 USD more than the"
        " budget: nothing more is paid, and it stops with a checkpoint at the end of what is paid"
        " for, at 08:15 UTC"
    ]
    (command,) = api.store.commands()
    assert command.budget_usd_micros == 100_000


def test_a_paused_job_needs_a_budget_that_pays_a_first_step(api: Api) -> None:
    """900 s and 120 s for its boot, at 0.526 + 0.005 (address) + 0.011112 (100 GiB of disk)."""
    job = _put(
        api,
        JobState.PAUSED,
        _spent(1_000_000),
        pause=Pause.BUDGET,
        budget_usd_micros=1_000_000,
    )
    assert _refused(api, "extend", {"budget": "1.15"}) == (
        422,
        "budget: with 1.15 USD it does not start again: 1.00 USD are spent or reserved, and a first"
        " step on us-east-1a/g4dn.xlarge needs 0.1536 USD in reserve; give it at least 1.16 USD",
    )
    assert _extended(api, budget="1.16") == []
    # So does a round see it, which knows nothing of this file.
    for budget, kind in ((1_160_000, "placed"), (1_150_000, "paused")):
        spec = dataclasses.replace(job.spec, budget_usd_micros=budget)
        queued = dataclasses.replace(
            job, state=JobState.QUEUED, pause=None, spec=spec, extended_at=at(NOW_S)
        )
        offer = an_offer(price=526_000, dearest=526_000, market=Market.ON_DEMAND)
        plan = decided(
            a_snapshot(NOW_S, jobs=[queued], attempts=[_spent(1_000_000)], offers=[offer])
        )
        assert kind in kinds(plan)


def test_where_nothing_is_offered_nobody_can_say_that_a_budget_is_too_small(api: Api) -> None:
    _put(api, JobState.PAUSED, pause=Pause.BUDGET, instance_types=("g6.xlarge",))
    assert _extended(api, budget="7") == []


def test_another_cap_that_stops_it_is_named(api: Api) -> None:
    _put(
        api,
        JobState.PAUSED,
        _spent(950_000),
        pause=Pause.BUDGET,
        owner="alice",
        budget_usd_micros=950_000,
    )
    assert _extended(api, budget="7") == [
        "budget: it does not go on by that: alice's budget of 1.00 USD has 0.0500 USD left"
    ]


@pytest.mark.parametrize(
    ("policy", "work_s", "text", "words"),
    [
        (
            "cheapest",
            3600,
            "6h",
            [
                "deadline: its policy cheapest pays no heed to a deadline, and no job changes its"
                " policy: nothing is done to keep this one, you are only told if it will be missed"
            ],
        ),
        (
            "deadline",
            None,
            "6h",
            ["deadline: nobody knows yet how long its work takes: its first steps will tell"],
        ),
        # Two hours of work and five minutes to start.
        ("deadline", 7200, "2h", ["deadline: even on-demand it would be 5m late"]),
        ("deadline", 7200, "2h6m", []),
    ],
)
def test_a_deadline_that_cannot_help_is_warned_of(
    api: Api, policy: str, work_s: int | None, text: str, words: list[str]
) -> None:
    _put(api, policy=policy, work_s=work_s)
    assert _extended(api, deadline=text) == words


def test_measured_progress_counts_against_a_deadline(api: Api) -> None:
    attempt = _running(offer=an_offer(price=526_000, dearest=526_000, market=Market.ON_DEMAND))
    _put(api, JobState.ACTIVE, attempt, policy="deadline", work_s=36_000)
    api.mailbox.post_report(
        a_report(attempt.id, NOW_S, total_steps=4600, steps_per_s=1.0, committed_step=1000)
    )
    api.mailbox.boxes()
    # An hour of work is left, and nothing is to be started.
    assert _extended(api, deadline="50m") == ["deadline: even on-demand it would be 10m late"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        # 7200 s and a start of 100 s, as the one it has seen, at 0.542112 USD an hour: 1.0993 USD
        (
            {"deadline": "6h"},
            [
                "deadline: it cannot be promised: on-demand to the end would need 1.10 USD"
                " (us-east-1a/g4dn.xlarge), and the budget of 1.00 USD has 0.9600 USD for it"
            ],
        ),
        ({"deadline": "6h", "budget": "1.14"}, []),
    ],
)
def test_a_deadline_that_a_cap_does_not_pay_for_is_told_with_the_numbers(
    api: Api, body: dict[str, Any], words: list[str]
) -> None:
    _put(
        api,
        JobState.ACTIVE,
        _running(),
        policy="deadline",
        work_s=7200,
        budget_usd_micros=1_000_000,
    )
    assert _extended(api, **body) == words


def test_the_number_that_would_keep_a_deadline_is_named(api: Api) -> None:
    _put(api, JobState.ACTIVE, _running(), policy="deadline", work_s=7200, owner="alice")
    body = {"budget": "0.50", "deadline": "6h"}
    told = api.post(f"/v1/jobs/{JOB}/extend", body)["warnings"]
    assert [it["hint"] for it in told] == ["1.14 USD would do"]
    # Of what others share too no job can have more.
    told = api.post(f"/v1/jobs/{JOB}/extend", {"budget": "3", "deadline": "6h"})["warnings"]
    assert [it["hint"] for it in told] == [""]
    assert "and alice's budget of 1.00 USD has 0.9600 USD for it" in told[0]["message"]


def test_both_are_wrong_at_once(api: Api) -> None:
    _put(api, JobState.PAUSED, _spent(1_000_000), pause=Pause.BUDGET, budget_usd_micros=1_000_000)
    body = {"budget": "1.01", "deadline": "2026-11-01T00:00Z"}
    response = api.client.post(f"/v1/jobs/{JOB}/extend", json=body)
    assert [it["key"] for it in response.json()["errors"]] == ["deadline", "budget"]
