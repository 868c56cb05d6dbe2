"""When to take which offer: one small file a policy, one Protocol.

A policy is a pure function of a Situation. It is asked whenever its job has no place, and while it
trains whether it should be elsewhere; what it answers is carried out by core/place, a move as a
launch first and a handover later, so that a refused move costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from spotrunner.core.situation import Candidate, Situation

NEVER = float("inf")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Where the job should be: `situation.on` to stay, None to be nowhere and wait. `why` is for
    people. `look_s`: the policy may answer differently after so much time, though nothing else
    has happened by then."""

    take: Candidate | None
    why: str
    look_s: float = NEVER


class Policy(Protocol):
    name: str
    needs_deadline: bool

    def choose(self, situation: Situation) -> Choice:
        """Only candidates that are not left out may be taken."""
        ...


Policies = Mapping[str, Policy]


def stay(situation: Situation, why: str, look_s: float = NEVER) -> Choice:
    """Where the job is, or nowhere if it is nowhere."""
    return Choice(take=situation.on, why=why, look_s=look_s)
