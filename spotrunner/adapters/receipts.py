"""ports.Receipts over ports.Objects: `ledger/<job>/<attempt>.json`, one object an attempt.

A receipt is the attempt's record as the store has it, without the request and the order: both are
large, and a request holds a presigned URL.
"""

from __future__ import annotations

import dataclasses
import re

import structlog

from spotrunner.adapters import codec
from spotrunner.core.ids import job_of
from spotrunner.core.model import Attempt
from spotrunner.ports import NotFound, Objects

LEDGER = "ledger/"

_RECEIPT = re.compile(rf"{LEDGER}(?P<job>[^/]+)/(?P<attempt>(?P=job)\.\d+)\.json")

_log = structlog.get_logger(__name__)


class ObjectReceipts:
    """Holds nothing: safe to use from several threads."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def put(self, attempt: Attempt) -> None:
        lean = dataclasses.replace(attempt, request=None, order=None, order_posted_n=0)
        self._objects.put(_key(attempt.id), codec.to_json(lean))

    def names(self) -> frozenset[str]:
        found = (_RECEIPT.fullmatch(info.key) for info in self._objects.list(LEDGER))
        return frozenset(receipt["attempt"] for receipt in found if receipt)

    def read(self, attempt: str) -> Attempt | None:
        key = _key(attempt)
        try:
            found = codec.from_json(Attempt, self._objects.get(key).body)
        except NotFound:
            return None
        except codec.Malformed as error:
            _log.warning("a receipt cannot be read", key=key, why=str(error))
            return None
        if found.id != attempt or found.job_id != job_of(attempt):
            _log.warning("a receipt cannot be read", key=key, why=f"it is one of {found.id}")
            return None
        return found


def _key(attempt: str) -> str:
    return f"{LEDGER}{job_of(attempt)}/{attempt}.json"
