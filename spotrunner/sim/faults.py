"""What goes wrong with a call: scripted faults, dice, and EC2's request buckets."""

from __future__ import annotations

import datetime as dt
import enum
import random
from collections.abc import Mapping
from dataclasses import dataclass

from spotrunner.core.model import Market, Pool, Refused
from spotrunner.sim import refusals
from spotrunner.sim.values import ApiError, LostAnswer, Manners


class Lose(str, enum.Enum):
    """When the connection of a call breaks."""

    BEFORE = "before"  # it had no effect
    AFTER = "after"  # it had its effect, and nobody was told


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to the next `times` calls that fit; None fits everything.

    Exactly one of `error` (the call is refused with it), `lose` (no answer) and `dies` (a launch
    succeeds, and its instances end while pending with this state reason code) is given.
    """

    action: str = "RunInstances"
    region: str | None = None
    zone: str | None = None
    instance_type: str | None = None
    market: Market | None = None
    error: ApiError | None = None
    lose: Lose | None = None
    dies: str | None = None
    times: int = 1

    def __post_init__(self) -> None:
        given = [how for how in (self.error, self.lose, self.dies) if how is not None]
        assert len(given) == 1, "a fault does one thing"

    def fits(self, call: Call) -> bool:
        return (
            self.action in (call.action, "*")
            and self.region in (None, call.region)
            and self.zone in (None, call.zone)
            and self.instance_type in (None, call.instance_type)
            and self.market in (None, call.market)
            and not (call.replays and self.error is not None and self.error.code in _OF_SUPPLY)
        )


# EC2 has nothing to give: a token whose instances exist already asks for nothing.
_OF_SUPPLY = frozenset(
    {
        "InsufficientInstanceCapacity",
        "SpotMaxPriceTooLow",
        "MaxSpotInstanceCountExceeded",
        "VcpuLimitExceeded",
        "Unsupported",
    }
)


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a fault can look at. One that `replays` a launch has its token and its bytes."""

    action: str
    region: str
    zone: str | None = None
    instance_type: str | None = None
    market: Market | None = None
    replays: bool = False


def refusal(pool: Pool, market: Market, meaning: Refused, times: int = 1) -> Fault:
    """The next launches in a pool are refused with what means this to EC2."""
    kind, zone = pool.instance_type, pool.zone
    errors = {
        Refused.CAPACITY: refusals.no_capacity(market, kind, zone, ()),
        Refused.PRICE: refusals.price_too_low(20_000, 37_500),
        Refused.QUOTA: refusals.over_quota(market, 0),
        Refused.OFFERING: refusals.not_offered(kind, zone, ()),
        Refused.PERMISSION: ApiError(
            "UnauthorizedOperation", "You are not authorized to perform this operation.", 403
        ),
        Refused.CONFIG: refusals.unknown_profile("spotrunner-agent"),
    }
    return Fault(
        region=pool.region,
        zone=zone,
        instance_type=kind,
        market=market,
        error=errors[meaning],
        times=times,
    )


class Faults:
    """The script, and the dice behind it."""

    def __init__(self, manners: Manners, dice: random.Random) -> None:
        self.manners = manners
        self._dice = dice
        self._script: list[list[Fault | int]] = []
        self._buckets = Buckets()

    def script(self, fault: Fault) -> None:
        self._script.append([fault, fault.times])

    def clear(self) -> None:
        """Forget what is scripted."""
        self._script.clear()

    def gate(self, call: Call, at: dt.datetime) -> bool:
        """Let a call in, or raise what it meets instead. True: its answer is to be lost."""
        if self.manners.throttled and not self._buckets.take(call, at):
            raise refusals.throttled()
        fault = self._next(call, dies=False)
        if fault is not None and fault.error is not None:
            raise fault.error
        if fault is not None and fault.lose is not None:
            return self._lost(fault.lose)
        return self._roll()

    def death(self, call: Call) -> str | None:
        """The state reason code with which the instances of this launch end while pending."""
        fault = self._next(call, dies=True)
        return fault.dies if fault is not None else None

    def flaky(self) -> bool:
        """Whether a launch that could succeed is refused for capacity all the same."""
        return self._dice.random() < self.manners.flaky_capacity_share

    def _next(self, call: Call, *, dies: bool) -> Fault | None:
        for entry in self._script:
            fault, left = entry
            assert isinstance(fault, Fault)
            assert isinstance(left, int)
            if (fault.dies is not None) is dies and fault.fits(call):
                entry[1] = left - 1
                if left <= 1:
                    self._script.remove(entry)
                return fault
        return None

    def _roll(self) -> bool:
        roll, manners = self._dice.random(), self.manners
        if roll < manners.lost_before_share:
            return self._lost(Lose.BEFORE)
        roll -= manners.lost_before_share
        if roll < manners.server_error_share:
            raise refusals.server_error()
        roll -= manners.server_error_share
        return roll < manners.lost_after_share

    @staticmethod
    def _lost(when: Lose) -> bool:
        if when is Lose.BEFORE:
            raise LostAnswer("the connection broke")
        return True


# AWS, "Request throttling for the Amazon EC2 API": bucket size and refill a second, per region.
_BUCKETS: Mapping[str, tuple[float, float]] = {
    "RunInstances": (5, 2),
    "TerminateInstances": (100, 5),
    "Describe": (100, 20),
    "Mutate": (50, 5),
}


class Buckets:
    """EC2's token buckets, one per region and class of action."""

    def __init__(self) -> None:
        self._filled: dict[tuple[str, str], tuple[float, dt.datetime]] = {}

    def take(self, call: Call, at: dt.datetime) -> bool:
        """Whether a token was left."""
        name = call.action if call.action in _BUCKETS else "Mutate"
        if call.action.startswith(("Describe", "Get")):
            name = "Describe"
        size, refill = _BUCKETS[name]
        level, since = self._filled.get((call.region, name), (size, at))
        level = min(size, level + refill * max(0.0, (at - since).total_seconds()))
        ok = level >= 1
        self._filled[call.region, name] = (level - 1 if ok else level, at)
        return ok
