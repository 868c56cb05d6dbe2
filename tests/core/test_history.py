"""Price histories as step functions, and the times that nobody saw."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core.history import Span, Step, holes, merged, steps, summary
from tests.build import at


def spans(*pairs: tuple[float, float]) -> tuple[Span, ...]:
    return tuple(Span(begin=at(begin), end=at(end)) for begin, end in pairs)


def pairs_of(found: tuple[Span, ...]) -> list[tuple[float, float]]:
    return [(seconds(span.begin), seconds(span.end)) for span in found]


def seconds(when: dt.datetime) -> float:
    return (when - at(0)).total_seconds()


@pytest.mark.parametrize(
    ("given_", "one"),
    [
        ([], []),
        ([(0, 10)], [(0, 10)]),
        ([(5, 10), (0, 5)], [(0, 10)]),
        ([(0, 10), (2, 3)], [(0, 10)]),
        ([(0, 10), (11, 12)], [(0, 10), (11, 12)]),
        ([(0, 10), (5, 20), (30, 40)], [(0, 20), (30, 40)]),
    ],
)
def test_spans_without_overlaps(
    given_: list[tuple[float, float]], one: list[tuple[float, float]]
) -> None:
    assert pairs_of(merged(spans(*given_))) == one


@pytest.mark.parametrize(
    ("known", "missing"),
    [
        ([], [(0, 100)]),
        ([(0, 100)], []),
        ([(-50, 150)], []),
        ([(10, 20)], [(0, 10), (20, 100)]),
        ([(-10, 20), (30, 200)], [(20, 30)]),
        ([(-20, -10)], [(0, 100)]),
        ([(110, 120)], [(0, 100)]),
        ([(0, 50), (50, 99)], [(99, 100)]),
    ],
)
def test_holes(known: list[tuple[float, float]], missing: list[tuple[float, float]]) -> None:
    assert pairs_of(holes(spans(*known), at(0), at(100))) == missing


_SPANS = st.lists(
    st.tuples(st.integers(-50, 150), st.integers(0, 60)).map(lambda it: (it[0], it[0] + it[1]))
)


@given(_SPANS)
def test_what_is_known_and_what_is_not_make_the_whole(known: list[tuple[int, int]]) -> None:
    missing = holes(spans(*known), at(0), at(100))
    for second in range(100):
        inside = at(second + 0.5)
        is_known = any(it.begin <= inside < it.end for it in spans(*known))
        assert is_known is not any(it.begin <= inside < it.end for it in missing)


def a_step(begin: float, end: float, price: int) -> Step:
    return Step(begin=at(begin), end=at(end), price_usd_micros_hour=price)


@pytest.mark.parametrize(
    ("prices", "known", "found"),
    [
        ([], [(0, 100)], []),
        ([(-50, 5)], [(0, 100)], [(0, 100, 5)]),
        ([(40, 7), (-50, 5)], [(0, 100)], [(0, 40, 5), (40, 100, 7)]),
        ([(20, 5)], [(0, 100)], [(20, 100, 5)]),
        # Nobody looked from 30 to 60: neither the old price nor the new one is drawn there.
        ([(0, 5), (50, 7)], [(0, 30), (60, 100)], [(0, 30, 5), (60, 100, 7)]),
        ([(0, 5), (10, 6), (10, 7)], [(0, 100)], [(0, 10, 5), (10, 100, 7)]),
        ([(0, 5)], [], []),
        ([(150, 5)], [(0, 200)], []),
    ],
)
def test_prices_hold_until_the_next_and_no_longer_than_they_were_seen(
    prices: list[tuple[float, int]],
    known: list[tuple[float, float]],
    found: list[tuple[float, float, int]],
) -> None:
    quotes = [(at(begin), price) for begin, price in prices]
    told = steps(quotes, spans(*known), at(0), at(100))
    assert told == tuple(a_step(*each) for each in found)


def test_the_mean_counts_each_price_for_as_long_as_it_held() -> None:
    told = summary([a_step(0, 90, 100), a_step(90, 100, 200)])
    assert told is not None
    assert (told.first, told.last, told.least, told.mean, told.most) == (100, 200, 100, 110, 200)
    assert told.change_fraction == 1.0
    assert told.known_s == 100
    assert summary([]) is None
