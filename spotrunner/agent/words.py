"""What the machine hears (events), and what it tells the world to do (instructions).

Every instruction that is a *task* is answered by exactly one event: its own answer, `Fenced`, or
`Undone`. At most one task is under way at a time; the machine gives the next one when the answer
is in. The other instructions are fire and forget, and come again at their own pace.
"""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass

from spotrunner.core.diagnosis import Diagnosis
from spotrunner.core.figures import ClockState, Copying, Figures
from spotrunner.core.model import CheckpointRef, Head, Order, Report


@dataclass(frozen=True, kw_only=True)
class Config:
    """Who the agent is, and the limits it lives by. Durations in seconds."""

    attempt: str
    box: str
    generation: int
    rank: int = 0
    # The paid time that the launch reserved; the first order replaces it.
    first_step_s: int = 1800
    # ... and an agent that starts later than that has so long to read it
    first_order_s: float = 120.0
    # -- endings: the trainer is told to stop `3 x (save + commit) + safety` before a deadline
    safety_s: float = 20.0
    # ... where nothing has been measured yet, a save and its commit count as this long together
    unmeasured_s: float = 15.0
    # the power goes off this long before `paid_until`, whatever is still under way
    off_margin_s: float = 10.0
    # an ordered stop has this long (Limits.stop_s: after that the daemon terminates the instance)
    stop_s: float = 300.0
    # a machine that goes down gives its services less (core/boot, TimeoutStopSec)
    down_s: float = 90.0
    # a trainer that was told to stop has at least this long before it is killed
    least_grace_s: float = 5.0
    # the last log upload and the last report may each take this long
    farewell_s: float = 30.0
    # -- the free first hour (Limits.first_hour_notice_s, free_idle_s)
    first_hour_notice_s: float = 3660.0
    free_idle_s: float = 300.0
    # -- paces
    order_s: float = 5.0
    urgent_order_s: float = 1.0
    head_s: float = 1.0
    report_s: float = 60.0
    watched_report_s: float = 10.0
    logs_s: float = 30.0
    watched_logs_s: float = 2.0
    # a clock that moved further than this between two events has jumped (the lab's `skip`)
    jump_s: float = 60.0
    # -- retries of a task: doubling from the first to the most, without end; a task that cannot
    # succeed as asked on any machine (no such image, no such object) is given up after this many
    first_retry_s: float = 1.0
    most_retry_s: float = 30.0
    hopeless_tries: int = 5
    # ... and one that finds the disk full, after this long: nobody makes room on the way up
    full_disk_s: float = 300.0
    # how often the power is switched off again while the machine still runs
    off_again_s: float = 30.0
    # -- a trainer without a sign of life is stalled after the larger of this time, so many of its
    # median steps, and so many times the longest silence that it has broken itself (one that tells
    # a line an epoch is silent for long); after its SIGABRT it has so long to print its stacks and
    # go
    stall_least_s: float = 600.0
    stall_steps: int = 20
    stall_silences: int = 2
    abort_grace_s: float = 30.0
    # ... and one that was found running has so long to show its first step, as a boot has
    stall_start_s: float = 3600.0
    # a trainer whose end is told so soon after we found it had ended before we came
    found_s: float = 10.0


class Sig(str, enum.Enum):
    """The signals of the trainer contract, and the end of patience."""

    SAVE = "SIGUSR1"
    STOP = "SIGTERM"
    ABORT = "SIGABRT"  # of a stalled trainer, for its stack traces
    KILL = "SIGKILL"


# -- instructions: tasks -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Identify:
    """Learn from IMDS that this is the attempt's instance. Answer: Identified."""


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Spec, workdir, data, image and secrets. `beside_trainer`: one that an earlier agent started
    is there already, so nothing that it uses may be touched. Answer: Fetched."""

    beside_trainer: bool = False


@dataclass(frozen=True, kw_only=True)
class TakeHead:
    """Take HEAD over, unless it says that we are at our end already. Answer: HeadTaken."""


@dataclass(frozen=True, kw_only=True)
class Restore:
    """Put the checkpoint into the trainer's folder, every digest verified. Answer: Restored, or
    Damaged where the stored bytes are not what the manifest says."""

    ref: CheckpointRef


@dataclass(frozen=True, kw_only=True)
class FallBack:
    """Swap HEAD to its previous checkpoint. Answer: HeadTaken."""

    damaged: CheckpointRef


@dataclass(frozen=True, kw_only=True)
class Commit:
    """Upload the complete checkpoint of `step` and swap HEAD to it. Answer: Committed."""

    step: int
    final: bool


@dataclass(frozen=True, kw_only=True)
class Finalize:
    """Swap HEAD to `final`: nothing more will come of us. Answer: Committed."""


@dataclass(frozen=True, kw_only=True)
class CommitOutputs:
    """Upload outputs and logs, their manifest last, and swap HEAD to `done`. `step` is the last
    one that the trainer told of. Answer: Committed."""

    step: int


@dataclass(frozen=True, kw_only=True)
class KeepLogs:
    """Upload the logs of an attempt that is not done. Answer: LogsKept."""


@dataclass(frozen=True, kw_only=True)
class Farewell:
    """Post the last report, and wait until it is there. Answer: Posted."""

    report: Report


Task = (
    Identify
    | Fetch
    | TakeHead
    | Restore
    | FallBack
    | Commit
    | Finalize
    | CommitOutputs
    | KeepLogs
    | Farewell
)

# -- instructions: fire and forget -------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StartTrainer:
    """`fresh`: from scratch, whatever may lie on the disk. Answered by TrainerExited, some day."""

    fresh: bool


@dataclass(frozen=True, kw_only=True)
class Adopt:
    """Watch the trainer that an earlier agent started, also one that has ended meanwhile: tell of
    the complete checkpoints that lie there, and of all that is new. Where it has to be stopped on
    the way up, this is said before the Fetch was answered. Answered by TrainerExited, some day."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    signal: Sig


@dataclass(frozen=True, kw_only=True)
class Post:
    """Put this report into the mailbox; a newer one may replace it on the way."""

    report: Report


@dataclass(frozen=True, kw_only=True)
class PollOrder:
    """Answer, only where there is a new one: OrderSeen."""


@dataclass(frozen=True, kw_only=True)
class ReadHead:
    """Answer: HeadSeen."""


@dataclass(frozen=True, kw_only=True)
class ShipLogs:
    """Upload what the trainer has written since the last time."""


@dataclass(frozen=True, kw_only=True)
class ArmTimer:
    """Let the machine end itself in so many minutes, with or without us."""

    minutes: int


@dataclass(frozen=True, kw_only=True)
class PowerOff:
    why: str


Instruction = (
    Task
    | StartTrainer
    | Adopt
    | Signal
    | Post
    | PollOrder
    | ReadHead
    | ShipLogs
    | ArmTimer
    | PowerOff
)

# -- events ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Started:
    """The agent runs: the first event there is. `booted_at`: when the machine came to its
    user-data, where that is known."""

    booted_at: dt.datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Tick:
    """Time has passed; due at `Machine.next_deadline()` at the latest."""


@dataclass(frozen=True, kw_only=True)
class Identified:
    """`launched_at` is None where IMDS does not say it. `has_trainer`: an earlier agent of this
    attempt has started one here, which runs or has ended."""

    launched_at: dt.datetime | None = None
    has_trainer: bool = False


@dataclass(frozen=True, kw_only=True)
class OrderSeen:
    order: Order


@dataclass(frozen=True, kw_only=True)
class NoticeSeen:
    """EC2 takes the instance at `at`."""

    at: dt.datetime


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """`stall_after_s` is the job's own word on it, if it has one."""

    handles_save_signal: bool = True
    stall_after_s: int | None = None


@dataclass(frozen=True, kw_only=True)
class ImageThere:
    """In the middle of a Fetch. `digest` is "" without a container; `baked`: it was there before
    anybody asked for it."""

    digest: str = ""
    baked: bool = False


@dataclass(frozen=True, kw_only=True)
class DataThere:
    """In the middle of a Fetch: workdir and data sets are in place."""


@dataclass(frozen=True, kw_only=True)
class Copied:
    """How far a copy of data is."""

    copying: Copying


@dataclass(frozen=True, kw_only=True)
class FiguresSeen:
    figures: Figures


@dataclass(frozen=True, kw_only=True)
class ClockSeen:
    clock: ClockState


@dataclass(frozen=True, kw_only=True)
class HeadSeen:
    head: Head | None


@dataclass(frozen=True, kw_only=True)
class HeadTaken:
    """HEAD as it stands now, with us as its holder; or with our own end in it (`final`), or with
    the job's (`done`)."""

    head: Head


@dataclass(frozen=True, kw_only=True)
class Fenced:
    """A later generation holds HEAD."""

    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Restored:
    """`moved_bytes`: what this agent has carried from and to the home bucket so far."""

    step: int
    moved_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Damaged:
    why: str


@dataclass(frozen=True, kw_only=True)
class Progressed:
    """A line of progress.jsonl."""

    step: int
    total_steps: int | None = None
    steps_per_s: float | None = None
    metrics: tuple[tuple[str, float], ...] = ()
    # of the time since the line before: a step, and the shares of it (core/figures)
    step_s: float | None = None
    input_wait_share: float | None = None
    gradient_sync_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class SaveTook:
    """The trainer says how long a save of its took."""

    save_s: float


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A complete checkpoint folder has appeared."""

    step: int


@dataclass(frozen=True, kw_only=True)
class Committed:
    """`commit_s` is the measured time of upload and swap; None where nothing was uploaded.
    `moved_bytes` as in Restored."""

    head: Head
    commit_s: float | None = None
    moved_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class LogsKept:
    """`why` the end of the log is not among them; empty where it is."""

    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Posted:
    pass


@dataclass(frozen=True, kw_only=True)
class TrainerExited:
    """`code` as a shell has it: 128 + n for signal n. `diagnosis`: where it is one of the ends that
    are known."""

    code: int
    log_tail: tuple[str, ...] = ()
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True, kw_only=True)
class Unfit:
    """This machine cannot run the trainer; another one may. Answers Fetch or StartTrainer."""

    why: str


@dataclass(frozen=True, kw_only=True)
class ShuttingDown:
    """The operating system ends us: the machine goes down."""


@dataclass(frozen=True, kw_only=True)
class Undone:
    """A task did not happen, or nobody knows. `hopeless`: trying again as it is will not help.
    `full`: the disk has no room for it."""

    task: Task
    why: str
    hopeless: bool = False
    full: bool = False


Event = (
    Started
    | Tick
    | Identified
    | OrderSeen
    | NoticeSeen
    | Fetched
    | ImageThere
    | DataThere
    | Copied
    | FiguresSeen
    | ClockSeen
    | HeadSeen
    | HeadTaken
    | Fenced
    | Restored
    | Damaged
    | Progressed
    | SaveTook
    | Saved
    | Committed
    | LogsKept
    | Posted
    | TrainerExited
    | Unfit
    | ShuttingDown
    | Undone
)
