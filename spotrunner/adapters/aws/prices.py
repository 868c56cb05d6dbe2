"""ports.Prices over EC2's spot price history, offerings, zones and placement scores, and the AWS
price list."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import structlog

from spotrunner.adapters.aws.errors import by_meaning
from spotrunner.adapters.aws.session import Aws
from spotrunner.core.model import Pool, Quote
from spotrunner.ports import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import SpotPriceTypeDef
    from mypy_boto3_pricing.type_defs import FilterTypeDef

_log = structlog.get_logger(__name__)

PRODUCT = "Linux/UNIX"

# The plain on-demand price: no licence, shared hardware, capacity that is used and not reserved.
_PLAIN = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
}

# EC2's limits: rows in a page of the price history, and regions in one question for scores.
ROWS_AT_ONCE = 1_000
REGIONS_AT_ONCE = 10
# With fewer types every score is low, whatever the capacity (EC2 User Guide, Spot placement score).
SCORED_TYPES = 3
# No hour costs so many dollars: a larger number is none that was meant as a price.
_TOO_DEAR_USD = 1_000_000


class AwsPrices:
    """`rows_at_once` is the size of a page of the price history, 1 to 1,000."""

    def __init__(self, aws: Aws, *, rows_at_once: int = ROWS_AT_ONCE) -> None:
        self._aws = aws
        self._rows_at_once = rows_at_once

    def offered(self, region: str, instance_types: Sequence[str]) -> frozenset[Pool]:
        if not instance_types:  # EC2 would take none for all
            return frozenset()
        with _sound():
            pages = (
                self._aws.ec2(region)
                .get_paginator("describe_instance_type_offerings")
                .paginate(
                    LocationType="availability-zone",
                    Filters=[{"Name": "instance-type", "Values": list(instance_types)}],
                )
            )
            return frozenset(
                Pool(region=region, zone=found["Location"], instance_type=found["InstanceType"])
                for page in pages
                for found in page["InstanceTypeOfferings"]
            )

    def quotes(
        self, region: str, instance_types: Sequence[str], since: dt.datetime
    ) -> tuple[Quote, ...]:
        """As in the port. EC2 itself adds the row that was in force at the start. A row whose price
        cannot be one is left out, and logged."""
        if not instance_types:
            return ()
        with _sound():
            pages = (
                self._aws.ec2(region)
                .get_paginator("describe_spot_price_history")
                .paginate(
                    InstanceTypes=list(instance_types),  # type: ignore[arg-type] # newer types
                    ProductDescriptions=[PRODUCT],
                    StartTime=since,
                    PaginationConfig={"PageSize": self._rows_at_once},
                )
            )
            # Pages may overlap when rows are added while they are read.
            quotes = {
                quote
                for page in pages
                for row in page["SpotPriceHistory"]
                if (quote := parse_quote(region, row)) is not None
            }
        return tuple(
            sorted(quotes, key=lambda quote: (quote.at, quote.pool, quote.price_usd_micros_hour))
        )

    def on_demand(self, region: str, instance_types: Sequence[str]) -> Mapping[str, int]:
        prices = {kind: self._on_demand(region, kind) for kind in dict.fromkeys(instance_types)}
        return {kind: price for kind, price in prices.items() if price is not None}

    def zones(self, region: str) -> Mapping[str, str]:
        with _sound():
            answer = self._aws.ec2(region).describe_availability_zones(
                AllAvailabilityZones=False, Filters=[{"Name": "state", "Values": ["available"]}]
            )
            return {zone["ZoneName"]: zone["ZoneId"] for zone in answer["AvailabilityZones"]}

    def scores(
        self, regions: Sequence[str], instance_types: Sequence[str]
    ) -> Mapping[tuple[str, str], int]:
        """As in the port. EC2 names the ten best zones of a question: one that is not among them
        has no score. Raises ValueError for less than three types."""
        types, where = sorted(set(instance_types)), sorted(set(regions))
        if len(types) < SCORED_TYPES:
            raise ValueError(f"scores need {SCORED_TYPES} instance types at least, not {types}")
        # Sorted, so that the same question looks the same to EC2, which counts different ones.
        parts = [where[at : at + REGIONS_AT_ONCE] for at in range(0, len(where), REGIONS_AT_ONCE)]
        return {zone: score for part in parts for zone, score in self._scores(part, types)}

    def _scores(
        self, regions: list[str], instance_types: list[str]
    ) -> Iterator[tuple[tuple[str, str], int]]:
        with _sound():
            pages = (
                self._aws.ec2(regions[0])
                .get_paginator("get_spot_placement_scores")
                .paginate(
                    RegionNames=regions,
                    InstanceTypes=instance_types,
                    TargetCapacity=1,
                    SingleAvailabilityZone=True,
                )
            )
            for page in pages:
                for found in page["SpotPlacementScores"]:
                    yield (found["Region"], found["AvailabilityZoneId"]), found["Score"]

    def _on_demand(self, region: str, instance_type: str) -> int | None:
        wanted = {"regionCode": region, "instanceType": instance_type, **_PLAIN}
        filters: list[FilterTypeDef] = [
            {"Type": "TERM_MATCH", "Field": field, "Value": value}
            for field, value in wanted.items()
        ]
        with _sound():
            pages = (
                self._aws.pricing()
                .get_paginator("get_products")
                .paginate(ServiceCode="AmazonEC2", Filters=filters)
            )
            products = [json.loads(product) for page in pages for product in page["PriceList"]]
            # One product fits; should AWS ever list two, the dearer one is what can apply.
            return max((price for product in products for price in hourly(product)), default=None)


@contextlib.contextmanager
def _sound() -> Iterator[None]:
    """AWS's errors by their meaning, and an answer of another form than AWS documents as one that
    did not come: it is asked for again, and what was known until then stays."""
    try:
        with by_meaning():
            yield
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise Unavailable(
            f"AWS's answer cannot be read ({what}); it is asked for again. If this stays, see"
            " whether a proxy answers in AWS's place"
        ) from error


def parse_quote(region: str, row: SpotPriceTypeDef) -> Quote | None:
    """A row of the price history; None, and a line in the log, when its price is none."""
    pool = Pool(region=region, zone=row["AvailabilityZone"], instance_type=row["InstanceType"])
    price = price_usd_micros(row.get("SpotPrice", ""))
    if price is None:
        _log.warning(
            "a spot price was left out: it is no price",
            region=pool.region,
            zone=pool.zone,
            instance_type=pool.instance_type,
            value=row.get("SpotPrice"),
        )
        return None
    return Quote(pool=pool, at=row["Timestamp"], price_usd_micros_hour=price)


def hourly(product: Mapping[str, Any]) -> Iterator[int]:
    """The on-demand prices an hour of a product of the price list, micro-dollars. Raises what
    Python raises for a product of another form."""
    for offer in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in offer["priceDimensions"].values():
            price = price_usd_micros(dimension["pricePerUnit"].get("USD", ""))
            # What a reservation covers is listed as well, for nothing.
            if dimension["unit"] == "Hrs" and price is not None:
                yield price


def price_usd_micros(usd: str) -> int | None:
    """Micro-dollars of a price in decimal dollars, rounded up: we never reckon with too little.
    None for what can be no price: nothing, less, no number."""
    try:
        price = Decimal(usd)
    except InvalidOperation:
        return None
    if not (price.is_finite() and 0 < price < _TOO_DEAR_USD):
        return None
    return int((price * 1_000_000).to_integral_value(ROUND_CEILING))
