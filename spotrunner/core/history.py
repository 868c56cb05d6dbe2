"""A pool's recorded spot prices as a step function, with the times of which nobody knows."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, order=True)
class Span:
    """A time, from `begin` to `end`."""

    begin: dt.datetime
    end: dt.datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.begin).total_seconds()


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same times, oldest first, without overlaps."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.begin <= found[-1].end:
            found[-1] = Span(begin=found[-1].begin, end=max(found[-1].end, span.end))
        else:
            found.append(span)
    return tuple(found)


def holes(spans: Iterable[Span], begin: dt.datetime, end: dt.datetime) -> tuple[Span, ...]:
    """What of [begin, end] is in none of these spans, oldest first."""
    found, at = [], begin
    for span in merged(spans):
        if span.begin > min(end, at):
            found.append(Span(begin=at, end=min(end, span.begin)))
        at = max(at, span.end)
    if at < end:
        found.append(Span(begin=at, end=end))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A price, micro-dollars an hour, that held for a while."""

    begin: dt.datetime
    end: dt.datetime
    price_usd_micros_hour: int


def steps(
    prices: Sequence[tuple[dt.datetime, int]],
    known: Iterable[Span],
    begin: dt.datetime,
    end: dt.datetime,
) -> tuple[Step, ...]:
    """The prices within [begin, end] as far as they are known, oldest first. `prices` are quotes,
    each in force until the next; a price holds no longer than the span that it was read in, since
    what came after it was not seen."""
    quotes = sorted(prices)
    ends = [*(at for at, _ in quotes[1:]), end][: len(quotes)]
    found = []
    for span in merged(known):
        least, most = max(begin, span.begin), min(end, span.end)
        for (at, price), until in zip(quotes, ends, strict=True):
            first, last = max(at, least), min(until, most)
            if first < last:
                found.append(Step(begin=first, end=last, price_usd_micros_hour=price))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Of the prices over a time, micro-dollars an hour; the mean is over the time that is known."""

    first: int
    last: int
    least: int
    mean: int
    most: int
    known_s: float

    @property
    def change_fraction(self) -> float:
        return self.last / self.first - 1


def summary(parts: Sequence[Step]) -> Summary | None:
    """None of nothing."""
    if not parts:
        return None
    prices = [step.price_usd_micros_hour for step in parts]
    seconds = [(step.end - step.begin).total_seconds() for step in parts]
    total = sum(seconds)
    return Summary(
        first=prices[0],
        last=prices[-1],
        least=min(prices),
        mean=round(sum(map(operator.mul, prices, seconds)) / total),
        most=max(prices),
        known_s=total,
    )
