"""The contract's progress file: one JSON object a line, readable while it grows."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from spotrunner.train.times import Taken


class ProgressLog:
    """Appends lines to `progress.jsonl`; every line is one write, so a reader never sees half."""

    def __init__(self, path: Path, *, total_steps: int) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._total_steps = total_steps
        self._end_torn_line()

    def step(
        self,
        step: int,
        *,
        epoch: int,
        metrics: Mapping[str, float],
        steps_per_s: float | None,
        taken: Taken | None = None,
    ) -> None:
        rate = None if steps_per_s is None else round(steps_per_s, 3)
        line = {"step": step, "epoch": epoch, "metrics": finite(metrics), "steps_per_s": rate}
        self._write({**line, **_times(taken)})

    def saved(self, step: int, *, name: str, save_s: float) -> None:
        self._write({"step": step, "saved": name, "save_s": round(save_s, 4)})

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self, fields: Mapping[str, object]) -> None:
        line = {"step": fields["step"], "total_steps": self._total_steps, **fields}
        os.write(self._descriptor, (json.dumps(line, allow_nan=False) + "\n").encode())

    def _end_torn_line(self) -> None:
        # A machine that lost power may have left half a line: what follows must not join it.
        size_bytes = os.fstat(self._descriptor).st_size
        if size_bytes and os.pread(self._descriptor, 1, size_bytes - 1) != b"\n":
            os.write(self._descriptor, b"\n")


def _times(taken: Taken | None) -> dict[str, float]:
    """Keys of what is known."""
    if taken is None:
        return {}
    times = {"step_s": float(f"{taken.step_s:.4g}")}
    if taken.input_wait_share is not None:
        times["input_wait_share"] = round(taken.input_wait_share, 3)
    return times


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """The metrics as JSON can say them: null for what is no number."""
    return {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}
