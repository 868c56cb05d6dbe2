"""Moving lab time ahead without making anybody look dead.

In hops: the control host's calls wait at the gate, time moves, every agent says that it has seen
the new time, the gate opens, the daemon makes its rounds, every agent reads what they ordered
(until when it is paid); then the next hop. What takes real time, a boot, a last save, a reading of
prices, is waited for.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from spotrunner.core.model import Limits
from spotrunner.lab.clock import LabClock
from spotrunner.lab.gate import Gate

# A third of a paid step: an instance is paid on at half time, so it is paid on within the next
# hop, and never runs out in between.
HOP = dt.timedelta(seconds=Limits().step_s // 3)
# The daemon's clock learns the new time within the first round, and decides by it in the second.
ROUNDS_A_HOP = 2
_AGENTS_WAIT_S = 15.0
# A trainer on two busy cores needs so long for its imports and its first step.
_START_WAIT_S = 45.0
# The daemon reads them every ten minutes, and says so when they are an hour old.
_PRICES_BEHIND = dt.timedelta(minutes=30)
_PRICES_WAIT_S = 5.0
_LOOK_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """`late` are the attempts whose agents had not reported when a hop went on without them."""

    now: dt.datetime
    hops: int
    rounds: int
    late: tuple[str, ...]


class Skipper:
    """`late` names the attempts whose agents have not reported since a time, `behind` those that
    need real time before more of the lab's may pass, `stops` says when agents will begin to save
    for the last time: a hop ends there, so that none wakes up past its end. `make_round` has the
    daemon make a round begun after the call, and is False where there is no daemon; `old_prices`
    names the regions whose prices it read before a time: it reads them beside its rounds."""

    def __init__(
        self,
        *,
        clock: LabClock,
        gate: Gate,
        wake: Callable[[], None],
        late: Callable[[dt.datetime], tuple[str, ...]],
        behind: Callable[[], tuple[str, ...]],
        stops: Callable[[], tuple[dt.datetime, ...]],
        make_round: Callable[[], bool],
        old_prices: Callable[[dt.datetime], tuple[str, ...]],
        agents_wait_s: float = _AGENTS_WAIT_S,
        start_wait_s: float = _START_WAIT_S,
    ) -> None:
        self._clock = clock
        self._gate = gate
        self._wake = wake
        self._late = late
        self._behind = behind
        self._stops = stops
        self._make_round = make_round
        self._old_prices = old_prices
        self._agents_wait_s = agents_wait_s
        self._start_wait_s = start_wait_s
        self._lock = threading.Lock()

    def skip(self, ahead: dt.timedelta) -> Skipped:
        """Returns when the last hop is done; one skip at a time."""
        with self._lock:
            hops, rounds, late = 0, 0, set[str]()
            left = ahead
            late.update(self._wait_until_none(self._behind, self._start_wait_s))
            while left > dt.timedelta(0):
                hop = min(left, self._longest_hop())
                late.update(self._hop(hop))
                rounds += sum(self._make_round() for _ in range(ROUNDS_A_HOP))
                self._wait_for_prices()
                late.update(self._wait_until_none(self._behind, self._start_wait_s))
                left -= hop
                hops += 1
        return Skipped(now=self._clock.now(), hops=hops, rounds=rounds, late=tuple(sorted(late)))

    def _longest_hop(self) -> dt.timedelta:
        now = self._clock.now()
        return min([HOP, *(at - now for at in self._stops() if at > now)])

    def _hop(self, hop: dt.timedelta) -> tuple[str, ...]:
        self._gate.close()
        try:
            since = self._clock.skip(hop)
            self._wake()
            return self._wait_for_agents(since)
        finally:
            self._gate.open()

    def _wait_for_agents(self, since: dt.datetime) -> tuple[str, ...]:
        # A report's time comes from whole seconds of `Date`, so it may lie a little before.
        since -= dt.timedelta(seconds=2)
        return self._wait_until_none(lambda: self._late(since), self._agents_wait_s)

    def _wait_for_prices(self) -> None:
        """Reading takes a moment of real time, in which hours of the lab's could pass."""
        oldest = self._clock.now() - _PRICES_BEHIND
        self._wait_until_none(lambda: self._old_prices(oldest), _PRICES_WAIT_S)

    def _wait_until_none(
        self, missing: Callable[[], tuple[str, ...]], wait_s: float
    ) -> tuple[str, ...]:
        """Those still missing when patience ends."""
        give_up_at, pause = time.monotonic() + wait_s, threading.Event()
        while True:
            names = missing()
            if not names or time.monotonic() > give_up_at:
                return names
            pause.wait(_LOOK_S)
