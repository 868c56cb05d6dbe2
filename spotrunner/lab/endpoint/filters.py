"""EC2's filters over things that the endpoint itself lists: any value of a name, all names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from spotrunner.sim.values import ApiError

T = TypeVar("T")
Tags = Iterable[tuple[str, str]]


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
    tags_of: Callable[[T], Tags] = lambda _: (),
) -> list[T]:
    """Raises ApiError for a filter that is not in `fields`. `*` and `?` are wild in values. What
    has no tags is found by no filter by tag."""
    for name in filters:
        if name not in fields and not is_by_tag(name):
            raise ApiError("InvalidParameterValue", f"The filter '{name}' is invalid")

    def values(thing: T, name: str) -> list[str]:
        if is_by_tag(name):
            return [_told(pair, name) for pair in tags_of(thing) if name in _names(pair)]
        return [fields[name](thing)]

    return [
        thing
        for thing in things
        if all(
            any(_fits(pattern, value) for pattern in patterns for value in values(thing, name))
            for name, patterns in filters.items()
        )
    ]


def is_by_tag(name: str) -> bool:
    return name == "tag-key" or name.startswith("tag:")


def _names(pair: tuple[str, str]) -> tuple[str, str]:
    """The filters that look at a tag."""
    return "tag-key", f"tag:{pair[0]}"


def _told(pair: tuple[str, str], name: str) -> str:
    return pair[0] if name == "tag-key" else pair[1]


def _fits(pattern: str, value: str) -> bool:
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern)
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None
