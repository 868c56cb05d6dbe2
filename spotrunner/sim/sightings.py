"""What core/sight.sights says of a run's attempts and refusals, followed as they come.

A back-test asks after every event; to go over two days of refusals each time would take longer
than all the rest. tests/sim/test_replay.py holds the two to one answer.
"""

from __future__ import annotations

import bisect
import datetime as dt
from collections.abc import Mapping

from spotrunner.core.model import Attempt, EndReason, Market, Pool, Refusal, Refused
from spotrunner.core.sight import FORGOTTEN_AFTER, Sight, Spell, Watch

_Key = tuple[dt.datetime, dt.datetime]


class Sightings:
    """`fresh_s` is for how long a refusal counts as seen now."""

    def __init__(self, fresh_s: float) -> None:
        self._fresh_s = fresh_s
        self._closed: dict[Pool, _Closed] = {}
        self._open: dict[str, tuple[Pool, dt.datetime]] = {}
        self._seen: set[str] = set()

    def attempt(self, attempt: Attempt) -> None:
        """As it is now; one that EC2 never accepted shows nothing."""
        launched_at = attempt.launched_at
        if attempt.offer.market is not Market.SPOT or launched_at is None:
            return
        if attempt.id in self._seen:
            return
        pool = attempt.offer.pool
        seen_at = attempt.notice.seen_at if attempt.notice else attempt.ended_at
        if seen_at is None:
            self._open[attempt.id] = pool, launched_at
            return
        taken = attempt.end_reason is EndReason.INTERRUPTED or attempt.notice is not None
        self._open.pop(attempt.id, None)
        self._seen.add(attempt.id)
        end = max(launched_at, seen_at)
        self._of(pool).add(Spell(begin=launched_at, end=end, up=True, taken=taken))

    def refusal(self, refusal: Refusal) -> None:
        if refusal.market is Market.SPOT and refusal.meaning is Refused.CAPACITY:
            self._of(refusal.pool).add(Spell(begin=refusal.at, end=refusal.at, up=False))

    def at(self, now: dt.datetime) -> Mapping[Pool, Sight]:
        opened: dict[Pool, list[Spell]] = {}
        for pool, begin in self._open.values():
            opened.setdefault(pool, []).append(Spell(begin=begin, end=now, up=True))
        return {
            pool: self._of(pool).sight(opened.get(pool, ()), now)
            for pool in {*self._closed, *opened}
        }

    def _of(self, pool: Pool) -> _Closed:
        return self._closed.setdefault(pool, _Closed(self._fresh_s))


class _Closed:
    """The spells of a pool that are over, and the watch that saw all that is not forgotten."""

    def __init__(self, fresh_s: float) -> None:
        self._fresh_s = fresh_s
        self._spells: list[Spell] = []
        self._first = 0  # the first that counts
        self._watch: Watch | None = None

    def add(self, spell: Spell) -> None:
        index = bisect.bisect_right(self._spells, _key(spell), key=_key)
        if index == len(self._spells) and self._watch is not None:
            self._watch.add(spell)
        else:
            self._watch, self._first = None, 0
        self._spells.insert(index, spell)

    def sight(self, opened: list[Spell] | tuple[()], now: dt.datetime) -> Sight:
        self._forget(now - FORGOTTEN_AFTER)
        last = self._spells[-1] if self._spells else None
        if last is not None and any(_key(spell) < _key(last) for spell in opened):
            return self._anew(opened, now)
        watch = self._caught_up()
        if opened:
            watch = watch.copy()
            for spell in sorted(opened, key=_key):
                watch.add(spell)
        return watch.sight(now)

    def _forget(self, before: dt.datetime) -> None:
        """Spells end out of order hardly ever: the rest is skipped one by one."""
        first = self._first
        while first < len(self._spells) and self._spells[first].end < before:
            first += 1
        if first != self._first:
            self._first, self._watch = first, None

    def _caught_up(self) -> Watch:
        if self._watch is None:
            self._watch = Watch(self._fresh_s)
            for spell in self._spells[self._first :]:
                self._watch.add(spell)
        return self._watch

    def _anew(self, opened: list[Spell] | tuple[()], now: dt.datetime) -> Sight:
        watch = Watch(self._fresh_s)
        for spell in sorted([*self._spells[self._first :], *opened], key=_key):
            watch.add(spell)
        return watch.sight(now)


def _key(spell: Spell) -> _Key:
    return spell.begin, spell.end
