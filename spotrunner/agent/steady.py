"""Tells the time in which the trainer made steps from that in which it did anything else.

A GPU idles while a checkpoint is restored, a graph compiled, or a validation read; advice rests on
the steps alone. What was measured between two lines of progress counts once the second tells of a
later step than the first, and the first interval does not: it has the compilation in it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from spotrunner.agent.words import Progressed

# What is told covers the last minutes of training, and at least two of them.
WINDOW_S = 300.0
ENOUGH_S = 120.0
# A trainer may tell a line an hour; of its looks so many are remembered.
_MOST_LOOKS = 360


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """The time between two lines of progress."""

    span_s: float
    steps: int
    looks: tuple[float, ...]
    step_s: float | None
    input_wait_share: float | None
    gradient_sync_share: float | None


class Steady:
    """Times are of any clock that does not jump, in seconds."""

    def __init__(self) -> None:
        self._waiting: deque[float] = deque(maxlen=_MOST_LOOKS)
        self._line: tuple[float, int] | None = None
        self._warm = False
        self._stretches: deque[_Stretch] = deque()
        self._covered_s = 0.0

    def looked(self, busy_share: float) -> None:
        """How busy the GPUs are just now."""
        self._waiting.append(busy_share)

    def restarted(self) -> None:
        """Another trainer, which compiles anew."""
        self._waiting.clear()
        self._line, self._warm = None, False

    def progressed(self, line: Progressed, at_s: float) -> None:
        before, self._line = self._line, (at_s, line.step)
        looks = tuple(self._waiting)
        self._waiting.clear()
        if before is None or line.step <= before[1]:
            return
        if not self._warm:
            self._warm = True
            return
        self._add(
            _Stretch(
                span_s=at_s - before[0],
                steps=line.step - before[1],
                looks=looks,
                step_s=line.step_s,
                input_wait_share=line.input_wait_share,
                gradient_sync_share=line.gradient_sync_share,
            )
        )

    @property
    def busy_share(self) -> float | None:
        looks = [look for each in self._stretches for look in each.looks]
        if not looks or not self._is_enough:
            return None
        return round(sum(looks) / len(looks), 3)

    @property
    def step_s(self) -> float | None:
        """Each line's own figure, weighted by its steps; else the pace of the lines."""
        if not self._is_enough:
            return None
        steps = sum(each.steps for each in self._stretches)
        spent_s = sum(_step_s(each) * each.steps for each in self._stretches)
        return float(f"{spent_s / steps:.4g}")

    @property
    def input_wait_share(self) -> float | None:
        return self._mean([(each.span_s, each.input_wait_share) for each in self._stretches])

    @property
    def gradient_sync_share(self) -> float | None:
        return self._mean([(each.span_s, each.gradient_sync_share) for each in self._stretches])

    @property
    def _is_enough(self) -> bool:
        return self._covered_s >= ENOUGH_S

    def _mean(self, told: list[tuple[float, float | None]]) -> float | None:
        known = [(span_s, share) for span_s, share in told if share is not None]
        all_s = sum(span_s for span_s, _ in known)
        if not self._is_enough or all_s <= 0:
            return None
        return round(sum(span_s * share for span_s, share in known) / all_s, 3)

    def _add(self, stretch: _Stretch) -> None:
        self._stretches.append(stretch)
        self._covered_s += stretch.span_s
        while self._covered_s - self._stretches[0].span_s >= WINDOW_S:
            self._covered_s -= self._stretches.popleft().span_s


def _step_s(stretch: _Stretch) -> float:
    return stretch.span_s / stretch.steps if stretch.step_s is None else stretch.step_s
