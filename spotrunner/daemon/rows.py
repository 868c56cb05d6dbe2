"""Rows of the price history, before they are believed: what cannot be a price is left out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable

import structlog

from spotrunner.core.model import Pool, Quote

log = structlog.get_logger(__name__)

# Our clock may be behind EC2's: a price that has not begun waits for the next read, without a word
# unless it is far ahead.
AHEAD = dt.timedelta(minutes=5)
FAR_AHEAD = dt.timedelta(days=1)
# What was said of so many rows is remembered: a bad row comes again with every overlap.
REMEMBERED = 10_000


class Rows:
    """Says of each bad row once what is wrong with it."""

    def __init__(self) -> None:
        self._said: set[tuple[Pool, object, str]] = set()

    def sound(
        self, region: str, types: Collection[str], quotes: Iterable[Quote], now: dt.datetime
    ) -> list[Quote]:
        """The good ones, oldest first and each once. Of two prices of a pool for the same time the
        dearer one counts: we never reckon with too little."""
        good: dict[tuple[Pool, dt.datetime], Quote] = {}
        for quote in quotes:
            wrong = _wrong(quote, region, types, now)
            if wrong is not None:
                self._say(quote, wrong)
                continue
            if quote.at > now + AHEAD:
                continue
            other = good.setdefault((quote.pool, quote.at), quote)
            if other.price_usd_micros_hour != quote.price_usd_micros_hour:
                self._say(quote, "another price for the same time")
                good[quote.pool, quote.at] = max(other, quote, key=_price)
        return sorted(good.values(), key=lambda quote: (quote.at, quote.pool))

    def _say(self, quote: Quote, wrong: str) -> None:
        key = (quote.pool, quote.at, wrong)
        if key in self._said:
            return
        if len(self._said) >= REMEMBERED:
            self._said.clear()
        self._said.add(key)
        log.warning(
            "a spot price is left out",
            wrong=wrong,
            pool=str(quote.pool),
            at=str(quote.at),
            price_usd_micros_hour=str(quote.price_usd_micros_hour),
        )


def _price(quote: Quote) -> int:
    return quote.price_usd_micros_hour


def _wrong(quote: Quote, region: str, types: Collection[str], now: dt.datetime) -> str | None:
    price: object = quote.price_usd_micros_hour
    # A NaN is no int, and True is one.
    if type(price) is not int or price <= 0:
        return "its price is no positive number"
    if quote.at.tzinfo is None:
        return "its time has no zone"
    if quote.at > now + FAR_AHEAD:
        return "its time has not come"
    if quote.pool.region != region or quote.pool.instance_type not in types:
        return "nobody asked for this pool"
    return None
