"""The keys of a job file that say when its checkpoints are made, which of them stay, and how long a
trainer may be silent."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt

from spotrunner.core.saving import Saving
from spotrunner.web import moments, nights

AUTO, NONE = "auto", "none"
# Shorter than this a trainer would do little else.
LEAST_INTERVAL_S = 60
LEAST_STALL_S = 60
MOST_KEPT = 1000
MOST_STEPS = 10**12


def _interval(value: Any) -> str:
    if isinstance(value, str) and value.strip() in (AUTO, NONE):
        return value.strip()
    text = value.strip() if isinstance(value, str) else ""
    every_s = moments.seconds(text)
    if every_s is None or not LEAST_INTERVAL_S <= every_s <= nights.MAX_TIME_S:
        raise ValueError(
            f"expected {AUTO}, {NONE}, or a duration of at least 1m such as 10m, found {value!r}"
        )
    return text


def _stall(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    after_s = moments.seconds(text)
    if after_s is None or not LEAST_STALL_S <= after_s <= nights.MAX_TIME_S:
        raise ValueError(f"expected a duration of at least 1m such as 30m, found {value!r}")
    return text


StallAfter = Annotated[str, BeforeValidator(_stall)]


class CheckpointFile(BaseModel):
    """`interval`: how old the last checkpoint may become before another one is asked for. Of those
    that were committed the newest `keep_last` stay, and one in `keep_every` steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interval: Annotated[str, BeforeValidator(_interval)] = AUTO
    keep_last: Annotated[StrictInt, Field(ge=1, le=MOST_KEPT)] = 3
    keep_every: Annotated[StrictInt, Field(ge=1, le=MOST_STEPS)] | None = None


def unasked_problem(file: CheckpointFile, handles_save_signal: bool) -> str | None:
    """An interval that was written out, for a trainer that cannot be asked."""
    if handles_save_signal or file.interval == NONE or "interval" not in file.model_fields_set:
        return None
    return (
        f"interval: {file.interval} asks the trainer for checkpoints with SIGUSR1, and with"
        " save_signal: false it knows no such signal: leave one of the two out"
    )


def saving(file: CheckpointFile, handles_save_signal: bool) -> Saving:
    asked = handles_save_signal and file.interval != NONE
    is_auto = asked and file.interval == AUTO
    return Saving(
        auto=is_auto,
        every_s=moments.seconds(file.interval) if asked and not is_auto else None,
        keep_last=file.keep_last,
        keep_every_steps=file.keep_every,
    )
