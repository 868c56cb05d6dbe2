"""The call that holds everything: what runs is paid on, and nothing is launched."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from spotrunner.web.deps import Deps
from spotrunner.web.moments import Json, when

# As far as a job can be paid ahead at most.
MOST_S = 86_400


class HoldBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    for_s: Annotated[StrictInt, Field(ge=60, le=MOST_S)]


class HoldCalls:
    """`/hold`."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/hold", self.hold, methods=["POST"])
        router.add_api_route("/hold", self.go_on, methods=["DELETE"])
        return router

    def hold(self, body: HoldBody) -> Json:
        until = self._deps.clock.now() + dt.timedelta(seconds=body.for_s)
        self._deps.store.hold(until)
        self._deps.wake()
        return {"held_until": when(until), "brake": self._deps.mailbox.brake()}

    def go_on(self) -> Json:
        """Also after a panic, whose brake lies in the bucket; `brake` is what it said."""
        brake = self._deps.mailbox.brake()
        self._deps.store.hold(None)
        self._deps.mailbox.release_brake()
        self._deps.wake()
        return {"held_until": None, "brake": brake}


def held(deps: Deps) -> Json:
    """What keeps launches away now, for the status."""
    until = deps.store.held_until()
    lasts = until is not None and deps.clock.now() < until
    return {"held_until": when(until) if lasts else None, "brake": deps.mailbox.brake()}
