"""Hazards from what we saw ourselves: how long our pools lasted, and how soon they came back.

A loss counts in the bucket of age that the run had reached, and all the time of all runs counts as
time at risk, also of those that ended otherwise. An outage ends between the last refusal and the
next launch: half way, and only where the two are close enough to date it.

Few observations say little, so each rate is drawn towards the prior's, which counts as if so many
events had been seen at its own rate: new = (weight + events) / (weight / prior + hours). That is
the mean of a Gamma posterior with Poisson counts. Hours are weighted with what the share of the
last half day says, so that the ages do not learn what the share knows already.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spotrunner.core.hazard import AGES_S, MEASURED, Hazards, bucket, logit
from spotrunner.core.model import Pool
from spotrunner.core.sight import Spell, Track

# The prior counts as so many events in each bucket: in the sixth (2 to 4 hours up, .31 an hour)
# as ten hours of our own.
PRIOR_EVENTS = 3.0
# A refusal and what was seen next of the pool show an outage between them if no further apart.
DATED_WITHIN = dt.timedelta(hours=1)
_HOUR_S = 3600.0
# The share moves slowly: within an hour it is taken to stand still.
_STEP_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One bucket of age, for people: what was seen, and what it made of the rate. Rates are events
    an hour of a pool that was up half of the time; `hours` are as they passed. `to_s` is None in
    the last bucket."""

    what: str  # "lost" or "regained"
    from_s: int
    to_s: int | None
    hours: float
    events: int
    old_an_hour: float
    new_an_hour: float


@dataclass(frozen=True, kw_only=True)
class Fit:
    hazards: Hazards
    evidence: tuple[Evidence, ...]


def fit(
    seen: Mapping[Pool, Sequence[Spell]],
    prior: Hazards = MEASURED,
    prior_events: float = PRIOR_EVENTS,
) -> Fit:
    """`seen` as core/sight.spells gives it, each pool's oldest first. Where nothing was seen the
    prior stays as it is."""
    assert prior_events > 0, "without a prior, a bucket that nobody saw has no rate"
    lost, regained = _Counts(prior.lost_weight), _Counts(prior.regained_weight)
    for spells in seen.values():
        _count(spells, lost, regained)
    hazards = dataclasses.replace(
        prior,
        lost_an_hour=lost.rates(prior.lost_an_hour, prior_events),
        regained_an_hour=regained.rates(prior.regained_an_hour, prior_events),
    )
    evidence = (
        *lost.evidence("lost", prior.lost_an_hour, hazards.lost_an_hour),
        *regained.evidence("regained", prior.regained_an_hour, hazards.regained_an_hour),
    )
    return Fit(hazards=hazards, evidence=evidence)


def _count(spells: Sequence[Spell], lost: _Counts, regained: _Counts) -> None:
    """Follows one pool as core/sight does, so that an age means the same to both."""
    track, at, is_down = Track(), None, False
    for spell in spells:
        # Two of ours in one pool show the same time once.
        begin = spell.begin if at is None else max(at, spell.begin)
        if at is not None:
            _count_gap(track, begin - at, is_down, spell, regained)
        if spell.up:
            track.see_begin()
            lost.watch(track, max(0.0, (spell.end - begin).total_seconds()), up=True)
        if spell.taken:
            lost.count(track)
        is_down = spell.taken or not spell.up
        if is_down:
            track.see(False)
        at = max(begin, spell.end)


def _count_gap(
    track: Track, gap: dt.timedelta, is_down: bool, then: Spell, regained: _Counts
) -> None:
    seconds = gap.total_seconds()
    if not is_down or gap > DATED_WITHIN:
        track.pass_time(seconds, None)
    elif then.up:
        regained.watch(track, seconds / 2, up=False)
        regained.count(track)
        track.pass_time(seconds / 2, None)
    else:
        regained.watch(track, seconds, up=False)


class _Counts:
    """Events and hours at risk by bucket of age. `weight` is that of the share."""

    def __init__(self, weight: float) -> None:
        self._weight = weight
        self._events = [0] * len(AGES_S)
        self._hours = [0.0] * len(AGES_S)
        self._weighted_h = [0.0] * len(AGES_S)

    def watch(self, track: Track, seconds: float, *, up: bool) -> None:
        """So many seconds at risk; the track goes on with them."""
        while seconds > 0:
            now = track.sight(up)
            index = bucket(now.age_s)
            to_edge_s = AGES_S[index + 1] - now.age_s if index + 1 < len(AGES_S) else _STEP_S
            step_s = min(seconds, _STEP_S, max(1.0, to_edge_s))
            self._hours[index] += step_s / _HOUR_S
            factor = math.exp(self._weight * logit(now.share))
            self._weighted_h[index] += step_s / _HOUR_S * factor
            track.pass_time(step_s, up)
            seconds -= step_s

    def count(self, track: Track) -> None:
        """It happened at this age."""
        self._events[bucket(track.sight(None).age_s)] += 1

    def rates(self, prior: Sequence[float], prior_events: float) -> tuple[float, ...]:
        return tuple(
            (prior_events + events) / (prior_events / old + hours) if events or hours else old
            for old, events, hours in zip(prior, self._events, self._weighted_h, strict=True)
        )

    def evidence(self, what: str, old: Sequence[float], new: Sequence[float]) -> list[Evidence]:
        ends = [*AGES_S[1:], None]
        return [
            Evidence(
                what=what,
                from_s=AGES_S[index],
                to_s=ends[index],
                hours=self._hours[index],
                events=self._events[index],
                old_an_hour=old[index],
                new_an_hour=new[index],
            )
            for index in range(len(AGES_S))
        ]
