"""A job on recorded spot capacity, tick by tick: the model of "Can't Be Late" (NSDI'24), with zones
and billing by the second. It asks the same policy objects as the daemon.

- Time goes in ticks of the trace's gap. The policy is asked at the beginning of each.
- A launch (from nowhere, on-demand or another zone) takes one changeover, paid and without
  progress. A launch while one is pending replaces it.
- A spot instance whose zone is down at the beginning of a tick is lost there. Progress is kept:
  what was lost since the last checkpoint belongs to the changeover.
- On-demand is always there. After the deadline the job ends on-demand, whatever the policy says.

What the policy sees of capacity is either everything (`sees_all`), or what a launch would show: the
zone it runs in, and those that refused it in this tick. A refusal costs nothing, and the policy is
asked again at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spotrunner.core.hazard import MEASURED, Hazards
from spotrunner.core.market import expected
from spotrunner.core.model import Market, Offer, Pool
from spotrunner.core.policy import Policy
from spotrunner.core.sight import Sight, Track
from spotrunner.core.situation import Candidate, Situation

_HOUR_S = 3600.0
_EPSILON_S = 1e-6
REFUSED = "refused just now"
_ON_DEMAND = -1  # the last, after the indices of the zones


@dataclass(frozen=True, kw_only=True)
class TickJob:
    """`spot_speed` is that of spot instances against on-demand, for which `work_s` is counted."""

    work_s: float
    deadline_s: float
    changeover_s: float
    spot_speed: float = 1.0


@dataclass(frozen=True, kw_only=True)
class TickZone:
    """One pool from the job's begin on: whether it is `up`, and its price, at each tick up to the
    deadline."""

    pool: Pool
    up: Sequence[int]
    prices_usd_micros_hour: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class TickMarket:
    """Zones that are watched together, and the one on-demand price."""

    zones: tuple[TickZone, ...]
    on_demand_usd_micros_hour: int
    gap_s: float


@dataclass(frozen=True, kw_only=True)
class TickRun:
    """What became of a job. Times are from its begin."""

    cost_usd: float
    finish_s: float
    launches: int
    spot_s: float
    on_demand_s: float
    late: bool


def run(
    policy: Policy,
    job: TickJob,
    market: TickMarket,
    *,
    sees_all: bool,
    hazards: Hazards = MEASURED,
) -> TickRun:
    return _Run(policy, job, market, sees_all, hazards).to_the_end()


class _Run:
    """The state of one job: where it runs (None: nowhere), what is pending and left to do, and
    what has been paid."""

    def __init__(
        self, policy: Policy, job: TickJob, market: TickMarket, sees_all: bool, hazards: Hazards
    ) -> None:
        self._policy, self._job, self._market = policy, job, market
        self._eyes = _Eyes(job, market, sees_all, hazards)
        self._on: int | None = None
        self._pending_s = 0.0
        self._work_left_s = job.work_s
        self._cost_usd = self._spot_s = self._on_demand_s = 0.0
        self._launches = 0

    def to_the_end(self) -> TickRun:
        tick, gap_s, deadline_s = 0, self._market.gap_s, self._job.deadline_s
        while tick * gap_s < deadline_s - _EPSILON_S:
            self._begin(tick)
            finish_s = self._work(tick)
            if finish_s is not None:
                return self._ended(finish_s)
            tick += 1
        return self._ended(self._finish_late(tick * gap_s))

    def _begin(self, tick: int) -> None:
        """Losses first, then what the policy wants."""
        zones, eyes = self._market.zones, self._eyes
        lost = self._on is not None and self._on != _ON_DEMAND and not zones[self._on].up[tick]
        was_on, self._on = self._on, None if lost else self._on
        if lost:
            self._pending_s = 0.0
        eyes.look(tick, self._on, was_on if lost else None)
        for _ in range(len(zones) + 1):
            wanted = self._ask(tick)
            if wanted is None or wanted == _ON_DEMAND or zones[wanted].up[tick]:
                return self._go(wanted)
            eyes.see_refusal(wanted)
        raise AssertionError(f"{self._policy.name} asks for zones that have just refused it")

    def _ask(self, tick: int) -> int | None:
        elapsed_s = tick * self._market.gap_s
        situation = self._eyes.situation(
            tick, elapsed_s, self._work_left_s, self._on, self._pending_s
        )
        take = self._policy.choose(situation).take
        return None if take is None else self._eyes.place_of(take)

    def _go(self, place: int | None) -> None:
        if place is None:
            self._pending_s = 0.0
        elif place != self._on:
            self._pending_s = self._job.changeover_s
            self._launches += 1
        self._on = place

    def _work(self, tick: int) -> float | None:
        """One tick where the job is. Returns when it ended, if it did."""
        if self._on is None:
            return None
        gap_s = self._market.gap_s
        speed = 1.0 if self._on == _ON_DEMAND else self._job.spot_speed
        needs_s = self._pending_s + self._work_left_s / speed
        if needs_s <= gap_s + 1e-9:
            self._pay(tick, needs_s)
            return tick * gap_s + needs_s
        changing_s = min(self._pending_s, gap_s)
        self._pending_s -= changing_s
        self._work_left_s -= (gap_s - changing_s) * speed
        self._pay(tick, gap_s)
        return None

    def _pay(self, tick: int, seconds: float) -> None:
        if self._on is None or self._on == _ON_DEMAND:
            price = self._market.on_demand_usd_micros_hour
            self._on_demand_s += seconds
        else:
            price = self._market.zones[self._on].prices_usd_micros_hour[tick]
            self._spot_s += seconds
        self._cost_usd += seconds / _HOUR_S * price / 1_000_000

    def _finish_late(self, now_s: float) -> float:
        if self._on != _ON_DEMAND:
            self._go(_ON_DEMAND)
        needs_s = self._pending_s + self._work_left_s
        self._pay(-1, needs_s)
        return now_s + needs_s

    def _ended(self, finish_s: float) -> TickRun:
        return TickRun(
            cost_usd=self._cost_usd,
            finish_s=finish_s,
            launches=self._launches,
            spot_s=self._spot_s,
            on_demand_s=self._on_demand_s,
            late=finish_s > self._job.deadline_s + 1e-3,
        )


# -- what the policy sees ----------------------------------------------------------------------


class _Eyes:
    """Follows the zones as far as they are seen, and says it as a Situation."""

    def __init__(self, job: TickJob, market: TickMarket, sees_all: bool, hazards: Hazards) -> None:
        self._job, self._market, self._sees_all, self._hazards = job, market, sees_all, hazards
        self._tracks = [Track() for _ in market.zones]
        self._together = Track()
        self._known: list[bool | None] = [None] * len(market.zones)
        self._places = {zone.pool: index for index, zone in enumerate(market.zones)}
        assert len(self._places) == len(market.zones), "two zones of one pool"
        self._offers: dict[tuple[int, int], Offer] = {}
        price = market.on_demand_usd_micros_hour
        offer = _offer(market.zones[0].pool, Market.ON_DEMAND, price, price)
        self._on_demand = Candidate(offer=offer, usd_micros_work_hour=float(price))
        self._has_looked = False

    def look(self, tick: int, on: int | None, lost: int | None) -> None:
        """A new tick: `on` is up, since the job runs there, and `lost` is not."""
        if self._has_looked:
            self._pass_time()
        self._has_looked = True
        if self._sees_all:
            self._known = [bool(zone.up[tick]) for zone in self._market.zones]
        else:
            self._known = [None] * len(self._known)
            if on is not None and on != _ON_DEMAND:
                self._known[on] = True
            if lost is not None:
                self._known[lost] = False
        self._see()

    def see_refusal(self, zone: int) -> None:
        assert self._known[zone] is None, "a policy took a zone that it saw to be down"
        self._known[zone] = False
        self._see()

    def place_of(self, take: Candidate) -> int:
        return self._places[take.offer.pool] if take.is_spot else _ON_DEMAND

    def situation(
        self, tick: int, elapsed_s: float, work_left_s: float, on: int | None, pending_s: float
    ) -> Situation:
        job = self._job
        spot = [
            self._candidate(index, tick, work_left_s, index == on)
            for index in range(len(self._known))
        ]
        here = None if on is None else [*spot, self._on_demand][on]
        spot.sort(key=_usd_micros_work_hour)
        return Situation(
            candidates=(*spot, self._on_demand),
            elapsed_s=elapsed_s,
            left_s=job.deadline_s - elapsed_s,
            work_s=job.work_s,
            work_left_s=work_left_s,
            changeover_s=job.changeover_s,
            look_s=self._market.gap_s,
            on=here,
            pending_s=pending_s,
            together=self._sight(self._together, _any(self._known)),
            hazards=self._hazards,
        )

    def _candidate(self, index: int, tick: int, work_left_s: float, runs: bool) -> Candidate:
        known = self._known[index]
        sight = self._sight(self._tracks[index], known)
        offer = self._spot_offer(index, self._market.zones[index].prices_usd_micros_hour[tick])
        return Candidate(
            offer=offer,
            left_out=REFUSED if known is False else None,
            sight=sight,
            speed=self._job.spot_speed,
            usd_micros_work_hour=expected(
                offer,
                sight,
                self._hazards,
                speed=self._job.spot_speed,
                work_left_s=work_left_s,
                changeover_s=self._job.changeover_s,
                # As core/look: what is lost is caught up on-demand half of the time.
                catch_up_usd_micros_hour=self._market.on_demand_usd_micros_hour / 2,
                runs=runs,
            ),
        )

    def _sight(self, track: Track, up: bool | None) -> Sight:
        """What is first seen at a tick has happened half a tick before, on average."""
        seen = track.sight(up)
        return Sight(
            up=up,
            was_up=seen.was_up,
            age_s=seen.age_s + self._market.gap_s / 2,
            share=seen.share,
        )

    def _spot_offer(self, index: int, price: int) -> Offer:
        offer = self._offers.get((index, price))
        if offer is None:
            dearest = max(price, self._market.on_demand_usd_micros_hour)
            offer = _offer(self._market.zones[index].pool, Market.SPOT, price, dearest)
            self._offers[index, price] = offer
        return offer

    def _pass_time(self) -> None:
        gap_s = self._market.gap_s
        for track, up in zip(self._tracks, self._known, strict=True):
            track.pass_time(gap_s, up)
        self._together.pass_time(gap_s, _any(self._known))

    def _see(self) -> None:
        for track, up in zip(self._tracks, self._known, strict=True):
            if up is not None:
                track.see(up)
        union = _any(self._known)
        if union is not None:
            self._together.see(union)


def _any(known: Sequence[bool | None]) -> bool | None:
    if True in known:
        return True
    return None if None in known else False


def _usd_micros_work_hour(candidate: Candidate) -> float:
    return candidate.usd_micros_work_hour


def _offer(pool: Pool, market: Market, price: int, dearest: int) -> Offer:
    return Offer(
        pool=pool,
        market=market,
        price_usd_micros_hour=price,
        dearest_usd_micros_hour=dearest,
    )
