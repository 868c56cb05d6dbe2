"""What is checked of a job's money when it is sent: the caps that it is under, the deadline that
the budget does not pay for, and the price that it would rather wait at.

An hour of g4dn.xlarge in us-east-1 comes to 0.526 USD on demand, and 0.0161 for its disk and its
address; the cheapest spot is 0.15.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core.caps import Bound, Caps
from spotrunner.core.market import first_step_s
from spotrunner.core.model import DataSource, JobSpec, Limits, Market, Offer
from spotrunner.core.purse import Balance, Cap, Purse, Scope
from spotrunner.core.states import AttemptState, JobState
from spotrunner.ports import Changes
from spotrunner.web.caps import least_start
from tests import build
from tests.build import a_spec, an_offer
from tests.web.conftest import START, Api, a_job

START_NEEDS = (
    "the first 1020 s on us-east-1a/g4dn.xlarge, with its disk and its address, need 0.16 USD in"
    " reserve"
)
ONE_TYPE = {"instance_types": ["g4dn.xlarge"], "regions": ["us-east-1"]}
DAY = "2026-11-21"


def _job(**changes: Any) -> dict[str, Any]:
    return a_job(**{"resources": ONE_TYPE, "data": None, **changes})


def _on_demand(**changes: Any) -> dict[str, Any]:
    return _job(resources={**ONE_TYPE, "use_spot": False}, **changes)


def _errors(api: Api, fields: dict[str, Any]) -> list[dict[str, Any]]:
    """The same from both calls; nothing is written down."""
    looked, sent = api.client.post("/v1/offers", json=fields), api.submit(fields)
    assert looked.json() == sent.json()
    assert (looked.status_code, sent.status_code) == (422, 422)
    assert api.store.jobs() == ()
    errors: list[dict[str, Any]] = sent.json()["errors"]
    return errors


def _warnings(api: Api, fields: dict[str, Any]) -> list[dict[str, Any]]:
    warnings: list[dict[str, Any]] = api.post("/v1/offers", fields)["warnings"]
    return warnings


def _spec(api: Api, fields: dict[str, Any]) -> JobSpec:
    job = api.store.job(api.submitted(fields))
    assert job is not None
    return job.spec


# -- caps that never pay a start ---------------------------------------------------------------


def _usd(value: str) -> int:
    return int(float(value) * 1_000_000)


TEN_CENTS = Bound(total_usd_micros=100_000)
TEN_CENTS_A_DAY = Bound(day_usd_micros=100_000)


@pytest.mark.parametrize(
    ("caps", "key", "message", "hint"),
    [
        (
            Caps(installation=TEN_CENTS),
            "",
            "the budget of the installation of 0.1000 USD",
            "0.16 would do, in the daemon's settings: budgets: {total: 0.16}",
        ),
        (
            Caps(installation=TEN_CENTS_A_DAY),
            "",
            f"the budget of the installation of 0.1000 USD on {DAY}",
            "0.16 would do, in the daemon's settings: budgets: {day: 0.16}",
        ),
        (
            Caps(owners={"alice": TEN_CENTS}, each_owner=Bound(day_usd_micros=1)),
            "owner",
            "alice's budget of 0.1000 USD",
            "0.16 would do, in the daemon's settings: budgets: {owners: {alice: {total: 0.16}}}",
        ),
        (
            Caps(owners={"bob": Bound()}, each_owner=TEN_CENTS_A_DAY),
            "owner",
            f"alice's budget of 0.1000 USD on {DAY}",
            "0.16 would do, in the daemon's settings: budgets: {each_owner: {day: 0.16}}",
        ),
    ],
)
def test_a_cap_below_a_start_refuses_the_job_with_what_would_do(
    api: Api, key: str, message: str, hint: str
) -> None:
    (error,) = _errors(api, _job(owner="alice"))
    assert error["key"] == key
    assert error["message"] == f"{message} does not pay a start: {START_NEEDS}"
    assert error["hint"] == hint


@pytest.mark.parametrize("caps", [Caps(owners={"alice": TEN_CENTS})])
def test_another_owner_is_under_another_cap(api: Api) -> None:
    assert _spec(api, _job(owner="bob")).owner == "bob"
    assert _spec(api, _job()).owner == "nobody"


@pytest.mark.parametrize("caps", [Caps(installation=TEN_CENTS)])
def test_every_cap_that_is_too_small_is_named(api: Api) -> None:
    errors = _errors(api, _job(budget="0.10", sweep={"name": "lr", "budget": "0.15"}))
    assert [error["key"] for error in errors] == ["budget", "sweep.budget", ""]
    assert errors[1]["message"].startswith("the budget of the sweep lr of 0.1500 USD does not pay")
    assert errors[1]["hint"] == "0.16 would do: sweep: {name: lr, budget: 0.16}"


def test_a_sweep_is_bound_by_the_job_that_named_its_budget(api: Api) -> None:
    spec = _spec(api, _job(sweep={"name": "lr", "budget": "0.20"}))
    assert (spec.sweep, spec.sweep_budget_usd_micros) == ("lr", 200_000)
    _spent(api, "0.15", sweep="lr")
    api.clock.advance(60)
    (response,) = api.submit(_job(sweep={"name": "lr"})).json()["errors"]
    assert response["key"] == "sweep"
    assert response["message"] == (
        "the budget of the sweep lr of 0.2000 USD, of which 0.1500 USD are spent, does not pay a"
        f" start: {START_NEEDS}"
    )
    assert response["hint"] == "0.31 would do: sweep: {name: lr, budget: 0.31}"
    assert _spec(api, _job(sweep={"name": "lr", "budget": "0.31"})).sweep == "lr"
    assert api.submit(_job(sweep={"name": "other"})).status_code == 200


def _spent(api: Api, usd: str, **spec: Any) -> None:
    """By a job that is over, an hour ago."""
    ended_at = START - dt.timedelta(hours=1)
    job = build.a_job(JobState.SUCCEEDED, spec=a_spec(**spec))
    attempt = dataclasses.replace(
        build.an_attempt(1, AttemptState.ENDED, cost_usd_micros=_usd(usd)),
        intent_at=ended_at - dt.timedelta(hours=1),
        launched_at=ended_at - dt.timedelta(hours=1),
        ended_at=ended_at,
    )
    api.store.add_job(job, [])
    api.store.write(api.store.lead("a test"), Changes(attempts=(attempt,)))


@pytest.mark.parametrize("caps", [Caps(installation=Bound(total_usd_micros=1_000_000))])
def test_what_is_spent_of_a_total_is_gone_for_good(api: Api) -> None:
    _spent(api, "0.90")
    (error,) = api.submit(_job()).json()["errors"]
    assert error["message"] == (
        "the budget of the installation of 1.00 USD, of which 0.9000 USD are spent, does not pay a"
        f" start: {START_NEEDS}"
    )
    assert error["hint"] == "1.06 would do, in the daemon's settings: budgets: {total: 1.06}"


@pytest.mark.parametrize("caps", [Caps(installation=Bound(day_usd_micros=1_000_000))])
def test_what_is_spent_of_a_day_comes_back_tomorrow(api: Api) -> None:
    _spent(api, "0.90")
    (warning,) = _warnings(api, _job())
    assert warning["message"] == (
        f"the budget of the installation of 1.00 USD on {DAY} has 0.9000 USD spent and 0.0000 USD"
        f" reserved, and {START_NEEDS}: it waits until 2026-11-22T00:00Z, or until other jobs leave"
        " so much"
    )
    assert api.submit(_job()).status_code == 200


@pytest.mark.parametrize("caps", [Caps(owners={"alice": Bound(total_usd_micros=400_000)})])
def test_what_another_job_has_reserved_is_waited_for(api: Api) -> None:
    job = build.a_job(spec=a_spec(owner="alice"))
    paid_until = START + dt.timedelta(minutes=30)
    attempt = dataclasses.replace(
        build.an_attempt(), intent_at=START, launched_at=START, paid_until=paid_until
    )
    api.store.add_job(job, [])
    api.store.write(api.store.lead("a test"), Changes(attempts=(attempt,)))
    (warning,) = _warnings(api, _job(owner="alice"))
    assert warning["key"] == "owner"
    assert re.fullmatch(
        r"alice's budget of 0\.4000 USD has 0\.0\d+ USD spent and 0\.2\d+ USD reserved, and "
        + re.escape(START_NEEDS)
        + ": it waits until other jobs leave so much",
        warning["message"],
    )


# -- the number that is named ------------------------------------------------------------------


@given(
    budget=st.integers(1, 3_000_000),
    dearest=st.integers(1, 5_000_000),
    disk_gib=st.integers(1, 2000),
    far_bytes=st.integers(0, 10**11),
    is_day=st.booleans(),
)
def test_a_cap_pays_a_start_from_the_number_on_that_is_named(
    budget: int, dearest: int, disk_gib: int, far_bytes: int, is_day: bool
) -> None:
    """Exactly as core/place counts it."""
    data = DataSource(source="s3://b/p/", target="t", bytes=far_bytes, region="eu-west-1")
    spec = a_spec(disk_gib=disk_gib, data=(data,))
    offer = an_offer(price=min(dearest, 100_000), dearest=dearest)
    limits = Limits()
    start = least_start(spec, [offer], limits)
    assert start is not None
    cap = Cap(scope=Scope.JOB, name="j", usd_micros=budget)
    if is_day:
        midnight = START.replace(hour=0)
        cap = dataclasses.replace(
            cap, day=START.date(), begin=midnight, end=midnight + dt.timedelta(days=1)
        )
    balance = Balance(cap=cap, accrued_usd_micros=0, reserved_usd_micros=0)
    purse = Purse(balances=(balance,))
    pays_s = first_step_s(purse, spec, offer, START, limits.step_s, limits)
    assert (pays_s >= limits.boot_allowance_s) == (start.short_usd_micros(balance) <= 0)
    assert start.is_paid_by(balance, START) == (pays_s >= limits.boot_allowance_s)


def test_the_least_start_is_of_the_jobs_market() -> None:
    def start(*offers: Offer, market: Market = Market.SPOT) -> Offer | None:
        found = least_start(a_spec(market=market), offers, Limits())
        return found.offer if found else None

    dear, cheap = an_offer(dearest=900_000), an_offer("us-east-1b", dearest=500_000)
    on_demand = an_offer(price=500_000, dearest=500_000, market=Market.ON_DEMAND)
    assert start(dear, cheap, on_demand) == cheap
    assert start(dear, on_demand, market=Market.ON_DEMAND) == on_demand
    assert start(on_demand) is None


# -- unattended --------------------------------------------------------------------------------


def test_a_budget_that_does_not_pay_so_far_ahead_is_a_warning(api: Api) -> None:
    (warning,) = _warnings(api, _job(unattended="8h"))
    assert warning["key"] == "unattended"
    assert warning["message"] == (
        "8h on us-east-1a/g4dn.xlarge may come to 4.34 USD, and the budget of 2.00 USD pays 3h 41m"
        " of it: it is paid ahead by less"
    )
    assert _warnings(api, _job(unattended="3h")) == []
    assert _warnings(api, _job(unattended="8h", budget=None)) == []
    assert _spec(api, _job(unattended="8h")).unattended_s == 8 * 3600


@pytest.mark.parametrize("caps", [Caps(each_owner=Bound(day_usd_micros=6_000_000))])
def test_a_night_that_two_days_pay_for_is_paid(api: Api) -> None:
    """From 08:00: 16 hours of today are 8.67 USD at most, 11 are 5.96."""
    assert _warnings(api, _job(unattended="11h", budget="50")) == []
    (warning,) = _warnings(api, _job(unattended="17h", budget="50"))
    assert f"nobody's budget of 6.00 USD on {DAY} pays 11h 4m of it" in warning["message"]


# -- a deadline and a budget -------------------------------------------------------------------

# Two hours and five minutes at 0.5421 USD are 1.1295. On spot an hour is expected to cost 0.1924:
# 0.15, what its starts and losses will bring, and its disk and its address.
THREE_NUMBERS = (
    "the deadline and the budget cannot both be promised: the work is expected to cost 0.3849 USD"
    " on spot (us-east-1a/g4dn.xlarge), on-demand to the end would need 1.13 USD"
    " (us-east-1a/g4dn.xlarge), and the budget is 1.00 USD"
)


def _by_noon(**changes: Any) -> dict[str, Any]:
    return _job(**{"work": "2h", "deadline": "12:00", "budget": "1.00", **changes})


@pytest.mark.parametrize("changes", [{}, {"on_conflict": "cap"}])
def test_the_cap_holds_and_the_three_numbers_are_said(api: Api, changes: dict[str, Any]) -> None:
    (warning,) = _warnings(api, _by_noon(**changes))
    assert warning["key"] == "budget"
    assert warning["message"] == (
        f"{THREE_NUMBERS}, which holds: on-demand is not taken where it is not paid to the end, so"
        " it may be late"
    )
    assert warning["hint"] == ("to be in time, give it budget: 1.13, or on_conflict: deadline")
    assert _spec(api, _by_noon(**changes)).budget_usd_micros == 1_000_000


def test_what_it_says_is_what_the_policy_would_do(api: Api) -> None:
    """On-demand may be taken from the budget on that is named, and not below it."""
    for budget, is_taken in (("1.00", False), ("1.13", True)):
        fields = _by_noon(budget=budget)
        rows = api.post("/v1/offers", fields)["offers"]
        left_out = {row["left_out"] for row in rows if row["market"] == "on-demand"}
        assert (left_out == {None}) == is_taken
        assert (_warnings(api, fields) == []) == is_taken


def test_the_deadline_raises_the_budget_where_it_shall(api: Api) -> None:
    fields = _by_noon(on_conflict="deadline")
    answer = api.post("/v1/offers", fields)
    (warning,) = answer["warnings"]
    assert warning["message"] == (
        f"{THREE_NUMBERS}; on_conflict: deadline raises it to 1.13 USD, never exceeded"
    )
    assert answer["budget_usd"] == 1.13
    assert all(row["left_out"] is None for row in answer["offers"])
    assert _spec(api, fields).budget_usd_micros == 1_130_000


def test_it_raises_a_budget_that_would_not_even_start(api: Api) -> None:
    assert (
        _spec(api, _by_noon(budget="0.01", on_conflict="deadline")).budget_usd_micros == 1_130_000
    )
    assert [e["key"] for e in api.submit(_by_noon(budget="0.01")).json()["errors"]] == ["budget"]


def test_a_budget_that_pays_for_both_is_left_alone(api: Api) -> None:
    fields = _by_noon(budget="1.13", on_conflict="deadline")
    assert _warnings(api, fields) == []
    assert _spec(api, fields).budget_usd_micros == 1_130_000
    assert _warnings(api, _by_noon(budget=None)) == []


def test_without_spot_two_numbers_are_left(api: Api) -> None:
    fields = _on_demand(work="2h", deadline="12:00", budget="1.00")
    (warning,) = _warnings(api, fields)
    assert warning["message"] == (
        "the deadline and the budget cannot both be promised: on-demand to the end would need 1.13"
        " USD (us-east-1a/g4dn.xlarge), and the budget is 1.00 USD, which holds: it stops there,"
        " and will be late"
    )


def test_the_faster_type_is_the_one_that_is_in_time(api: Api) -> None:
    """4 hours on g4dn are 2 on g5, at 1.0221 USD; g4dn would need 4 h 5 min and has 3 h."""
    resources = {"instance_types": ["g4dn.xlarge", "g5.xlarge"], "regions": ["us-east-1"]}
    speeds = {"g4dn.xlarge": 1, "g5.xlarge": 2}
    fields = _by_noon(resources=resources, speeds=speeds, work="4h", deadline="3h")
    (warning,) = _warnings(api, fields)
    assert "on-demand to the end would need 2.13 USD (us-east-1a/g5.xlarge)" in warning["message"]


def test_a_deadline_that_is_missed_anyway_raises_nothing(api: Api) -> None:
    fields = _by_noon(work="8h", on_conflict="deadline")
    answer = api.client.post("/v1/offers", params={"allow_late": True}, json=fields).json()
    assert [warning["key"] for warning in answer["warnings"]] == ["deadline"]
    assert answer["budget_usd"] == 1.0


@pytest.mark.parametrize("caps", [Caps(each_owner=Bound(total_usd_micros=900_000))])
def test_no_job_raises_the_caps_of_others(api: Api) -> None:
    raised, bound = _warnings(api, _by_noon(on_conflict="deadline"))
    assert raised["key"] == "budget"
    assert bound["key"] == "deadline"
    assert bound["message"] == (
        "the deadline cannot be promised: the work is expected to cost 0.3849 USD on spot"
        " (us-east-1a/g4dn.xlarge), on-demand to the end would need 1.13 USD"
        " (us-east-1a/g4dn.xlarge), and nobody's budget of 0.9000 USD leaves 0.9000 USD, which"
        " holds: on-demand is not taken where it is not paid to the end, so it may be late"
    )


def test_only_the_open_hours_count_for_a_deadline(api: Api) -> None:
    """It is 16:00 in Shanghai, and a Saturday."""
    window = {"start": "17:00", "stop": "19:00", "days": ["mon-sun"]}
    late = _job(work="3h", deadline="07:00", tz="Asia/Shanghai", window=window)
    (error,) = _errors(api, late)
    assert error["message"] == (
        "even on-demand it would be 1h 5m late: 3h of work on g4dn.xlarge, the fastest that it may"
        " take, and 5m to start, in 2h that its window is open until then"
    )
    assert error["hint"] == (
        "give it until 2026-11-22T10:06Z, name a faster type, or add --allow-late"
    )
    assert api.submit({**late, "deadline": "2026-11-22T10:04Z"}).status_code == 422
    assert api.submit({**late, "deadline": "2026-11-22T10:06Z"}).status_code == 200


def test_a_window_that_hardly_ever_opens_names_no_deadline(api: Api) -> None:
    window = {"start": "00:00", "stop": "00:11", "days": ["mon"]}
    (error,) = _errors(api, _job(work="30d", deadline="365d", window=window))
    assert error["hint"] == "name a faster type, or add --allow-late"


# -- windows too short for a start -------------------------------------------------------------
# A start needs more than two changeovers of five minutes.


@pytest.mark.parametrize(
    ("stop", "days", "minutes"),
    [("22:09", ["mon-sun"], 9), ("22:10", ["mon-sun"], 10), ("22:10", ["sat"], 10)],
)
def test_a_window_in_which_no_job_would_start_is_refused(
    api: Api, stop: str, days: list[str], minutes: int
) -> None:
    window = {"start": "22:00", "stop": stop, "days": days}
    (error,) = _errors(api, _job(window=window))
    assert error == {
        "key": "window",
        "message": f"it is open for {minutes}m at a stretch, and a start needs more than 10m before"
        " it closes: the job would never start",
        "hint": "make it longer, or leave it out",
        "line": None,
    }


@pytest.mark.parametrize(
    ("start", "stop", "days"),
    [
        ("22:00", "22:11", ["mon-sun"]),
        ("00:00", "24:00", ["mon-sun"]),
        ("07:55", "08:06", ["sat"]),  # it is open now, for the last six minutes of this week
    ],
)
def test_a_window_that_leaves_time_for_a_start_is_taken(
    api: Api, start: str, stop: str, days: list[str]
) -> None:
    assert _warnings(api, _job(window={"start": start, "stop": stop, "days": days})) == []


def test_a_clock_that_is_changed_shortens_one_week_only(api: Api) -> None:
    """In Berlin 28 March 2027 has no 02:00 to 03:00."""
    api.clock.advance((dt.datetime(2027, 3, 26, tzinfo=dt.timezone.utc) - START).total_seconds())
    window = {"start": "01:55", "stop": "02:30", "days": ["sun"], "tz": "Europe/Berlin"}
    assert _warnings(api, _job(window=window)) == []


# -- a price to wait at ------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["0.16", "0.525", "31%"])
def test_a_limit_among_the_prices_is_fine(api: Api, limit: str) -> None:
    assert _warnings(api, _job(pause_above=limit)) == []


def test_a_limit_below_all_prices_lets_the_job_wait(api: Api) -> None:
    (warning,) = _warnings(api, _job(pause_above="0.14"))
    assert warning["key"] == "pause_above"
    assert warning["message"] == (
        "every offer is above it now, the least is 0.1500 USD/h on us-east-1a/g4dn.xlarge: the job"
        " waits until one is at resume_below"
    )
    assert api.submit(_job(pause_above="0.14")).status_code == 200


@pytest.mark.parametrize("limit", ["0.526", "5", "100%"])
def test_a_limit_that_no_price_is_above_has_no_effect(api: Api, limit: str) -> None:
    (spot,) = _warnings(api, _job(pause_above=limit))
    assert spot["message"] == (
        "it has no effect: no spot price ever is above it, since EC2 charges at most the on-demand"
        " price"
    )
    (on_demand,) = _warnings(api, _on_demand(pause_above=limit))
    assert on_demand["message"] == (
        "it has no effect: on-demand prices are never above it, and they do not change"
    )
    assert {spot["hint"], on_demand["hint"]} == {"leave it out"}


@pytest.mark.parametrize("limit", ["0.5", "99%"])
def test_a_limit_below_on_demand_would_never_let_on_demand_run(api: Api, limit: str) -> None:
    (error,) = _errors(api, _on_demand(pause_above=limit))
    assert error["key"] == "pause_above"
    assert error["message"].startswith("the job would never run: on-demand prices do not change")
    assert error["hint"] == "leave it out, or take spot (use_spot: true)"


def test_a_limit_keeps_a_deadline_from_on_demand(api: Api) -> None:
    (warning,) = _warnings(api, _by_noon(pause_above="0.4", budget="5"))
    assert warning["key"] == "pause_above"
    assert warning["message"] == (
        "on-demand is above it (0.5260 USD/h on us-east-1a/g4dn.xlarge) and so never taken: the"
        " deadline is missed where spot does not suffice"
    )


# -- channels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [frozenset({"alice-phone", "team"})])
def test_alerts_go_to_channels_that_there_are(api: Api) -> None:
    assert _spec(api, _job(alerts=["team", "alice-phone"])).alerts == ("team", "alice-phone")
    near, far = api.submit(_job(alerts=["alice-fone", "x"])).json()["errors"]
    assert (near["key"], far["key"]) == ("alerts.0", "alerts.1")
    assert near["message"] == "the daemon has no channel alice-fone; it has alice-phone, team"
    assert (near["hint"], far["hint"]) == ("nearest: alice-phone", "")


def test_a_daemon_without_channels_says_so(api: Api) -> None:
    (error,) = _errors(api, _job(alerts=["team"]))
    assert error["message"] == "the daemon has no channel team; its settings name none"
