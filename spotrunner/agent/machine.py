"""The agent's decisions: events in, instructions out, time passed in with each event.

    machine = Machine(config)
    for instruction in machine.on(Started(), now): ...      # and so on with every event
    machine.next_deadline()                                 # when a Tick is due at the latest

No I/O, no clock, no randomness: the same machine runs on EC2, in the lab and in the simulator.

The way up is boot, fetch, ready, restore, train; each leg is one task. From anywhere on it there
is one way down: an *ending* is decided (its outcome is the phase that the last report will say),
the trainer is stopped if it runs, what it saved is committed as final, the logs are kept, the last
report is posted, and the power goes off; `paid_until` cuts all of that short.
"""

from __future__ import annotations

import collections
import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

from spotrunner.agent import words as w
from spotrunner.agent.deadlines import in_free_hour, kill_at, stop_at
from spotrunner.agent.lane import Lane
from spotrunner.agent.pace import Paces
from spotrunner.agent.record import Ending, Record
from spotrunner.core.head import may_write
from spotrunner.core.model import Head, Order, Phase, Report, Verb

# What a trainer exits with that was stopped by somebody: by contract, by SIGTERM, by SIGKILL.
_STOPPED_CODES = (75, 143, 137)
# What an ending need not wait for: none of these touches HEAD, and a late answer is ignored.
_ABANDONED = (w.Identify, w.Fetch, w.Restore)
# These outcomes are facts, and facts beat the reasons for which we were about to end.
_FACTS = (Phase.DONE, Phase.FAILED, Phase.FENCED)
# A killed container that is not gone after this is left to the power switch.
_GONE_S = 20.0
_STORY_LENGTH = 200


class Machine:
    """See the module. `on` must hear Started first."""

    def __init__(self, config: w.Config) -> None:
        self.config = config
        self.phase = Phase.BOOT
        self.head: Head | None = None  # the last one we saw
        self.story: collections.deque[str] = collections.deque(maxlen=_STORY_LENGTH)
        self._out: list[w.Instruction] = []
        self._now: dt.datetime | None = None
        self._started_at: dt.datetime | None = None
        self._launched_at: dt.datetime | None = None
        self._paid_until: dt.datetime | None = None
        self._timer_at: dt.datetime | None = None
        self._order: Order | None = None
        self._lane = Lane(config)
        self._record = Record(config)
        self._trouble = ""
        # -- HEAD: whether we asked for it, and got it
        self._asked_head = False
        self._holds = False
        self._damaged = False
        # -- the trainer
        self._runs = False
        self._handles_save_signal = True
        self._save_wanted = False
        # ... by the user, and kept until the trainer has made a step that is worth it
        self._save_asked = False
        self._told_at: dt.datetime | None = None
        self._killed_at: dt.datetime | None = None
        # -- the end
        self._ending: Ending | None = None
        self._goes_down = False
        self._logs_due = False
        self._farewell_at: dt.datetime | None = None
        self._said_farewell = False
        self._off_at: dt.datetime | None = None
        # -- what is done again and again
        self._paces = Paces(config)

    # -- the interface -------------------------------------------------------------------------

    def on(self, event: w.Event, now: dt.datetime) -> list[w.Instruction]:
        """What to do about `event`, in this order. A time before the last one counts as that."""
        before, self._out = self._now, []
        self._now = now if before is None else max(before, now)
        if before is not None and (now - before).total_seconds() > self.config.jump_s:
            self._paces.reports.hurry()
        phase = self.phase
        hear = _EARS.get(type(event))
        if hear is not None and not self.off:
            hear(self, event)
        self._decide()
        if self.phase is not phase:
            self._paces.reports.hurry()
        self._keep_pace()
        if self._out or not isinstance(event, w.Tick):
            self.story.append(f"{self._now:%H:%M:%S} {self.phase.value}: {event} -> {self._out}")
        return self._out

    def next_deadline(self) -> dt.datetime:
        """When the machine wants to hear of the time again, if nothing else happens before."""
        return max(self._clock, min(self._deadlines()))

    @property
    def off(self) -> bool:
        """True once the power was switched off."""
        return self._off_at is not None

    # -- hearing: facts in, no decisions yet ---------------------------------------------------

    def _started(self, _: w.Started) -> None:
        self._started_at = self._clock
        self._paid_until = self._clock + dt.timedelta(seconds=self.config.first_step_s)

    def _identified(self, event: w.Identified) -> None:
        if not self._answered(w.Identify):
            return
        assert self._started_at is not None, "Started comes first"
        self._launched_at = event.launched_at or self._started_at
        if self._order is None:
            # An agent that was started again has been paid on since, but has not read it yet: it
            # gets a moment for that, and the timer of the machine bounds the rest.
            first = self._launched_at + dt.timedelta(seconds=self.config.first_step_s)
            moment = self._started_at + dt.timedelta(seconds=self.config.first_order_s)
            self._paid_until = max(first, moment)
        self._up(Phase.FETCH)

    def _order_seen(self, event: w.OrderSeen) -> None:
        order, last = event.order, self._order
        if order.box != self.config.box:
            return
        if last is not None and (order.epoch, order.n) <= (last.epoch, last.n):
            return
        self._order = order
        self._paces.reports.hurry()
        if order.attempt != self.config.attempt:
            self._end(Phase.IDLE, f"the order is for {order.attempt}")
            return
        if order.paid_until != self._paid_until:
            self._paid_until = order.paid_until
            minutes = int((order.paid_until - self._clock).total_seconds() // 60)
            if minutes >= 1:
                self._say(w.ArmTimer(minutes=minutes))
                self._timer_at = self._clock + dt.timedelta(minutes=minutes)
        # What was asked for before we came is in HEAD.
        if last is not None and order.checkpoints_asked > last.checkpoints_asked:
            self._save_asked = True
        if order.verb is Verb.STOP:
            self._end(Phase.STOPPED, f"ordered to stop: {order.why}")

    def _notice_seen(self, event: w.NoticeSeen) -> None:
        is_first = self._record.notice is None
        if self._record.noticed(event.at, self._clock):
            self._paces.reports.hurry()
            self._paces.logs.hurry()
            self._save_wanted = self._save_wanted or (is_first and self._runs)

    def _fetched(self, event: w.Fetched) -> None:
        if self._answered(w.Fetch):
            self._handles_save_signal = event.handles_save_signal
            self._up(Phase.READY)

    def _head_seen(self, event: w.HeadSeen) -> None:
        if self.phase is not Phase.READY or self._asked_head:
            return
        self.head = event.head
        config = self.config
        if not may_write(event.head, attempt=config.attempt, generation=config.generation):
            self._fenced(w.Fenced(why=f"{event.head and event.head.attempt} holds HEAD"))

    def _head_taken(self, event: w.HeadTaken) -> None:
        if not self._answered(w.TakeHead, w.FallBack):
            return
        self.head = event.head
        self._damaged = False
        self._record.base_step = event.head.step
        self._holds = event.head.done is None
        if event.head.done is not None:
            self._end(Phase.DONE, "HEAD says that the job is done")
        elif event.head.final:
            self._end(Phase.IDLE, "this attempt had made its final commit before it started again")
        elif event.head.manifest is not None:
            self._up(Phase.RESTORE)
        else:
            self._train()

    def _restored(self, event: w.Restored) -> None:
        if self._answered(w.Restore):
            self._record.moved(event.moved_bytes)
            self._train()

    def _was_damaged(self, event: w.Damaged) -> None:
        if self._answered(w.Restore):
            self._damaged = True
            self._trouble = event.why
            self._paces.reports.hurry()

    def _fenced(self, event: w.Fenced) -> None:
        self._lane.clear()
        self._holds = False
        self._end(Phase.FENCED, event.why or "a later generation holds HEAD")

    def _progressed(self, event: w.Progressed) -> None:
        if self._record.progressed(event, self._clock):
            self._paces.reports.hurry()

    def _save_took(self, event: w.SaveTook) -> None:
        self._record.save_took(event.save_s)

    def _saved(self, event: w.Saved) -> None:
        self._record.newest_step = max(self._record.newest_step, event.step)

    def _committed(self, event: w.Committed) -> None:
        task = self._lane.task
        if not self._answered(w.Commit, w.Finalize, w.CommitOutputs):
            return
        self.head = event.head
        self._record.moved(event.moved_bytes)
        if isinstance(task, w.Commit):
            self._record.committed(task.step, event.commit_s, self._clock)
        self._paces.reports.hurry()

    def _logs_kept(self, _: w.LogsKept) -> None:
        if self._answered(w.KeepLogs):
            self._logs_due = False

    def _posted(self, _: w.Posted) -> None:
        if self._answered(w.Farewell):
            self._said_farewell = True

    def _trainer_exited(self, event: w.TrainerExited) -> None:
        if not self._runs:
            return
        self._runs = False
        self._save_wanted = False
        self._record.exited(event.code, event.log_tail)
        self._paces.logs.hurry()
        self._paces.reports.hurry()
        if event.code == 0:
            self._end(Phase.DONE, "the trainer is done")
        elif self._record.notice is not None and event.code in _STOPPED_CODES:
            self._end(Phase.IDLE, f"the trainer left on the notice with {event.code}")
        elif self._ending is None:
            # Also 75: nobody asked for it, and a trainer that leaves again and again earns nothing.
            self._end(Phase.FAILED, f"the trainer exited with {event.code}")

    def _unfit(self, event: w.Unfit) -> None:
        self._runs = False
        self._end(Phase.FAULT, event.why)

    def _shutting_down(self, _: w.ShuttingDown) -> None:
        self._goes_down = True
        self._end(Phase.IDLE, "the machine goes down")

    def _undone(self, event: w.Undone) -> None:
        if not self._lane.undone(event, self._clock):
            return
        self._trouble = event.why
        if self._lane.is_hopeless:
            self._lane.forgive()
            self._give_up(event)

    def _give_up(self, event: w.Undone) -> None:
        """Go on without what cannot be had, or fail where nothing is left without it."""
        task = event.task
        if isinstance(task, w.Commit):
            self._record.newest_step = self.head.step if self.head else 0
        elif isinstance(task, w.Finalize):
            self._holds = False
            self._asked_head = False
        elif isinstance(task, w.KeepLogs):
            self._logs_due = False
        elif isinstance(task, w.Farewell):
            self._said_farewell = True
        else:
            self._asked_head = self._holds
            if self._ending is None or isinstance(task, w.CommitOutputs):
                self._end(Phase.FAILED, event.why)

    # -- deciding ------------------------------------------------------------------------------

    def _decide(self) -> None:
        if self._off_at is not None:
            again_at = self._off_at + dt.timedelta(seconds=self.config.off_again_s)
            if self._clock >= again_at:
                self._switch_off("it still runs")
            return
        self._end_when_due()
        self._press_trainer()
        if self._lane.is_free(self._clock):
            self._start(self._next_task())
        why = self._off_why()
        if why:
            self._switch_off(why)

    def _end_when_due(self) -> None:
        """Endings that no event begins: a deadline's, and those that a notice leads to."""
        if self._ending is not None:
            return
        notice = self._record.notice
        if self._clock >= self._stop_at(self._paid_deadline()):
            self._end(Phase.UNPAID, "the paid time ends")
        elif self._order is not None and self._order.replacement_ready:
            self._end(Phase.IDLE, "the replacement is ready")
        elif notice is not None and not self._runs:
            self._end(Phase.IDLE, "EC2 gave notice before the training began")
        elif notice is not None and not self._handles_save_signal:
            self._end(Phase.IDLE, "EC2 gave notice, and the trainer knows no save signal")
        elif notice is not None and self._clock >= self._stop_at(notice.at):
            self._end(Phase.IDLE, "EC2 takes the instance soon")

    def _press_trainer(self) -> None:
        """At most one SIGTERM in the life of a trainer, and one SIGKILL."""
        if not self._runs:
            return
        if self._ending is None:
            if self._save_asked and self._record.has_stepped:
                self._save_asked, self._save_wanted = False, True
            if self._save_wanted and self._handles_save_signal:
                self._say(w.Signal(signal=w.Sig.SAVE))
            self._save_wanted = False
        elif self._ending.outcome is Phase.FENCED:
            self._kill()
        elif self._told_at is None:
            self._told_at = self._clock
            self._say(w.Signal(signal=w.Sig.STOP))
        elif self._clock >= self._kill_at(self._told_at):
            self._kill()

    def _kill(self) -> None:
        if self._killed_at is None:
            self._killed_at = self._clock
            self._say(w.Signal(signal=w.Sig.KILL))

    def _next_task(self) -> w.Task | None:
        if self._ending is not None:
            return self._task_down(self._ending)
        if self.phase is Phase.BOOT:
            return w.Identify()
        if self.phase is Phase.FETCH:
            return w.Fetch()
        if self.phase is Phase.READY:
            return w.TakeHead() if self._may_take() else None
        if self.phase is Phase.RESTORE:
            assert self.head is not None
            assert self.head.manifest is not None
            if self._damaged:
                return w.FallBack(damaged=self.head.manifest)
            return w.Restore(ref=self.head.manifest)
        return self._commit(final=False)

    def _task_down(self, ending: Ending) -> w.Task | None:
        """The next thing that is owed: commits, then the logs, then the last word."""
        if ending.outcome is not Phase.FENCED:
            if self._is_there():
                return self._commit(final=False)
            task = self._last_commit(ending)
            if task is not None:
                return task
            self.phase = ending.outcome
            # The logs of a done attempt are among its outputs.
            if self._logs_due and ending.outcome is not Phase.DONE:
                self._farewell_at = self._farewell_at or self._clock
                return w.KeepLogs()
        if self._said_farewell:
            return None
        self._farewell_at = self._farewell_at or self._clock
        return w.Farewell(report=self._report())

    def _last_commit(self, ending: Ending) -> w.Task | None:
        """What HEAD is still owed, now that the trainer is gone."""
        if self.head is not None and self.head.done is not None:
            return None
        if self._asked_head and not self._holds:
            # The answer to the take-over never came. If HEAD is ours, the next one waits for us.
            return w.TakeHead()
        if not self._holds:
            return None
        assert self.head is not None
        if ending.outcome is Phase.DONE:
            hurried = self._record.notice is not None or self._told_at is not None
            first = self._commit(final=False) if hurried else None
            return first or w.CommitOutputs(step=self._record.step)
        if self._record.newest_step > self.head.step:
            return self._commit(final=True)
        return None if self.head.final else w.Finalize()

    def _commit(self, *, final: bool) -> w.Task | None:
        newest = self._record.newest_step
        if not self._holds or self.head is None or newest <= self.head.step:
            return None
        return w.Commit(step=newest, final=final)

    def _may_take(self) -> bool:
        """Whether HEAD is ours to take: nobody is replaced, or the one who is has let go of it."""
        if self._order is None:
            return False
        take_over, head = self._order.take_over, self.head
        if take_over is None or take_over.now:
            return True
        if take_over.by is not None and self._clock >= take_over.by:
            return True
        if head is None:
            return False
        return head.final or head.done is not None or head.attempt == self.config.attempt

    def _end(self, outcome: Phase, why: str) -> None:
        """Begin the way down. A first ending stays unless a fact overtakes it; a fence stays."""
        old = self._ending
        if old is not None and (old.outcome is Phase.FENCED or outcome not in _FACTS):
            return
        self._ending = Ending(outcome=outcome, why=why, at=old.at if old else self._clock)
        self._said_farewell = False
        self._farewell_at = None
        self.phase = Phase.FENCED if outcome is Phase.FENCED else Phase.HANDOVER
        self._lane.drop(*_ABANDONED)

    # -- deadlines -----------------------------------------------------------------------------

    def _paid_deadline(self) -> dt.datetime:
        assert self._paid_until is not None, "Started comes first"
        # The fail-safe timer counts whole minutes, so it may be up to one ahead.
        ends = min(self._paid_until, self._timer_at or self._paid_until)
        return ends - dt.timedelta(seconds=self.config.off_margin_s)

    def _deadline(self) -> dt.datetime:
        """When everything has to be committed, once an ending has begun."""
        deadlines = [self._paid_deadline()]
        if self._record.notice is not None:
            deadlines.append(self._record.notice.at)
        if self._ending is not None:
            stop_s = self.config.down_s if self._goes_down else self.config.stop_s
            deadlines.append(self._ending.at + dt.timedelta(seconds=stop_s))
        return min(deadlines)

    def _stop_at(self, deadline: dt.datetime) -> dt.datetime:
        return stop_at(deadline, self._record.measured, self.config)

    def _kill_at(self, told_at: dt.datetime) -> dt.datetime:
        return kill_at(self._deadline(), told_at, self._record.measured, self.config)

    def _forced_off_at(self) -> dt.datetime:
        """When the power goes off whatever is under way."""
        notice = self._record.notice
        if notice is None or self._ending is None:
            return self._paid_deadline()
        idle = dt.timedelta(seconds=self.config.free_idle_s)
        return min(self._paid_deadline(), notice.at + idle)

    def _farewell_by(self) -> dt.datetime | None:
        """Logs and last words are worth only so much time."""
        if self._farewell_at is None:
            return None
        return self._farewell_at + dt.timedelta(seconds=self.config.farewell_s)

    def _off_why(self) -> str:
        """Why the power goes off now; empty while it stays on."""
        if self._clock >= self._forced_off_at():
            return "its time is over"
        farewell_by = self._farewell_by()
        is_late = farewell_by is not None and self._clock >= farewell_by
        if self._ending is None or not (self._said_farewell or is_late):
            return ""
        notice, launched_at = self._record.notice, self._launched_at
        if notice and launched_at and in_free_hour(notice.at, launched_at, self.config):
            return ""
        return self._ending.why

    def _is_there(self) -> bool:
        """The trainer still runs, as far as anybody can tell."""
        gone_after = dt.timedelta(seconds=_GONE_S)
        given_up = self._killed_at is not None and self._clock >= self._killed_at + gone_after
        return self._runs and not given_up

    def _deadlines(self) -> Iterator[dt.datetime]:
        if self._off_at is not None:
            yield self._off_at + dt.timedelta(seconds=self.config.off_again_s)
            return
        yield self._forced_off_at()
        yield from self._paces.due(self._clock)
        if self._lane.task is None and self._lane.retry_at is not None:
            yield self._lane.retry_at
        yield from self._deadlines_down() if self._ending else self._deadlines_up()

    def _deadlines_up(self) -> Iterator[dt.datetime]:
        yield self._stop_at(self._paid_deadline())
        if self._record.notice is not None:
            yield self._stop_at(self._record.notice.at)
        take_over = self._order.take_over if self._order else None
        by = take_over.by if take_over and self.phase is Phase.READY else None
        if by is not None and by > self._clock:
            yield by

    def _deadlines_down(self) -> Iterator[dt.datetime]:
        if self._is_there() and self._killed_at is not None:
            yield self._killed_at + dt.timedelta(seconds=_GONE_S)
        elif self._is_there() and self._told_at is not None:
            yield self._kill_at(self._told_at)
        farewell_by = self._farewell_by()
        if farewell_by is not None and farewell_by > self._clock:
            yield farewell_by

    # -- small steps ---------------------------------------------------------------------------

    @property
    def _clock(self) -> dt.datetime:
        assert self._now is not None, "Started comes first"
        return self._now

    def _say(self, instruction: w.Instruction) -> None:
        self._out.append(instruction)

    def _start(self, task: w.Task | None) -> None:
        if task is not None:
            self._lane.start(task)
            self._asked_head = self._asked_head or isinstance(task, w.TakeHead)
            self._say(task)

    def _answered(self, *kinds: type[Any]) -> bool:
        if not self._lane.answered(*kinds):
            return False
        self._trouble = ""
        return True

    def _up(self, phase: Phase) -> None:
        if self._ending is None:
            self.phase = phase

    def _train(self) -> None:
        if self._ending is None:
            self.phase = Phase.TRAIN
            self._runs = True
            self._logs_due = True
            assert self.head is not None
            self._say(w.StartTrainer(fresh=self.head.manifest is None))

    def _switch_off(self, why: str) -> None:
        self._off_at = self._clock
        self._say(w.PowerOff(why=why))

    # -- what is done again and again ----------------------------------------------------------

    def _keep_pace(self) -> None:
        if self.off:
            return
        self._set_paces()
        for instruction in self._paces.take(self._clock):
            self._say(instruction)
        if self._paces.reports.take(self._clock):
            self._say(w.Post(report=self._report()))

    def _set_paces(self) -> None:
        order = self._order
        waits = self.phase is Phase.READY and self._lane.task is None
        self._paces.set(
            watched=order is not None and order.watched,
            urgent=waits or self._record.notice is not None,
            heads=waits and order is not None and order.take_over is not None,
            logs=self._logs_due and self.phase is not Phase.FENCED,
        )

    def _report(self) -> Report:
        ending = self._ending
        why = ending.why if ending else ""
        return self._record.report(
            self.phase,
            self._clock,
            message="; ".join(part for part in (why, self._trouble) if part),
            order_n=self._order.n if self._order else 0,
            with_log=ending is not None and ending.outcome is Phase.FAILED,
        )


_EARS: dict[type[Any], Callable[[Machine, Any], None]] = {
    w.Started: Machine._started,
    w.Identified: Machine._identified,
    w.OrderSeen: Machine._order_seen,
    w.NoticeSeen: Machine._notice_seen,
    w.Fetched: Machine._fetched,
    w.HeadSeen: Machine._head_seen,
    w.HeadTaken: Machine._head_taken,
    w.Fenced: Machine._fenced,
    w.Restored: Machine._restored,
    w.Damaged: Machine._was_damaged,
    w.Progressed: Machine._progressed,
    w.SaveTook: Machine._save_took,
    w.Saved: Machine._saved,
    w.Committed: Machine._committed,
    w.LogsKept: Machine._logs_kept,
    w.Posted: Machine._posted,
    w.TrainerExited: Machine._trainer_exited,
    w.Unfit: Machine._unfit,
    w.ShuttingDown: Machine._shutting_down,
    w.Undone: Machine._undone,
}
