"""EC2's filters: names to values, any value of a name, all names; `*` and `?` in values."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from spotrunner.sim import refusals
from spotrunner.sim.values import InstanceRecord, SpotRequestRecord

Filters = Mapping[str, Sequence[str]]

_R = TypeVar("_R", InstanceRecord, SpotRequestRecord)

_INSTANCE: Mapping[str, Callable[[InstanceRecord], str]] = {
    "instance-id": lambda r: r.id,
    "instance-state-name": lambda r: r.stage.value,
    "instance-state-code": lambda r: str(r.stage.code),
    "instance-lifecycle": lambda r: "spot" if r.spot_request_id else "",
    "instance-type": lambda r: r.pool.instance_type,
    "availability-zone": lambda r: r.pool.zone,
    "subnet-id": lambda r: r.subnet_id,
    "client-token": lambda r: r.client_token,
    "image-id": lambda r: r.request.image_id,
    "reservation-id": lambda r: r.reservation_id,
    "spot-instance-request-id": lambda r: r.spot_request_id or "",
    "private-ip-address": lambda r: r.private_ip,
}
_SPOT_REQUEST: Mapping[str, Callable[[SpotRequestRecord], str]] = {
    "spot-instance-request-id": lambda r: r.id,
    "instance-id": lambda r: r.instance_id,
    "state": lambda r: r.state,
    "status-code": lambda r: r.status_code,
    "launched-availability-zone": lambda r: r.pool.zone,
    "launch.instance-type": lambda r: r.pool.instance_type,
}


def by_tag_or_token(filters: Filters) -> bool:
    """Whether these filters read the index that lags most."""
    return any(name.startswith("tag") or name == "client-token" for name in filters)


def select_instances(records: Iterable[InstanceRecord], filters: Filters) -> list[InstanceRecord]:
    """Raises ApiError for a filter that EC2 does not know."""
    return _select(records, filters, _INSTANCE)


def select_spot_requests(
    records: Iterable[SpotRequestRecord], filters: Filters
) -> list[SpotRequestRecord]:
    """Raises ApiError for a filter that EC2 does not know."""
    return _select(records, filters, _SPOT_REQUEST)


def _select(
    records: Iterable[_R], filters: Filters, fields: Mapping[str, Callable[[_R], str]]
) -> list[_R]:
    for name in filters:
        if name not in fields and name not in ("tag-key",) and not name.startswith("tag:"):
            raise refusals.unknown_filter(name)
    return [
        record
        for record in records
        if all(_any_fits(_values(record, name, fields), wanted) for name, wanted in filters.items())
    ]


def _values(record: _R, name: str, fields: Mapping[str, Callable[[_R], str]]) -> list[str]:
    if name == "tag-key":
        return [key for key, _ in record.tags]
    if name.startswith("tag:"):
        return [value for key, value in record.tags if key == name[len("tag:") :]]
    return [fields[name](record)]


def _any_fits(values: Iterable[str], wanted: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(value, pattern) for value in values for pattern in wanted)
