"""Which ends were for the price: what is asked, what is remembered, and what is left as it is."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from spotrunner.adapters.aws.ends import ASKED_AT_ONCE, SpotEnds
from spotrunner.core.model import EndedBy, Instance, InstanceState, Market, Pool
from spotrunner.ports import NotAuthorized, PortError, Throttled, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import SpotInstanceRequestTypeDef

NOON = dt.datetime(2026, 11, 3, 12, tzinfo=dt.timezone.utc)
REGION = "us-east-1"
TAKEN = Instance(
    id="i-1",
    pool=Pool(region=REGION, zone="us-east-1a", instance_type="g4dn.xlarge"),
    market=Market.SPOT,
    state=InstanceState.ENDED,
    launched_at=NOON,
    ended_by=EndedBy.EC2,
)


class Requests:
    """EC2's spot requests: a status by instance, and the questions asked."""

    def __init__(self, **statuses: str) -> None:
        self.statuses = {id_.replace("_", "-"): status for id_, status in statuses.items()}
        self.error: PortError | None = None
        self.asked: list[tuple[str, list[str]]] = []

    def __call__(
        self, region: str, instance_ids: Sequence[str]
    ) -> list[SpotInstanceRequestTypeDef]:
        self.asked.append((region, list(instance_ids)))
        if self.error is not None:
            raise self.error
        return [
            {"InstanceId": id_, "Status": {"Code": self.statuses[id_]}}
            for id_ in instance_ids
            if id_ in self.statuses
        ]


@pytest.mark.parametrize(
    ("status", "by", "final"),
    [
        ("instance-terminated-by-price", EndedBy.PRICE, True),
        ("instance-terminated-no-capacity", EndedBy.EC2, True),
        ("instance-terminated-capacity-oversubscribed", EndedBy.EC2, True),
        ("instance-terminated-by-service", EndedBy.EC2, True),
        ("instance-terminated-by-experiment", EndedBy.EC2, True),
        ("marked-for-termination", EndedBy.EC2, False),
        ("fulfilled", EndedBy.EC2, False),
        ("a-status-of-tomorrow", EndedBy.EC2, False),
    ],
)
def test_a_status_says_who_and_whether_it_is_the_last_word(
    status: str, by: EndedBy, final: bool
) -> None:
    requests = Requests(i_1=status)
    ends = SpotEnds(requests)
    for _ in range(3):
        assert ends.named(REGION, [TAKEN]) == (dataclasses.replace(TAKEN, ended_by=by),)
    assert len(requests.asked) == (1 if final else 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"market": Market.ON_DEMAND},
        {"ended_by": EndedBy.US},
        {"ended_by": EndedBy.ITSELF},
        {"ended_by": EndedBy.FAULT},
        {"ended_by": None, "state": InstanceState.RUNNING},
    ],
    ids=str,
)
def test_only_what_ec2_took_is_asked_for(changes: dict[str, object]) -> None:
    requests = Requests(i_1="instance-terminated-by-price")
    other = dataclasses.replace(TAKEN, **changes)  # type: ignore[arg-type]
    assert SpotEnds(requests).named(REGION, [other]) == (other,)
    assert requests.asked == []


def test_one_call_asks_for_all_of_a_listing_and_only_for_what_is_new() -> None:
    requests = Requests(i_1="instance-terminated-by-price", i_2="instance-terminated-no-capacity")
    ends = SpotEnds(requests)
    second, third = (dataclasses.replace(TAKEN, id=id_) for id_ in ("i-2", "i-3"))
    living = dataclasses.replace(TAKEN, id="i-4", state=InstanceState.RUNNING, ended_by=None)
    found = ends.named(REGION, [living, TAKEN, second])
    assert [each.ended_by for each in found] == [None, EndedBy.PRICE, EndedBy.EC2]
    ends.named(REGION, [TAKEN, second, living, third])
    assert requests.asked == [(REGION, ["i-1", "i-2"]), (REGION, ["i-3"])]


def test_many_are_asked_for_in_parts() -> None:
    requests = Requests()
    several = [dataclasses.replace(TAKEN, id=f"i-{number}") for number in range(450)]
    SpotEnds(requests).named(REGION, several)
    assert [len(ids) for _, ids in requests.asked] == [ASKED_AT_ONCE, ASKED_AT_ONCE, 50]


@pytest.mark.parametrize("error", [Unavailable("down"), Throttled("slower")])
def test_without_an_answer_the_end_is_ec2s_until_there_is_one(error: PortError) -> None:
    requests = Requests(i_1="instance-terminated-by-price")
    requests.error = error
    ends = SpotEnds(requests)
    assert ends.named(REGION, [TAKEN]) == (TAKEN,)
    requests.error = None
    assert ends.named(REGION, [TAKEN])[0].ended_by is EndedBy.PRICE


def test_a_policy_that_forbids_it_is_named_once_a_region() -> None:
    requests = Requests()
    requests.error = NotAuthorized("allow ec2:DescribeSpotInstanceRequests")
    ends = SpotEnds(requests)
    with capture_logs() as logged:
        for region in (REGION, REGION, "eu-west-1", REGION):
            assert ends.named(region, [TAKEN]) == (TAKEN,)
    warned = [line for line in logged if line["log_level"] == "warning"]
    assert [line["region"] for line in warned] == [REGION, "eu-west-1"]
    assert "DescribeSpotInstanceRequests" in warned[0]["why"]
