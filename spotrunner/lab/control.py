"""The lab's own HTTP interface, below /lab/ on its one port; a token opens it.

GET  /lab/status /lab/bill /lab/leftovers
POST /lab/interrupt  {"instance": ID, "notice": true|false}
POST /lab/fail       {"instance": ID}                        the host dies
POST /lab/skip       {"seconds": N}                          returns when it is done
POST /lab/capacity   {"region", "zone", "instance_type", "up": true|false|null, "reclaim"}
POST /lab/price      {"instance_type", "usd_hour": N|null, "zones": [NAME, ...]}
POST /lab/fault      {"action", "times", and one of "error": {"code", "message", "status"},
                      "lose": "before"|"after", "dies": CODE; region, zone, instance_type}
POST /lab/object-fault {"method", "path", "lose": "before"|"after"|null, "late_s", "times"}
POST /lab/clear      {}                                      no fault is to come any more
"""

from __future__ import annotations

import datetime as dt
import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

from spotrunner.core.model import Pool
from spotrunner.lab.endpoint.object_faults import ObjectFault
from spotrunner.lab.prices import Moved, move_prices
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.values import ApiError
from spotrunner.sim.world import World

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from spotrunner.lab.lab import Lab

Body = Mapping[str, Any]


class ControlApp:
    """A WSGI application over a lab. Safe to serve from several threads."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        status, body = self._answer(request)
        text = json.dumps(body)
        return Response(text, status, content_type="application/json")(environ, start)

    def _answer(self, request: Request) -> tuple[int, Body]:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._lab.token}".encode()):
            return 401, {"error": "the token of the lab is needed (see lab-token in its folder)"}
        perform = _ROUTES.get((request.method, request.path))
        if perform is None:
            return 404, {"error": f"there is no {request.method} {request.path}"}
        try:
            body = json.loads(request.get_data() or b"{}")
            return 200, perform(self._lab, body)
        except ApiError as error:
            return 409, {"error": error.message, "code": error.code}
        except KeyError as error:
            return 422, {"error": f"{error} is missing"}
        except (ValueError, TypeError) as error:
            return 422, {"error": str(error)}


def _interrupt(lab: Lab, body: Body) -> Body:
    lab.interrupt(body["instance"], notice=bool(body.get("notice", True)))
    return {}


def _fail(lab: Lab, body: Body) -> Body:
    lab.fail(body["instance"])
    return {}


def _skip(lab: Lab, body: Body) -> Body:
    skipped = lab.skip(dt.timedelta(seconds=float(body["seconds"])))
    return {
        "now": skipped.now.isoformat(),
        "hops": skipped.hops,
        "rounds": skipped.rounds,
        "late": list(skipped.late),
    }


def _pool(body: Body) -> Pool:
    return Pool(region=body["region"], zone=body["zone"], instance_type=body["instance_type"])


def _capacity(lab: Lab, body: Body) -> Body:
    lab.world.ask(
        World.set_capacity, _pool(body), body["up"], reclaim=bool(body.get("reclaim", False))
    )
    lab.hypervisor.wake()
    return {}


def _price(lab: Lab, body: Body) -> Body:
    usd_hour = body["usd_hour"]
    moved = lab.world.ask(
        move_prices,
        body["instance_type"],
        None if usd_hour is None else float(usd_hour),
        body.get("zones", ()),
    )
    lab.hypervisor.wake()
    return {"pools": [_moved_row(each) for each in moved]}


def _moved_row(moved: Moved) -> Body:
    return {
        "region": moved.pool.region,
        "zone": moved.pool.zone,
        "was_usd_hour": moved.was_usd_micros / 1e6,
        "price_usd_hour": moved.usd_micros / 1e6,
        "ondemand_usd_hour": moved.on_demand_usd_micros / 1e6,
    }


def _fault(lab: Lab, body: Body) -> Body:
    error, lose, dies = (body.get(name) for name in ("error", "lose", "dies"))
    if sum(each is not None for each in (error, lose, dies)) != 1:
        raise ValueError("a fault does one thing: error, lose or dies")
    fault = Fault(
        action=body.get("action", "RunInstances"),
        region=body.get("region"),
        zone=body.get("zone"),
        instance_type=body.get("instance_type"),
        error=_api_error(error) if error else None,
        lose=Lose(lose) if lose else None,
        dies=dies,
        times=int(body.get("times", 1)),
    )
    lab.world.ask(lambda world, _now: world.script(fault))
    return {}


def _api_error(error: Body) -> ApiError:
    return ApiError(error["code"], error["message"], error.get("status", 400))


def _object_fault(lab: Lab, body: Body) -> Body:
    lab.object_faults.script(
        ObjectFault(
            method=body["method"],
            path=body["path"],
            lose=Lose(body["lose"]) if body.get("lose") else None,
            late_s=float(body.get("late_s", 0)),
            times=int(body.get("times", 1)),
        )
    )
    return {}


def _clear(lab: Lab, _: Body) -> Body:
    lab.world.ask(lambda world, _now: world.faults.clear())
    lab.object_faults.clear()
    return {}


_ROUTES: Mapping[tuple[str, str], Callable[[Lab, Body], Body]] = {
    ("GET", "/lab/status"): lambda lab, _: lab.status(),
    ("GET", "/lab/bill"): lambda lab, _: lab.bill(),
    ("GET", "/lab/leftovers"): lambda lab, _: lab.leftovers(),
    ("POST", "/lab/interrupt"): _interrupt,
    ("POST", "/lab/fail"): _fail,
    ("POST", "/lab/skip"): _skip,
    ("POST", "/lab/capacity"): _capacity,
    ("POST", "/lab/price"): _price,
    ("POST", "/lab/fault"): _fault,
    ("POST", "/lab/object-fault"): _object_fault,
    ("POST", "/lab/clear"): _clear,
}
