"""A policy that changes its mind when it is told to."""

from __future__ import annotations

from spotrunner.core.policy import Choice, stay
from spotrunner.core.situation import Situation


class Fickle:
    """On-demand, until somebody says `spot`; nowhere, while somebody says `wait`."""

    name = "fickle"
    needs_deadline = False

    def __init__(self) -> None:
        self.wish = "on-demand"

    def choose(self, situation: Situation) -> Choice:
        free = [each for each in situation.candidates if each.left_out is None]
        wanted = [each for each in free if each.offer.market.value == self.wish]
        if self.wish == "wait":
            return Choice(take=None, why="it is told to wait")
        if not wanted or (situation.on and situation.on.offer.market.value == self.wish):
            return stay(situation, "nothing is better")
        return Choice(take=wanted[0], why=f"it is told to be on {self.wish}")
