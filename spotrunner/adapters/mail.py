"""ports.Mailbox over ports.Objects: every letter is one object.

`mail/orders/<box>.json` and `mail/reports/<box>/<rank>.json`; those of ended boxes lie at the same
names below `jobs/<job>/`. `mail/brake.json` is for the daemon: whoever writes it keeps it from
launching anything.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from spotrunner.adapters import codec
from spotrunner.core.model import Order, Report
from spotrunner.ports import (
    Blob,
    NotFound,
    ObjectInfo,
    Objects,
    PreconditionFailed,
    StaleEpoch,
    Unavailable,
)

ORDERS, REPORTS, BRAKE = "mail/orders/", "mail/reports/", "mail/brake.json"

# Two daemons that race for one order settle it by epoch; more tries would meet no race.
MAX_TRIES = 5

_LETTER = re.compile(r"mail/(?:orders/(?P<order>[^/]+)\.json|reports/(?P<report>[^/]+)/\d+\.json)")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Brake:
    """Who says that nothing is to be launched, and since when."""

    at: dt.datetime
    by: str
    why: str


T = TypeVar("T", Order, Report, Brake)


class ObjectMailbox:
    """Remembers what it has read. For one thread, of a daemon or an agent; `reports` and the brake
    are for any."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._reports: dict[str, _Letter[Report]] = {}  # by key, rank 0
        self._orders: dict[str, _Letter[Order]] = {}  # by box
        self._brake: _Letter[Brake] | None = None

    # -- the daemon's side ---------------------------------------------------------------------

    def boxes(self) -> frozenset[str]:
        listed = {info.key: info for info in self._objects.list("mail/")}
        self._refresh_brake(listed.get(BRAKE))
        self._reports = {key: seen for key, seen in self._reports.items() if key in listed}
        for key, info in listed.items():
            if key.startswith(REPORTS) and key.endswith("/0.json"):
                self._refresh(info)
        letters = (_LETTER.fullmatch(key) for key in listed)
        return frozenset(letter["order"] or letter["report"] for letter in letters if letter)

    def reports(self) -> Mapping[str, Report]:
        # A copy: the API's threads ask while the round reads new letters.
        read = [letter.value for letter in list(self._reports.values())]
        return {report.attempt: report for report in read if report is not None}

    def brake(self) -> str | None:
        letter = self._brake
        if letter is None:
            return None
        brake = letter.value
        if brake is None:
            return f"{BRAKE} lies in the bucket and cannot be read"
        return f"{brake.why}, by {brake.by} at {brake.at:%Y-%m-%d %H:%M} UTC"

    def release_brake(self) -> None:
        self._objects.delete([BRAKE])
        self._brake = None

    def highest_epoch(self) -> int:
        keys = [info.key for info in self._objects.list(ORDERS)]
        found = [(key, self._get(key)) for key in keys]
        orders = [_read(Order, key, blob.body) for key, blob in found if blob is not None]
        return max((order.epoch for order in orders if order is not None), default=0)

    def post_order(self, order: Order) -> None:
        key = _order_key(order.box)
        for _ in range(MAX_TRIES):
            blob = self._get(key)
            lying = _read(Order, key, blob.body) if blob else None
            if lying is not None and lying.epoch > order.epoch:
                raise StaleEpoch(f"the order of {order.box} has epoch {lying.epoch}")
            if lying is not None and _number(lying) >= _number(order):
                return
            try:
                self._objects.put(
                    key,
                    codec.to_json(order),
                    if_match=blob.etag if blob else None,
                    if_absent=blob is None,
                )
            except PreconditionFailed:
                continue  # somebody wrote meanwhile, or it was us: what lies there says which
            return
        raise Unavailable(f"the order of {order.box} was changed {MAX_TRIES} times meanwhile")

    def archive(self, box: str, job_id: str) -> None:
        keys = [info.key for info in self._objects.list(f"{REPORTS}{box}/")]
        for key in (_order_key(box), *keys):
            blob = self._get(key)
            if blob is not None:
                self._objects.put(f"jobs/{job_id}/{key}", blob.body)
                self._objects.delete([key])

    # -- the agent's side ----------------------------------------------------------------------

    def order(self, box: str, last: Order | None) -> Order | None:
        key, seen = _order_key(box), self._orders.get(box)
        try:
            blob = self._objects.get_if_changed(key, seen.etag if seen else None)
        except NotFound:
            return None
        if blob is not None:
            seen = _Letter(etag=blob.etag, value=_read(Order, key, blob.body))
            self._orders[box] = seen
        order = seen.value if seen else None
        if order is None or (last is not None and _number(order) <= _number(last)):
            return None
        return order

    def post_report(self, report: Report) -> None:
        self._objects.put(f"{REPORTS}{report.box}/{report.rank}.json", codec.to_json(report))

    # ------------------------------------------------------------------------------------------

    def _refresh(self, info: ObjectInfo) -> None:
        seen = self._reports.get(info.key)
        if seen is not None and seen.etag == info.etag:
            return
        blob = self._get(info.key)
        if blob is None:  # archived since it was listed
            self._reports.pop(info.key, None)
            return
        report = _read(Report, info.key, blob.body)
        self._reports[info.key] = _Letter(etag=blob.etag, value=report)

    def _refresh_brake(self, info: ObjectInfo | None) -> None:
        if info is None:
            self._brake = None
            return
        if self._brake is not None and self._brake.etag == info.etag:
            return
        # It holds though it cannot be read now, or ever.
        self._brake = _Letter(etag="", value=None)
        blob = self._get(BRAKE)
        if blob is None:  # released since it was listed
            self._brake = None
        else:
            self._brake = _Letter(etag=blob.etag, value=_read(Brake, BRAKE, blob.body))

    def _get(self, key: str) -> Blob | None:
        try:
            return self._objects.get(key)
        except NotFound:
            return None


@dataclass(frozen=True, kw_only=True)
class _Letter(Generic[T]):
    """A letter as it was read; None: not readable, and not read again until it changes."""

    etag: str
    value: T | None


def _order_key(box: str) -> str:
    return f"{ORDERS}{box}.json"


def _number(order: Order) -> tuple[int, int]:
    return order.epoch, order.n


def _read(cls: type[T], key: str, body: bytes) -> T | None:
    try:
        return codec.from_json(cls, body)
    except codec.Malformed as error:
        _log.warning("a letter cannot be read", key=key, why=str(error))
        return None
