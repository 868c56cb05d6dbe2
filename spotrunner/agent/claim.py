"""HEAD as the machine knows it, and its claim on it: asked for, held, and what it is owed."""

from __future__ import annotations

import datetime as dt

from spotrunner.agent import words as w
from spotrunner.core.head import may_write
from spotrunner.core.model import Head, Order


class Claim:
    def __init__(self, config: w.Config) -> None:
        self._config = config
        self.head: Head | None = None  # the last one we saw
        self.asked = False
        self.holds = False
        self.damaged = False

    # -- what became of it ---------------------------------------------------------------------

    def taken(self, head: Head) -> None:
        self.head = head
        self.damaged = False
        self.holds = head.done is None

    def give_up(self) -> None:
        """HEAD stays as it is: what comes next has to judge by that."""
        self.holds = self.asked = False

    def may_write(self, head: Head | None) -> bool:
        config = self._config
        return may_write(head, attempt=config.attempt, generation=config.generation)

    @property
    def step(self) -> int:
        return self.head.step if self.head else 0

    @property
    def is_done(self) -> bool:
        return self.head is not None and self.head.done is not None

    @property
    def is_unanswered(self) -> bool:
        """We asked for it and never heard: if it is ours, the next one waits for us."""
        return self.asked and not self.holds and not self.is_done

    # -- the way up ----------------------------------------------------------------------------

    def may_take(self, order: Order | None, now: dt.datetime) -> bool:
        """Whether it is ours to take: nobody is replaced, or the one who is has let go of it."""
        if order is None:
            return False
        take_over, head = order.take_over, self.head
        if take_over is None or take_over.now:
            return True
        if take_over.by is not None and now >= take_over.by:
            return True
        if head is None:
            return False
        return head.final or head.done is not None or head.attempt == self._config.attempt

    def restore(self) -> w.Task:
        assert self.head is not None
        assert self.head.manifest is not None
        if self.damaged:
            return w.FallBack(damaged=self.head.manifest)
        return w.Restore(ref=self.head.manifest)

    # -- what it is owed -----------------------------------------------------------------------

    def commit(self, newest_step: int, *, final: bool = False) -> w.Task | None:
        if not self.holds or self.head is None or newest_step <= self.head.step:
            return None
        return w.Commit(step=newest_step, final=final)

    def last(self, newest_step: int) -> w.Task | None:
        """Now that the trainer is gone."""
        if not self.holds or self.head is None or self.is_done:
            return None
        if newest_step > self.head.step:
            return self.commit(newest_step, final=True)
        return None if self.head.final else w.Finalize()
