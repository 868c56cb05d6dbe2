"""ports.Prices over EC2's spot price history and offerings, and the AWS price list."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any

from spotrunner.adapters.aws.errors import by_meaning
from spotrunner.adapters.aws.session import Aws
from spotrunner.core.model import Pool, Quote

if TYPE_CHECKING:
    from mypy_boto3_pricing.type_defs import FilterTypeDef

PRODUCT = "Linux/UNIX"

# The plain on-demand price: no licence, shared hardware, capacity that is used and not reserved.
_PLAIN = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
}


class AwsPrices:
    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def offered(self, region: str, instance_types: Sequence[str]) -> frozenset[Pool]:
        if not instance_types:  # EC2 would take none for all
            return frozenset()
        with by_meaning():
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
        """As in the port. EC2 itself adds the row that was in force at the start."""
        if not instance_types:
            return ()
        with by_meaning():
            pages = (
                self._aws.ec2(region)
                .get_paginator("describe_spot_price_history")
                .paginate(
                    InstanceTypes=list(instance_types),  # type: ignore[arg-type] # newer types
                    ProductDescriptions=[PRODUCT],
                    StartTime=since,
                )
            )
            quotes = {
                Quote(
                    pool=Pool(
                        region=region,
                        zone=row["AvailabilityZone"],
                        instance_type=row["InstanceType"],
                    ),
                    at=row["Timestamp"],
                    price_usd_micros_hour=usd_micros(row["SpotPrice"]),
                )
                for page in pages
                for row in page["SpotPriceHistory"]
            }
        return tuple(sorted(quotes, key=lambda quote: (quote.at, quote.pool)))

    def on_demand(self, region: str, instance_types: Sequence[str]) -> Mapping[str, int]:
        prices = {kind: self._on_demand(region, kind) for kind in dict.fromkeys(instance_types)}
        return {kind: price for kind, price in prices.items() if price is not None}

    def _on_demand(self, region: str, instance_type: str) -> int | None:
        wanted = {"regionCode": region, "instanceType": instance_type, **_PLAIN}
        filters: list[FilterTypeDef] = [
            {"Type": "TERM_MATCH", "Field": field, "Value": value}
            for field, value in wanted.items()
        ]
        with by_meaning():
            pages = (
                self._aws.pricing()
                .get_paginator("get_products")
                .paginate(ServiceCode="AmazonEC2", Filters=filters)
            )
            products = [json.loads(product) for page in pages for product in page["PriceList"]]
        # One product fits; should AWS ever list two, the dearer one is what can apply.
        return max((price for product in products for price in hourly(product)), default=None)


def hourly(product: Mapping[str, Any]) -> Iterator[int]:
    """The on-demand prices an hour of a product of the price list, micro-dollars."""
    for offer in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in offer["priceDimensions"].values():
            usd = dimension["pricePerUnit"].get("USD")
            if dimension["unit"] == "Hrs" and usd is not None and Decimal(usd) > 0:
                yield usd_micros(usd)


def usd_micros(usd: str) -> int:
    """Micro-dollars of a price in decimal dollars, rounded up: we never reckon with too little."""
    return int((Decimal(usd) * 1_000_000).to_integral_value(ROUND_CEILING))
