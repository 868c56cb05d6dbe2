"""What every market store asks of the quotes and times it is given."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from spotrunner.ports import ZoneQuote

Key = tuple[str, str, str, dt.datetime]


def by_key(quotes: Sequence[ZoneQuote]) -> list[ZoneQuote]:
    """One quote a key, the first of those that share it, in the order of the keys. Raises
    ValueError for a price that is not positive and for a time without a zone."""
    first: dict[Key, ZoneQuote] = {}
    for quote in quotes:
        _check(quote)
        first.setdefault(_key(quote), quote)
    return [first[key] for key in sorted(first)]


def oldest_first(quotes: Sequence[ZoneQuote]) -> tuple[ZoneQuote, ...]:
    return tuple(sorted(quotes, key=lambda it: (it.at, it.instance_type, it.zone_id)))


def check_window(since: dt.datetime, until: dt.datetime | None) -> None:
    """Raises ValueError."""
    check_time("since", since)
    if until is not None:
        check_time("until", until)
        if until < since:
            raise ValueError(f"a window ends at {until} before it begins at {since}")


def check_time(what: str, at: dt.datetime) -> None:
    """Raises ValueError."""
    if at.tzinfo is None:
        raise ValueError(f"{what} has no time zone: {at}; give times in UTC")


def _check(quote: ZoneQuote) -> None:
    check_time("a quote", quote.at)
    # NaN is not above 0 either.
    if not quote.price_usd_micros_hour > 0:
        raise ValueError(
            f"a price is above 0, found {quote.price_usd_micros_hour} micro-dollars an hour for"
            f" {quote.instance_type} in {quote.zone_id} ({quote.region}) at {quote.at}"
        )


def _key(quote: ZoneQuote) -> Key:
    return quote.region, quote.instance_type, quote.zone_id, quote.at
