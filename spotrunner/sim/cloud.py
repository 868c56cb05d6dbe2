"""The ports of the cloud over a `World`, for stories: virtual time, no wire, EC2's whole
awkwardness. Held to the same contract suite as the AWS adapter."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence

import botocore.exceptions

from spotrunner.adapters.aws.errors import by_meaning, ended_by, launch_by_meaning
from spotrunner.core.model import Instance, InstanceState, LaunchRequest, Pool, Quote
from spotrunner.ports import Clock, Launched, Misconfigured, NotFound, Site
from spotrunner.sim.values import (
    ApiError,
    InstanceRecord,
    LostAnswer,
    Reason,
    Region,
    RunRequest,
    Stage,
)
from spotrunner.sim.world import World


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

    def launch(self, request: LaunchRequest) -> Launched:
        with launch_by_meaning(), _on_the_wire("RunInstances"):
            records = self._world.run_instances(self._clock.now(), run_request(request))
        return Launched(instance_id=records[0].id, at=records[0].launched_at)

    def instances(self, region: str, installation: str) -> tuple[Instance, ...]:
        return self._described(region, {"tag:spotrunner:installation": [installation]})

    def by_token(self, region: str, client_token: str) -> tuple[Instance, ...]:
        return self._described(region, {"client-token": [client_token]})

    def by_id(self, region: str, instance_id: str) -> Instance:
        with by_meaning(), _on_the_wire("DescribeInstances"):
            (record,) = self._world.describe(self._clock.now(), region, [instance_id])
        return instance(record)

    def terminate(self, region: str, instance_ids: Sequence[str]) -> None:
        # EC2 refuses a whole call for one id that it does not know, so each goes by itself.
        for instance_id in instance_ids:
            with contextlib.suppress(NotFound), by_meaning(), _on_the_wire("TerminateInstances"):
                self._world.terminate(self._clock.now(), region, [instance_id])

    def _described(self, region: str, filters: Mapping[str, Sequence[str]]) -> tuple[Instance, ...]:
        with by_meaning(), _on_the_wire("DescribeInstances"):
            records = self._world.describe(self._clock.now(), region, filters=filters)
        return tuple(instance(record) for record in records)


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


class SimSites:
    """ports.Sites: what the set-up says."""

    def __init__(self, world: World) -> None:
        self._world = world

    def site(self, region: str) -> Site:
        found = self._region(region)
        return Site(
            region=region,
            subnets={zone.name: zone.subnet_id for zone in found.zones},
            security_group_ids=found.security_group_ids[:1],
            instance_profile=min(self._world.setup.instance_profiles, default=None),
        )

    def image(self, region: str, instance_type: str) -> str:
        return self._region(region).images[0].id

    def _region(self, name: str) -> Region:
        try:
            return self._world.pools.region(name)
        except ApiError as error:
            raise Misconfigured(error.message) from error


# -- values ------------------------------------------------------------------------------------


def run_request(request: LaunchRequest) -> RunRequest:
    """A launch as the AWS adapter would send it."""
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
    )


_STATES = {
    Stage.PENDING: InstanceState.PENDING,
    Stage.RUNNING: InstanceState.RUNNING,
    Stage.STOPPING: InstanceState.ENDING,
    Stage.STOPPED: InstanceState.ENDING,
    Stage.SHUTTING_DOWN: InstanceState.ENDING,
    Stage.TERMINATED: InstanceState.ENDED,
}
_TRANSITION_TIME = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) GMT\)")


def instance(record: InstanceRecord) -> Instance:
    """What the port makes of a listed instance."""
    tags = dict(record.tags)
    over = _STATES[record.stage] in (InstanceState.ENDING, InstanceState.ENDED)
    return Instance(
        id=record.id,
        pool=record.pool,
        market=record.market,
        state=_STATES[record.stage],
        launched_at=record.launched_at,
        client_token=record.client_token,
        installation=tags.get("spotrunner:installation"),
        job_id=tags.get("spotrunner:job"),
        attempt_id=tags.get("spotrunner:attempt"),
        ended_at=_ended_at(record.reason) if over else None,
        ended_by=ended_by(record.reason.code if record.reason else "") if over else None,
    )


def _ended_at(reason: Reason | None) -> dt.datetime | None:
    """EC2 says it in the text of the transition, and only where a user caused it."""
    found = _TRANSITION_TIME.search(reason.transition) if reason else None
    if found is None:
        return None
    return dt.datetime.fromisoformat(found[1]).replace(tzinfo=dt.timezone.utc)


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
