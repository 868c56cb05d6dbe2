"""Looks at a running trainer from outside: progress lines, complete checkpoints, its exit."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from spotrunner.agent.folders import MOST_STEPS, Folders, complete_steps
from spotrunner.agent.gpus import driver_version
from spotrunner.agent.logs import CHUNK_BYTES, LogShipper
from spotrunner.agent.trainer import Exit, Trainer
from spotrunner.agent.words import Event, Progressed, Saved, SaveTook, TrainerExited, Unfit
from spotrunner.core.diagnosis import Diagnosis, diagnose

LOOK_EVERY_S = 0.2
_ADOPTED_BYTES = 64 * 1024
_AT_ONCE_BYTES = 1 << 20
# What a trainer exits with that was told to: by contract, by SIGTERM, SIGKILL, SIGABRT.
STOPPED_CODES = (75, 143, 137, 134)
# A save that takes longer than a day is another unit; deadlines are reckoned with it.
MOST_SAVE_S = 86_400.0

_log = structlog.get_logger(__name__)


class ProgressTail:
    """The events of the lines that are new in progress.jsonl; half a line waits for its end."""

    def __init__(self, path: Path, *, adopted: bool = False) -> None:
        self._path = path
        # What an earlier start has written is not news; but the last of what an adopted trainer
        # has.
        size = path.stat().st_size if path.exists() else 0
        self._offset = max(0, size - _ADOPTED_BYTES) if adopted else size

    def read(self) -> list[Event]:
        """The save times, and of the progress only the newest: nobody reports faster."""
        events: list[Event] = []
        progress: Progressed | None = None
        for line in self._lines():
            event = parse_progress(line)
            if isinstance(event, Progressed):
                progress = event
            elif event is not None:
                events.append(event)
        return [*events, progress] if progress is not None else events

    def _lines(self) -> Iterator[bytes]:
        if not self._path.exists() or self._path.stat().st_size <= self._offset:
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read(_AT_ONCE_BYTES)
        # No line is as long as that; what it holds must not be read for ever.
        is_endless = len(text) == _AT_ONCE_BYTES and b"\n" not in text
        whole = text if is_endless else text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        yield from whole.splitlines()


def parse_progress(line: bytes) -> Progressed | SaveTook | None:
    """None for what is no progress line: any framework may write here, and may write badly."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not _is_count(fields.get("step")):
        return None
    if "saved" in fields:
        save_s = _number(fields.get("save_s"))
        if save_s is None or not 0 <= save_s <= MOST_SAVE_S:
            return None
        return SaveTook(save_s=save_s)
    metrics = fields.get("metrics")
    pairs = metrics.items() if isinstance(metrics, dict) else ()
    known = ((str(name), _number(value)) for name, value in pairs)
    total = fields.get("total_steps")
    return Progressed(
        step=fields["step"],
        total_steps=total if _is_count(total) else None,
        steps_per_s=_number(fields.get("steps_per_s")),
        metrics=tuple((name, value) for name, value in known if value is not None),
        step_s=_number(fields.get("step_s")),
        input_wait_share=_share(fields.get("input_wait_share")),
        gradient_sync_share=_share(fields.get("gradient_sync_share")),
    )


class TrainerWatch:
    """Puts what happens to one trainer into the agent's queue, until it has exited."""

    def __init__(
        self,
        trainer: Trainer,
        folders: Folders,
        put: Callable[[Event], None],
        ship: Callable[[], None],
        logs: LogShipper,
        *,
        adopted: bool = False,
    ) -> None:
        """`adopted`: what lies on the disk already is news too, since whoever saw it before us has
        died with it."""
        self._trainer = trainer
        self._folders = folders
        self._put = put
        self._ship = ship
        self._logs = logs
        self._progress = ProgressTail(folders.progress, adopted=adopted)
        self._trouble = ""
        self._known = set() if adopted else set(complete_steps(folders.checkpoints))

    def run(self) -> None:
        pause = threading.Event()
        while not self._is_over():
            pause.wait(LOOK_EVERY_S)

    def look(self) -> Exit | None:
        """One look; the end once the trainer is gone. All that it left is told before."""
        end = self._trainer.poll()
        self._guarded(self._tell_progress)
        self._guarded(self._tell_saves)
        if end is not None:
            self._put(self._ended(end))
        elif self._logs.waiting_bytes >= CHUNK_BYTES:
            self._logs.bound()
            self._ship()
        return end

    def _tell_progress(self) -> None:
        for event in self._progress.read():
            self._put(event)

    def _tell_saves(self) -> None:
        for step in sorted(set(complete_steps(self._folders.checkpoints)) - self._known):
            self._known.add(step)
            self._put(Saved(step=step))

    def _is_over(self) -> bool:
        over = False

        def look() -> None:
            nonlocal over
            over = self.look() is not None

        self._guarded(look)
        return over

    def _guarded(self, part: Callable[[], None]) -> None:
        """The trainer writes what is read here: whatever it makes of it, its saves and its end are
        told. What goes wrong is recorded once as long as it stays the same."""
        try:
            part()
        except Exception as error:  # noqa: BLE001 -- the outermost catch of this thread
            if repr(error) != self._trouble:
                self._trouble = repr(error)
                _log.warning("what the trainer wrote cannot be read", exc_info=True)

    def _ended(self, end: Exit) -> Event:
        """One that was ended from outside is the machine's fault; one that we have ended needs no
        diagnosis, but one that could not do what it was told does: its last save is lost."""
        if end.lost:
            return Unfit(why=f"the trainer is gone: {end.lost}")
        tail = self._logs.tail()
        meant = bool(self._trainer.told) and end.code in STOPPED_CODES and not end.oom_killed
        diagnosis = None if meant else self._diagnosis(end, tail)
        return TrainerExited(code=end.code, log_tail=tail, diagnosis=diagnosis)

    def _diagnosis(self, end: Exit, tail: tuple[str, ...]) -> Diagnosis | None:
        driver = driver_version() if self._trainer.gpus else ""
        return diagnose(end.code, oom_killed=end.oom_killed, log_tail=tail, driver=driver)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_STEPS


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _share(value: object) -> float | None:
    share = _number(value)
    return share if share is not None and 0 <= share <= 1 else None
