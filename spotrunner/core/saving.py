"""When a job's checkpoints are made, and which of them are kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Saving:
    """`auto`: as often as it pays, by what a save costs and how long instances last. `every_s`:
    at most so far apart. Neither: only as the trainer itself saves. Of the committed checkpoints
    the newest `keep_last` stay, and beside them one in `keep_every_steps` steps (None: no
    others)."""

    auto: bool = False
    every_s: int | None = None
    keep_last: int = 3
    keep_every_steps: int | None = None


# A trainer that is asked for checkpoints only by its users and by notices.
ASKED_FOR = Saving()

# Of a trainer that was asked for a checkpoint and ended by that, with what to change.
UNAWARE = "the trainer ended by SIGUSR1: teach it to save on it, or say save_signal: false"
