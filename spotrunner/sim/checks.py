"""What EC2 looks at before it launches anything, in its order."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from spotrunner.core.model import Market, Pool
from spotrunner.sim import refusals
from spotrunner.sim.images import Images
from spotrunner.sim.machine import Machine
from spotrunner.sim.pools import Pools
from spotrunner.sim.values import RunRequest, Zone

_USER_DATA_BYTES = 16_384
_LEAST_MAX_PRICE_USD_MICROS = 1_000


def zone_named(pools: Pools, request: RunRequest) -> Zone | None:
    """The zone that the request names by subnet or zone, if it does. Raises ApiError."""
    if request.subnet_id is not None:
        return pools.zone_of_subnet(request.region, request.subnet_id)
    if request.zone is not None:
        return pools.zone(request.region, request.zone)
    return None


def check_parameters(pools: Pools, images: Images, request: RunRequest, at: dt.datetime) -> None:
    """Raises ApiError for what can never be launched as asked."""
    region = pools.region(request.region)
    pools.facts(request.instance_type)
    asked_gib = None if request.disk_device is None else request.disk_gib
    images.check_launch(at, request.region, request.image_id, asked_gib)
    for group in request.security_group_ids:
        if group not in region.security_group_ids:
            raise refusals.unknown_group(group)
    profile = request.instance_profile
    if profile is not None and profile not in pools.setup.instance_profiles:
        raise refusals.unknown_profile(profile)
    if len(request.user_data.encode()) > _USER_DATA_BYTES:
        raise refusals.long_user_data()
    if len(request.client_token or "") > 64:
        raise refusals.bad_parameter("Client token is longer than 64 characters")
    if not 1 <= request.min_count <= request.max_count:
        raise refusals.bad_parameter("minCount must be positive and not above maxCount")
    if (request.max_price_usd_micros or _LEAST_MAX_PRICE_USD_MICROS + 1) <= (
        _LEAST_MAX_PRICE_USD_MICROS
    ):
        raise refusals.bad_parameter("spotPrice must be greater than 0.001")


def choose_pool(
    pools: Pools,
    request: RunRequest,
    zone: Zone | None,
    machines: Iterable[Machine],
    at: dt.datetime,
) -> tuple[Pool, int]:
    """The pool and how many instances it gives. Raises ApiError."""
    offered = sorted(
        pool
        for pool in pools.offered(request.region)
        if pool.instance_type == request.instance_type
    )
    names = [zone.name] if zone else [each.name for each in pools.region(request.region).zones]
    fitting = [pool for pool in offered if pool.zone in names]
    if not fitting:
        raise refusals.not_offered(
            request.instance_type, ", ".join(names), [pool.zone for pool in offered]
        )
    _check_price(pools, request, fitting[0], at)
    present = [machine for machine in machines if machine.occupies]
    _check_quota(pools, request, present)
    room = {pool: _room(pools, pool, request.market, present, at) for pool in offered}
    for pool in fitting:
        if room[pool] >= request.min_count:
            return pool, min(request.max_count, room[pool])
    hints = [pool.zone for pool in offered if room[pool] >= request.min_count]
    raise refusals.no_capacity(request.market, request.instance_type, names[0], hints)


def _check_price(pools: Pools, request: RunRequest, pool: Pool, at: dt.datetime) -> None:
    limit, price = request.max_price_usd_micros, pools.spot(pool, at)
    if request.market is Market.SPOT and limit is not None and limit < price:
        raise refusals.price_too_low(limit, price)


def _check_quota(pools: Pools, request: RunRequest, present: Iterable[Machine]) -> None:
    facts = pools.facts(request.instance_type)
    limit = pools.quota(request.region, facts.family, request.market)
    if limit is None:
        return
    used = sum(
        pools.facts(machine.pool.instance_type).vcpus
        for machine in present
        if machine.pool.region == request.region
        and machine.market is request.market
        and pools.facts(machine.pool.instance_type).family == facts.family
    )
    if used + facts.vcpus * request.min_count > limit:
        raise refusals.over_quota(request.market, limit)


def _room(
    pools: Pools, pool: Pool, market: Market, present: Iterable[Machine], at: dt.datetime
) -> int:
    if not pools.has_capacity(pool, market, at):
        return 0
    return pools.slots(pool) - sum(machine.pool == pool for machine in present)
