"""The JSON services around EC2: the price list, the vCPU quotas, the Deep Learning AMIs."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spotrunner.core.model import Market
from spotrunner.lab.endpoint.paging import Pages
from spotrunner.lab.locked import LockedWorld
from spotrunner.sim.values import QUOTAS, ApiError, Quota
from spotrunner.sim.world import World

Body = Mapping[str, Any]

_AMI_PREFIX = "/aws/service/deeplearning/ami/"
_AMI_NAMES = ("base-oss-nvidia-driver-gpu-ubuntu-22.04", "base-oss-nvidia-driver-gpu-ubuntu-24.04")


@dataclass(frozen=True, kw_only=True)
class TableCall:
    region: str
    body: Body
    world: LockedWorld
    pages: Pages


def answer(
    service: str, operation: str, region: str, body: bytes, world: LockedWorld, pages: Pages
) -> Body:
    """Raises ApiError with the JSON protocols' error codes."""
    perform = _OPERATIONS.get((service, operation))
    if perform is None:
        raise ApiError("UnknownOperationException", f"Unknown operation {operation}")
    try:
        parsed = json.loads(body or b"{}")
    except json.JSONDecodeError as error:
        raise ApiError("SerializationException", str(error)) from None
    return perform(TableCall(region=region, body=parsed, world=world, pages=pages))


def is_ours(operation: str, body: bytes) -> bool:
    """Whether an SSM request asks for AWS's public Deep Learning AMI parameters."""
    return operation in ("GetParameter", "GetParameters") and _AMI_PREFIX.encode() in body


def _accept(body: Body, *names: str) -> None:
    for name in body:
        if name not in names:
            raise ApiError("InvalidParameterException", f"The parameter {name} is not recognized")


def _page(call: TableCall, listing: str, items: list[Any], member: str) -> Body:
    most = min(int(call.body.get("MaxResults", 100)), 100)
    token = call.body.get("NextToken")
    if token:
        page = call.pages.next(listing, token, most)
    else:
        page = call.pages.first(listing, items, most)
    token = {"NextToken": page.next_token} if page.next_token else {}
    return {member: list(page.items), **token}


# -- pricing -----------------------------------------------------------------------------------


def _products(call: TableCall) -> Body:
    _accept(call.body, "ServiceCode", "Filters", "FormatVersion", "NextToken", "MaxResults")
    if call.body.get("ServiceCode") != "AmazonEC2":
        raise ApiError("InvalidParameterException", "Only AmazonEC2 has prices here")
    products = [_product(call.world, place, kind) for place, kind in _priced(call.world)]
    for each in call.body.get("Filters", ()):
        if each.get("Type") != "TERM_MATCH":
            raise ApiError("InvalidParameterException", f"Filter type {each.get('Type')}")
        field, value = each["Field"], each["Value"]
        products = [p for p in products if p["product"]["attributes"].get(field) == value]
    items = [json.dumps(product) for product in products]
    return {"FormatVersion": "aws_v1", **_page(call, "GetProducts", items, "PriceList")}


def _priced(world: LockedWorld) -> Iterable[tuple[str, str]]:
    return sorted(world.setup.on_demand_usd_micros)


def _product(world: LockedWorld, region: str, instance_type: str) -> dict[str, Any]:
    facts = next(each for each in world.setup.types if each.name == instance_type)
    micros = world.setup.on_demand_usd_micros[region, instance_type]
    sku = f"{region}.{instance_type}".upper().replace("-", "").replace(".", "")
    rate = f"{sku}.JRTCKXETXF.6YS6EN2CT7"
    return {
        "product": {
            "productFamily": "Compute Instance",
            "sku": sku,
            "attributes": {
                "instanceType": instance_type,
                "regionCode": region,
                "location": _LOCATIONS.get(region, region),
                "locationType": "AWS Region",
                "operatingSystem": "Linux",
                "tenancy": "Shared",
                "preInstalledSw": "NA",
                "capacitystatus": "Used",
                "licenseModel": "No License required",
                "marketoption": "OnDemand",
                "operation": "RunInstances",
                "servicecode": "AmazonEC2",
                "vcpu": str(facts.vcpus),
                "memory": f"{facts.memory_mib // 1024} GiB",
            },
        },
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {f"{sku}.JRTCKXETXF": _term(sku, rate, instance_type, micros)}},
        "version": "20261101000000",
        "publicationDate": "2026-11-01T00:00:00Z",
    }


def _term(sku: str, rate: str, instance_type: str, micros: int) -> dict[str, Any]:
    dollars = f"{micros // 1_000_000}.{micros % 1_000_000:06d}0000"
    return {
        "sku": sku,
        "offerTermCode": "JRTCKXETXF",
        "effectiveDate": "2026-11-01T00:00:00Z",
        "termAttributes": {},
        "priceDimensions": {
            rate: {
                "rateCode": rate,
                "unit": "Hrs",
                "beginRange": "0",
                "endRange": "Inf",
                "appliesTo": [],
                "description": f"${dollars} per On Demand Linux {instance_type} Instance Hour",
                "pricePerUnit": {"USD": dollars},
            }
        },
    }


_LOCATIONS = {
    "us-east-1": "US East (N. Virginia)",
    "us-west-2": "US West (Oregon)",
    "eu-west-1": "EU (Ireland)",
}


# -- service quotas ----------------------------------------------------------------------------


def _quotas(call: TableCall) -> Body:
    _accept(call.body, "ServiceCode", "NextToken", "MaxResults", "QuotaAppliedAtLevel")
    items = list(_all_quotas(call).values())
    return _page(call, f"ListServiceQuotas/{call.region}", items, "Quotas")


def _quota(call: TableCall) -> Body:
    _accept(call.body, "ServiceCode", "QuotaCode", "ContextId")
    quotas = _all_quotas(call)
    if call.body.get("QuotaCode") not in quotas:
        raise ApiError("NoSuchResourceException", "The request failed because the quota is unknown")
    return {"Quota": quotas[call.body["QuotaCode"]]}


def _all_quotas(call: TableCall) -> dict[str, Body]:
    if call.body.get("ServiceCode") != "ec2":
        raise ApiError("NoSuchResourceException", "Only ec2 has quotas here")
    rows = {}
    for (family, market), quota in QUOTAS.items():
        vcpus = call.world.ask(_vcpus, call.region, family, market)
        if vcpus is not None:
            rows[quota.code] = _quota_row(call, quota, vcpus)
    return rows


def _vcpus(world: World, _now: dt.datetime, region: str, family: str, market: Market) -> int | None:
    return world.pools.quota(region, family, market)


def _quota_row(call: TableCall, quota: Quota, vcpus: int) -> Body:
    account = call.world.setup.account
    return {
        "ServiceCode": "ec2",
        "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
        "QuotaArn": f"arn:aws:servicequotas:{call.region}:{account}:ec2/{quota.code}",
        "QuotaCode": quota.code,
        "QuotaName": quota.name,
        "Value": float(vcpus),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }


# -- the Deep Learning AMIs' public parameters -------------------------------------------------


def _parameter(call: TableCall) -> Body:
    _accept(call.body, "Name", "WithDecryption")
    found = _ami_parameters(call).get(call.body["Name"])
    if found is None:
        raise ApiError("ParameterNotFound", f"Parameter {call.body['Name']} not found.")
    return {"Parameter": found}


def _parameters(call: TableCall) -> Body:
    _accept(call.body, "Names", "WithDecryption")
    known = _ami_parameters(call)
    names = call.body["Names"]
    return {
        "Parameters": [known[name] for name in names if name in known],
        "InvalidParameters": [name for name in names if name not in known],
    }


def _ami_parameters(call: TableCall) -> dict[str, Body]:
    images = call.world.ask(lambda world, _now: world.pools.region(call.region)).images
    names = [f"{_AMI_PREFIX}x86_64/{name}/latest/ami-id" for name in _AMI_NAMES]
    return {
        name: {
            "Name": name,
            "Type": "String",
            "Value": images[0].id,
            "Version": 31,
            "LastModifiedDate": call.world.setup.start.timestamp(),
            "ARN": f"arn:aws:ssm:{call.region}::parameter{name}",
            "DataType": "aws:ec2:image",
        }
        for name in names
    }


_OPERATIONS: Mapping[tuple[str, str], Callable[[TableCall], Body]] = {
    ("pricing", "GetProducts"): _products,
    ("servicequotas", "ListServiceQuotas"): _quotas,
    ("servicequotas", "GetServiceQuota"): _quota,
    ("ssm", "GetParameter"): _parameter,
    ("ssm", "GetParameters"): _parameters,
}
