"""What a policy is told of a job: where it could run, where it runs, and how much time is left.

Work is counted in seconds of the *fallback*, the on-demand offer that the deadline rests on, whose
speed is 1 by definition. Everything here is a plain value, so that the same policy object decides
in the daemon, in the back-test and in the benchmark on recorded traces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from spotrunner.core.hazard import MEASURED, Hazards
from spotrunner.core.model import Market, Offer
from spotrunner.core.sight import UNSEEN, Sight


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An offer, and what keeps the job from it now (None: it may be taken).

    `usd_micros_work_hour` is what an hour of useful work is expected to cost on it: the price, the
    changeovers that its hazard will bring, and the moving of data, over its speed
    (core/market.expected). `sight` is of the pool's spot capacity.
    """

    offer: Offer
    left_out: str | None = None
    sight: Sight = UNSEEN
    speed: float = 1.0
    usd_micros_work_hour: float = 0.0
    # EC2's placement score of the zone, 1 to 10, and the Spot Advisor's band, 0 to 4, where known
    score: int | None = None
    band: int | None = None

    @property
    def is_spot(self) -> bool:
        return self.offer.market is Market.SPOT


@dataclass(frozen=True, kw_only=True)
class Situation:
    """One job at one time. `on` is where it runs, or is being started; None where it does not.

    `left_s` is the time to the deadline, None without one; `work_s` and `work_left_s` are what the
    job needs in all and from its last checkpoint on, None where nobody knows. `pending_s` is what
    is left of the changeover of `on`: paid, but without progress. `changeover_s` is what a launch
    takes from its request to its first step, and `look_s` when the policy is asked again at the
    latest. `together` is the sight of all spot candidates as one.
    """

    candidates: tuple[Candidate, ...]  # the cheapest expected work first
    elapsed_s: float
    left_s: float | None
    work_s: float | None
    work_left_s: float | None
    changeover_s: float
    look_s: float
    on: Candidate | None = None
    pending_s: float = 0.0
    together: Sight = UNSEEN
    hazards: Hazards = MEASURED

    @cached_property
    def slack_s(self) -> float:
        """How long the job may still make no progress and meet its deadline by going on-demand
        then: what is left, less the work, less one changeover. Infinite without a deadline."""
        if self.left_s is None or self.work_left_s is None:
            return float("inf")
        return self.left_s - self.work_left_s - self.changeover_s

    @property
    def is_on_spot(self) -> bool:
        return self.on is not None and self.on.is_spot

    @property
    def is_on_demand(self) -> bool:
        return self.on is not None and not self.on.is_spot

    @cached_property
    def spot(self) -> Sequence[Candidate]:
        """The spot offers that may be taken now, the cheapest expected work first."""
        return [each for each in self.candidates if each.is_spot and each.left_out is None]
