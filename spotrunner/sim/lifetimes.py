"""One instance of a back-test, from its launch to its end: boot, training, commits, handover.

It does what the agent does (agent/machine), in events instead of seconds: it saves at a notice and
trains on until shortly before its end, hands over to a replacement that is ready, idles through a
first hour that EC2 gives for free, and powers itself off before its paid time is over.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from spotrunner.core import head as swaps
from spotrunner.core.model import (
    Attempt,
    CheckpointRef,
    EndedBy,
    Head,
    Instance,
    InstanceState,
    Market,
    Notice,
    Order,
    Phase,
    Report,
    Verb,
)
from spotrunner.sim.scene import Taking

_BEFORE_TRAINING = (Phase.BOOT, Phase.FETCH, Phase.READY, Phase.RESTORE)


@dataclass(frozen=True, kw_only=True)
class Paces:
    """How long an instance takes for what it does, in seconds. `changeover_s` is from the request
    of a launch to its first step; `checkpoint_every_s` between two commits; `lag_s` until the
    daemon has heard of something and acts on it."""

    changeover_s: float = 300.0
    checkpoint_every_s: float = 600.0
    boot_s: float = 40.0  # to the agent's first word
    restore_s: float = 10.0  # from HEAD to the first step
    commit_s: float = 5.0  # a save and its commit
    notice_s: float = 120.0  # EC2's word ahead of the end
    safety_s: float = 15.0  # what is kept free before a deadline
    lag_s: float = 5.0
    free_notice_s: float = 3660.0  # an end announced for up to here is in the free first hour

    def __post_init__(self) -> None:
        assert self.changeover_s >= self.boot_s + self.restore_s, "a boot is part of a changeover"
        assert self.checkpoint_every_s > self.commit_s, "a commit takes less than what it is every"


class Work:
    """The job's HEAD, as its instances see and swap it. A step is a second of work on the job's
    first type."""

    def __init__(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self.head: Head | None = None
        self.done_at: dt.datetime | None = None

    @property
    def step(self) -> int:
        return self.head.step if self.head else 0

    def holds(self, attempt: Attempt) -> bool:
        return self.head is not None and self.head.attempt == attempt.id

    def take(self, attempt: Attempt) -> None:
        self.head = swaps.taken_over(
            self.head, attempt=attempt.id, generation=attempt.generation, nonce=""
        )

    def commit(self, step: int, *, final: bool) -> None:
        assert self.head is not None
        if step > self.head.step:
            ref = CheckpointRef(folder=f"{step}", step=step, manifest_sha256="")
            self.head = swaps.committed(self.head, ref, final=final, nonce="")
        elif final:
            self.head = swaps.finalized(self.head, nonce="")

    def finish(self, at: dt.datetime) -> None:
        self.commit(self.total_steps, final=True)
        assert self.head is not None
        self.head = swaps.finished(self.head, outputs="outputs", nonce="")
        self.done_at = at


class Life:
    """`rate` is steps a second on this type; `taking`: when EC2 takes it, if it does."""

    def __init__(
        self, attempt: Attempt, rate: float, taking: Taking | None, work: Work, paces: Paces
    ) -> None:
        assert attempt.launched_at is not None
        self.attempt = attempt
        self.phase = Phase.BOOT
        self.notice: Notice | None = None
        self.ended_at: dt.datetime | None = None
        self.ended_by: EndedBy | None = None
        self.first_step_at: dt.datetime | None = None
        self.committed: tuple[dt.datetime, int] | None = None
        self._rate = rate
        self._taking = taking
        self._work = work
        self._paces = paces
        self._launched_at = attempt.launched_at
        self._boots_at = self._launched_at + _s(paces.boot_s)
        self._ready_at = self._launched_at + _s(paces.changeover_s - paces.restore_s)
        self._trains_at: dt.datetime | None = None
        self._from_step = 0
        self._commit_at: dt.datetime | None = None  # the next one of its own pace
        self._saved_at: dt.datetime | None = None  # the commit that the notice forces
        self._ending: tuple[Phase, dt.datetime, int] | None = None  # outcome, end, last step
        self._order: Order | None = None

    # -- what others see -----------------------------------------------------------------------

    def report(self, now: dt.datetime) -> Report | None:
        """The agent's last word; None before its first."""
        if self.phase is Phase.BOOT:
            return None
        is_training = self.first_step_at is not None
        return Report(
            attempt=self.attempt.id,
            box=self.attempt.id,
            at=self.ended_at or now,
            phase=self.phase,
            step=self._step_at(now) if is_training else None,
            total_steps=self._work.total_steps if is_training else None,
            steps_per_s=self._rate if is_training else None,
            committed_step=self.committed[1] if self.committed else None,
            committed_at=self.committed[0] if self.committed else None,
            notice=self.notice,
            first_step_at=self.first_step_at,
        )

    def instance(self) -> Instance:
        offer, has_ended = self.attempt.offer, self.ended_at is not None
        return Instance(
            id=f"i-{self.attempt.id}",
            pool=offer.pool,
            market=offer.market,
            state=InstanceState.ENDED if has_ended else InstanceState.RUNNING,
            launched_at=self._launched_at,
            job_id=self.attempt.job_id,
            attempt_id=self.attempt.id,
            ended_at=self.ended_at,
            ended_by=self.ended_by,
        )

    # -- events --------------------------------------------------------------------------------

    def next_at(self) -> dt.datetime | None:
        return min((at for at, _ in self._due()), default=None)

    def run(self, now: dt.datetime) -> bool:
        """Do what is due at `now`; whether the daemon would want to know."""
        is_news = False
        while True:
            due = [act for at, act in self._due() if at <= now]
            if not due:
                return is_news
            is_news = due[0](now) or is_news

    def _due(self) -> Iterator[tuple[dt.datetime, Callable[[dt.datetime], bool]]]:
        """What comes next, each with its time; of two at one time the first one happens."""
        if self.ended_at is not None:
            return
        if self._commit_at is not None:
            yield self._done_at(), self._finish
        if self._taking is not None:
            taken_at = self._taking.notice_at + _s(self._paces.notice_s)
            yield taken_at, self._be_taken
            if self.notice is None:
                yield self._taking.notice_at, self._hear_notice
        yield from self._due_by_phase()
        if self._saved_at is not None:
            yield self._saved_at, self._save
        if self._ending is not None and self.phase is Phase.HANDOVER:
            yield self._ending[1], self._leave
        elif self._ending is None:
            yield self._paid_stop(), self._run_out
        if self.phase is Phase.IDLE:
            yield self._paid_off(), self._off

    def _due_by_phase(self) -> Iterator[tuple[dt.datetime, Callable[[dt.datetime], bool]]]:
        if self.phase is Phase.BOOT:
            yield self._boots_at, self._speak
        elif self.phase is Phase.FETCH:
            yield self._ready_at, self._get_ready
        elif self.phase is Phase.READY:
            by = self._order.take_over.by if self._order and self._order.take_over else None
            if by is not None:
                yield by, self._take_head
        elif self.phase is Phase.RESTORE:
            assert self._trains_at is not None
            yield self._trains_at, self._train
        elif self.phase is Phase.TRAIN:
            assert self._commit_at is not None
            yield self._commit_at, self._commit
            if self.notice is not None:
                yield self.notice.at - self._stop_margin(), self._give_way

    # -- the way up ----------------------------------------------------------------------------

    def _speak(self, now: dt.datetime) -> bool:
        self.phase = Phase.FETCH
        return False

    def _get_ready(self, now: dt.datetime) -> bool:
        self.phase = Phase.READY
        return not self.try_head(now)

    def try_head(self, now: dt.datetime) -> bool:
        """Take HEAD if it waits for it and may (agent/claim.may_take)."""
        if self.phase is not Phase.READY or self._order is None:
            return False
        take_over, head = self._order.take_over, self._work.head
        is_free = head is not None and (head.final or head.attempt == self.attempt.id)
        if take_over is not None and not (take_over.now or is_free):
            return False
        self._take_head(now)
        return True

    def _take_head(self, now: dt.datetime) -> bool:
        self._work.take(self.attempt)
        self._from_step = self._work.step
        self._trains_at = now + _s(self._paces.restore_s)
        self.phase = Phase.RESTORE
        return False

    def _train(self, now: dt.datetime) -> bool:
        self.phase = Phase.TRAIN
        self.first_step_at = now
        self._commit_at = now + _s(self._paces.checkpoint_every_s)
        return True

    def _commit(self, now: dt.datetime) -> bool:
        if self._work.holds(self.attempt):
            self._write(now, self._step_at(now - _s(self._paces.commit_s)), final=False)
        self._commit_at = now + _s(self._paces.checkpoint_every_s)
        return True

    def _finish(self, now: dt.datetime) -> bool:
        at = self._done_at()
        self._work.finish(at)
        self.committed = at, self._work.total_steps
        self._commit_at = self._saved_at = None
        self.phase = Phase.DONE
        return self._end(at, EndedBy.ITSELF)

    # -- the way down --------------------------------------------------------------------------

    def obey(self, order: Order, now: dt.datetime) -> None:
        self._order = order
        if order.verb is Verb.STOP:
            self._go_down(Phase.STOPPED, now)
        elif order.replacement_ready and self.phase is Phase.TRAIN:
            self._go_down(Phase.IDLE, now)
        else:
            self.try_head(now)

    def terminate(self, now: dt.datetime) -> None:
        if self.ended_at is None:
            self._end(now, EndedBy.US)

    def _hear_notice(self, now: dt.datetime) -> bool:
        assert self._taking is not None
        at = self._taking.notice_at
        self.notice = Notice(at=at + _s(self._paces.notice_s), seen_at=at)
        if self.phase is Phase.TRAIN:
            self._saved_at = at + _s(self._paces.commit_s)
        elif self.phase in _BEFORE_TRAINING:
            self._go_down(Phase.IDLE, now)
        return True

    def _save(self, now: dt.datetime) -> bool:
        assert self._saved_at is not None
        if self._work.holds(self.attempt):
            step = self._step_at(self._saved_at - _s(self._paces.commit_s))
            self._write(now, step, final=False)
        self._saved_at = None
        return False

    def _give_way(self, now: dt.datetime) -> bool:
        self._go_down(Phase.IDLE, now)
        return False

    def _run_out(self, now: dt.datetime) -> bool:
        self._go_down(Phase.UNPAID, now)
        return False

    def _go_down(self, outcome: Phase, now: dt.datetime) -> None:
        if self._ending is not None:
            return
        end = now + _s(self._paces.commit_s)
        self._ending = outcome, end, self._step_at(now)
        self._commit_at = self._saved_at = None
        self.phase = Phase.HANDOVER

    def _leave(self, now: dt.datetime) -> bool:
        """What it owes is committed: off, unless EC2 takes it for free in a moment."""
        assert self._ending is not None
        outcome, _, step = self._ending
        if self._work.holds(self.attempt):
            self._write(now, step, final=True)
        self.phase = outcome
        if self._waits_for_free():
            self.phase = Phase.IDLE
            return True
        return self._end(now, EndedBy.ITSELF)

    def _waits_for_free(self) -> bool:
        if self.notice is None or self.attempt.offer.market is not Market.SPOT:
            return False
        return self.notice.at <= self._launched_at + _s(self._paces.free_notice_s)

    def _off(self, now: dt.datetime) -> bool:
        return self._end(now, EndedBy.ITSELF)

    def _be_taken(self, now: dt.datetime) -> bool:
        assert self._taking is not None
        return self._end(now, self._taking.by)

    def _end(self, at: dt.datetime, by: EndedBy) -> bool:
        self.ended_at, self.ended_by = at, by
        return True

    # -- inside --------------------------------------------------------------------------------

    def _step_at(self, at: dt.datetime) -> int:
        if self._ending is not None:
            return self._ending[2]
        if self.phase is Phase.DONE:
            return self._work.total_steps
        if self.first_step_at is None:
            return self._from_step
        gone_s = max(0.0, ((self.ended_at or at) - self.first_step_at).total_seconds())
        return min(self._work.total_steps, self._from_step + math.floor(gone_s * self._rate))

    def _done_at(self) -> dt.datetime:
        assert self.first_step_at is not None
        left = self._work.total_steps - self._from_step
        return self.first_step_at + _s(left / self._rate)

    def _write(self, now: dt.datetime, step: int, *, final: bool) -> None:
        self._work.commit(step, final=final)
        self.committed = now, max(step, self._from_step)

    def _stop_margin(self) -> dt.timedelta:
        """Three times what a save takes, and some more (agent/deadlines)."""
        return _s(3 * self._paces.commit_s + self._paces.safety_s)

    def _paid_until(self) -> dt.datetime:
        return self._order.paid_until if self._order else self.attempt.paid_until

    def _paid_stop(self) -> dt.datetime:
        return self._paid_until() - self._stop_margin() - _s(self._paces.safety_s)

    def _paid_off(self) -> dt.datetime:
        return self._paid_until() - _s(self._paces.safety_s)


def _s(seconds: float) -> dt.timedelta:
    return dt.timedelta(seconds=seconds)
