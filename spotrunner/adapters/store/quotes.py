"""What every market store asks of the quotes and times that it is given, and owes in return."""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spotrunner.ports import Memo, ZoneQuote

Key = tuple[str, str, str, dt.datetime]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A history: that of these types in a region; `until` None has no end."""

    region: str
    instance_types: frozenset[str]
    since: dt.datetime
    until: dt.datetime | None


class CheckedMarket(abc.ABC):
    """ports.MarketStore but for the keeping."""

    def add_quotes(self, quotes: Sequence[ZoneQuote]) -> int:
        checked = _by_key(quotes)
        return self._add(checked) if checked else 0

    def zone_quotes(
        self,
        region: str,
        instance_types: Sequence[str],
        since: dt.datetime,
        until: dt.datetime | None = None,
    ) -> tuple[ZoneQuote, ...]:
        _check_window(since, until)
        types = frozenset(instance_types)
        wanted = Wanted(region=region, instance_types=types, since=since, until=until)
        found = self._history(wanted)
        return tuple(sorted(found, key=lambda it: (it.at, it.instance_type, it.zone_id)))

    def remember(self, memo: Memo) -> None:
        _check_time(f"the memo {memo.key}", memo.at)
        self._remember(memo)

    @abc.abstractmethod
    def _add(self, quotes: Sequence[ZoneQuote]) -> int:
        """One quote a key, in the order of the keys: how many were new."""

    @abc.abstractmethod
    def _history(self, wanted: Wanted) -> Iterable[ZoneQuote]:
        """In any order."""

    @abc.abstractmethod
    def _remember(self, memo: Memo) -> None: ...


def _by_key(quotes: Sequence[ZoneQuote]) -> list[ZoneQuote]:
    """One quote a key, the first of those that share it, in the order of the keys. Raises
    ValueError for a price that is not positive and for a time without a zone."""
    first: dict[Key, ZoneQuote] = {}
    for quote in quotes:
        _check(quote)
        first.setdefault(_key(quote), quote)
    return [first[key] for key in sorted(first)]


def _check_window(since: dt.datetime, until: dt.datetime | None) -> None:
    """Raises ValueError."""
    _check_time("since", since)
    if until is not None:
        _check_time("until", until)
        if until < since:
            raise ValueError(f"a window ends at {until} before it begins at {since}")


def _check_time(what: str, at: dt.datetime) -> None:
    """Raises ValueError."""
    if at.tzinfo is None:
        raise ValueError(f"{what} has no time zone: {at}; give times in UTC")


def _check(quote: ZoneQuote) -> None:
    _check_time("a quote", quote.at)
    # NaN is not above 0 either.
    if not quote.price_usd_micros_hour > 0:
        raise ValueError(
            f"a price is above 0, found {quote.price_usd_micros_hour} micro-dollars an hour for"
            f" {quote.instance_type} in {quote.zone_id} ({quote.region}) at {quote.at}"
        )


def _key(quote: ZoneQuote) -> Key:
    return quote.region, quote.instance_type, quote.zone_id, quote.at
