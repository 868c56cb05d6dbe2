"""Listings in pages: more of them than AWS would make, so that nobody reads only the first."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spotrunner.sim.values import ApiError

# Tokens that nobody came back with are forgotten, the oldest first.
_TOKENS_KEPT = 2000


@dataclass(frozen=True, kw_only=True)
class Page:
    items: Sequence[Any]
    next_token: str | None


class Pages:
    """What is left of listings, by token. A token serves again and again, as retries need it."""

    def __init__(self, *, halves: bool) -> None:
        """`halves`: every listing comes in two pages at least, so the first of a single item is
        empty, which EC2 says may happen."""
        self._halves = halves
        self._rest: OrderedDict[str, tuple[str, Sequence[Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def first(self, listing: str, items: Sequence[Any], most: int) -> Page:
        """`listing` names what is listed (action and region); a token serves only the same."""
        size = min(most, len(items) // 2) if self._halves else most
        return self._cut(listing, items, size)

    def next(self, listing: str, token: str, most: int) -> Page:
        """Raises ApiError for a token that was not given out for this listing."""
        with self._lock:
            owner, rest = self._rest.get(token, (None, ()))
        if owner != listing:
            raise ApiError("InvalidParameterValue", f"Unable to parse pagination token: {token}")
        return self._cut(listing, rest, most)

    def _cut(self, listing: str, items: Sequence[Any], size: int) -> Page:
        rest = items[size:]
        if not rest:
            return Page(items=items, next_token=None)
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._rest[token] = (listing, rest)
            while len(self._rest) > _TOKENS_KEPT:
                self._rest.popitem(last=False)
        return Page(items=items[:size], next_token=token)
