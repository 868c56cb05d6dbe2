"""EC2's actions on spot requests, spot prices and placement scores, over the simulated market."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from spotrunner.core.model import Pool
from spotrunner.lab.endpoint.call import Action, Answer, Call, tags
from spotrunner.lab.endpoint.filters import filters_of, select
from spotrunner.sim.values import ApiError, PriceRow, SpotRequestRecord, Zone
from spotrunner.sim.world import World


def _describe(call: Call) -> Answer:
    records = call.world.ask(
        World.spot_requests,
        call.region,
        call.params.get("SpotInstanceRequestIds", ()),
        filters_of(call.params),
    )
    return {"SpotInstanceRequests": [_request(record, call.place().zones) for record in records]}


def _request(record: SpotRequestRecord, zones: tuple[Zone, ...]) -> Answer:
    zone_ids = {zone.name: zone.id for zone in zones}
    return {
        "SpotInstanceRequestId": record.id,
        "InstanceId": record.instance_id,
        "State": record.state,
        "Status": {
            "Code": record.status_code,
            "Message": record.status_message,
            "UpdateTime": record.updated_at,
        },
        "CreateTime": record.created_at,
        "Type": "one-time",
        "SpotPrice": usd(record.max_price_usd_micros),
        "ProductDescription": "Linux/UNIX",
        "InstanceInterruptionBehavior": "terminate",
        "LaunchedAvailabilityZone": record.pool.zone,
        "LaunchedAvailabilityZoneId": zone_ids[record.pool.zone],
        "LaunchSpecification": {
            "InstanceType": record.pool.instance_type,
            "Placement": {"AvailabilityZone": record.pool.zone},
        },
        "Tags": tags(record.tags),
    }


def usd(micros: int) -> str:
    """As EC2 writes prices: six decimals."""
    return f"{micros // 1_000_000}.{micros % 1_000_000:06d}"


def _cancel(call: Call) -> Answer:
    records = call.world.ask(
        World.cancel_spot_requests, call.region, call.params["SpotInstanceRequestIds"]
    )
    return {
        "CancelledSpotInstanceRequests": [
            {"SpotInstanceRequestId": record.id, "State": record.state} for record in records
        ]
    }


def _history(call: Call) -> Answer:
    params = call.params
    types, zones = list(params.get("InstanceTypes", ())), []
    if "AvailabilityZone" in params:
        zones.append(params["AvailabilityZone"])
    products = params.get("ProductDescriptions", ["Linux/UNIX"])
    rows = call.world.ask(
        World.price_history,
        call.region,
        types,
        zones,
        _aware(params.get("StartTime")),
        _aware(params.get("EndTime")),
    )
    # VPC prices are listed under the plain product's name since EC2-Classic is gone.
    wanted = {product.removesuffix(" (Amazon VPC)") for product in products}
    rows = tuple(row for row in rows if row.product in wanted)
    return {"SpotPriceHistory": [_row(row) for row in select(rows, filters_of(params), _FIELDS)]}


def _aware(at: dt.datetime | None) -> dt.datetime | None:
    if at is not None and at.tzinfo is None:
        raise ApiError("InvalidParameterValue", f"Invalid time: {at}")
    return at


def _row(row: PriceRow) -> Answer:
    pool: Pool = row.pool
    return {
        "AvailabilityZone": pool.zone,
        "AvailabilityZoneId": row.zone_id,
        "InstanceType": pool.instance_type,
        "ProductDescription": row.product,
        "SpotPrice": usd(row.usd_micros),
        "Timestamp": row.at,
    }


_FIELDS = {
    "availability-zone": lambda row: row.pool.zone,
    "availability-zone-id": lambda row: row.zone_id,
    "instance-type": lambda row: row.pool.instance_type,
    "product-description": lambda row: row.product,
    "spot-price": lambda row: usd(row.usd_micros),
}


def _scores(call: Call) -> Answer:
    """Of single zones, for one instance: all that anybody here asks for."""
    params = call.params
    if not params.get("SingleAvailabilityZone", False):
        raise ApiError("UnsupportedOperation", "Only single zones have scores here")
    if params.get("TargetCapacity") != 1:
        raise ApiError("UnsupportedOperation", "Only one instance is scored here")
    rows = call.world.ask(
        World.placement_scores,
        call.region,
        params.get("InstanceTypes", ()),
        params.get("RegionNames") or [region.name for region in call.world.setup.regions],
    )
    return {
        "SpotPlacementScores": [
            {"Region": row.region, "AvailabilityZoneId": row.zone_id, "Score": row.score}
            for row in rows
        ]
    }


_FILTERS = frozenset({"Filters.Name", "Filters.Values"})

ACTIONS: Mapping[str, Action] = {
    "DescribeSpotInstanceRequests": Action(
        perform=_describe,
        accepts=_FILTERS | {"SpotInstanceRequestIds"},
        lists="SpotInstanceRequests",
        ids="SpotInstanceRequestIds",
    ),
    "CancelSpotInstanceRequests": Action(
        perform=_cancel, accepts=frozenset({"SpotInstanceRequestIds"})
    ),
    "DescribeSpotPriceHistory": Action(
        perform=_history,
        accepts=_FILTERS
        | {"InstanceTypes", "ProductDescriptions", "AvailabilityZone", "StartTime", "EndTime"},
        lists="SpotPriceHistory",
    ),
    "GetSpotPlacementScores": Action(
        perform=_scores,
        accepts=frozenset(
            {"InstanceTypes", "RegionNames", "TargetCapacity", "SingleAvailabilityZone"}
        ),
        lists="SpotPlacementScores",
    ),
}
