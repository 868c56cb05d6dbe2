"""A value that changes at known times and holds in between."""

from __future__ import annotations

import bisect
import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Steps(Generic[T]):
    """A step function over time. Before the first step it has the first step's value."""

    def __init__(self, steps: Iterable[tuple[dt.datetime, T]]) -> None:
        """`steps` in the order of time, at least one."""
        pairs = list(steps)
        assert pairs, "a step function needs a value"
        self._times = [at for at, _ in pairs]
        self._values = [value for _, value in pairs]
        assert self._times == sorted(self._times), "steps out of order"

    def at(self, when: dt.datetime) -> T:
        return self._values[max(0, bisect.bisect_right(self._times, when) - 1)]

    def since(self, start: dt.datetime, end: dt.datetime) -> Iterator[tuple[dt.datetime, T]]:
        """The step in force at `start`, then all up to and at `end`."""
        first = max(0, bisect.bisect_right(self._times, start) - 1)
        for at, value in zip(self._times[first:], self._values[first:], strict=True):
            if at > end:
                return
            yield at, value

    def next_where(
        self, after: dt.datetime, wanted: Callable[[T], bool]
    ) -> tuple[dt.datetime, T] | None:
        """The first step later than `after` whose value is wanted."""
        for index in range(bisect.bisect_right(self._times, after), len(self._times)):
            if wanted(self._values[index]):
                return self._times[index], self._values[index]
        return None

    def set(self, at: dt.datetime, value: T) -> None:
        """`value` from `at` until the step that was next already."""
        index = bisect.bisect_left(self._times, at)
        if index < len(self._times) and self._times[index] == at:
            self._values[index] = value
        else:
            self._times.insert(index, at)
            self._values.insert(index, value)

    def hold(self, at: dt.datetime, value: T) -> None:
        """`value` from `at` on, whatever was to come."""
        self._cut(at)
        self._times.append(at)
        self._values.append(value)

    def follow(self, at: dt.datetime, other: Steps[T]) -> None:
        """What `other` is and will be, from `at` on."""
        self.hold(at, other.at(at))
        later = bisect.bisect_right(other._times, at)
        self._times.extend(other._times[later:])
        self._values.extend(other._values[later:])

    def _cut(self, at: dt.datetime) -> None:
        first = bisect.bisect_left(self._times, at)
        del self._times[first:], self._values[first:]

    def copy(self) -> Steps[T]:
        return Steps(zip(self._times, self._values, strict=True))
