"""The table that a user sees before a job is submitted: what it could run on, what an hour of its
work is expected to cost there, what is known of each pool, and what its policy would choose now."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from spotrunner.core.charges import extras_usd_micros_hour
from spotrunner.core.look import Outlook, Progress, look
from spotrunner.core.model import Job, JobSpec, Market, Pool, Refusal
from spotrunner.core.money import price_at
from spotrunner.core.policy import Choice
from spotrunner.core.situation import Candidate, Situation
from spotrunner.core.speed import speeds
from spotrunner.core.states import JobState
from spotrunner.core.tracked import RegionMarket
from spotrunner.web.caps import purse_of_new
from spotrunner.web.deps import Deps
from spotrunner.web.moments import Json, when
from spotrunner.web.views import usd


def table(deps: Deps, spec: JobSpec) -> Json:
    """The job's offers as rows, the cheapest expected work first, its policy's choice, and how old
    what is known of each region is."""
    outlook = deps.outlook(spec.regions, spec.instance_types)
    job = Job(id=spec.name, spec=spec, state=JobState.QUEUED, submitted_at=outlook.now)
    situation = look(job, Progress(purse=purse_of_new(deps, job)), outlook)
    choice = deps.policies[spec.policy].choose(situation)
    # They were asked for just now: nobody waits a second time for a region that is silent.
    markets = deps.tracked(spec.regions, ())
    rows = _Rows(spec=spec, outlook=outlook, situation=situation, choice=choice, markets=markets)
    return {
        "offers": [*rows.offered(), *rows.unpriced()],
        "now": when(outlook.now),
        "policy": spec.policy,
        "budget_usd": usd(spec.budget_usd_micros),
        "why": choice.why,
        "regions": [
            _region(markets[name], outlook.now) for name in spec.regions if name in markets
        ],
    }


def _region(market: RegionMarket, now: dt.datetime) -> Json:
    return {
        "region": market.region,
        "read_at": when(market.read_at),
        "age_s": (now - market.read_at).total_seconds() if market.read_at else None,
        "trouble": market.trouble,
    }


@dataclass(frozen=True, kw_only=True)
class _Rows:
    spec: JobSpec
    outlook: Outlook
    situation: Situation
    choice: Choice
    markets: Mapping[str, RegionMarket]

    def offered(self) -> Iterator[Json]:
        """Those that have a price."""
        known = speeds(self.spec, {})
        first = known[self.spec.instance_types[0]]
        for rank, each in enumerate(self.situation.candidates, 1):
            # Work is the user's: hours on the first type, whichever type a deadline rests on.
            speed = known[each.offer.pool.instance_type] / first
            work_hour = each.usd_micros_work_hour * each.speed / speed
            yield self._row(each, rank, speed, work_hour / 1_000_000)

    def unpriced(self) -> Iterator[Json]:
        """Pools in which EC2 sells a type of the job's, and whose price nobody knows."""
        for market in self.markets.values():
            for pool in sorted(market.pools):
                is_wanted = pool.instance_type in self.spec.instance_types
                missing = self._missing(pool, market) if is_wanted else None
                if missing is not None:
                    yield _unpriced(pool, self.spec.market, market, missing)

    def _missing(self, pool: Pool, market: RegionMarket) -> Market | None:
        """The price that a pool lacks. Without an on-demand price it has no offer at all: nothing
        would bound its bill."""
        if pool.instance_type not in market.on_demand_usd_micros:
            return Market.ON_DEMAND
        is_spot = self.spec.market is Market.SPOT
        is_unknown = price_at(market.quotes, pool, self.outlook.now) is None
        return Market.SPOT if is_spot and is_unknown else None

    def _row(self, each: Candidate, rank: int, speed: float, usd_work_hour: float) -> Json:
        offer, refusal = each.offer, self._refusal(each)
        price, dearest = offer.price_usd_micros_hour, offer.dearest_usd_micros_hour
        return {
            "rank": rank,
            **_place(offer.pool, offer.market),
            "price_usd_hour": usd(price),
            "ondemand_usd_hour": usd(dearest),
            "extras_usd_hour": usd(extras_usd_micros_hour(offer.pool.region, self.spec.disk_gib)),
            "saved_fraction": 1 - price / dearest,
            "work_usd_hour": usd_work_hour,
            "speed": speed,
            "up": each.sight.up,
            "up_s": each.sight.age_s if each.sight.up else None,
            "refused_at": when(refusal.at) if refusal else None,
            "refused_for": refusal.meaning.value if refusal else None,
            "score": each.score,
            "band": each.band,
            "chosen": each is self.choice.take,
            "left_out": each.left_out,
        }

    def _refusal(self, each: Candidate) -> Refusal | None:
        """The last one of this pool and market."""
        found = [
            refusal
            for refusal in self.outlook.refusals
            if refusal.pool == each.offer.pool and refusal.market is each.offer.market
        ]
        return max(found, key=lambda refusal: refusal.at, default=None)


def _place(pool: Pool, market: Market) -> Json:
    return {
        "region": pool.region,
        "zone": pool.zone,
        "instance_type": pool.instance_type,
        "market": market.value,
    }


def _unpriced(pool: Pool, market: Market, known: RegionMarket, missing: Market) -> Json:
    empty = dict.fromkeys(
        (
            "rank",
            "price_usd_hour",
            "ondemand_usd_hour",
            "extras_usd_hour",
            "saved_fraction",
            "work_usd_hour",
            "speed",
            "up",
            "up_s",
            "refused_at",
            "refused_for",
            "score",
            "band",
        )
    )
    return {
        **empty,
        **_place(pool, market),
        "ondemand_usd_hour": usd(known.on_demand_usd_micros.get(pool.instance_type)),
        "chosen": False,
        "left_out": f"its {missing.value} price is not known",
    }
