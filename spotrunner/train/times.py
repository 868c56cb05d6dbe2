"""How long steps take, and which share of that waits for input.

Every batch that is looked at notes when it was made, on the thread that makes it: a step that
began before has waited for it so long. Nothing stands between the pipeline and the training, so
that looking costs the training nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

# One batch in so many is looked at: with no factor in common with the number of batches that are
# made at a time (data.PREFETCH_BATCHES), since they come in bunches and only the first is waited
# for.
EVERY = 7


@dataclass(frozen=True, kw_only=True)
class Taken:
    """`input_wait_share` is None where no step of them was looked at."""

    step_s: float
    input_wait_share: float | None


class StepTimes:
    """`made` is called by the pipeline's threads, everything else by the one that trains."""

    def __init__(self, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._clock_s = clock_s
        self._made_s: dict[int, float] = {}
        self._is_first = True
        self._step = 0
        self._began_s = 0.0
        self._forget()

    def made(self, step: int) -> None:
        """The batch of this step waits in the pipeline from now on."""
        self._made_s[step] = self._clock_s()

    def starts(self) -> None:
        """A `fit`. Its first step compiles and fills the pipeline, so it tells nothing."""
        self._is_first = True

    def begins(self, step: int) -> None:
        self._step = step
        self._began_s = self._clock_s()

    def ends(self, steps: int = 1) -> None:
        """So many at once: `steps_per_execution`."""
        span_s = self._clock_s() - self._began_s
        made_s = self._made_s.pop(self._step, None)
        if self._is_first:
            self._is_first = False
            self._made_s = {step: at for step, at in self._made_s.items() if step > self._step}
            return
        self._steps += steps
        self._span_s += span_s
        if made_s is not None:
            self._looked_s += span_s
            self._waited_s += min(span_s, max(0.0, made_s - self._began_s))

    def take(self) -> Taken | None:
        """Of the steps since the last time; None where there were none."""
        if self._steps == 0 or self._span_s <= 0:
            return None
        share = self._waited_s / self._looked_s if self._looked_s > 0 else None
        taken = Taken(step_s=self._span_s / self._steps, input_wait_share=share)
        self._forget()
        return taken

    def _forget(self) -> None:
        self._steps = 0
        self._span_s = self._looked_s = self._waited_s = 0.0
