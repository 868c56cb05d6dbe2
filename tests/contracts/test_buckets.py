"""What ports.Buckets promises, over memory and over S3 as moto plays it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from spotrunner.adapters.aws.objects import S3Buckets
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.memory import MemoryBuckets
from spotrunner.ports import Buckets, Misconfigured
from tests.contracts.conftest import StandingClock
from tests.contracts.s3 import REGION, MotoServer

FAR = "eu-west-1"


@dataclass(frozen=True, kw_only=True)
class Some:
    """Two buckets: `here` is in REGION, `there` in FAR."""

    buckets: Buckets
    here: str = "bucket-here"
    there: str = "bucket-there"


def _memory() -> Some:
    some = Some(buckets=MemoryBuckets(StandingClock(), ["bucket-here", "bucket-there"], REGION))
    assert isinstance(some.buckets, MemoryBuckets)
    some.buckets.moved(some.there, FAR)
    return some


def _s3(moto: MotoServer, aws: Aws) -> Some:
    here = moto.bucket(aws)
    there = f"{here}-far"
    where: Any = {"LocationConstraint": FAR}
    aws.s3(FAR).create_bucket(Bucket=there, CreateBucketConfiguration=where)
    return Some(buckets=S3Buckets(aws, REGION), here=here, there=there)


@pytest.fixture(params=["memory", "s3"])
def some(request: pytest.FixtureRequest) -> Some:
    return (
        _memory()
        if request.param == "memory"
        else _s3(request.getfixturevalue("moto"), request.getfixturevalue("aws"))
    )


def test_a_bucket_is_where_it_was_made(some: Some) -> None:
    assert some.buckets.region(some.here) == REGION
    assert some.buckets.region(some.there) == FAR


def test_what_lies_in_each_is_its_own(some: Some) -> None:
    some.buckets.objects(some.there).put("a", b"x")
    assert list(some.buckets.objects(some.here).list("")) == []
    assert [found.key for found in some.buckets.objects(some.there).list("")] == ["a"]


def test_a_bucket_that_is_not_there_is_misconfigured(some: Some) -> None:
    calls: list[Callable[[], object]] = [
        lambda: some.buckets.region("nobodys-bucket"),
        lambda: list(some.buckets.objects("nobodys-bucket").list("")),
    ]
    for call in calls:
        with pytest.raises(Misconfigured, match=r"nobodys-bucket|NoSuchBucket"):
            call()
