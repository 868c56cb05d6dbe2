"""One request to EC2, as its action sees it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from spotrunner.lab.locked import LockedWorld
from spotrunner.sim.values import Region
from spotrunner.sim.world import World

Answer = dict[str, Any]

# What an instance has printed (the end of it), and when that was looked at.
Console = Callable[[str], bytes]


@dataclass(frozen=True, kw_only=True)
class Call:
    action: str
    region: str
    params: Mapping[str, Any]
    world: LockedWorld
    console: Console

    def place(self) -> Region:
        """The region that was called. Raises ApiError."""
        return self.world.ask(lambda world, _now: world.pools.region(self.region))

    def admit(self) -> None:
        """Pass EC2's throttling and scripted faults, where the world does not do so itself."""
        self.world.ask(World.admit, self.region, self.action)


@dataclass(frozen=True, kw_only=True)
class Action:
    """What the endpoint can do of an EC2 action.

    `accepts` are the leaf paths of its parameters that have an effect here; any other one is
    refused, never ignored. `lists` is the member of the answer that comes in pages, of at most
    `most` items; with ids (`ids`) it comes whole.
    """

    perform: Callable[[Call], Answer]
    accepts: frozenset[str]
    lists: str | None = None
    ids: str | None = None
    most: int = 1000


def tags(pairs: tuple[tuple[str, str], ...]) -> list[Answer]:
    return [{"Key": key, "Value": value} for key, value in pairs]


def whole_seconds(at: dt.datetime) -> dt.datetime:
    return at.replace(microsecond=0)
