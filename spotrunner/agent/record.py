"""What an agent knows of its training: the substance of its reports."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass
from typing import Any

from spotrunner.agent.deadlines import Measured
from spotrunner.agent.words import Config, ImageThere, Progressed, TrainerExited
from spotrunner.core.figures import ClockState, Copying, Figures
from spotrunner.core.milestones import NOTHING_REACHED, merged
from spotrunner.core.model import Notice, Phase, Report


@dataclass(frozen=True, kw_only=True)
class Ending:
    """That it is over, as what, since when and why."""

    outcome: Phase
    why: str
    at: dt.datetime


class Record:
    """Filled as events come in; `report` says it all."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.notice: Notice | None = None
        self._moved_bytes = 0
        # the step that HEAD bore when we began
        self.base_step = 0
        # the newest complete checkpoint on our disk, and when we heard of it
        self.newest_step = 0
        self.newest_at: dt.datetime | None = None
        # a checkpoint of this attempt's own lies there
        self.has_saved = False
        self.measured = Measured()
        # -- the machine
        self.milestones = NOTHING_REACHED
        self.figures: Figures | None = None
        self.clock: ClockState | None = None
        self.copying: Copying | None = None
        self._image_digest = ""
        # -- the trainer
        self.restarts = 0
        self.restart_why = ""
        self.stalled_at: dt.datetime | None = None
        self.alive_at: dt.datetime | None = None
        # False: it ended by SIGUSR1
        self.handles_save_signal = True
        # from being asked to a checkpoint: all that is known of a save that nobody tells of
        self._answer_s: float | None = None
        self._progress: Progressed | None = None
        self._first_step_at: dt.datetime | None = None
        self._committed_step: int | None = None
        self._committed_at: dt.datetime | None = None
        self._exit: TrainerExited | None = None

    @property
    def step(self) -> int:
        """The last step that we heard of."""
        return max(self.newest_step, self._progress.step if self._progress else self.base_step)

    @property
    def has_stepped(self) -> bool:
        """Whether this attempt has made a step of its own."""
        return self._first_step_at is not None

    @property
    def is_ahead(self) -> bool:
        """The trainer has made a step that no checkpoint has."""
        saved = max(self.newest_step, self.base_step)
        return self._progress is not None and self._progress.step > saved

    @property
    def tells_steps(self) -> bool:
        return self._progress is not None

    def reached(self, **milestones: Any) -> None:
        told = dataclasses.replace(NOTHING_REACHED, **milestones)
        self.milestones = merged(self.milestones, told)

    def image_there(self, event: ImageThere, now: dt.datetime) -> None:
        self._image_digest = event.digest
        self.reached(image_at=now, baked=event.baked)

    def saved(self, step: int, now: dt.datetime) -> None:
        self.alive_at = self.newest_at = now
        self.newest_step = max(self.newest_step, step)
        self.has_saved = True
        self._stepped(step, now)

    def progressed(self, event: Progressed, now: dt.datetime) -> bool:
        """True for the first step of this attempt's own."""
        self._progress, self.alive_at = event, now
        return self._stepped(event.step, now)

    def _stepped(self, step: int, now: dt.datetime) -> bool:
        """True for the first step of this attempt's own, whatever shows it: an attempt without one
        is ended after an hour."""
        if step <= self.base_step or self._first_step_at is not None:
            return False
        self._first_step_at = now
        return True

    def noticed(self, at: dt.datetime, now: dt.datetime) -> bool:
        """True where it is news: the first notice, or another time."""
        old = self.notice
        seen_at = old.seen_at if old is not None else now
        self.notice = Notice(at=at, seen_at=seen_at)
        return old is None or old.at != at

    def answered_save(self, answer_s: float) -> None:
        """It may have finished its step, or its epoch, first."""
        self._answer_s = answer_s

    def save_took(self, save_s: float, now: dt.datetime) -> None:
        self.alive_at = now
        self.measured = dataclasses.replace(self.measured, save_s=save_s)

    def moved(self, so_far_bytes: int) -> None:
        self._moved_bytes = max(self._moved_bytes, so_far_bytes)

    def committed(self, step: int, commit_s: float | None, now: dt.datetime) -> None:
        self._committed_step = step
        self._committed_at = now
        if commit_s is not None:
            self.measured = dataclasses.replace(self.measured, commit_s=commit_s)

    def exited(self, event: TrainerExited) -> None:
        self._exit = event

    def restarted(self, why: str) -> None:
        """How the one before it ended is in the log."""
        self.restarts += 1
        self.restart_why = why
        self._exit = None

    def report(
        self, phase: Phase, now: dt.datetime, *, message: str, order_n: int, with_log: bool
    ) -> Report:
        progress, exit_ = self._progress, self._exit
        return Report(
            attempt=self._config.attempt,
            box=self._config.box,
            at=now,
            phase=phase,
            rank=self._config.rank,
            step=progress.step if progress else None,
            total_steps=progress.total_steps if progress else None,
            steps_per_s=progress.steps_per_s if progress else None,
            metrics=progress.metrics if progress else (),
            committed_step=self._committed_step,
            committed_at=self._committed_at,
            notice=self.notice,
            first_step_at=self._first_step_at,
            save_s=self._answer_s if self.measured.save_s is None else self.measured.save_s,
            commit_s=self.measured.commit_s,
            exit_code=exit_.code if exit_ else None,
            message=message,
            log_tail=exit_.log_tail if exit_ and with_log else (),
            order_n=order_n,
            moved_bytes=self._moved_bytes,
            milestones=self.milestones,
            figures=self.figures,
            clock=self.clock,
            copying=self.copying,
            image_digest=self._image_digest,
            diagnosis=exit_.diagnosis if exit_ else None,
            restarts=self.restarts,
            stalled_at=self.stalled_at,
            alive_at=self.alive_at,
            handles_save_signal=self.handles_save_signal,
        )
