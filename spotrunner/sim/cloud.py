"""The ports of the cloud over a `World`, for stories: virtual time, no wire, EC2's whole
awkwardness. Held to the same contract suite as the AWS adapter."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import botocore.exceptions

from spotrunner.adapters.aws.cloud import parse_instance
from spotrunner.adapters.aws.ends import SpotEnds
from spotrunner.adapters.aws.errors import by_meaning, launch_by_meaning
from spotrunner.adapters.aws.prices import SCORED_TYPES
from spotrunner.core.baked import Need
from spotrunner.core.catalogue import TYPES
from spotrunner.core.ids import TAG_INSTALLATION
from spotrunner.core.model import Instance, LaunchRequest, Market, Pool, Quote
from spotrunner.ports import Clock, Image, Launched, Misconfigured, NotFound, Site
from spotrunner.sim.values import (
    ApiError,
    InstanceRecord,
    LostAnswer,
    Region,
    RunRequest,
    SpotRequestRecord,
)
from spotrunner.sim.world import World

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef, SpotInstanceRequestTypeDef


class VirtualClock:
    """A Clock that stands still until it is moved."""

    def __init__(self, start: dt.datetime) -> None:
        self._now = start

    def now(self) -> dt.datetime:
        return self._now

    def advance(self, seconds: float) -> dt.datetime:
        """Move on and return the new time."""
        assert seconds >= 0, "time never goes back"
        self._now += dt.timedelta(seconds=seconds)
        return self._now

    def to(self, when: dt.datetime) -> dt.datetime:
        """Move on to a time that is not past."""
        return self.advance((when - self._now).total_seconds())


class SimCloud:
    """ports.Cloud. One call of a port is one call of the API: nothing is retried below it."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self._ends = SpotEnds(self._spot_requests)

    def launch(self, request: LaunchRequest) -> Launched:
        with launch_by_meaning(), _on_the_wire("RunInstances"):
            records = self._world.run_instances(self._clock.now(), run_request(request))
        return Launched(instance_id=records[0].id, at=records[0].launched_at)

    def instances(self, region: str, installation: str) -> tuple[Instance, ...]:
        return self._described(region, {f"tag:{TAG_INSTALLATION}": [installation]})

    def by_token(self, region: str, client_token: str) -> tuple[Instance, ...]:
        return self._described(region, {"client-token": [client_token]})

    def by_id(self, region: str, instance_id: str) -> Instance:
        with by_meaning(), _on_the_wire("DescribeInstances"):
            (record,) = self._world.describe(self._clock.now(), region, [instance_id])
        return self._ends.named(region, [instance(record)])[0]

    def terminate(self, region: str, instance_ids: Sequence[str]) -> None:
        # EC2 refuses a whole call for one id that it does not know, so each goes by itself.
        for instance_id in instance_ids:
            with contextlib.suppress(NotFound), by_meaning(), _on_the_wire("TerminateInstances"):
                self._world.terminate(self._clock.now(), region, [instance_id])

    def _described(self, region: str, filters: Mapping[str, Sequence[str]]) -> tuple[Instance, ...]:
        with by_meaning(), _on_the_wire("DescribeInstances"):
            records = self._world.describe(self._clock.now(), region, filters=filters)
        return self._ends.named(region, [instance(record) for record in records])

    def _spot_requests(
        self, region: str, instance_ids: Sequence[str]
    ) -> list[SpotInstanceRequestTypeDef]:
        with by_meaning(), _on_the_wire("DescribeSpotInstanceRequests"):
            records = self._world.spot_requests(
                self._clock.now(), region, filters={"instance-id": instance_ids}
            )
        return [spot_request(record) for record in records]


class SimPrices:
    """ports.Prices."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock

    def offered(self, region: str, instance_types: Sequence[str]) -> frozenset[Pool]:
        action = "DescribeInstanceTypeOfferings"
        with by_meaning(), _on_the_wire(action):
            self._world.admit(self._clock.now(), region, action)
        pools = self._world.pools.offered(region)
        return frozenset(pool for pool in pools if pool.instance_type in instance_types)

    def quotes(
        self, region: str, instance_types: Sequence[str], since: dt.datetime
    ) -> tuple[Quote, ...]:
        if not instance_types:  # EC2 would take none for all
            return ()
        now = self._clock.now()
        with by_meaning(), _on_the_wire("DescribeSpotPriceHistory"):
            rows = self._world.price_history(now, region, instance_types, start=since, end=now)
        return tuple(
            Quote(pool=row.pool, at=row.at, price_usd_micros_hour=row.usd_micros)
            for row in reversed(rows)
        )

    def on_demand(self, region: str, instance_types: Sequence[str]) -> Mapping[str, int]:
        with by_meaning(), _on_the_wire("GetProducts"):
            self._world.admit(self._clock.now(), region, "GetProducts")
        prices = self._world.setup.on_demand_usd_micros
        return {kind: prices[region, kind] for kind in instance_types if (region, kind) in prices}

    def zones(self, region: str) -> Mapping[str, str]:
        action = "DescribeAvailabilityZones"
        with by_meaning(), _on_the_wire(action):
            self._world.admit(self._clock.now(), region, action)
        return {zone.name: zone.id for zone in self._world.pools.region(region).zones}

    def scores(
        self, regions: Sequence[str], instance_types: Sequence[str]
    ) -> Mapping[tuple[str, str], int]:
        if len(set(instance_types)) < SCORED_TYPES:
            raise ValueError(f"scores need {SCORED_TYPES} instance types at least")
        if not regions:
            return {}
        with by_meaning(), _on_the_wire("GetSpotPlacementScores"):
            rows = self._world.placement_scores(
                self._clock.now(), min(regions), instance_types, regions
            )
        return {(row.region, row.zone_id): row.score for row in rows}


class SimSites:
    """ports.Sites: what the set-up says."""

    def __init__(self, world: World) -> None:
        self._world = world

    def site(self, region: str) -> Site:
        found = self._region(region)
        return Site(
            region=region,
            subnets={zone.name: zone.subnet_id for zone in found.zones},
            security_group_ids=(),  # EC2 takes the VPC's default group
            instance_profile=min(self._world.setup.instance_profiles, default=None),
        )

    def image(
        self,
        region: str,
        instance_type: str,
        named: str | None = None,
        need: Need | None = None,
    ) -> Image:
        """Nothing is baked in a simulation."""
        known = TYPES.get(instance_type)
        if known is not None and known.needs_own_image and named is None:
            raise Misconfigured(f"{instance_type} needs an image of your own")
        images = self._region(region).images
        found = next((image for image in images if named in (None, image.id)), None)
        if found is None:
            raise Misconfigured(f"there is no image {named} in {region}")
        return Image(id=found.id, root_device=found.root_device)

    def _region(self, name: str) -> Region:
        try:
            return self._world.pools.region(name)
        except ApiError as error:
            raise Misconfigured(error.message) from error


# -- values ------------------------------------------------------------------------------------


def run_request(request: LaunchRequest) -> RunRequest:
    """A launch as the AWS adapter would send it."""
    spot = request.market is Market.SPOT
    return RunRequest(
        region=request.pool.region,
        instance_type=request.pool.instance_type,
        image_id=request.image_id,
        market=request.market,
        subnet_id=request.subnet_id,
        client_token=request.client_token,
        user_data=request.user_data,
        tags=request.tags,
        spot_request_tags=request.tags,
        security_group_ids=request.security_group_ids,
        instance_profile=request.instance_profile,
        shutdown_behavior="terminate",
        http_tokens="required",
        hop_limit=1,
        instance_metadata_tags=True,
        disk_gib=request.disk_gib,
        disk_device=request.root_device,
        max_price_usd_micros=request.max_price_usd_micros if spot else None,
    )


def instance(record: InstanceRecord) -> Instance:
    """What the AWS adapter makes of a listed instance."""
    found: InstanceTypeDef = {
        "InstanceId": record.id,
        "InstanceType": record.pool.instance_type,  # type: ignore[typeddict-item] # any type
        "Placement": {"AvailabilityZone": record.pool.zone},
        "State": {"Name": record.stage.value, "Code": record.stage.code},
        "LaunchTime": record.launched_at,
        "ClientToken": record.client_token,
        "Tags": [{"Key": key, "Value": value} for key, value in record.tags],
    }
    if record.market is Market.SPOT:
        found["InstanceLifecycle"] = "spot"
    if record.reason is not None:
        found["StateReason"] = {"Code": record.reason.code, "Message": record.reason.message}
        found["StateTransitionReason"] = record.reason.transition
    return parse_instance(record.pool.region, found)


def spot_request(record: SpotRequestRecord) -> SpotInstanceRequestTypeDef:
    """Of a listed spot request, what the AWS adapter looks at."""
    return {
        "InstanceId": record.instance_id,
        "Status": {"Code": record.status_code, "Message": record.status_message},
    }


# -- errors ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _on_the_wire(action: str) -> Iterator[None]:
    """Raise what the world refuses as botocore would, so that one table (adapters/aws/errors)
    decides what it means, here as there."""
    try:
        yield
    except ApiError as error:
        answer = {
            "Error": {"Code": error.code, "Message": error.message},
            "ResponseMetadata": {"HTTPStatusCode": error.http_status},
        }
        raise botocore.exceptions.ClientError(answer, action) from error  # type: ignore[arg-type]
    except LostAnswer as error:
        raise botocore.exceptions.ConnectionClosedError(endpoint_url=action) from error
