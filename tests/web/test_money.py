"""What the API says of money: caps, forecasts, the ledger's sums. Figures are reckoned by hand.

On-demand instances of 0.526 USD an hour have lived for 900 s (0.1315 USD) and are paid for another
900: with the late start of a timer EC2 may charge 1920 s at most, 0.280533... USD, rounded up.
"""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any, cast

import pytest

from spotrunner.core.caps import Bound, Caps
from spotrunner.core.model import EndReason, Market, Pause
from spotrunner.core.purse import Balance, Cap, Purse, Scope
from spotrunner.core.states import AttemptState, JobState
from spotrunner.core.windows import Window
from spotrunner.ports import Changes
from spotrunner.web.ahead import goes_on
from spotrunner.web.deps import Deps
from tests.build import JOB, T0, a_job, a_report, a_spec, an_attempt, an_offer
from tests.web.conftest import START, Api

NOW_S = (START - T0).total_seconds()
HOUR = dt.timedelta(hours=1)
# 08:00 UTC is 16:00 there.
TZ = "Asia/Shanghai"
NIGHTS = Window(start_min=22 * 60, stop_min=7 * 60, tz=TZ, days=tuple(range(7)))
ON_DEMAND = an_offer(price=526_000, dearest=526_000, market=Market.ON_DEMAND)


@pytest.fixture
def caps() -> Caps:
    return Caps(
        tz=TZ,
        installation=Bound(day_usd_micros=40_000_000),
        owners={"alice": Bound(total_usd_micros=1_000_000)},
        each_owner=Bound(day_usd_micros=20_000_000),
    )


def _running(job: str = JOB, **changes: Any) -> Any:
    fields = {"launched_s": NOW_S - 900, "first_step_s": NOW_S - 800, "paid_until_s": NOW_S + 900}
    return an_attempt(1, job=job, offer=ON_DEMAND, **{**fields, **changes})


def _ended(job: str, cost: int, *, launched: dt.datetime, hours: int, **changes: Any) -> Any:
    fields: dict[str, Any] = {
        "offer": an_offer(),
        "launched_s": (launched - T0).total_seconds(),
        "ended_at": launched + hours * HOUR,
        "end_reason": EndReason.DONE,
        "cost_usd_micros": cost,
        "hour_prices_usd_micros": (160_000,) * hours,
    }
    return an_attempt(1, AttemptState.ENDED, job=job, **{**fields, **changes})


def _add(api: Api, id: str = JOB, state: JobState = JobState.ACTIVE, **changes: Any) -> None:
    keys = ("pause", "reason", "ended_at")
    of_job = {key: changes.pop(key) for key in keys if key in changes}
    spec = {"market": Market.ON_DEMAND, "regions": ("us-east-1",), "owner": "bob", **changes}
    api.store.add_job(a_job(state, id=id, spec=a_spec(**spec), **of_job), [])


def _write(api: Api, *attempts: Any) -> None:
    api.store.cut_days_in(TZ)
    api.store.write(api.store.lead("a test"), Changes(attempts=attempts))


def _caps(answer: Any) -> dict[tuple[str, str, str | None], tuple[float, ...]]:
    names = ("cap_usd", "accrued_usd", "reserved_usd", "left_usd")
    return {
        (cap["scope"], cap["name"], cap["day"]): tuple(cap[name] for name in names)
        for cap in answer["caps"]
    }


# -- caps --------------------------------------------------------------------------------------


def test_every_cap_in_force_with_what_is_left_of_it(api: Api) -> None:
    _add(api, sweep="lr", sweep_budget_usd_micros=3_000_000)
    _add(api, "old-aaaa", JobState.SUCCEEDED, owner="alice", ended_at=START - 12 * HOUR)
    # Two hours yesterday in Shanghai, ten today.
    yesterday = _ended("old-aaaa", 1_920_000, launched=START - 18 * HOUR, hours=12)
    _write(api, _running(), yesterday)
    answer = api.get("/v1/budget")
    spent, reserved = 0.1315, 0.149034
    assert (answer["tz"], list(_caps(answer))) == (
        TZ,
        [
            ("installation", "", "2026-11-21"),
            ("owner", "alice", None),
            ("owner", "bob", "2026-11-21"),
            ("sweep", "lr", None),
            ("job", JOB, None),
        ],
    )
    assert _caps(answer) == {
        ("installation", "", "2026-11-21"): pytest.approx(
            (40, spent + 1.6, reserved, 40 - spent - 1.6 - reserved)
        ),
        # More than the cap that was set afterwards.
        ("owner", "alice", None): pytest.approx((1, 1.92, 0, -0.92)),
        ("owner", "bob", "2026-11-21"): pytest.approx((20, spent, reserved, 20 - spent - reserved)),
        ("sweep", "lr", None): pytest.approx((3, spent, reserved, 3 - spent - reserved)),
        ("job", JOB, None): pytest.approx((5, spent, reserved, 5 - spent - reserved)),
    }


def test_without_a_job_only_the_caps_of_all_are_shown(api: Api) -> None:
    answer = api.get("/v1/budget")
    assert answer["jobs"] == []
    assert [(cap["scope"], cap["name"]) for cap in answer["caps"]] == [
        ("installation", ""),
        ("owner", "alice"),
    ]
    # Nobody asks for the prices of nothing.
    assert api.board.markets() == {}


def test_a_job_shows_the_caps_that_it_shares(api: Api) -> None:
    _add(api, owner="alice")
    _add(api, "other-aaaa", owner="alice")
    _write(api, _running(), _running("other-aaaa"))
    answer = api.get(f"/v1/jobs/{JOB}")
    assert _caps(answer) == {
        ("job", JOB, None): pytest.approx((5, 0.1315, 0.149034, 4.719466)),
        ("owner", "alice", None): pytest.approx((1, 0.263, 0.298068, 0.438932)),
        ("installation", "", "2026-11-21"): pytest.approx((40, 0.263, 0.298068, 39.438932)),
    }


# -- forecasts ---------------------------------------------------------------------------------


def _told(api: Api, **changes: Any) -> Any:
    """A job that has run for a while; it has four hours of work."""
    _add(api, **{"work_s": 4 * 3600, "owner": "bob", **changes})
    attempt = _running()
    _write(api, attempt)
    # 1000 of 15400 steps are safe; one a second.
    report = a_report(
        attempt.id, NOW_S, step=1000, total_steps=15_400, steps_per_s=1.0, committed_step=1000
    )
    api.mailbox.post_report(report)
    api.mailbox.boxes()
    (job,) = api.get("/v1/budget")["jobs"]
    shown = api.get(f"/v1/jobs/{JOB}")
    assert shown["forecast"] == job["forecast"]
    return job


def test_a_job_that_ends_within_its_caps_has_an_end_and_a_price(api: Api) -> None:
    job = _told(api)
    # four hours at 0.526 + 0.005 (address) + 0.011112 (100 GiB of disk)
    assert job["words"] == "will be done at 12:00 UTC for about 2.17 USD more"
    assert job["forecast"] == {
        "done_at": "2026-11-21T12:00:00.000000Z",
        "more_usd": pytest.approx(4 * 0.542112),
        "cap": None,
        "cap_at": None,
        "cap_progress": None,
        "words": job["words"],
    }


def test_a_cap_that_comes_first_is_named_with_how_far_it_brings_the_job(api: Api) -> None:
    """1.20 USD, less 0.1315 spent and a last step of 900 s (0.135528), pay for 6195 s."""
    job = _told(api, budget_usd_micros=1_200_000)
    assert job["words"] == "will reach the cap at 09:43 UTC, 47 % done"
    found = job["forecast"]
    assert found["cap"] == "the budget of 1.20 USD"
    assert found["cap_at"].startswith("2026-11-21T09:43:1")
    assert found["cap_progress"] == pytest.approx((1000 + 6195.6) / 15_400, abs=1e-3)


def test_a_cap_of_others_is_named_in_full(api: Api) -> None:
    """0.73297 USD of alice's: 4867 s."""
    job = _told(api, owner="alice")
    assert job["words"] == "will reach alice's budget of 1.00 USD at 09:21 UTC, 38 % done"


def test_an_exhausted_cap_is_reached_now(api: Api) -> None:
    job = _told(api, budget_usd_micros=200_000)
    assert job["words"] == "will reach the cap now, 6 % done"


def test_a_closed_window_moves_the_end(api: Api) -> None:
    """It opens at 14:00 UTC; four hours of work and five minutes to start."""
    _add(api, state=JobState.PAUSED, pause=Pause.WINDOW, window=NIGHTS, work_s=4 * 3600)
    (job,) = api.get("/v1/budget")["jobs"]
    assert job["words"] == "will be done at 18:05 UTC for about 2.21 USD more"
    shown = api.get(f"/v1/jobs/{JOB}")
    assert shown["goes_on"] == "at 14:00 UTC, when its window opens"
    assert shown["job"]["window"] == {
        "words": "22:00-07:00 Asia/Shanghai",
        "open": False,
        "changes_at": "2026-11-21T14:00:00.000000Z",
    }


def test_another_day_is_named_with_its_date(api: Api) -> None:
    _add(api, work_s=24 * 3600, budget_usd_micros=None, state=JobState.QUEUED)
    (job,) = api.get("/v1/budget")["jobs"]
    assert job["words"] == "will be done at 11-22 08:05 UTC for about 13.06 USD more"


@pytest.mark.parametrize(
    ("state", "changes", "words"),
    [
        (
            JobState.QUEUED,
            {},
            "nobody knows yet how long it takes: its steps will tell, or `work` in a job file",
        ),
        (
            JobState.QUEUED,
            {"work_s": 60, "instance_types": ("g6.xlarge",)},
            "nothing is offered to it now",
        ),
        (
            JobState.PAUSED,
            {"work_s": 60, "pause": Pause.USER},
            f"goes on by spotrunner resume {JOB}",
        ),
        (
            JobState.PAUSED,
            {"work_s": 60, "pause": Pause.BUDGET, "budget_usd_micros": 1},
            f"goes on with a higher budget: spotrunner extend {JOB} --budget USD",
        ),
    ],
)
def test_where_nothing_can_be_foretold_it_says_why(
    api: Api, state: JobState, changes: dict[str, Any], words: str
) -> None:
    _add(api, state=state, **changes)
    (job,) = api.get("/v1/budget")["jobs"]
    assert (job["words"], job["forecast"]) == (words, None)


def test_what_is_over_is_not_forecast(api: Api) -> None:
    _add(api, state=JobState.SUCCEEDED, work_s=60, ended_at=START)
    answer = api.get(f"/v1/jobs/{JOB}")
    assert (answer["forecast"], answer["caps"], answer["goes_on"]) == (None, [], "")
    assert api.get("/v1/budget")["jobs"] == []


# -- what a job has cost -----------------------------------------------------------------------


def test_the_parts_of_a_cost_and_what_is_estimated(api: Api) -> None:
    """Two hours at 0.16 USD, a disk and an address at 0.016112, and 0.02 USD for data."""
    attempt = _ended(
        JOB,
        372_224,
        launched=START - 5 * HOUR,
        hours=2,
        extras_usd_micros_hour=16_112,
        transfer_usd_micros=20_000,
        estimated=True,
    )
    _add(api)
    _write(api, attempt)
    answer = api.get(f"/v1/jobs/{JOB}")
    for told in (answer, answer["attempts"][0]):
        assert told["cost_usd"] == 0.372224
        assert (told["instance_usd"], told["extras_usd"]) == (0.32, 0.032224)
        assert (told["transfer_usd"], told["estimated"]) == (0.02, True)


def test_what_was_reserved_before_a_cap_was_lowered_is_told(api: Api) -> None:
    _add(api, budget_usd_micros=200_000)
    _write(api, _running())
    answer = api.get(f"/v1/jobs/{JOB}")
    assert answer["over_usd"] == pytest.approx(0.080534)
    assert answer["cost_usd"] + answer["reserved_usd"] == pytest.approx(0.280534)


# -- the report --------------------------------------------------------------------------------


@pytest.fixture
def ledger(api: Api) -> Api:
    """Alice's job ran from 14:00 UTC (22:00 in Shanghai) for four hours, on two days there; bob's
    runs."""
    _add(api, "old-aaaa", JobState.SUCCEEDED, owner="alice", sweep="lr", ended_at=START)
    _add(api)
    start = dt.datetime(2026, 11, 19, 14, 0, tzinfo=dt.timezone.utc)
    old = _ended("old-aaaa", 640_000, launched=start, hours=4, offer=an_offer("eu-west-1a"))
    _write(api, old, _running())
    return api


@pytest.mark.parametrize(
    ("by", "keys", "costs"),
    [
        ("job", ["old-aaaa", JOB], [0.64, 0.1315]),
        ("day", ["2026-11-19", "2026-11-20", "2026-11-21"], [0.32, 0.32, 0.1315]),
        ("region", ["eu-west-1", "us-east-1"], [0.64, 0.1315]),
        ("owner", ["alice", "bob"], [0.64, 0.1315]),
        ("sweep", ["lr", ""], [0.64, 0.1315]),
        ("attempt", ["old-aaaa.1", f"{JOB}.1"], [0.64, 0.1315]),
    ],
)
def test_the_ledger_is_summed_by(ledger: Api, by: str, keys: list[str], costs: list[float]) -> None:
    answer = ledger.get("/v1/report", by=by)
    assert (answer["by"], answer["since"], answer["tz"]) == (by, "2026-11-14", TZ)
    assert [row["key"] for row in answer["rows"]] == keys
    assert [row["cost_usd"] for row in answer["rows"]] == costs
    assert answer["total"]["cost_usd"] == pytest.approx(sum(costs))


def test_a_line_of_the_report(ledger: Api) -> None:
    row = ledger.get("/v1/report")["rows"][0]
    assert row == {
        "key": "old-aaaa",
        "attempts": 1,
        "hours": 4.0,
        "cost_usd": 0.64,
        "instance_usd": 0.64,
        "extras_usd": 0.0,
        "transfer_usd": 0.0,
        "ondemand_usd": 2.104,
        "saved_fraction": pytest.approx(1 - 0.64 / 2.104),
        "estimated": False,
    }


@pytest.mark.parametrize(
    ("since", "day", "cost"),
    [
        ("2026-11-20", "2026-11-20", 0.4515),
        ("2026-11-21", "2026-11-21", 0.1315),
        ("1d", "2026-11-20", 0.4515),
        # 18 hours ago it was 22:00 of the day before there.
        ("18h", "2026-11-20", 0.4515),
        ("15h", "2026-11-21", 0.1315),
    ],
)
def test_the_report_begins_with_a_whole_day(ledger: Api, since: str, day: str, cost: float) -> None:
    answer = ledger.get("/v1/report", since=since)
    assert answer["since"] == day
    assert answer["total"]["cost_usd"] == pytest.approx(cost)


def test_an_attempt_of_two_days_is_one_attempt(ledger: Api) -> None:
    answer = ledger.get("/v1/report", by="day")
    assert [row["attempts"] for row in answer["rows"]] == [1, 1, 1]
    assert answer["total"]["attempts"] == 2


def test_nothing_spent_is_no_line(api: Api) -> None:
    answer = api.get("/v1/report")
    assert answer["rows"] == []
    assert (answer["total"]["cost_usd"], answer["total"]["saved_fraction"]) == (0.0, None)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"since": "soon"}, "expected a day (2026-11-01) or how long ago (7d), found soon"),
        ({"since": "2026-11-22"}, f"2026-11-22 is not past yet: it is 2026-11-21 in {TZ}"),
        ({"since": "9999999d"}, "expected a day (2026-11-01) or how long ago (7d), found 9999999d"),
        ({"by": "zone"}, "Input should be 'job', 'day', 'region', 'owner', 'sweep' or 'attempt'"),
    ],
)
def test_what_cannot_be_reported_is_refused(api: Api, query: dict[str, str], words: str) -> None:
    response = api.client.get("/v1/report", params=query)
    assert response.status_code == 422
    (problem,) = response.json()["errors"]
    assert (problem["key"], problem["message"]) == (next(iter(query)), words)


def test_a_day_that_ends_does_not_help_where_the_total_is_spent_too(api: Api) -> None:
    def balance(left: int, day: dt.date | None) -> Balance:
        end = None if day is None else START + dt.timedelta(hours=9)
        begin = None if day is None else START - dt.timedelta(hours=9)
        cap = Cap(scope=Scope.OWNER, name="alice", usd_micros=10**6, day=day, begin=begin, end=end)
        return Balance(cap=cap, accrued_usd_micros=10**6 - left, reserved_usd_micros=0)

    day = balance(-300_000, START.date())
    job = a_job(JobState.PAUSED, pause=Pause.BUDGET)
    deps = cast(Deps, SimpleNamespace(clock=api.clock))
    assert "another day pays" in goes_on(deps, job, Purse(balances=(day, balance(1, None))))
    told = goes_on(deps, job, Purse(balances=(day, balance(-1, None))))
    assert told == "when alice's budget of 1.00 USD is raised in the daemon's settings"
