"""The call that fits the policies to what we saw of EC2 ourselves."""

from __future__ import annotations

import dataclasses

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, StrictBool

from spotrunner.web.deps import Deps
from spotrunner.web.views import Json


class FitBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reset: StrictBool = False


def router(deps: Deps) -> APIRouter:
    """`/policy/fit`."""

    def policy_fit(body: FitBody) -> Json:
        """`changed` tells whether rounds decide with these hazards from now on: not when nothing
        was seen yet. `evidence` has what was seen, by age, and the rates before and after."""
        fitted = deps.refit(body.reset)
        seen = [each for each in fitted.evidence if each.hours > 0 or each.events > 0]
        return {
            "changed": body.reset or bool(seen),
            "evidence": [dataclasses.asdict(each) for each in fitted.evidence],
            "hazards": dataclasses.asdict(fitted.hazards),
        }

    calls = APIRouter()
    calls.add_api_route("/policy/fit", policy_fit, methods=["POST"])
    return calls
