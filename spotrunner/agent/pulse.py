"""The trainer's signs of life: when it gave the last one, and how long it may go without one."""

from __future__ import annotations

import collections
import datetime as dt
import statistics

from spotrunner.agent.words import Config

# The median is of so many steps at most: a pace may change.
_STEPS = 21


class Pulse:
    """`begins` with each start of a trainer, `beats` at every sign. A line of progress and a
    complete checkpoint are signs; only a step shows how long a silence may be."""

    def __init__(self, config: Config) -> None:
        self._config = config
        # the job's own word on how long a silence may last
        self.stall_after_s: int | None = None
        self._began_at: dt.datetime | None = None
        self._at: dt.datetime | None = None
        self._base_step = 0
        self._within_s: float | None = None
        self._unproven = 1
        self._news_at: dt.datetime | None = None
        self._start_s = 0.0
        self._longest_s = 0.0
        self._told: tuple[int, dt.datetime] | None = None
        self._steps_s: collections.deque[float] = collections.deque(maxlen=_STEPS)
        self._median_s = 0.0

    def begins(self, now: dt.datetime, step: int, *, within_s: float | None = None) -> None:
        """A trainer goes on from `step`, and should make a step of its own `within_s`. None: the
        daemon's limit of a boot is all that counts until then."""
        self._began_at = self._at = self._news_at = now
        self._base_step = step
        self._within_s = within_s
        self._unproven = 1
        self._told = None

    def found(self, now: dt.datetime, step: int) -> None:
        """One that runs already, in a silence of unknown length. What is told at once is what lay
        there; of its own silences we know one when two signs have come."""
        self.begins(now, step, within_s=self._config.stall_start_s)
        self._news_at = now + dt.timedelta(seconds=self._config.found_s)
        self._unproven = 2
        # Nobody knows any more how long its start took.
        self._start_s = self._config.stall_start_s

    def beats(self, now: dt.datetime, step: int | None = None) -> None:
        """A sign of life; `step` is the one that it tells of."""
        if self._began_at is None or self._at is None or self._news_at is None:
            return
        if now < self._news_at:
            self._base_step = max(self._base_step, step or 0)
            return
        self._longest_s = max(self._longest_s, (now - self._at).total_seconds())
        self._at = now
        if step is None or step <= self._base_step:
            return
        if self._unproven:
            self._unproven -= 1
            self._start_s = self._start_s or (now - self._began_at).total_seconds()
        self._measure(now, step)

    def jumped(self, by: dt.timedelta) -> None:
        """The clock was moved: nobody could have given a sign in that time."""
        if self._began_at is not None and self._at is not None:
            self._began_at += by
            self._at += by
        if self._told is not None:
            self._told = (self._told[0], self._told[1] + by)

    @property
    def stalls_at(self) -> dt.datetime | None:
        """When it counts as stalled if it gives no sign until then; None while nothing can be
        expected of it yet."""
        if self._began_at is None or self._at is None:
            return None
        if not self._unproven:
            return self._at + dt.timedelta(seconds=self._patience_s)
        if self._within_s is None:
            return None
        return self._began_at + dt.timedelta(seconds=self._within_s)

    @property
    def restart_s(self) -> float:
        """How long a trainer that is started again may take to its first step: as long as the first
        start took, and a silence."""
        return self._start_s + self._patience_s

    @property
    def _patience_s(self) -> float:
        if self.stall_after_s is not None:
            return float(self.stall_after_s)
        config = self._config
        by_steps_s = config.stall_steps * self._median_s
        return max(config.stall_least_s, by_steps_s, config.stall_silences * self._longest_s)

    def _measure(self, now: dt.datetime, step: int) -> None:
        last = self._told
        if last is not None and step <= last[0]:
            return
        self._told = (step, now)
        if last is not None:
            self._steps_s.append((now - last[1]).total_seconds() / (step - last[0]))
            self._median_s = statistics.median(self._steps_s)
