"""EC2 on the wire: a signed form in, XML out, by botocore's model; the market behind it."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from spotrunner.lab.endpoint import images, instances, places, spot
from spotrunner.lab.endpoint.answers import HttpAnswer
from spotrunner.lab.endpoint.call import Action, Answer, Call, Console, Disks
from spotrunner.lab.endpoint.paging import Pages
from spotrunner.lab.endpoint.wire import ec2_model, paths_of, read_params, write_answer, write_error
from spotrunner.lab.locked import LockedWorld
from spotrunner.sim import refusals
from spotrunner.sim.values import ApiError

_ACTIONS: Mapping[str, Action] = {
    **instances.ACTIONS,
    **spot.ACTIONS,
    **places.ACTIONS,
    **images.ACTIONS,
}
# EC2 refuses smaller pages of most listings; images and prices may come one by one.
_LEAST_PAGE = {
    "DescribeImages": 1,
    "DescribeSpotPriceHistory": 1,
    "GetSpotPlacementScores": 10,
}


@dataclass(frozen=True, kw_only=True)
class Awkwardness:
    """How awkward the wire is, beside the world's own manners."""

    halves: bool = True  # every listing in two pages at least
    throttled_share: float = 0.02  # of reads, answered with RequestLimitExceeded


SMOOTH = Awkwardness(halves=False, throttled_share=0.0)


class Ec2:
    """Answers requests of any region. Safe to use from several threads."""

    def __init__(
        self,
        world: LockedWorld,
        console: Console,
        disks: Disks,
        awkwardness: Awkwardness,
        seed: int,
    ) -> None:
        self._world = world
        self._console = console
        self._disks = disks
        self._throttled_share = awkwardness.throttled_share
        self._pages = Pages(halves=awkwardness.halves)
        self._dice = random.Random(f"{seed}/wire")
        self._dice_lock = threading.Lock()
        self._model = ec2_model()

    def answer(self, region: str, body: bytes) -> HttpAnswer:
        """Raises LostAnswer: then nothing may be answered."""
        query = dict(parse_qsl(body.decode(), keep_blank_values=True))
        request_id = self._request_id()
        try:
            document = self._perform(region, query, request_id)
        except ApiError as error:
            return HttpAnswer(status=error.http_status, body=write_error(error, request_id))
        return HttpAnswer(status=200, body=document)

    def _perform(self, region: str, query: Mapping[str, str], request_id: str) -> bytes:
        name = query.get("Action", "")
        if name not in _ACTIONS:
            raise ApiError("InvalidAction", f"The action {name} is not valid for this web service.")
        operation = self._model.operation_model(name)
        action = _ACTIONS[name]
        params = read_params(operation, query)
        _check_accepted(name, action, params)
        if params.get("DryRun"):
            raise ApiError(
                "DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412
            )
        if name.startswith(("Describe", "GetSpot")) and self._rolls_throttle():
            raise refusals.throttled()
        call = Call(
            action=name,
            region=region,
            params=params,
            world=self._world,
            console=self._console,
            disks=self._disks,
        )
        return write_answer(operation, request_id, self._paged(call, action))

    def _paged(self, call: Call, action: Action) -> Answer:
        member = action.lists
        if member is None or call.params.get(action.ids or ""):
            return action.perform(call)
        listing = f"{call.action}/{call.region}"
        token, most = call.params.get("NextToken"), _page_size(call, action)
        if token:
            call.admit()
            page = self._pages.next(listing, token, most)
            answer: Answer = {}
        else:
            answer = action.perform(call)
            page = self._pages.first(listing, answer[member], most)
        return {**answer, member: list(page.items), "NextToken": page.next_token}

    def _rolls_throttle(self) -> bool:
        with self._dice_lock:
            return self._dice.random() < self._throttled_share

    def _request_id(self) -> str:
        with self._dice_lock:
            bits = f"{self._dice.getrandbits(128):032x}"
        return f"{bits[:8]}-{bits[8:12]}-{bits[12:16]}-{bits[16:20]}-{bits[20:]}"


def _check_accepted(name: str, action: Action, params: Mapping[str, Any]) -> None:
    """What the endpoint does not implement is refused like what EC2 does not know: a test that
    passes because the lab ignored a parameter is worth nothing."""
    accepted = action.accepts | {"DryRun"}
    if action.lists is not None:
        accepted |= {"MaxResults", "NextToken"}
    for path in paths_of(params):
        if path not in accepted:
            raise ApiError("UnknownParameter", f"The parameter {path} is not recognized")
    if action.ids and params.get(action.ids) and "MaxResults" in params:
        raise ApiError(
            "InvalidParameterCombination",
            f"The parameter {action.ids} cannot be used with the parameter maxResults",
        )


def _page_size(call: Call, action: Action) -> int:
    size = int(call.params.get("MaxResults", action.most))
    least = _LEAST_PAGE.get(call.action, 5)
    if not least <= size <= 1000:
        raise ApiError(
            "InvalidParameterValue",
            f"Value ( {size} ) for parameter maxResults is invalid."
            f" Expecting a value from {least} to 1000.",
        )
    return min(size, action.most)
