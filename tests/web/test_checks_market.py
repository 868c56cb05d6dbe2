"""What is checked of deadlines, bids, policies and data when a job is sent: by what the daemon
knows at that time."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import pytest

from spotrunner.core.model import DataMode, DataSource
from spotrunner.ports import NotAuthorized, PortError, Unavailable
from spotrunner.sim.faults import Fault, Lose
from spotrunner.web import sources
from tests.web.conftest import Api, a_job

LATE = {
    "line": None,
    "key": "deadline",
    "message": "even on-demand it would be 1h 5m late: 4h of work on g5.xlarge, the fastest that it"
    " may take, and 5m to start, in 3h",
    "hint": "give it 4h6m (until 2026-11-21T12:06Z), name a faster type, or add --allow-late",
}


def _late(**changes: Any) -> dict[str, Any]:
    """8 hours on g4dn.xlarge are 4 on g5.xlarge, and it has 3."""
    fields = {"work": "8h", "speeds": {"g4dn.xlarge": 1, "g5.xlarge": 2}, "deadline": "3h"}
    return a_job(**{**fields, **changes})


def test_a_deadline_that_even_on_demand_cannot_meet_is_refused(api: Api) -> None:
    for response in (api.client.post("/v1/offers", json=_late()), api.submit(_late())):
        assert response.status_code == 422
        assert response.json()["errors"] == [LATE]
    assert api.store.jobs() == ()


def test_what_is_named_as_enough_is_enough(api: Api) -> None:
    assert api.submit(_late(deadline="4h4m")).status_code == 422
    for deadline in ("4h6m", "2026-11-21T12:06Z"):
        assert api.submit(_late(deadline=deadline)).status_code == 200


def test_it_is_taken_late_by_who_allows_it(api: Api) -> None:
    warning = {**LATE, "hint": ""}
    answer = api.client.post("/v1/offers", params={"allow_late": True}, json=_late())
    assert answer.json()["warnings"] == [warning]
    files: dict[str, Any] = {"job": (None, json.dumps(_late()))}
    taken = api.client.post("/v1/jobs", params={"allow_late": True}, files=files)
    assert taken.status_code == 200
    assert taken.json()["warnings"] == [warning]
    assert len(api.store.jobs()) == 1


def test_a_deadline_in_the_past_is_allowed_to_nobody(api: Api) -> None:
    fields = _late(deadline="2026-11-20T08:00Z")
    for params in ({}, {"allow_late": True}):
        response = api.client.post("/v1/offers", params=params, json=fields)
        (error,) = response.json()["errors"]
        assert error["message"] == "2026-11-20T08:00Z was 1d ago: it is 2026-11-21T08:00Z now"


def test_a_type_without_a_price_may_be_the_faster_one(api: Api) -> None:
    """P3 has a price in us-east-1 only, and eu-west-1 does not say what it has."""
    api.world.script(
        Fault(
            action="DescribeInstanceTypeOfferings",
            region="eu-west-1",
            lose=Lose.BEFORE,
            times=100,
        )
    )
    resources = {
        "instance_types": ["g4dn.xlarge", "g6.xlarge"],
        "regions": ["us-east-1", "eu-west-1"],
    }
    fields = a_job(resources=resources, work="8h", deadline="3h")
    warnings = api.post("/v1/offers", fields)["warnings"]
    assert [warning["key"] for warning in warnings] == ["deadline", "resources.regions.1"]


def test_the_spec_says_when_and_how(api: Api) -> None:
    job = api.store.job(api.submitted(_late(deadline="12h")))
    assert job is not None
    assert job.spec.policy == "deadline"
    assert job.spec.deadline_at is not None
    assert (job.spec.deadline_at - job.submitted_at).total_seconds() == 12 * 3600
    ((_, told),) = api.store.events(job.id)
    assert told.why.endswith("2.00 USD, done by 2026-11-21T20:00Z, deadline")


# -- bids --------------------------------------------------------------------------------------


def test_a_bid_below_some_prices_is_a_warning(api: Api) -> None:
    (warning,) = api.post("/v1/offers", a_job(max_price="0.17"))["warnings"]
    assert warning["key"] == "max_price"
    assert warning["message"].startswith("0.1700 USD/h is below the spot price of ")
    assert warning["message"].endswith(" pools")
    job = api.store.job(api.submitted(a_job(max_price="0.17")))
    assert job is not None
    assert job.spec.max_price_usd_micros == 170_000


def test_a_bid_above_all_prices_is_fine(api: Api) -> None:
    assert api.post("/v1/offers", a_job(max_price="5"))["warnings"] == []


def test_a_pool_above_the_bid_is_left_out_with_its_reason(api: Api) -> None:
    rows = api.post("/v1/offers", a_job(max_price="0.17"))["offers"]
    for row in rows:
        is_above = row["market"] == "spot" and row["price_usd_hour"] > 0.17
        assert ("max_price" in (row["left_out"] or "")) == is_above


# -- policies ----------------------------------------------------------------------------------


def test_the_planner_needs_numpy_where_the_daemon_is(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = _late(deadline="12h", policy="planner")
    assert api.client.post("/v1/offers", json=fields).status_code == 200
    monkeypatch.setitem(sys.modules, "numpy", None)
    (error,) = api.client.post("/v1/offers", json=fields).json()["errors"]
    assert error["message"] == "the policy planner needs numpy, which the daemon does not have"
    assert error["hint"] == "install it there: pip install 'spotrunner[planner]'"


# -- data --------------------------------------------------------------------------------------


def _data(api: Api) -> DataSource:
    job = api.store.job(api.submitted(a_job()))
    assert job is not None
    return job.spec.data[0]


def test_data_is_measured_where_it_is(api: Api) -> None:
    api.data.put("digits/shard-1", b"x" * 999)
    api.data.put("digitz/shard-0", b"x" * 5000)
    api.buckets.moved("data-bucket", "eu-west-1")
    data = _data(api)
    assert (data.bytes, data.region) == (1000, "eu-west-1")
    (shown,) = api.get("/v1/jobs/digits")["job"]["data"]
    assert (shown["bytes"], shown["region"]) == (1000, "eu-west-1")


def test_far_data_makes_an_hour_of_work_dearer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terabyte costs 20 USD to bring over: the price of the pools is the same as before."""
    api.data.put("digits/shard-1", b"")
    near = api.post("/v1/offers", a_job())["offers"]
    api.buckets.moved("data-bucket", "eu-west-1")
    monkeypatch.setattr(api.data, "list", _Huge(api.data.list).list)
    far = api.post("/v1/offers", a_job(budget="100"))["offers"]
    for one, other in zip(_by_place(near), _by_place(far), strict=True):
        assert one["price_usd_hour"] == other["price_usd_hour"]
        # Nobody knows how much work it is: a night's, of the first type or a faster one.
        more = other["work_usd_hour"] - one["work_usd_hour"]
        assert more > 20 / 8 / other["speed"] * 0.99


def _by_place(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["zone"], row["instance_type"], row["market"]))


class _Huge:
    """What is listed, as if it were a terabyte each."""

    def __init__(self, listed: Any) -> None:
        self._listed = listed

    def list(self, prefix: str) -> Any:
        return (dataclasses.replace(it, bytes=10**12) for it in self._listed(prefix))


def test_a_mount_far_from_its_data_costs_what_nobody_knows(api: Api) -> None:
    api.data.put("digits/shard-1", b"x" * 999)
    (copied,) = a_job()["data"]
    mounted = {"data": [{**copied, "mode": "mount"}]}
    assert api.post("/v1/offers", a_job(**mounted))["warnings"] == []
    api.buckets.moved("data-bucket", "eu-west-1")
    (warning,) = api.post("/v1/offers", a_job(**mounted))["warnings"]
    assert warning["key"] == "data.0.source"
    assert (
        "how much of s3://data-bucket/digits/ a mount reads is not known ahead"
        in (warning["message"])
    )
    job = api.store.job(api.submitted(a_job(**mounted)))
    assert job is not None
    assert job.spec.data[0].mode is DataMode.MOUNT


def test_a_long_listing_is_cut_and_says_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "OBJECTS_COUNTED", 2)
    api.data.put("digits/shard-1", b"xx")
    assert api.post("/v1/offers", a_job())["warnings"] == []
    api.data.put("digits/shard-2", b"xxx")
    # What stays in its region costs nothing, however much it is.
    assert api.post("/v1/offers", a_job())["warnings"] == []
    api.buckets.moved("data-bucket", "eu-west-1")
    (warning,) = api.post("/v1/offers", a_job())["warnings"]
    assert warning["key"] == "data.0.source"
    assert warning["message"] == (
        "only the first 2 objects of s3://data-bucket/digits/ were counted (0.0 GB): to bring it to"
        " another region costs more than expected here"
    )
    assert _data(api).bytes == 3


@pytest.mark.parametrize("error", [NotAuthorized("no"), Unavailable("no")])
def test_a_bucket_that_does_not_say_where_it_is_counts_as_near(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: PortError
) -> None:
    def refuse(_bucket: str) -> str:
        raise error

    monkeypatch.setattr(api.buckets, "region", refuse)
    (warning,) = api.post("/v1/offers", a_job())["warnings"]
    assert warning["message"] == (
        "where data-bucket is could not be asked, so it counts as near: no"
    )
    data = _data(api)
    assert (data.bytes, data.region) == (1, None)


def test_a_deadline_beyond_a_year_is_a_slip(api: Api) -> None:
    response = api.submit(_late(deadline="9999-12-31T23:59Z"))
    (error,) = response.json()["errors"]
    assert error["message"] == "expected at most 365d from now, found 9999-12-31T23:59Z"
