"""When to take which offer: one small file a policy, one Protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from spotrunner.core.market import Candidate
from spotrunner.core.model import Offer


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The offer to take, or None to wait; `why` is for people."""

    offer: Offer | None
    why: str


class Policy(Protocol):
    name: str

    def choose(self, candidates: Sequence[Candidate]) -> Choice:
        """`candidates` are sorted by price; those with `left_out` may not be taken."""
        ...
