"""A trainer in virtual time: steps at a steady pace, periodic saves, the contract's signals."""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
from dataclasses import dataclass

from spotrunner.agent import words as w

RESUMABLE = 75


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a job's trainer behaves. `fails_at_step` exits with 1 there, in every attempt."""

    total_steps: int = 36_000
    steps_per_s: float = 10.0
    save_every_steps: int = 3_000
    save_s: float = 2.0
    import_s: float = 10.0
    fails_at_step: int | None = None
    deaf: bool = False  # ignores SIGTERM


class SimTrainer:
    """One process of it, from its start until its exit. `due` gives the agent's events in time."""

    def __init__(self, training: Training, step: int, now: dt.datetime) -> None:
        self.training = training
        self.saved = step
        self.exited = False
        self._base = step
        self._from = now + dt.timedelta(seconds=training.import_s)
        self._events: list[tuple[dt.datetime, int, w.Event]] = []
        self._numbers = itertools.count()
        self._said = step
        self._leaves = False
        self._last: int | None = None  # where it stopped

    def step(self, now: dt.datetime) -> int:
        """The last step that is complete."""
        if self._last is not None:
            return self._last
        run_s = max(0.0, (now - self._from).total_seconds())
        step = self._base + int(run_s * self.training.steps_per_s)
        ends = [self.training.total_steps]
        if self.training.fails_at_step is not None:
            ends.append(max(self._base, self.training.fails_at_step))
        return min(step, *ends)

    def signal(self, signal: w.Sig, now: dt.datetime) -> None:
        if signal is w.Sig.KILL:
            self._events.clear()
            self._last = self.step(now)
            self._exit(137, now)
        elif signal is w.Sig.SAVE and now >= self._from:
            self._save(self.step(now), now)
        elif signal is w.Sig.STOP and not self.training.deaf and not self._leaves:
            self._leaves = True
            self._last = self.step(now)
            saved_at = self._save(self._last, now) if now >= self._from else now
            self._exit(RESUMABLE, saved_at)

    def due(self, now: dt.datetime) -> list[w.Event]:
        """What the agent sees of it until now."""
        if not self.exited and not self._leaves:
            self._train(now)
        events = []
        while self._events and self._events[0][0] <= now:
            event = heapq.heappop(self._events)[2]
            if isinstance(event, w.TrainerExited):
                self.exited = True
            events.append(event)
        return events

    def _train(self, now: dt.datetime) -> None:
        step, training = self.step(now), self.training
        if now >= self._from and step > self._said:
            self._said = step
            self._push(
                now,
                w.Progressed(
                    step=step,
                    total_steps=training.total_steps,
                    steps_per_s=training.steps_per_s,
                ),
            )
        newest = step - step % training.save_every_steps
        if newest > self.saved:
            self._save(newest, now)
        if training.fails_at_step is not None and step >= training.fails_at_step:
            self._leaves = True
            self._exit(1, now, ("ValueError: the loss is NaN",))
        elif step >= training.total_steps:
            self._leaves = True
            self._exit(0, self._save(step, now))

    def _save(self, step: int, now: dt.datetime) -> dt.datetime:
        """A save at a step that is saved already writes nothing."""
        if step <= self.saved:
            return now
        self.saved = step
        at = now + dt.timedelta(seconds=self.training.save_s)
        self._push(at, w.SaveTook(save_s=self.training.save_s))
        self._push(at, w.Saved(step=step))
        return at

    def _exit(self, code: int, at: dt.datetime, log_tail: tuple[str, ...] = ()) -> None:
        self._push(at, w.TrainerExited(code=code, log_tail=log_tail))

    def _push(self, at: dt.datetime, event: w.Event) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), event))
