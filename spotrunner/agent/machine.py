"""The agent's decisions: events in, instructions out, time passed in with each event.

    machine = Machine(config)
    for instruction in machine.on(Started(), now): ...      # and so on with every event
    machine.next_deadline()                                 # when a Tick is due at the latest

No I/O, no clock, no randomness: the same machine runs on EC2, in the lab and in the simulator.

The way up is boot, fetch, ready, restore, train; each leg is one task. From anywhere on it there
is one way down: an *ending* is decided (its outcome is the phase that the last report will say),
the trainer is stopped if it runs, what it saved is committed as final, the logs are kept, the last
report is posted, and the power goes off; `paid_until` cuts all of that short.

An agent that is started again may find the trainer of its predecessor: from then on that trainer
runs as if this machine had started it, only that HEAD has to be asked for before the first commit.

What it knows and counts lies beside this file: claim (HEAD), reins and pulse (the trainer), record
(what reports say), lane (tasks), paid and deadlines (time), pace (what is done again and again).
"""

from __future__ import annotations

import collections
import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

from spotrunner.agent import words as w
from spotrunner.agent.claim import Claim
from spotrunner.agent.descent import Descent
from spotrunner.agent.lane import Lane
from spotrunner.agent.pace import Paces
from spotrunner.agent.paid import Paid
from spotrunner.agent.record import Ending, Record
from spotrunner.agent.reins import Reins
from spotrunner.core.model import Head, Order, Phase, Report, Verb
from spotrunner.core.saving import UNAWARE

# What a trainer exits with that was stopped by somebody: by contract, by SIGTERM, by SIGKILL.
_STOPPED_CODES = (75, 143, 137)
# By SIGUSR1: it was asked for a checkpoint and knows no such signal.
_UNAWARE_CODE = 138
# What an ending need not wait for: none of these touches HEAD, and a late answer is ignored.
_ABANDONED = (w.Fetch, w.Restore)
# A trainer that stalls is started again in place so often; then another machine has to do.
_RESTARTS = 1
_STORY_LENGTH = 200


class Machine:
    """See the module. `on` must hear Started first."""

    def __init__(self, config: w.Config) -> None:
        self.config = config
        self.phase = Phase.BOOT
        self.story: collections.deque[str] = collections.deque(maxlen=_STORY_LENGTH)
        self._out: list[w.Instruction] = []
        self._now: dt.datetime | None = None
        self._order: Order | None = None
        self._lane = Lane(config)
        self._claim = Claim(config)
        self._reins = Reins(config)
        self._record = Record(config)
        self._descent = Descent(config, self._claim, self._reins, self._record)
        self._paces = Paces(config)
        self._trouble = ""
        self._off_at: dt.datetime | None = None

    # -- the interface -------------------------------------------------------------------------

    def on(self, event: w.Event, now: dt.datetime) -> list[w.Instruction]:
        """What to do about `event`, in this order. A time before the last one counts as that."""
        before, self._out = self._now, []
        self._now = now if before is None else max(before, now)
        if before is not None and (now - before).total_seconds() > self.config.jump_s:
            self._paces.reports.hurry()
            self._reins.pulse.jumped(now - before)
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
    def head(self) -> Head | None:
        """HEAD as it was when we saw it last."""
        return self._claim.head

    @property
    def off(self) -> bool:
        """True once the power was switched off."""
        return self._off_at is not None

    # -- hearing: facts in, no decisions yet ---------------------------------------------------

    def _started(self, event: w.Started) -> None:
        self._descent.paid = Paid(self.config, self._clock)
        self._record.reached(booted_at=event.booted_at, agent_at=self._clock)

    def _identified(self, event: w.Identified) -> None:
        if not self._answered(w.Identify):
            return
        self._descent.launched_at = launched_at = event.launched_at or self._clock
        if self._order is None:
            self._paid.launched(launched_at)
        if event.has_trainer:
            # It was started only after HEAD had been taken over.
            self._reins.find()
            self._claim.asked = True
            if self._ending is not None:
                self._adopt()
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
        timer = self._paid.extend(order.paid_until, self._clock)
        if timer is not None:
            self._say(timer)
        # What was asked for before we came is in HEAD.
        if last is not None and order.checkpoints_asked > last.checkpoints_asked:
            self._reins.ask_save()
        if not order.handles_save_signal:
            self._reins.handles_save_signal = False
        if order.verb is Verb.STOP:
            self._end(Phase.STOPPED, f"ordered to stop: {order.why}")

    def _notice_seen(self, event: w.NoticeSeen) -> None:
        is_first = self._record.notice is None
        if self._record.noticed(event.at, self._clock):
            self._paces.reports.hurry()
            self._paces.logs.hurry()
            if is_first:
                self._reins.want_save()

    def _fetched(self, event: w.Fetched) -> None:
        if self._answered(w.Fetch):
            knows = self._order is None or self._order.handles_save_signal
            self._reins.handles_save_signal = knows and event.handles_save_signal
            self._reins.pulse.stall_after_s = event.stall_after_s
            self._up(Phase.READY)

    def _image_there(self, event: w.ImageThere) -> None:
        self._record.image_there(event, self._clock)
        self._paces.reports.hurry()

    def _data_there(self, _: w.DataThere) -> None:
        self._record.copying = None
        self._record.reached(data_at=self._clock)
        self._paces.reports.hurry()

    def _copied(self, event: w.Copied) -> None:
        self._record.copying = event.copying

    def _figures_seen(self, event: w.FiguresSeen) -> None:
        self._record.figures = event.figures

    def _clock_seen(self, event: w.ClockSeen) -> None:
        self._record.clock = event.clock

    def _head_seen(self, event: w.HeadSeen) -> None:
        if self.phase is not Phase.READY or self._claim.asked:
            return
        self._claim.head = event.head
        if not self._claim.may_write(event.head):
            self._fenced(w.Fenced(why=f"{event.head and event.head.attempt} holds HEAD"))

    def _head_taken(self, event: w.HeadTaken) -> None:
        if not self._answered(w.TakeHead, w.FallBack):
            return
        head = event.head
        self._claim.taken(head)
        self._record.base_step = head.step
        self._record.reached(head_at=self._clock)
        if (head.done is not None or head.final) and self._reins.runs:
            # Nothing more counts of a trainer that was left behind by its agent's last commit.
            self._out += self._reins.kill(self._clock)
            self._reins.exited()
        if head.done is not None:
            self._end(Phase.DONE, "HEAD says that the job is done")
        elif head.final:
            self._end(Phase.IDLE, "this attempt had made its final commit before it started again")
        elif self._reins.runs:
            self._go_on()
        elif head.manifest is not None:
            self._up(Phase.RESTORE)
        else:
            self._train()

    def _restored(self, event: w.Restored) -> None:
        if self._answered(w.Restore):
            self._record.moved(event.moved_bytes)
            self._train()

    def _was_damaged(self, event: w.Damaged) -> None:
        if self._answered(w.Restore):
            self._claim.damaged = True
            self._trouble = event.why
            self._paces.reports.hurry()

    def _fenced(self, event: w.Fenced) -> None:
        self._lane.clear()
        self._claim.holds = False
        self._end(Phase.FENCED, event.why or "a later generation holds HEAD")

    def _progressed(self, event: w.Progressed) -> None:
        self._reins.pulse.beats(self._clock, event.step)
        if self._record.progressed(event, self._clock):
            self._paces.reports.hurry()

    def _save_took(self, event: w.SaveTook) -> None:
        self._reins.pulse.beats(self._clock)
        self._record.save_took(event.save_s, self._clock)

    def _saved(self, event: w.Saved) -> None:
        self._reins.pulse.beats(self._clock, event.step)
        self._record.saved(event.step, self._clock)
        answer_s = self._reins.saved(self._clock)
        if answer_s is not None:
            self._record.answered_save(answer_s)

    def _committed(self, event: w.Committed) -> None:
        task = self._lane.task
        if not self._answered(w.Commit, w.Finalize, w.CommitOutputs):
            return
        self._claim.head = event.head
        self._record.moved(event.moved_bytes)
        if isinstance(task, w.Commit):
            self._record.committed(task.step, event.commit_s, self._clock)
        self._paces.reports.hurry()

    def _logs_kept(self, event: w.LogsKept) -> None:
        if self._answered(w.KeepLogs):
            self._descent.logs_due = False
            self._trouble = event.why

    def _posted(self, _: w.Posted) -> None:
        if self._answered(w.Farewell):
            self._descent.said_farewell = True

    def _trainer_exited(self, event: w.TrainerExited) -> None:
        reins = self._reins
        if not reins.runs:
            return
        reins.exited()
        self._record.exited(event)
        self._paces.logs.hurry()
        self._paces.reports.hurry()
        was_stopped = event.code in _STOPPED_CODES and event.diagnosis is None
        if event.code == _UNAWARE_CODE:
            reins.handles_save_signal = self._record.handles_save_signal = False
        by_us = reins.aborted_at is not None or event.code == _UNAWARE_CODE
        if event.code == 0:
            self._end(Phase.DONE, "the trainer is done")
        elif self._record.notice is not None and (event.code in _STOPPED_CODES or by_us):
            self._end(Phase.IDLE, f"the trainer left on the notice with {event.code}")
        elif self._ending is not None:
            return
        elif by_us:
            self._start_again(self._why_again(event.code))
        elif was_stopped and reins.had_left(self._clock):
            # Whoever told it to was killed since; the reason comes again, or another machine does.
            self._end(Phase.IDLE, f"the trainer had left with {event.code} before this agent came")
        else:
            # Also 75: nobody asked for it, and a trainer that leaves again and again earns nothing.
            self._end(Phase.FAILED, f"the trainer exited with {event.code}")

    def _unfit(self, event: w.Unfit) -> None:
        if not isinstance(self._lane.task, w.Fetch):
            self._reins.exited()  # it is our start of it that failed
        self._end(Phase.FAULT, event.why)

    def _shutting_down(self, _: w.ShuttingDown) -> None:
        self._descent.goes_down = True
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
            # One that was saved while the last try was under way has all its own tries.
            if self._record.newest_step <= task.step:
                self._record.newest_step = self._claim.step
        elif isinstance(task, w.Finalize):
            self._claim.give_up()
        elif isinstance(task, w.KeepLogs):
            self._descent.logs_due = False
        elif isinstance(task, w.Farewell):
            self._descent.said_farewell = True
        else:
            self._claim.asked = self._claim.holds
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
        why = self._descent.off_why(self._clock)
        if why:
            self._switch_off(why)

    def _end_when_due(self) -> None:
        """Endings that no event begins: a deadline's, and those that a notice leads to."""
        if self._ending is not None:
            self._forget_identity_when_due()
            return
        descent, notice, reins = self._descent, self._record.notice, self._reins
        if self._clock >= descent.stop_at(descent.paid_deadline):
            self._end(Phase.UNPAID, "the paid time ends")
        elif self._order is not None and self._order.replacement_ready:
            self._end(Phase.IDLE, "the replacement is ready")
        elif notice is not None and not reins.runs:
            self._end(Phase.IDLE, "EC2 gave notice before the training began")
        elif notice is not None and reins.handles_save_signal is False:
            self._end(Phase.IDLE, "EC2 gave notice, and the trainer knows no save signal")
        elif notice is not None and self._clock >= descent.stop_at(notice.at):
            self._end(Phase.IDLE, "EC2 takes the instance soon")
        elif reins.is_stuck and not reins.is_there(self._clock):
            self._end(Phase.FAULT, f"{self._stall_why()}, and SIGKILL does not end it")

    def _forget_identity_when_due(self) -> None:
        by = self._descent.identify_by
        if by is not None and self._clock >= by:
            self._descent.forget_identity()
            self._lane.drop(w.Identify)

    def _press_trainer(self) -> None:
        reins, now = self._reins, self._clock
        if not reins.runs:
            return
        if self._ending is None:
            if self._record.notice is None:
                self._abort_when_stalled()
            self._out += reins.save(now, self._record, self._save_every_s)
        elif self._ending.outcome is Phase.FENCED:
            self._out += reins.kill(now)
        else:
            self._out += reins.stop(now, self._descent.kill_at)

    def _abort_when_stalled(self) -> None:
        signals = list(self._reins.abort_when_stalled(self._clock))
        self._out += signals
        if w.Signal(signal=w.Sig.ABORT) in signals:
            self._record.stalled_at = self._clock
            # The stacks that it prints are what its user will want to see.
            self._paces.logs.hurry()
            self._paces.reports.hurry()

    def _start_again(self, why: str) -> None:
        """Its end was our doing: once more in place, from the newest checkpoint on the disk."""
        record, now = self._record, self._clock
        if record.restarts >= _RESTARTS:
            self._end(Phase.FAULT, f"{why}, and had been started again once")
            return
        record.restarted(why)
        self._reins.start(now, record.newest_step or record.base_step, again=True)
        has_checkpoint = record.has_saved or record.base_step > 0
        self._say(w.StartTrainer(fresh=not has_checkpoint))

    def _why_again(self, code: int) -> str:
        return UNAWARE if code == _UNAWARE_CODE else self._stall_why()

    def _stall_why(self) -> str:
        alive_at = self._record.alive_at
        since = f" since {alive_at:%H:%M:%S}" if alive_at else ""
        return f"the trainer stalled at step {self._record.step}: no sign of life{since}"

    def _next_task(self) -> w.Task | None:
        if self._ending is not None:
            task = self._descent.task(self._clock, self._report)
            self.phase = self._descent.phase
            return task
        if self.phase is Phase.BOOT:
            return w.Identify()
        if self.phase is Phase.FETCH:
            return w.Fetch(beside_trainer=self._reins.runs)
        if self.phase is Phase.READY:
            # HEAD of who has a trainer already was taken over: it is ours, or we are fenced.
            may_take = self._reins.runs or self._claim.may_take(self._order, self._clock)
            return w.TakeHead() if may_take else None
        if self.phase is Phase.RESTORE:
            return self._claim.restore()
        return self._claim.commit(self._record.newest_step)

    def _end(self, outcome: Phase, why: str) -> None:
        """Begin the way down, unless we are on it for something that stays."""
        if not self._descent.begin(outcome, why, self._clock):
            return
        self.phase = self._descent.phase
        self._lane.drop(*_ABANDONED)
        if self._reins.runs and outcome is not Phase.FENCED:
            self._adopt()

    # -- deadlines -----------------------------------------------------------------------------

    def _deadlines(self) -> Iterator[dt.datetime]:
        if self._off_at is not None:
            yield self._off_at + dt.timedelta(seconds=self.config.off_again_s)
            return
        yield self._descent.forced_off_at
        yield from self._paces.due(self._clock)
        if self._lane.task is None and self._lane.retry_at is not None:
            yield self._lane.retry_at
        if self._ending is not None:
            yield from self._descent.deadlines(self._clock)
        else:
            yield from self._deadlines_up()

    def _deadlines_up(self) -> Iterator[dt.datetime]:
        descent, notice = self._descent, self._record.notice
        yield descent.stop_at(descent.paid_deadline)
        if notice is not None:
            yield descent.stop_at(notice.at)
        yield from self._reins.deadlines_up(self._record, self._save_every_s)
        take_over = self._order.take_over if self._order else None
        by = take_over.by if take_over and self.phase is Phase.READY else None
        if by is not None and by > self._clock:
            yield by

    # -- small steps ---------------------------------------------------------------------------

    @property
    def _clock(self) -> dt.datetime:
        assert self._now is not None, "Started comes first"
        return self._now

    @property
    def _paid(self) -> Paid:
        assert self._descent.paid is not None, "Started comes first"
        return self._descent.paid

    @property
    def _ending(self) -> Ending | None:
        return self._descent.ending

    @property
    def _save_every_s(self) -> int | None:
        return self._order.save_every_s if self._order else None

    def _say(self, instruction: w.Instruction) -> None:
        self._out.append(instruction)

    def _start(self, task: w.Task | None) -> None:
        if task is not None:
            self._lane.start(task)
            self._claim.asked = self._claim.asked or isinstance(task, w.TakeHead)
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
            self._descent.logs_due = True
            self._record.reached(restored_at=self._clock)
            self._reins.start(self._clock, self._record.base_step)
            self._say(w.StartTrainer(fresh=self.head is None or self.head.manifest is None))

    def _go_on(self) -> None:
        """With the trainer that is here, and HEAD ours: nothing was lost."""
        if self._ending is None:
            self.phase = Phase.TRAIN
            self._adopt()

    def _adopt(self) -> None:
        if not self._reins.is_watched:
            self._descent.logs_due = True
            self._reins.adopt(self._clock, self._record.base_step)
            self._say(w.Adopt())

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
            self._say(w.Post(report=self._report(self.phase)))

    def _set_paces(self) -> None:
        order = self._order
        waits = self.phase is Phase.READY and self._lane.task is None
        self._paces.set(
            watched=order is not None and order.watched,
            urgent=waits or self._record.notice is not None,
            heads=waits and order is not None and order.take_over is not None,
            logs=self._descent.logs_due and self.phase is not Phase.FENCED,
        )

    def _report(self, phase: Phase) -> Report:
        ending = self._ending
        why = ending.why if ending else self._record.restart_why
        return self._record.report(
            phase,
            self._clock,
            message="; ".join(part for part in (why, self._trouble) if part),
            order_n=self._order.n if self._order else 0,
            with_log=ending is not None and ending.outcome in (Phase.FAILED, Phase.FAULT),
        )


_EARS: dict[type[Any], Callable[[Machine, Any], None]] = {
    w.Started: Machine._started,
    w.Identified: Machine._identified,
    w.OrderSeen: Machine._order_seen,
    w.NoticeSeen: Machine._notice_seen,
    w.Fetched: Machine._fetched,
    w.ImageThere: Machine._image_there,
    w.DataThere: Machine._data_there,
    w.Copied: Machine._copied,
    w.FiguresSeen: Machine._figures_seen,
    w.ClockSeen: Machine._clock_seen,
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
