"""How a job stands against its deadline, and what its changeovers cost: figures by hand."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from spotrunner.core.model import EndReason, Market
from spotrunner.core.states import AttemptState, JobState
from spotrunner.ports import Changes
from tests.build import JOB, T0, a_job, a_report, a_spec, an_attempt, an_offer, at
from tests.web.conftest import START, Api

ON_DEMAND = an_offer(price=526_000, dearest=526_000, market=Market.ON_DEMAND)
NOW_S = (START - T0).total_seconds()
HOUR_S = 3600


def _told(api: Api, *attempts: Any, state: JobState = JobState.ACTIVE, **spec: Any) -> Any:
    changes: dict[str, Any] = {"market": Market.ON_DEMAND, "regions": ("us-east-1",), **spec}
    ended_at = START - dt.timedelta(hours=1) if state.over else None
    api.store.add_job(a_job(state, spec=a_spec(**changes), ended_at=ended_at), [])
    api.store.write(api.store.lead("a test"), Changes(attempts=attempts))
    api.mailbox.boxes()
    return api.get(f"/v1/jobs/{JOB}")


def _running(n: int = 1, changeover_s: float = 360, **changes: Any) -> Any:
    """Asked for so long before its first step, which it made ten minutes ago."""
    first_s = NOW_S - 600
    return an_attempt(
        n,
        **{
            "offer": ON_DEMAND,
            "intent_s": first_s - changeover_s - 1,
            "sent_s": first_s - changeover_s,
            "launched_s": first_s - 200,
            "first_step_s": first_s,
            "paid_until_s": NOW_S + 900,
            **changes,
        },
    )


def test_a_deadline_leaves_what_the_work_and_a_changeover_do_not_take(api: Api) -> None:
    answer = _told(
        api,
        _running(),
        policy="deadline",
        work_s=4 * HOUR_S,
        deadline_at=START + dt.timedelta(hours=6),
    )
    assert answer["schedule"] == {
        "policy": "deadline",
        "deadline_at": "2026-11-21T14:00:00.000000Z",
        "left_s": 6 * HOUR_S,
        "work_s": 4 * HOUR_S,
        "work_left_s": 4 * HOUR_S,
        "work_on": "g4dn.xlarge",
        "slack_s": 2 * HOUR_S - 360,
    }
    job = answer["job"]
    assert (job["policy"], job["work_s"]) == ("deadline", 4 * HOUR_S)
    assert job["deadline_at"] == "2026-11-21T14:00:00.000000Z"
    # Each launch takes 300 s more than it could: of its own price, and of what makes up for it,
    # half of the on-demand price.
    assert answer["changeover"] == {
        "count": 1,
        "mean_s": 360,
        "longest_s": 360,
        "short_s": 60,
        "short_saves_usd": pytest.approx(300 / HOUR_S * (0.526 + 0.263)),
    }


def test_without_a_deadline_only_the_price_of_the_changeover_counts(api: Api) -> None:
    answer = _told(api, _running(), work_s=4 * HOUR_S)
    assert answer["changeover"]["short_saves_usd"] == pytest.approx(300 / HOUR_S * 0.526)
    schedule = answer["schedule"]
    assert schedule["policy"] == "cheapest"
    assert (schedule["deadline_at"], schedule["left_s"], schedule["slack_s"]) == (None,) * 3
    assert schedule["work_left_s"] == 4 * HOUR_S


def test_measured_progress_replaces_the_guess(api: Api) -> None:
    attempt = _running(step_before=0)
    api.mailbox.post_report(
        a_report(attempt.id, NOW_S, step=300, total_steps=1000, steps_per_s=0.5, committed_step=200)
    )
    answer = _told(api, attempt, work_s=4 * HOUR_S)
    # What is not committed may be lost still.
    assert answer["schedule"]["work_s"] == 2000
    assert answer["schedule"]["work_left_s"] == 1600


def test_several_changeovers_have_a_mean_and_a_longest(api: Api) -> None:
    first = an_attempt(
        1,
        AttemptState.ENDED,
        offer=ON_DEMAND,
        sent_s=10,
        first_step_s=130,
        ended_at=at(900),
        end_reason=EndReason.MOVED,
        cost_usd_micros=1,
    )
    told = _told(api, first, _running(2), work_s=4 * HOUR_S)["changeover"]
    assert (told["count"], told["mean_s"], told["longest_s"]) == (2, 240, 360)
    assert told["short_saves_usd"] == pytest.approx(180 / HOUR_S * 0.526)


def test_a_changeover_as_short_as_can_be_saves_nothing(api: Api) -> None:
    answer = _told(api, _running(changeover_s=45), work_s=4 * HOUR_S)
    assert answer["changeover"]["short_saves_usd"] == 0


def test_what_was_never_measured_is_not_told(api: Api) -> None:
    answer = _told(api, work_s=4 * HOUR_S)
    assert answer["changeover"] is None
    answer = api.get(f"/v1/jobs/{JOB}")
    assert answer["schedule"]["work_left_s"] == 4 * HOUR_S


def test_what_nobody_knows_is_null(api: Api) -> None:
    answer = _told(api, _running())
    assert answer["schedule"]["work_left_s"] is None
    assert answer["changeover"]["short_saves_usd"] is None


def test_of_a_job_that_is_over_the_time_that_was_paid_counts(api: Api) -> None:
    attempts = [
        an_attempt(
            n,
            AttemptState.ENDED,
            offer=an_offer(price=price),
            sent_s=0,
            first_step_s=changeover_s,
            ended_at=at(3600),
            end_reason=EndReason.DONE,
            cost_usd_micros=1,
        )
        for n, changeover_s, price in ((1, 360, 160_000), (2, 120, 170_000), (3, 30, 170_000))
    ]
    answer = _told(
        api,
        *attempts,
        state=JobState.SUCCEEDED,
        work_s=4 * HOUR_S,
        deadline_at=START - dt.timedelta(hours=3),
    )
    saves = (300 * 0.16 + 60 * 0.17) / HOUR_S
    assert answer["changeover"]["short_saves_usd"] == pytest.approx(saves)
    # It ended an hour ago, two hours after its deadline.
    assert answer["schedule"]["left_s"] == -2 * HOUR_S
    assert answer["schedule"]["work_left_s"] is None
    # Nobody asks for the prices of what is over.
    assert api.board.markets() == {}
