"""What the daemon and the agents tell each other: orders and reports, and what is in them."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass

from spotrunner.core.diagnosis import Diagnosis
from spotrunner.core.figures import ClockState, Copying, Figures
from spotrunner.core.milestones import NOTHING_REACHED, Milestones


@dataclass(frozen=True, kw_only=True)
class Notice:
    """EC2's word that it takes an instance at `at`; `seen_at` is when the agent read it."""

    at: dt.datetime
    seen_at: dt.datetime


class Verb(str, enum.Enum):
    """What an order tells an agent."""

    RUN = "run"
    STOP = "stop"  # save, commit as final, power off


@dataclass(frozen=True, kw_only=True)
class TakeOver:
    """When a replacement may take HEAD from its predecessor, beside HEAD being `final`:
    at once when `now` (the predecessor is gone, or silent), or when the time `by` has passed."""

    attempt: str
    now: bool = False
    by: dt.datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the daemon wants of the agent that serves `box`. `(epoch, n)` only rises."""

    box: str
    epoch: int
    n: int
    attempt: str
    generation: int
    verb: Verb
    paid_until: dt.datetime
    why: str = ""
    take_over: TakeOver | None = None
    # The replacement of this attempt has everything in place: save, commit as final and hand over.
    replacement_ready: bool = False
    checkpoints_asked: int = 0
    watched: bool = False
    # How old the last checkpoint may become before the trainer is asked for another one; None: it
    # saves when it wants to.
    save_every_s: int | None = None
    # False: its job's trainer knows no SIGUSR1, as the job says or as an earlier attempt showed.
    handles_save_signal: bool = True


class Phase(str, enum.Enum):
    """Where an agent is."""

    BOOT = "boot"
    FETCH = "fetch"  # workdir and data
    READY = "ready"  # everything in place, waits for HEAD
    RESTORE = "restore"
    TRAIN = "train"
    HANDOVER = "handover"  # SIGTERM sent; final save and commit under way
    IDLE = "idle"  # committed as final; waits for EC2 to take the instance
    DONE = "done"  # outputs committed
    FAILED = "failed"  # the trainer failed
    FAULT = "fault"  # this instance cannot train: another one may
    STOPPED = "stopped"  # stopped by an order, committed
    UNPAID = "unpaid"  # stopped at the end of its paid time, committed
    FENCED = "fenced"  # a later generation holds HEAD


@dataclass(frozen=True, kw_only=True)
class Report:
    """What an agent says of itself. Times are the agent's (server) time."""

    attempt: str
    box: str
    at: dt.datetime
    phase: Phase
    rank: int = 0
    step: int | None = None
    total_steps: int | None = None
    steps_per_s: float | None = None
    metrics: tuple[tuple[str, float], ...] = ()
    # the last checkpoint that this attempt committed
    committed_step: int | None = None
    committed_at: dt.datetime | None = None
    notice: Notice | None = None
    first_step_at: dt.datetime | None = None
    save_s: float | None = None
    commit_s: float | None = None
    exit_code: int | None = None
    # between the instance and the home bucket so far: checkpoints, both ways, and outputs
    moved_bytes: int | None = None
    message: str = ""
    log_tail: tuple[str, ...] = ()
    order_n: int = 0
    # -- the machine and its container
    milestones: Milestones = NOTHING_REACHED
    figures: Figures | None = None
    clock: ClockState | None = None
    copying: Copying | None = None
    # the image that was pulled, by its digest; "" where there is none
    image_digest: str = ""
    # why the trainer ended as it did, where its end is one of those that are known (core/diagnosis)
    diagnosis: Diagnosis | None = None
    # how often a stalled trainer was started again in place, when one was last found stalled, and
    # the last sign of life of any: a line of progress, a complete checkpoint
    restarts: int = 0
    stalled_at: dt.datetime | None = None
    alive_at: dt.datetime | None = None
    # False: it was asked for a checkpoint with SIGUSR1 and ended by that
    handles_save_signal: bool = True

    @property
    def is_stalled(self) -> bool:
        """Its trainer has given no sign of life since it was found stalled."""
        stalled_at, alive_at = self.stalled_at, self.alive_at
        return stalled_at is not None and (alive_at is None or alive_at <= stalled_at)
