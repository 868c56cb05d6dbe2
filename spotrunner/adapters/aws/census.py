"""What an account runs of ours, known by tags alone: for those who have no store and no settings.

All methods raise PortError; AWS's `Date` headers set the clock, as S3's do elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from spotrunner.adapters.aws.clock import ServerClock
from spotrunner.adapters.aws.cloud import LISTED_AT_ONCE, parse_instance
from spotrunner.adapters.aws.errors import by_meaning
from spotrunner.adapters.aws.session import Aws
from spotrunner.core.ids import TAG_HOME, TAG_INSTALLATION
from spotrunner.core.model import Instance

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, InstanceTypeDef

# Where an account's regions can be asked for when nothing names a region: AWS's oldest.
FIRST_REGION = "us-east-1"
# What still costs money, or may again: a stopped instance has a disk.
_ALIVE = ("pending", "running", "stopping", "stopped")


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """An instance as EC2 listed it; `state` is EC2's own word, `home` the value of TAG_HOME."""

    instance: Instance
    state: str
    home: str | None

    @property
    def alive(self) -> bool:
        return self.state in _ALIVE


class Census:
    def __init__(
        self, aws: Aws, clock: ServerClock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._aws = aws
        self._clock = clock
        self._monotonic = monotonic

    def regions(self) -> tuple[str, ...]:
        """Those that are enabled for the account, asked for in the environment's own region: China
        and GovCloud are accounts of their own."""
        named = os.environ.get("AWS_REGION") or boto3.Session().region_name or FIRST_REGION
        sent_at = self._monotonic()
        with by_meaning():
            answer = self._aws.ec2(named).describe_regions(AllRegions=False)
        self._learn(answer, sent_at)
        return tuple(sorted(region["RegionName"] for region in answer["Regions"]))

    def sightings(self, region: str, installation: str | None) -> tuple[Sighting, ...]:
        """All instances of this installation, of any where None; ended ones for as long as EC2
        lists them."""
        return tuple(self._listed(region, installation))

    def open_requests(self, region: str, installation: str | None) -> tuple[str, ...]:
        """The ids of spot requests that may still become an instance."""
        waiting: FilterTypeDef = {"Name": "state", "Values": ["open"]}
        with by_meaning():
            pages = self._aws.ec2(region).get_paginator("describe_spot_instance_requests")
            found = [
                request["SpotInstanceRequestId"]
                for page in pages.paginate(
                    Filters=[_ours(installation), waiting],
                    PaginationConfig={"PageSize": LISTED_AT_ONCE},
                )
                for request in page["SpotInstanceRequests"]
            ]
        return tuple(found)

    def cancel(self, region: str, request_ids: Sequence[str]) -> None:
        with by_meaning():
            self._aws.ec2(region).cancel_spot_instance_requests(
                SpotInstanceRequestIds=list(request_ids)
            )

    def _listed(self, region: str, installation: str | None) -> Iterator[Sighting]:
        with by_meaning():
            pages = self._aws.ec2(region).get_paginator("describe_instances")
            sent_at = self._monotonic()
            for page in pages.paginate(
                Filters=[_ours(installation)], PaginationConfig={"PageSize": LISTED_AT_ONCE}
            ):
                self._learn(page, sent_at)
                for reservation in page["Reservations"]:
                    yield from (_sighting(region, found) for found in reservation["Instances"])
                sent_at = self._monotonic()

    def _learn(self, answer: Mapping[str, Any], sent_at: float) -> None:
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date is not None:
            self._clock.learn(date, sent_at, self._monotonic())


def _ours(installation: str | None) -> FilterTypeDef:
    if installation is None:
        return {"Name": "tag-key", "Values": [TAG_INSTALLATION]}
    return {"Name": f"tag:{TAG_INSTALLATION}", "Values": [installation]}


def _sighting(region: str, found: InstanceTypeDef) -> Sighting:
    tags = {tag.get("Key"): tag.get("Value") for tag in found.get("Tags", ())}
    return Sighting(
        instance=parse_instance(region, found),
        state=found["State"]["Name"],
        home=tags.get(TAG_HOME) or None,
    )
