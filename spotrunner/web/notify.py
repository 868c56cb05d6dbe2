"""The call that tries the channels that alerts go over."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from spotrunner.core.catalogue import closest_name
from spotrunner.core.located import Problem
from spotrunner.web import errors
from spotrunner.web.deps import Deps
from spotrunner.web.moments import Json


class ChannelsBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    channels: tuple[str, ...] = ()


class NotifyCalls:
    """`/notify/test`."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/notify/test", self.test, methods=["POST"])
        return router

    def test(self, body: ChannelsBody) -> Json:
        """Send an alert to these channels (to all of them, where none is named) now; `error` is
        empty where it was taken."""
        known = sorted(self._deps.channels)
        if not known:
            message = "alerts have no channel: add `alerts.channels` to the daemon's settings"
            raise errors.one(errors.CONFLICT, message, hint="and restart it")
        wrong = [name for name in body.channels if name not in known]
        if wrong:
            raise errors.refused([_unknown(name, known) for name in wrong])
        told = self._deps.test_alert(tuple(dict.fromkeys(body.channels)) or tuple(known))
        return {
            "channels": [
                {"channel": name, "ok": not error, "error": error}
                for name, error in sorted(told.items())
            ]
        }


def _unknown(name: str, known: list[str]) -> Problem:
    likely = closest_name(name, known)
    hint = f"nearest: {likely}" if likely else f"there are {', '.join(known)}"
    return Problem(key="channels", message=f"there is no channel {name}; {hint}")
