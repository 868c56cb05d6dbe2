"""EC2's filters over things that the endpoint itself lists: any value of a name, all names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from spotrunner.sim.values import ApiError

T = TypeVar("T")


def filters_of(params: Mapping[str, Any]) -> dict[str, list[str]]:
    """Raises ApiError for a filter without values."""
    filters: dict[str, list[str]] = {}
    for each in params.get("Filters", ()):
        if not each.get("Name"):
            raise ApiError("InvalidParameterValue", "A filter needs a name")
        if not each.get("Values"):
            raise ApiError("InvalidParameterValue", f"The filter '{each['Name']}' needs a value")
        filters.setdefault(each["Name"], []).extend(each["Values"])
    return filters


def select(
    things: Iterable[T],
    filters: Mapping[str, Sequence[str]],
    fields: Mapping[str, Callable[[T], str]],
) -> list[T]:
    """Raises ApiError for a filter that is not in `fields`. `*` and `?` are wild in values. None
    of these things has tags, so a filter by tag finds nothing."""
    by_tag = [name for name in filters if name == "tag-key" or name.startswith("tag:")]
    for name in filters:
        if name not in fields and name not in by_tag:
            raise ApiError("InvalidParameterValue", f"The filter '{name}' is invalid")
    if by_tag:
        return []
    return [
        thing
        for thing in things
        if all(
            any(_fits(pattern, fields[name](thing)) for pattern in patterns)
            for name, patterns in filters.items()
        )
    ]


def _fits(pattern: str, value: str) -> bool:
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern)
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None
