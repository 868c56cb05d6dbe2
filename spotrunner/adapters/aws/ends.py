"""Which of EC2's interruptions were for the price: DescribeInstances shows all of them alike, and
only the status of the spot request tells."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import structlog

from spotrunner.adapters.aws.errors import spot_ended_by
from spotrunner.core.model import EndedBy, Instance, Market
from spotrunner.ports import NotAuthorized, PortError

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import SpotInstanceRequestTypeDef

    # The spot requests of these instances of a region. Raises PortError.
    Ask = Callable[[str, Sequence[str]], Iterable[SpotInstanceRequestTypeDef]]

_log = structlog.get_logger(__name__)

# EC2's limit for the values of a filter.
ASKED_AT_ONCE = 200
# EC2 lists an ended instance for an hour: what was told before so many others is not asked again.
_KEPT = 10_000


class SpotEnds:
    """Asks once for each instance that EC2 took, and remembers. Safe to use from several threads.

    Without an answer the end stays EndedBy.EC2, which is true as well, and the next look asks
    again.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._told: OrderedDict[str, EndedBy] = OrderedDict()
        self._forbidden: set[str] = set()

    def named(self, region: str, found: Sequence[Instance]) -> tuple[Instance, ...]:
        """The same instances, with EndedBy.PRICE where EC2 says so."""
        asked = [each.id for each in found if _taken(each)]
        with self._lock:
            unknown = [id_ for id_ in asked if id_ not in self._told]
        if unknown:
            self._learn(region, unknown)
        with self._lock:
            told = {id_: self._told[id_] for id_ in asked if id_ in self._told}
        return tuple(
            dataclasses.replace(each, ended_by=told[each.id]) if each.id in told else each
            for each in found
        )

    def _learn(self, region: str, ids: Sequence[str]) -> None:
        try:
            for start in range(0, len(ids), ASKED_AT_ONCE):
                for request in self._ask(region, ids[start : start + ASKED_AT_ONCE]):
                    self._remember(request)
        except NotAuthorized as error:
            self._complain(region, error)
        except PortError as error:
            _log.info("who ended spot instances is not told", region=region, why=str(error))

    def _remember(self, request: SpotInstanceRequestTypeDef) -> None:
        code = request.get("Status", {}).get("Code", "")
        # Others, such as marked-for-termination, do not say the last word yet.
        if code.startswith("instance-") and "InstanceId" in request:
            with self._lock:
                self._told[request["InstanceId"]] = spot_ended_by(code)
                if len(self._told) > _KEPT:
                    self._told.popitem(last=False)

    def _complain(self, region: str, error: NotAuthorized) -> None:
        """Once: a policy of before bids works on, and would fill the log."""
        with self._lock:
            again = region in self._forbidden
            self._forbidden.add(region)
        if not again:
            _log.warning(
                "an end by price cannot be told from others", region=region, why=str(error)
            )


def _taken(instance: Instance) -> bool:
    return instance.market is Market.SPOT and instance.ended_by is EndedBy.EC2
