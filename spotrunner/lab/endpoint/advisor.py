"""The Spot Advisor's file, made of the lab's own weather of the month before today.

It lies where AWS's public bucket has it, and needs no key. A fault for the action `SpotAdvisor`
(in the first region) takes it down like any call.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from http import HTTPStatus
from typing import Any

from spotrunner.core.model import Pool
from spotrunner.lab.endpoint.answers import HttpAnswer
from spotrunner.lab.locked import LockedWorld
from spotrunner.sim.pools import Pools
from spotrunner.sim.values import ApiError, TypeFacts
from spotrunner.sim.world import World

PATH = "/spot-bid-advisor/spot-advisor-data.json"
ACTION = "SpotAdvisor"

_MONTH = dt.timedelta(days=30)
# (label, dots, most percent interrupted, least share of the month with capacity): the first four
# are AWS's; what a pool was interrupted is taken from what it was without capacity.
_BANDS = (
    ("<5%", 0, 5, 0.9),
    ("5-10%", 1, 11, 0.8),
    ("10-15%", 2, 16, 0.7),
    ("15-20%", 3, 22, 0.6),
    (">20%", 4, 100, 0.0),
)


def answer(world: LockedWorld, if_none_match: str | None) -> HttpAnswer:
    """Raises LostAnswer."""
    try:
        world.ask(World.admit, world.setup.regions[0].name, ACTION)
    except ApiError as error:
        return HttpAnswer(
            status=error.http_status, body=error.message.encode(), content_type="text/plain"
        )
    body = world.ask(lambda inner, now: json.dumps(_file(inner.pools, now)).encode())
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    if if_none_match == etag:
        return HttpAnswer(status=HTTPStatus.NOT_MODIFIED, body=b"", etag=etag)
    return HttpAnswer(status=HTTPStatus.OK, body=body, content_type="application/json", etag=etag)


def _file(pools: Pools, now: dt.datetime) -> dict[str, Any]:
    """As of the last midnight, so that it is the same for a day."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        "global_rate": "<10%",
        "ranges": [
            {"index": index, "label": label, "dots": dots, "max": most}
            for index, (label, dots, most, _) in enumerate(_BANDS)
        ],
        "instance_types": {facts.name: _facts(facts) for facts in pools.setup.types},
        "spot_advisor": {
            region.name: {"Linux": _advice(pools, region.name, today), "Windows": {}}
            for region in pools.setup.regions
        },
    }


def _facts(facts: TypeFacts) -> dict[str, Any]:
    return {"cores": facts.vcpus, "ram_gb": facts.memory_mib / 1024, "emr": False}


def _advice(pools: Pools, region: str, today: dt.datetime) -> dict[str, dict[str, int]]:
    by_type: dict[str, list[Pool]] = {}
    for pool in sorted(pools.offered(region)):
        by_type.setdefault(pool.instance_type, []).append(pool)
    return {kind: _row(pools, of_type, today) for kind, of_type in by_type.items()}


def _row(pools: Pools, of_type: list[Pool], today: dt.datetime) -> dict[str, int]:
    """The mean over the zones."""
    paid = sum(pools.spot(pool, today) / pools.on_demand(pool) for pool in of_type) / len(of_type)
    up = sum(pools.share_up(pool, today - _MONTH, today) for pool in of_type) / len(of_type)
    band = next(index for index, (*_, least) in enumerate(_BANDS) if up >= least)
    return {"s": round(100 * (1 - paid)), "r": band}
