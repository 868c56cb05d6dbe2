"""What we have seen of a pool's spot capacity ourselves: EC2 tells nobody.

A launch that was accepted, an instance that runs, a refusal and an interruption each say whether a
pool was up at a time. From these come the age of its run or outage, and the share of the last half
day that it was up, which together tell how long it will last (core/hazard).
"""

from __future__ import annotations

import copy
import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spotrunner.core.model import Attempt, Pool, Refusal

# The share is a mean that forgets with this time constant, and starts from a prior of this weight:
# fitted together with core/hazard.MEASURED.
MEMORY_H = 12.0
PRIOR_H = 3.0
PRIOR_SHARE = 0.55
# A pool that nobody has looked at is taken for one that has been as it is for an hour.
UNSEEN_AGE_S = 3600.0
# What was seen longer ago than this is forgotten: the share has only e^-4 of it left.
FORGOTTEN_AFTER = dt.timedelta(hours=48)
_HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Sight:
    """`up` is whether the pool has capacity as we see it now: True while something of ours runs
    there, False while a refusal is fresh, None where nobody looks. `was_up` is what was seen last,
    and `age_s` for how long that has been so as far as we know; `share` is of the last half day."""

    up: bool | None = None
    was_up: bool | None = None
    age_s: float = UNSEEN_AGE_S
    share: float = PRIOR_SHARE

    @property
    def run_age_s(self) -> float:
        """The age of the run that a launch now would join. A pool that was down when last seen, so
        long ago, and is up now came back somewhere in between: half of that, on average."""
        return self.age_s / 2 if self.was_up is False and self.up is not True else self.age_s


UNSEEN = Sight()


class Track:
    """Follows one pool through time. `pass_time` and `see` in turn; `sight` at any time."""

    def __init__(self, prior_share: float = PRIOR_SHARE) -> None:
        self._prior = prior_share
        self._was_up: bool | None = None
        self._age_s = UNSEEN_AGE_S
        self._up_h = prior_share * PRIOR_H
        self._seen_h = PRIOR_H

    def pass_time(self, seconds: float, up: bool | None) -> None:
        """So many seconds during which the pool was seen to be `up` or down (None: not seen). What
        fades is made up for by the prior, so that the memory of the unseen is the prior."""
        kept = math.exp(-seconds / _HOUR_S / MEMORY_H)
        watched_h = 0.0 if up is None else MEMORY_H * (1 - kept)
        self._up_h = self._up_h * kept + self._prior * PRIOR_H * (1 - kept) + watched_h * bool(up)
        self._seen_h = self._seen_h * kept + PRIOR_H * (1 - kept) + watched_h
        self._age_s += seconds

    def see(self, up: bool) -> None:
        """It is so now. A first look tells nothing of how long."""
        if self._was_up is not None and up is not self._was_up:
            self._age_s = 0.0
        self._was_up = up

    def see_begin(self) -> None:
        """An instance of ours begins to run: all that is known of the run's age begins here, unless
        the pool was up when it was last seen."""
        if self._was_up is not True:
            self._age_s = 0.0
        self._was_up = True

    def sight(self, up: bool | None) -> Sight:
        """`up` as it is seen at this moment."""
        share = self._up_h / self._seen_h
        return Sight(up=up, was_up=self._was_up, age_s=self._age_s, share=share)


@dataclass(frozen=True, kw_only=True)
class Spell:
    """A time during which a pool was seen to be up, or a moment (`begin` = `end`) when it was down.
    `taken`: the spell ended because EC2 took the capacity away."""

    begin: dt.datetime
    end: dt.datetime
    up: bool
    taken: bool = False


def spells(
    attempts: Iterable[Attempt], refusals: Iterable[Refusal], now: dt.datetime
) -> dict[Pool, list[Spell]]:
    """What these attempts and refusals show of each pool's spot capacity, oldest first."""
    from spotrunner.core.model import EndReason, Market, Refused

    found: dict[Pool, list[Spell]] = {}
    for attempt in attempts:
        if attempt.offer.market is Market.SPOT and attempt.launched_at is not None:
            taken = attempt.end_reason is EndReason.INTERRUPTED or attempt.notice is not None
            seen_at = attempt.notice.seen_at if attempt.notice else attempt.ended_at
            spell = Spell(
                begin=attempt.launched_at,
                end=max(attempt.launched_at, seen_at or now),
                up=True,
                taken=taken,
            )
            found.setdefault(attempt.offer.pool, []).append(spell)
    for refusal in refusals:
        if refusal.market is Market.SPOT and refusal.meaning is Refused.CAPACITY:
            down = Spell(begin=refusal.at, end=refusal.at, up=False)
            found.setdefault(refusal.pool, []).append(down)
    for seen in found.values():
        seen.sort(key=lambda spell: (spell.begin, spell.end))
    return found


def sights(
    attempts: Iterable[Attempt],
    refusals: Iterable[Refusal],
    now: dt.datetime,
    fresh_s: float,
    priors: Mapping[Pool, float] | None = None,
) -> dict[Pool, Sight]:
    """What is known now of each pool that was seen lately, or that `priors` has a share for. A
    refusal younger than `fresh_s` still counts as seen now."""
    priors = priors or {}
    seen = spells(attempts, refusals, now)
    return {
        pool: _sight(seen.get(pool, ()), now, fresh_s, priors.get(pool, PRIOR_SHARE))
        for pool in {*seen, *priors}
    }


def _sight(seen: Sequence[Spell], now: dt.datetime, fresh_s: float, prior_share: float) -> Sight:
    watch = Watch(fresh_s, prior_share)
    for spell in seen:
        if spell.end >= now - FORGOTTEN_AFTER:
            watch.add(spell)
    return watch.sight(now)


class Watch:
    """One pool, spell by spell in the order of their begin."""

    def __init__(self, fresh_s: float, prior_share: float = PRIOR_SHARE) -> None:
        self._fresh_s = fresh_s
        self._track = Track(prior_share)
        self._at: dt.datetime | None = None
        self._last: Spell | None = None

    def add(self, spell: Spell) -> None:
        track, at, last = self._track, self._at, self._last
        if at is not None and last is not None and spell.begin > at:
            _between(track, last, (spell.begin - at).total_seconds(), self._fresh_s)
        # Two of ours in one pool show the same time once.
        begin = spell.begin if at is None else max(at, spell.begin)
        if spell.up:
            track.see_begin()
            track.pass_time(max(0.0, (spell.end - begin).total_seconds()), True)
        if spell.taken or not spell.up:
            track.see(False)
        self._at, self._last = max(begin, spell.end), spell

    def copy(self) -> Watch:
        twin = copy.copy(self)
        twin._track = copy.copy(self._track)
        return twin

    def sight(self, now: dt.datetime) -> Sight:
        """At `now`, which is not before any spell; the watch goes on from where it was."""
        track, last = copy.copy(self._track), self._last
        if self._at is None or last is None:
            return track.sight(None)
        gone_s = (now - self._at).total_seconds()
        _between(track, last, gone_s, self._fresh_s)
        if last.up and not last.taken:
            return track.sight(True if gone_s <= 0 else None)
        return track.sight(False if gone_s < self._fresh_s else None)


def _between(track: Track, last: Spell, seconds: float, fresh_s: float) -> None:
    """Time in which nobody looked. A pool that was down stays down for a while, as far as anybody
    would bet."""
    is_down = last.taken or not last.up
    down_s = min(seconds, fresh_s) if is_down else 0.0
    track.pass_time(down_s, False)
    track.pass_time(max(0.0, seconds - down_s), None)


def together(each: Sequence[Sight]) -> Sight:
    """The union of pools, as one: up while any is, down when all are. Its run is as old as the
    oldest, its outage as young as the youngest; its share is at least that of the best."""
    if not each:
        return UNSEEN
    up = [sight for sight in each if sight.up]
    share = max(sight.share for sight in each)
    if up:
        return Sight(up=True, was_up=True, age_s=max(it.age_s for it in up), share=share)
    if all(sight.up is False for sight in each):
        return Sight(up=False, was_up=False, age_s=min(it.age_s for it in each), share=share)
    unknown = [sight for sight in each if sight.up is None]
    return Sight(
        up=None,
        was_up=True if any(it.was_up for it in unknown) else unknown[0].was_up,
        age_s=max(sight.age_s for sight in unknown),
        share=share,
    )
