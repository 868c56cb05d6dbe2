"""What others say of spot capacity: EC2's placement scores and AWS's Spot Advisor.

Both order pools and measure nothing: a score is a grade without a unit, the advisor's band is of a
whole region and a month old. They are priors only: three hours of our own observation of a pool
(core/sight.PRIOR_H) weigh as much as they do, and more overrules them.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any

from spotrunner.core.catalogue import TYPES, USABLE, nearest
from spotrunner.core.model import Pool
from spotrunner.core.tracked import RegionMarket, Said, Source
from spotrunner.daemon import memos
from spotrunner.daemon.seldom import Seldom
from spotrunner.ports import Advice, Advisor, Clock, MarketStore, Prices

# EC2 scores less than three types low whatever there is, and limits how many different questions a
# day may be asked: each GPU has one, in the same words every time.
SCORED_TYPES = 3
# EC2 takes ten regions in a question. Each question has its own age and trouble: one that fails
# takes nothing from what the others said.
REGIONS_AT_ONCE = 10
ADVISOR_EVERY = dt.timedelta(days=1)

# The share of the time with capacity that a prior stands for: chosen, in the right order.
SHARE_RANGE = (0.1, 0.95)
SHARE_BY_BAND = (0.9, 0.8, 0.7, 0.6, 0.5)

ZoneScores = Mapping[tuple[str, str], int]  # by (region, zone id)
AllAdvice = Mapping[tuple[str, str], Advice]  # by (region, type)
Markets = Mapping[str, RegionMarket]


class Hints:
    """About the `regions`; `types` are those that are always looked at. No call waits for an
    answer: what is known is given, what is due is asked for in `executor`. Safe from several
    threads."""

    def __init__(
        self,
        *,
        prices: Prices,
        advisor: Advisor | None,
        market: MarketStore,
        clock: Clock,
        executor: Executor,
        regions: Iterable[str],
        types: Iterable[str] = (),
        scores_every_s: float,
    ) -> None:
        self._prices = prices
        self._store = market
        self._clock = clock
        self._executor = executor
        ours = sorted(set(regions))
        self._parts = [
            ours[at : at + REGIONS_AT_ONCE] for at in range(0, len(ours), REGIONS_AT_ONCE)
        ]
        self._types = frozenset(types)
        self._scores_every = dt.timedelta(seconds=scores_every_s)
        self._scores: dict[str, list[Seldom[ZoneScores]]] = {}  # by GPU, one for each part
        self._advice = None if advisor is None else self._new_advice(advisor)
        self._lock = threading.Lock()

    def look(self, types: Iterable[str]) -> None:
        """Ask for what is due, for these types and those of the settings."""
        now = self._clock.now()
        gpus = {TYPES[name].gpu.name for name in self._types.union(types) if name in USABLE}
        with self._lock:
            for gpu in gpus - self._scores.keys():
                self._scores[gpu] = [self._new_scores(gpu, n) for n in range(len(self._parts))]
            due = [scores for gpu in sorted(gpus) for scores in self._scores[gpu]]
        for scores in due:
            scores.look(now)
        if self._advice is not None:
            self._advice.look(now)

    def scores(self, markets: Markets) -> dict[Pool, int]:
        """EC2's placement score, 1 to 10, of each pool in these regions that has one."""
        with self._lock:
            known = {
                gpu: {zone: score for part in parts for zone, score in (part.value or {}).items()}
                for gpu, parts in self._scores.items()
            }
        found: dict[Pool, int] = {}
        for pool, zone_id in _pools(markets):
            of_gpu = known.get(TYPES[pool.instance_type].gpu.name, {})
            if (score := of_gpu.get((pool.region, zone_id))) is not None:
                found[pool] = score
        return found

    def bands(self, markets: Markets) -> dict[Pool, int]:
        """The Spot Advisor's band, 0 (seldom interrupted) to 4, of each pool in these regions that
        has one."""
        advice: AllAdvice = (self._advice.value if self._advice else None) or {}
        return {
            pool: advice[pool.region, pool.instance_type].band
            for pool, _ in _pools(markets)
            if (pool.region, pool.instance_type) in advice
        }

    def sources(self) -> dict[str, Source[Any]]:
        """By name, for people: when each was read, and its trouble."""
        with self._lock:
            every: list[Seldom[Any]] = [
                scores for gpu in sorted(self._scores) for scores in self._scores[gpu]
            ]
        if self._advice is not None:
            every.append(self._advice)
        return {each.name: each.source for each in every}

    # -- placement scores ----------------------------------------------------------------------

    def _new_scores(self, gpu: str, part: int) -> Seldom[ZoneScores]:
        where = self._parts[part]
        ends = " to ".join(dict.fromkeys((where[0], where[-1])))
        which = f" in {ends}" if len(self._parts) > 1 else ""
        return Seldom(
            f"placement scores of {gpu}{which}",
            self._scores_every,
            self._executor,
            read=partial(self._read_scores, gpu, part),
            remembered=partial(self._stored_scores, gpu, part),
        )

    def _read_scores(self, gpu: str, part: int, now: dt.datetime) -> ZoneScores:
        scores = dict(self._prices.scores(self._parts[part], scored_types(gpu)))
        rows = [(region, zone_id, score) for (region, zone_id), score in sorted(scores.items())]
        memos.SCORES.write(self._store, rows, now, *_memo_of(gpu, part))
        return scores

    def _stored_scores(self, gpu: str, part: int) -> Said[ZoneScores] | None:
        said = memos.SCORES.read(self._store, *_memo_of(gpu, part))
        if said is None:
            return None
        return Said(at=said.at, value={(it[0], it[1]): it[2] for it in said.value})

    # -- the advisor ---------------------------------------------------------------------------

    def _new_advice(self, advisor: Advisor) -> Seldom[AllAdvice]:
        return Seldom(
            "Spot Advisor",
            ADVISOR_EVERY,
            self._executor,
            read=partial(self._read_advice, advisor),
            remembered=self._stored_advice,
        )

    def _read_advice(self, advisor: Advisor, now: dt.datetime) -> AllAdvice:
        known = self._stored_advice()
        etag = memos.ADVICE.etag(self._store) if known is not None else None
        page = advisor.read(etag)
        if page is None and known is not None:
            advice = known.value
        else:
            assert page is not None, "it was asked without an etag"
            # The file has hundreds of types; these are the ones that can be asked about.
            advice = {key: each for key, each in page.advice.items() if key[1] in USABLE}
            etag = page.etag
        rows = [(*key, each.saved_fraction, each.band) for key, each in sorted(advice.items())]
        memos.ADVICE.write(self._store, rows, now, etag=etag)
        return advice

    def _stored_advice(self) -> Said[AllAdvice] | None:
        said = memos.ADVICE.read(self._store)
        if said is None:
            return None
        advice = {
            (region, name): Advice(saved_fraction=saved, band=band)
            for region, name, saved, band in said.value
        }
        return Said(at=said.at, value=advice)


def scored_types(gpu: str) -> tuple[str, ...]:
    """Which types a GPU's scores are asked for: its smallest, and where it has too few, those that
    stand in best for them."""
    of_gpu = [name for name in USABLE if TYPES[name].gpu.name == gpu]
    of_gpu.sort(key=lambda name: (TYPES[name].gpus, TYPES[name].vcpus))
    chosen = of_gpu[:SCORED_TYPES]
    while len(chosen) < SCORED_TYPES:
        other = nearest(of_gpu[0], set(USABLE).difference(chosen))
        assert other is not None, "the catalogue has more types than a question needs"
        chosen.append(other)
    return tuple(chosen)


def priors(scores: Mapping[Pool, int], bands: Mapping[Pool, int]) -> dict[Pool, float]:
    """By pool, the share of the time with capacity to begin with, for core/sight.sights: from its
    score, else from its band."""
    least, most = SHARE_RANGE
    by_band = {pool: SHARE_BY_BAND[band] for pool, band in bands.items()}
    by_score = {pool: min(most, max(least, score / 10)) for pool, score in scores.items()}
    return {**by_band, **by_score}


def _memo_of(gpu: str, part: int) -> tuple[str, ...]:
    return (gpu, str(part)) if part else (gpu,)


def _pools(markets: Markets) -> Collection[tuple[Pool, str]]:
    """With the id of their zone, empty where it is not known."""
    return [
        (pool, market.zone_ids.get(pool.zone, ""))
        for market in markets.values()
        for pool in market.pools
        if pool.instance_type in TYPES
    ]
