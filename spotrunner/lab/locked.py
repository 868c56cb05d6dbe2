"""The simulated market, shared by the threads of the lab."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from spotrunner.ports import Clock
from spotrunner.sim.world import World

P = ParamSpec("P")
R = TypeVar("R")


class LockedWorld:
    """One call of the world at a time, at the lab's time: `world.ask(World.describe, region)`."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self._lock = threading.RLock()
        self.setup = world.setup

    def now(self) -> dt.datetime:
        return self._clock.now()

    def ask(
        self,
        method: Callable[Concatenate[World, dt.datetime, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """`method(world, now, ...)`, alone. Raises what the method raises."""
        with self._lock:
            return method(self._world, self._clock.now(), *args, **kwargs)
