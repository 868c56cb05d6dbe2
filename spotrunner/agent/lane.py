"""The one task under way, and the patience with those that do not happen."""

from __future__ import annotations

import datetime as dt
from typing import Any

from spotrunner.agent.words import Config, Task, Undone


class Lane:
    """Holds at most one task. After one that did not happen it stays closed for a while: twice as
    long each time, up to a limit."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.task: Task | None = None
        self.retry_at: dt.datetime | None = None
        self._tries = 0
        self._hopeless_tries = 0
        self._full_since: dt.datetime | None = None
        self._full_s = 0.0

    def is_free(self, now: dt.datetime) -> bool:
        if self.retry_at is not None and now >= self.retry_at:
            self.retry_at = None
        return self.task is None and self.retry_at is None

    def start(self, task: Task) -> None:
        assert self.task is None, f"two tasks at once: {self.task}, {task}"
        self.task = task

    def answered(self, *kinds: type[Any]) -> bool:
        """The task is answered if it is one of these; else the answer is stale."""
        if not isinstance(self.task, kinds):
            return False
        self.clear()
        return True

    def undone(self, event: Undone, now: dt.datetime) -> bool:
        """False where the event is stale."""
        if self.task is None or self.task != event.task:
            return False
        self.task = None
        self._tries += 1
        self._hopeless_tries += event.hopeless
        self._full_since = (self._full_since or now) if event.full else None
        self._full_s = (now - self._full_since).total_seconds() if self._full_since else 0.0
        doubled_s = self._config.first_retry_s * 2 ** min(self._tries - 1, 10)
        self.retry_at = now + dt.timedelta(seconds=min(doubled_s, self._config.most_retry_s))
        return True

    @property
    def is_hopeless(self) -> bool:
        config = self._config
        return self._hopeless_tries >= config.hopeless_tries or self._full_s >= config.full_disk_s

    def drop(self, *kinds: type[Any]) -> None:
        """Stop waiting for the task if it is one of these; what is next may start at once."""
        if isinstance(self.task, kinds):
            self.task = None
        self.forgive()

    def clear(self) -> None:
        self.task = None
        self.forgive()

    def forgive(self) -> None:
        """The next task is another one, and starts with all its tries."""
        self._tries = self._hopeless_tries = 0
        self._full_since, self._full_s = None, 0.0
        self.retry_at = None
