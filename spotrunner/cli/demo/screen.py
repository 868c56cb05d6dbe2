"""What a person sees while the demo runs: the job's story as it happens, and how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from spotrunner.cli.demo.progress import Steps

# Without a terminal there is no bar: a line every so often says how far it is.
LINE_EVERY_S = 10.0


class Screen:
    """Everything goes to stderr; stdout is for the result."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._console = Console(
            stderr=True, highlight=False, width=None if sys.stderr.isatty() else 160
        )
        self._bar = Progress(
            TextColumn("  {task.description}"),
            BarColumn(40),
            TextColumn("step {task.completed}/{task.total}  {task.fields[loss]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("waiting", total=None, loss="", visible=False)
        self._lined_at = 0.0

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def say(self, words: str, style: str = "") -> None:
        seconds = int(time.monotonic() - self._began)
        self._console.print(
            f"{seconds // 60}:{seconds % 60:02d}  {words}", style=style, markup=False
        )

    def event(self, event: Mapping[str, Any]) -> None:
        self.say(f"{event['subject']}  {event['kind']}: {event['why']}", style="cyan")

    def progress(self, attempt: str, made: Steps) -> None:
        words = "" if made.loss is None else f"loss {made.loss:.3f}"
        self._bar.update(
            self._task,
            completed=made.last,
            total=made.total,
            description=attempt,
            loss=words,
            visible=True,
        )
        if not self._console.is_terminal and time.monotonic() - self._lined_at > LINE_EVERY_S:
            self._lined_at = time.monotonic()
            self.say(f"{attempt}: step {made.last}/{made.total}  {words}")
