"""Our policies for the reference scorer of the spot traces, so that an outsider can check them with
another simulator than ours.

    POLICY=deadline python score.py --policy /path/to/benchmarks/score_adapter.py

`make(ctx)` is what score.py asks a policy file for. The environment variable POLICY names one of
ours, `deadline` if it is not set. The scorer's seconds, modes and zone numbers become a Situation,
as the daemon makes them; what we see of the zones is followed here, as score.py shows it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

from spotrunner.core.hazard import MEASURED
from spotrunner.core.market import expected
from spotrunner.core.model import Market, Offer, Pool
from spotrunner.core.policy import Policy
from spotrunner.core.policy.named import policies
from spotrunner.core.sight import Sight, Track
from spotrunner.core.situation import Candidate, Situation
from spotrunner.daemon.tables import TablesOnDemand

IDLE, SPOT, ON_DEMAND = 0, 1, 2
DEFAULT = "deadline"


class ScoreContext(Protocol):
    """The job, as score.py gives it to `make`."""

    work_s: float
    deadline_s: float
    overhead_s: float
    gap_s: float
    zones: Sequence[str]
    regions: Sequence[str]
    od_price: float


class ScoreState(Protocol):
    """One tick, as score.py gives it to `decide`; it may ask several times in one."""

    t: float
    work_left: float
    mode: int
    zone: int
    overhead_left: float
    avail: Sequence[bool | None]
    price: Sequence[float]


def make(ctx: ScoreContext) -> Adapter:
    """Raises SystemExit where POLICY names none of ours."""
    name, known = os.environ.get("POLICY", DEFAULT), _policies()
    if name not in known:
        raise SystemExit(f"POLICY={name}: there is no such policy; one of {', '.join(known)}")
    return Adapter(known[name], ctx)


@lru_cache(maxsize=1)
def _policies() -> dict[str, Policy]:
    return dict(sorted(policies(TablesOnDemand(most=64)).items()))


class Adapter:
    """One job. `decide` gives score.py's (kind, zone)."""

    def __init__(self, policy: Policy, ctx: ScoreContext) -> None:
        self._policy, self._ctx = policy, ctx
        self._pools = [
            # A number keeps two zones of one name apart.
            Pool(region=region, zone=zone, instance_type=f"traced.{index}")
            for index, (zone, region) in enumerate(zip(ctx.zones, ctx.regions, strict=True))
        ]
        self._tracks = [Track() for _ in self._pools]
        self._together = Track()
        self._known: Sequence[bool | None] = [None] * len(self._pools)
        self._t: float | None = None

    def decide(self, s: ScoreState) -> tuple[int, int]:
        self._see(s)
        take = self._policy.choose(self._situation(s)).take
        if take is None:
            return IDLE, 0
        if not take.is_spot:
            return ON_DEMAND, 0
        return SPOT, self._pools.index(take.offer.pool)

    def _see(self, s: ScoreState) -> None:
        if self._t is not None and s.t > self._t:
            for track, up in zip(self._tracks, self._known, strict=True):
                track.pass_time(s.t - self._t, up)
            self._together.pass_time(s.t - self._t, _any(self._known))
        self._t, self._known = s.t, s.avail
        for track, up in zip(self._tracks, s.avail, strict=True):
            if up is not None:
                track.see(up)
        union = _any(s.avail)
        if union is not None:
            self._together.see(union)

    def _situation(self, s: ScoreState) -> Situation:
        ctx = self._ctx
        spot = [self._spot(index, s) for index in range(len(self._pools))]
        on_demand = self._on_demand()
        on = {IDLE: None, SPOT: spot[s.zone], ON_DEMAND: on_demand}[s.mode]
        spot.sort(key=lambda it: it.usd_micros_work_hour)
        return Situation(
            candidates=(*spot, on_demand),
            elapsed_s=s.t,
            left_s=ctx.deadline_s - s.t,
            work_s=ctx.work_s,
            work_left_s=s.work_left,
            changeover_s=ctx.overhead_s,
            look_s=ctx.gap_s,
            on=on,
            pending_s=s.overhead_left if on is not None else 0.0,
            together=self._sight(self._together, _any(s.avail)),
        )

    def _on_demand(self) -> Candidate:
        price = _micros(self._ctx.od_price)
        offer = self._offer(0, Market.ON_DEMAND, price)
        return Candidate(offer=offer, usd_micros_work_hour=float(price))

    def _spot(self, index: int, s: ScoreState) -> Candidate:
        sight = self._sight(self._tracks[index], s.avail[index])
        offer = self._offer(index, Market.SPOT, _micros(s.price[index]))
        work_hour = expected(
            offer,
            sight,
            MEASURED,
            speed=1.0,
            work_left_s=s.work_left,
            changeover_s=self._ctx.overhead_s,
            catch_up_usd_micros_hour=_micros(self._ctx.od_price) / 2,
            runs=s.mode == SPOT and s.zone == index,
        )
        return Candidate(
            offer=offer,
            left_out="refused just now" if sight.up is False else None,
            sight=sight,
            usd_micros_work_hour=work_hour,
        )

    def _sight(self, track: Track, up: bool | None) -> Sight:
        """What is first seen at a tick has happened half a tick before, on average."""
        seen = track.sight(up)
        age_s = seen.age_s + self._ctx.gap_s / 2
        return Sight(up=up, was_up=seen.was_up, age_s=age_s, share=seen.share)

    def _offer(self, index: int, market: Market, price: int) -> Offer:
        dearest = max(price, _micros(self._ctx.od_price))
        return Offer(
            pool=self._pools[index],
            market=market,
            price_usd_micros_hour=price,
            dearest_usd_micros_hour=dearest,
        )


def _micros(usd: Any) -> int:
    return round(float(usd) * 1_000_000)


def _any(known: Sequence[bool | None]) -> bool | None:
    if True in known:
        return True
    return None if None in known else False
