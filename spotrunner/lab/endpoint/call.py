"""One request to EC2, as its action sees it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from spotrunner.lab.locked import LockedWorld
from spotrunner.sim.values import Region
from spotrunner.sim.world import World

Answer = dict[str, Any]

# What an instance has printed (the end of it), and when that was looked at.
Console = Callable[[str], bytes]


class Disks(Protocol):
    """What images hold, where instances are more than records."""

    def keep(self, instance_id: str, image_id: str) -> None:
        """The instance's disk as it is now becomes the image's."""
        ...

    def copy(self, source_image_id: str, image_id: str) -> None: ...

    def drop(self, image_id: str) -> None: ...


class NoDisks:
    """Of an endpoint without instances behind it."""

    def keep(self, instance_id: str, image_id: str) -> None:
        """Nothing is there to keep."""

    def copy(self, source_image_id: str, image_id: str) -> None:
        """Nor to copy."""

    def drop(self, image_id: str) -> None:
        """Nor to drop."""


@dataclass(frozen=True, kw_only=True)
class Call:
    action: str
    region: str
    params: Mapping[str, Any]
    world: LockedWorld
    console: Console
    disks: Disks

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


def tags_for(params: Mapping[str, Any], resource: str) -> tuple[tuple[str, str], ...]:
    """Those that a request gives to this kind of thing."""
    return tuple(
        (tag["Key"], tag.get("Value", ""))
        for specification in params.get("TagSpecifications", ())
        if specification.get("ResourceType") == resource
        for tag in specification.get("Tags", ())
    )
