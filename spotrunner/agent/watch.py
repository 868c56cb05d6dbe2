"""Looks at a running trainer from outside: progress lines, complete checkpoints, its exit."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from spotrunner.agent.folders import Folders, complete_steps
from spotrunner.agent.logs import CHUNK_BYTES, LogShipper
from spotrunner.agent.trainer import Trainer
from spotrunner.agent.words import Event, Progressed, Saved, SaveTook, TrainerExited

LOOK_EVERY_S = 0.2


class ProgressTail:
    """The events of the lines that are new in progress.jsonl; half a line waits for its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # What an earlier start has written is not news.
        self._offset = path.stat().st_size if path.exists() else 0

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
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
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
        return None if save_s is None else SaveTook(save_s=save_s)
    metrics = fields.get("metrics")
    pairs = metrics.items() if isinstance(metrics, dict) else ()
    known = ((str(name), _number(value)) for name, value in pairs)
    total = fields.get("total_steps")
    return Progressed(
        step=fields["step"],
        total_steps=total if _is_count(total) else None,
        steps_per_s=_number(fields.get("steps_per_s")),
        metrics=tuple((name, value) for name, value in known if value is not None),
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
    ) -> None:
        self._trainer = trainer
        self._folders = folders
        self._put = put
        self._ship = ship
        self._logs = logs
        self._progress = ProgressTail(folders.progress)
        self._known = set(complete_steps(folders.checkpoints))

    def run(self) -> None:
        pause = threading.Event()
        while self.look() is None:
            pause.wait(LOOK_EVERY_S)

    def look(self) -> int | None:
        """One look; the exit code once the trainer is gone. All that it left is told before."""
        code = self._trainer.poll()
        for event in self._progress.read():
            self._put(event)
        for step in sorted(set(complete_steps(self._folders.checkpoints)) - self._known):
            self._known.add(step)
            self._put(Saved(step=step))
        if code is not None:
            self._put(TrainerExited(code=code, log_tail=self._logs.tail()))
        elif self._logs.waiting_bytes >= CHUNK_BYTES:
            self._ship()
        return code


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
