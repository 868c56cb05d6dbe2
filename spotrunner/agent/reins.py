"""The trainer as the machine drives it: whether it runs, what it was told, and when it stalls."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from spotrunner.agent.pulse import Pulse
from spotrunner.agent.record import Record
from spotrunner.agent.words import Config, Sig, Signal

# A killed container that is not gone after this is left to the power switch.
_GONE_S = 20.0


class Reins:
    """At most one SIGTERM in the life of a trainer, one SIGABRT and one SIGKILL."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.pulse = Pulse(config)
        self.runs = False
        # its events reach us: we have started or adopted it
        self.is_watched = False
        # None while nobody has told us
        self.handles_save_signal: bool | None = None
        self.told_at: dt.datetime | None = None
        self.aborted_at: dt.datetime | None = None
        self.killed_at: dt.datetime | None = None
        self._found_at: dt.datetime | None = None
        self._save_wanted = False
        # ... by the user, and kept until the trainer has made a step that is worth it
        self._save_asked = False
        self._save_said_at: dt.datetime | None = None
        # ... and no checkpoint has come since
        self._save_open = False

    # -- its life ------------------------------------------------------------------------------

    def start(self, now: dt.datetime, step: int, *, again: bool = False) -> None:
        """It goes on from `step`; `again`: in place of one that stalled."""
        self.runs = self.is_watched = True
        self.told_at = self.aborted_at = self.killed_at = self._found_at = None
        self._save_said_at, self._save_open = now, False
        self.pulse.begins(now, step, within_s=self.pulse.restart_s if again else None)

    def find(self) -> None:
        """An earlier agent has started it."""
        self.runs = True

    def adopt(self, now: dt.datetime, step: int) -> None:
        self.is_watched = True
        self._found_at = self._save_said_at = now
        self.pulse.found(now, step)

    def exited(self) -> None:
        self.runs = False
        self._save_wanted = False

    def had_left(self, now: dt.datetime) -> bool:
        """It had ended before we found it: somebody before us may have told it to."""
        if self._found_at is None:
            return False
        return now <= self._found_at + dt.timedelta(seconds=self._config.found_s)

    def is_there(self, now: dt.datetime) -> bool:
        """It still runs, as far as anybody can tell."""
        gone_at = self._gone_at
        return self.runs and not (gone_at is not None and now >= gone_at)

    # -- saves ---------------------------------------------------------------------------------

    def want_save(self) -> None:
        """For a notice: whatever it has done by now is worth it."""
        self._save_wanted = self.runs

    def ask_save(self) -> None:
        self._save_asked = True

    def save(self, now: dt.datetime, record: Record, every_s: int | None) -> Iterator[Signal]:
        """Ask for a checkpoint where one is due. One that stalls hears nothing."""
        if self._save_asked and record.has_stepped:
            self._save_asked, self._save_wanted = False, True
        due_at = self.save_due_at(record, every_s)
        if due_at is not None and now >= due_at:
            self._save_wanted = True
        if not self._save_wanted or self.handles_save_signal is None:
            return
        self._save_wanted = False
        if self.handles_save_signal and self.aborted_at is None:
            self._save_said_at, self._save_open = now, True
            yield Signal(signal=Sig.SAVE)

    def saved(self, now: dt.datetime) -> float | None:
        """A checkpoint is there. How long ago it was asked for; None where nobody had."""
        was_open, self._save_open = self._save_open, False
        if not was_open or self._save_said_at is None:
            return None
        return (now - self._save_said_at).total_seconds()

    def save_due_at(self, record: Record, every_s: int | None) -> dt.datetime | None:
        """By the clock: counted from the newest checkpoint, whoever wanted that one. None while
        there is nothing new to save."""
        if every_s is None or not self.handles_save_signal or not self._may_save_more(record):
            return None
        if not self.is_watched:  # what it has saved under an earlier agent is not known yet
            return None
        if self.aborted_at is not None or record.notice is not None:
            return None
        times = (self._save_said_at, record.newest_at)
        last_at = max(at for at in times if at is not None)
        return last_at + dt.timedelta(seconds=every_s)

    def _may_save_more(self, record: Record) -> bool:
        """Of one that tells nothing of its steps only the answer to the last question shows it."""
        if record.tells_steps:
            return record.is_ahead
        return self.is_watched and not self._save_open

    # -- a stall -------------------------------------------------------------------------------

    def abort_when_stalled(self, now: dt.datetime) -> Iterator[Signal]:
        """SIGABRT prints the stacks of all its threads; it has a moment for that."""
        due_at = self._stall_due_at
        if due_at is None or now < due_at:
            return
        if self.aborted_at is None:
            self.aborted_at = now
            yield Signal(signal=Sig.ABORT)
        else:
            yield from self.kill(now)

    @property
    def is_stuck(self) -> bool:
        """It stalled, and was killed for it."""
        return self.aborted_at is not None and self.killed_at is not None

    @property
    def _stall_due_at(self) -> dt.datetime | None:
        if not self.runs or not self.is_watched or self.killed_at is not None:
            return None
        if self.aborted_at is None:
            return self.pulse.stalls_at
        return self.aborted_at + dt.timedelta(seconds=self._config.abort_grace_s)

    # -- the end -------------------------------------------------------------------------------

    def stop(self, now: dt.datetime, kill_at: dt.datetime | None) -> Iterator[Signal]:
        """First SIGTERM; from `kill_at` on (None before that), SIGKILL."""
        if self.killed_at is not None:
            return
        if self.told_at is None:
            self.told_at = now
            yield Signal(signal=Sig.STOP)
        elif kill_at is not None and now >= kill_at:
            yield from self.kill(now)

    def kill(self, now: dt.datetime) -> Iterator[Signal]:
        if self.killed_at is None:
            self.killed_at = now
            yield Signal(signal=Sig.KILL)

    # -- deadlines -----------------------------------------------------------------------------

    def deadlines_up(self, record: Record, every_s: int | None) -> Iterator[dt.datetime]:
        """`save_due_at` and those of a stall."""
        if not self.runs:
            return
        stall_at = self._stall_due_at if record.notice is None else None
        for at in (stall_at, self._gone_at, self.save_due_at(record, every_s)):
            if at is not None:
                yield at

    @property
    def _gone_at(self) -> dt.datetime | None:
        if self.killed_at is None:
            return None
        return self.killed_at + dt.timedelta(seconds=_GONE_S)

    def deadlines_down(
        self, now: dt.datetime, kill_at: dt.datetime | None
    ) -> Iterator[dt.datetime]:
        if not self.is_there(now):
            return
        if self._gone_at is not None:
            yield self._gone_at
        elif kill_at is not None:
            yield kill_at
