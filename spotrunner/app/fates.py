"""What becomes of each instance in a panic, and what is told of it at the end."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from spotrunner.adapters.aws.census import Sighting
from spotrunner.core.model import Phase


class How(str, enum.Enum):
    """What became of an instance."""

    SAVED = "saved and ended itself"
    ITSELF = "ended itself"  # it held nothing to save, or EC2 took it
    SAVED_FIRST = "saved, then terminated"
    TERMINATED = "terminated"
    ALIVE = "still alive"


@dataclass(frozen=True, kw_only=True)
class Fate:
    """`told`: an order to save and stop lies in its box. `step` is where its job's checkpoint
    stands, where that is known."""

    sighting: Sighting
    how: How
    told: bool
    step: int | None
    note: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`silent` are regions that did not answer (to the last look), and `brakes` home buckets, both
    with the reason in words: an empty one is a brake that lies there."""

    regions: tuple[str, ...]
    fates: tuple[Fate, ...]
    silent: Mapping[str, str]
    brakes: Mapping[str, str]
    cancelled: tuple[tuple[str, str], ...]  # (region, spot request)
    troubles: tuple[str, ...]

    @property
    def done(self) -> bool:
        left = any(fate.how is How.ALIVE for fate in self.fates)
        brakeless = any(self.brakes.values())
        return not (left or brakeless or self.silent or self.troubles)


# After these words of an agent nothing more comes of it, and what it held is committed.
_SAVED = (Phase.STOPPED, Phase.DONE, Phase.IDLE, Phase.UNPAID)
SPENT = (*_SAVED, Phase.FAILED, Phase.FAULT, Phase.FENCED)


@dataclass(kw_only=True)
class Case:
    """One instance, and what we know and did."""

    sighting: Sighting
    note: str = ""
    trouble: str = ""  # why it could not be terminated
    ordered: bool = False
    hopeless: bool = False  # it cannot be told to save
    phase: Phase | None = None
    spent_at: float | None = None
    ended: bool = False  # EC2 says so, and we have not asked for it
    terminated: bool = False
    step: int | None = None
    holds_final: bool = False

    @property
    def id(self) -> str:
        return self.sighting.instance.id

    @property
    def region(self) -> str:
        return self.sighting.instance.pool.region

    @property
    def attempt(self) -> str:
        return self.sighting.instance.attempt_id or ""

    @property
    def alive(self) -> bool:
        return not (self.ended or self.terminated)

    @property
    def how(self) -> How:
        saved = self.holds_final or self.phase in _SAVED
        if self.terminated:
            return How.SAVED_FIRST if saved else How.TERMINATED
        if self.ended:
            return How.SAVED if saved else How.ITSELF
        return How.ALIVE
