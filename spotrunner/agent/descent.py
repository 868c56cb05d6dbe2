"""The way down: what is still owed once an ending is decided, and how long each of it may take."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator

from spotrunner.agent import words as w
from spotrunner.agent.claim import Claim
from spotrunner.agent.deadlines import in_free_hour, kill_at, stop_at
from spotrunner.agent.paid import Paid
from spotrunner.agent.record import Ending, Record
from spotrunner.agent.reins import Reins
from spotrunner.core.model import Phase, Report

# These outcomes are facts, and facts beat the reasons for which we were about to end.
_FACTS = (Phase.DONE, Phase.FAILED, Phase.FENCED)


class Descent:
    """The trainer is stopped if it runs, what it saved is committed as final, the logs are kept,
    the last report is posted, and the power goes off."""

    def __init__(self, config: w.Config, claim: Claim, reins: Reins, record: Record) -> None:
        self._config = config
        self._claim = claim
        self._reins = reins
        self._record = record
        self.paid: Paid | None = None  # from Started on
        self.launched_at: dt.datetime | None = None  # None until we are identified
        self.ending: Ending | None = None
        self.phase = Phase.HANDOVER
        self.goes_down = False
        self.logs_due = False
        self.said_farewell = False
        self._farewell_at: dt.datetime | None = None

    def begin(self, outcome: Phase, why: str, now: dt.datetime) -> bool:
        """A first ending stays unless a fact overtakes it; a fence stays. False where it stays."""
        old = self.ending
        if old is not None and (old.outcome is Phase.FENCED or outcome not in _FACTS):
            return False
        self.ending = Ending(outcome=outcome, why=why, at=old.at if old else now)
        self.said_farewell = False
        self._farewell_at = None
        self.phase = Phase.FENCED if outcome is Phase.FENCED else Phase.HANDOVER
        return True

    # -- what is owed --------------------------------------------------------------------------

    def task(self, now: dt.datetime, report: Callable[[Phase], Report]) -> w.Task | None:
        """The next thing that is owed: commits, then the logs, then the last word."""
        ending = self.ending
        assert ending is not None, "nothing has ended"
        if self.identify_by is not None:
            # A trainer of an earlier agent may be here, and is owed its last commit.
            return w.Identify()
        if ending.outcome is not Phase.FENCED:
            if self._claim.is_unanswered:
                return w.TakeHead()
            if self._reins.is_there(now):
                return self._claim.commit(self._record.newest_step)
            task = self._last_commit(ending)
            if task is not None:
                return task
            self.phase = ending.outcome
            # The logs of a done attempt are among its outputs.
            if self.logs_due and ending.outcome is not Phase.DONE:
                self._farewell_at = self._farewell_at or now
                return w.KeepLogs()
        if self.said_farewell:
            return None
        self._farewell_at = self._farewell_at or now
        return w.Farewell(report=report(self.phase))

    def _last_commit(self, ending: Ending) -> w.Task | None:
        """What HEAD is still owed, now that the trainer is gone."""
        claim, newest = self._claim, self._record.newest_step
        if ending.outcome is not Phase.DONE or not claim.holds or claim.is_done:
            return claim.last(newest)
        hurried = self._record.notice is not None or self._reins.told_at is not None
        first = claim.commit(newest) if hurried else None
        return first or w.CommitOutputs(step=self._record.step)

    # -- how long ------------------------------------------------------------------------------

    @property
    def paid_deadline(self) -> dt.datetime:
        assert self.paid is not None, "Started comes first"
        return self.paid.deadline

    def stop_at(self, deadline: dt.datetime) -> dt.datetime:
        """When the trainer has to be told to stop, to be committed by then."""
        return stop_at(deadline, self._record.measured, self._config)

    @property
    def kill_at(self) -> dt.datetime | None:
        """When one that was told to stop has had its time."""
        told_at = self._reins.told_at
        if told_at is None:
            return None
        return kill_at(self._deadline, told_at, self._record.measured, self._config)

    @property
    def _deadline(self) -> dt.datetime:
        """When everything has to be committed, once an ending has begun."""
        deadlines = [self.paid_deadline]
        if self._record.notice is not None:
            deadlines.append(self._record.notice.at)
        if self.ending is not None:
            stop_s = self._config.down_s if self.goes_down else self._config.stop_s
            deadlines.append(self.ending.at + dt.timedelta(seconds=stop_s))
        return min(deadlines)

    @property
    def identify_by(self) -> dt.datetime | None:
        """Until when we wait to learn whether a trainer is here; None once that is known, or given
        up."""
        if self.ending is None or self.launched_at is not None:
            return None
        return self.ending.at + dt.timedelta(seconds=self._config.farewell_s)

    def forget_identity(self) -> None:
        assert self.ending is not None
        self.launched_at = self.ending.at

    @property
    def _farewell_by(self) -> dt.datetime | None:
        """Logs and last words are worth only so much time."""
        if self._farewell_at is None:
            return None
        return self._farewell_at + dt.timedelta(seconds=self._config.farewell_s)

    # -- the power -----------------------------------------------------------------------------

    @property
    def forced_off_at(self) -> dt.datetime:
        """When the power goes off whatever is under way."""
        notice = self._record.notice
        if notice is None or self.ending is None:
            return self.paid_deadline
        idle = dt.timedelta(seconds=self._config.free_idle_s)
        return min(self.paid_deadline, notice.at + idle)

    def off_why(self, now: dt.datetime) -> str:
        """Why the power goes off now; empty while it stays on."""
        if now >= self.forced_off_at:
            return "its time is over"
        is_late = self._farewell_by is not None and now >= self._farewell_by
        if self.ending is None or not (self.said_farewell or is_late):
            return ""
        notice, launched_at = self._record.notice, self.launched_at
        if notice and launched_at and in_free_hour(notice.at, launched_at, self._config):
            return ""
        return self.ending.why

    def deadlines(self, now: dt.datetime) -> Iterator[dt.datetime]:
        """Of the way down itself: when the trainer is killed or given up, and the rest."""
        yield from self._reins.deadlines_down(now, self.kill_at)
        for by in (self.identify_by, self._farewell_by):
            if by is not None and by > now:
                yield by
