"""A trainer in virtual time: steps at a steady pace, periodic saves, the contract's signals."""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
from dataclasses import dataclass

from spotrunner.agent import words as w

RESUMABLE = 75
# What no trainer can hear and go on.
_ENDS = {w.Sig.KILL: 137, w.Sig.ABORT: 134}
_UNAWARE = 138


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a job's trainer behaves. `fails_at_step` exits with 1 there, and `stalls_at_step` hangs
    there, in every attempt."""

    total_steps: int = 36_000
    steps_per_s: float = 10.0
    save_every_steps: int = 3_000
    save_s: float = 2.0
    import_s: float = 10.0
    fails_at_step: int | None = None
    stalls_at_step: int | None = None
    deaf: bool = False  # ignores SIGTERM
    unaware: bool = False  # knows no SIGUSR1, and ends by it


class SimTrainer:
    """One process of it, from its start until its exit. `due` gives the agent's events in time."""

    def __init__(self, training: Training, step: int, now: dt.datetime) -> None:
        self.training = training
        self.saved = step
        self.exited = False
        self.code: int | None = None
        # the newest checkpoint that is complete on the disk
        self.complete = step
        self._base = step
        self._from = now + dt.timedelta(seconds=training.import_s)
        self._events: list[tuple[dt.datetime, int, w.Event]] = []
        self._numbers = itertools.count()
        self._said = step
        self._leaves = False
        self._hangs = False
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
        if self.training.stalls_at_step is not None:
            ends.append(max(self._base, self.training.stalls_at_step))
        return min(step, *ends)

    def stall(self, now: dt.datetime) -> None:
        """It hangs from now on, in the middle of whatever it does: no signal but those that end a
        process reaches it."""
        if not self._leaves:
            self._hangs = True
            self._last = self.step(now)
            self._events = [event for event in self._events if event[0] <= now]
            heapq.heapify(self._events)

    @property
    def hangs(self) -> bool:
        return self._hangs and not self.exited

    def signal(self, signal: w.Sig, now: dt.datetime) -> None:
        if signal in _ENDS:
            self._end(_ENDS[signal], now)
        elif signal is w.Sig.SAVE and self.training.unaware:
            self._end(_UNAWARE, now)
        elif self._hangs:
            return
        elif signal is w.Sig.SAVE and now >= self._from:
            self._save(self.step(now), now)
        elif signal is w.Sig.STOP and not self.training.deaf and not self._leaves:
            self._leaves = True
            self._last = self.step(now)
            saved_at = self._save(self._last, now) if now >= self._from else now
            self._exit(RESUMABLE, saved_at)

    def _end(self, code: int, now: dt.datetime) -> None:
        if self.exited:
            return
        self._events.clear()
        self._last = self.step(now)
        self._leaves = True
        self._exit(code, now)

    def due(self, now: dt.datetime) -> list[w.Event]:
        """What the agent sees of it until now."""
        if not self.exited and not self._leaves and not self._hangs:
            self._train(now)
        events = []
        while self._events and self._events[0][0] <= now:
            event = heapq.heappop(self._events)[2]
            if isinstance(event, w.TrainerExited):
                self.exited, self.code = True, event.code
            elif isinstance(event, w.Saved):
                self.complete = event.step
            events.append(event)
        return events

    def found(self) -> list[w.Event]:
        """What an agent sees that was not there: the checkpoints on the disk, and an end."""
        events: list[w.Event] = [w.Saved(step=self.complete)] if self.complete else []
        if self.code is not None:
            events.append(w.TrainerExited(code=self.code))
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
        if training.stalls_at_step is not None and step >= training.stalls_at_step:
            self.stall(now)
        elif training.fails_at_step is not None and step >= training.fails_at_step:
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
