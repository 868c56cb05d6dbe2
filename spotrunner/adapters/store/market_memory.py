"""ports.MarketStore in memory: for stories in virtual time and tests of what uses a market."""

from __future__ import annotations

import datetime as dt
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import attrgetter

from spotrunner.adapters.store.quotes import CheckedMarket, Wanted
from spotrunner.ports import Memo, ZoneQuote

_at = attrgetter("at")


class MemoryMarket(CheckedMarket):
    """Forgets everything with its process; else as the contract says."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By region, type and zone id; each list by time.
        self._quotes: dict[tuple[str, str, str], list[ZoneQuote]] = {}
        self._memos: dict[str, Memo] = {}

    def memo(self, key: str) -> Memo | None:
        with self._lock:
            return self._memos.get(key)

    def _add(self, quotes: Sequence[ZoneQuote]) -> int:
        with self._lock:
            return sum(self._add_one(quote) for quote in quotes)

    def _history(self, wanted: Wanted) -> list[ZoneQuote]:
        with self._lock:
            return [
                quote
                for (region, instance_type, _), history in self._quotes.items()
                if region == wanted.region and instance_type in wanted.instance_types
                for quote in _within(history, wanted.since, wanted.until)
            ]

    def _remember(self, memo: Memo) -> None:
        with self._lock:
            self._memos[memo.key] = memo

    def _add_one(self, quote: ZoneQuote) -> bool:
        """Inside the lock: false for one that is known."""
        zone = (quote.region, quote.instance_type, quote.zone_id)
        history = self._quotes.setdefault(zone, [])
        place = bisect_left(history, quote.at, key=_at)
        if place < len(history) and history[place].at == quote.at:
            return False
        history.insert(place, quote)
        return True


def _within(
    history: list[ZoneQuote], since: dt.datetime, until: dt.datetime | None
) -> list[ZoneQuote]:
    """From the one in force at `since`, or else the first after it."""
    first = max(0, bisect_right(history, since, key=_at) - 1)
    end = len(history) if until is None else bisect_right(history, until, key=_at)
    return history[first:end]
