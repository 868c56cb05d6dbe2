"""Small pasts for back-tests: a few pools, and hours since T0 in place of times."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from spotrunner.core.model import JobSpec, Pool
from spotrunner.core.money import billed
from spotrunner.core.policy.named import policies
from spotrunner.sim.history import History, PoolHistory
from spotrunner.sim.lifetimes import Paces
from spotrunner.sim.replay import Replay
from spotrunner.sim.scene import PoolScene, Scene
from spotrunner.sim.steps import Steps
from tests.build import EXTRAS, ON_DEMAND, SPOT, T0, a_spec

KIND = "g4dn.xlarge"
DAYS = 20
PACES = Paces(changeover_s=300, checkpoint_every_s=600)


def hour(hours: float) -> dt.datetime:
    return T0 + dt.timedelta(hours=hours)


def a_pool_scene(
    zone: str = "us-east-1a",
    *,
    prices: Sequence[tuple[float, int]] = ((0, SPOT),),
    shut: Sequence[tuple[float, float]] = (),
    on_demand: int = ON_DEMAND,
    kind: str = KIND,
) -> PoolScene:
    """`prices` from an hour on; `shut` are the hours (from, to) without spot capacity."""
    steps = [(hour(-1), True)]
    for begin, end in shut:
        steps += [(hour(begin), False), (hour(end), True)]
    return PoolScene(
        pool=Pool(region=zone[:-1], zone=zone, instance_type=kind),
        on_demand_usd_micros_hour=on_demand,
        prices=tuple((hour(at), price) for at, price in prices),
        open=Steps(steps),
    )


def a_scene(*pools: PoolScene, hours: float = 24 * DAYS) -> Scene:
    return Scene(start=T0, until=hour(hours), pools=pools or (a_pool_scene(),))


def a_job_of(
    hours: float, *, within: float | None = None, budget: int | None = None, **more: Any
) -> JobSpec:
    """So many hours of work, to be done `within` so many from T0."""
    return a_spec(
        work_s=round(hours * 3600),
        deadline_at=None if within is None else hour(within),
        budget_usd_micros=budget,
        **more,
    )


def a_bill(lived_s: float, *prices: int, extras: int = EXTRAS) -> int:
    """Of one instance that lived whole seconds: its hours at these prices, the last of which goes
    on; its disk and address are rounded up apart."""
    seconds = round(lived_s)
    return billed(seconds, prices, prices[-1]) + billed(seconds, (), extras)


def a_replay(spec: JobSpec, scene: Scene, policy: str = "cheapest", paces: Paces = PACES) -> Replay:
    return Replay(spec, policies()[policy], scene, paces=paces, keeps_events=True)


def a_history(
    *pools: PoolHistory, days: float = DAYS, zones: Sequence[str] = ("us-east-1a", "us-east-1b")
) -> History:
    return History(
        start=T0,
        end=hour(24 * days),
        pools=pools or tuple(a_pool_history(zone) for zone in zones),
        source="a made-up past",
    )


def a_pool_history(zone: str = "us-east-1a", **more: Any) -> PoolHistory:
    fields: dict[str, Any] = {
        "pool": Pool(region=zone[:-1], zone=zone, instance_type=KIND),
        "on_demand_usd_micros_hour": ON_DEMAND,
        "prices": Steps([(T0, SPOT)]),
        "first_at": T0,
    }
    return PoolHistory(**{**fields, **more})


# -- random ones -------------------------------------------------------------------------------

_HOURS = st.floats(0.01, 30, allow_nan=False).map(lambda hours: round(hours, 3))


@st.composite
def pool_scenes(draw: st.DrawFn, zone: str) -> PoolScene:
    changes = sorted({0.0, *draw(st.lists(_HOURS, max_size=4))})
    prices = [(at, draw(st.integers(50_000, ON_DEMAND))) for at in changes]
    edges = sorted(draw(st.sets(_HOURS, max_size=8)))
    if draw(st.booleans()):
        edges = [0.0, *edges]
    shut = list(zip(edges[::2], edges[1::2], strict=False))
    return a_pool_scene(zone, prices=prices, shut=shut)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    zones = draw(st.sampled_from((("us-east-1a",), ("us-east-1a", "eu-west-1a"))))
    return a_scene(*(draw(pool_scenes(zone)) for zone in zones))
