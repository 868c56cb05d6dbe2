"""Threads that do what they are given, so that nothing slow ever holds up the agent's loop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

# What failed is tried again after this long, unless something newer has come.
AGAIN_S = 2.0


class Worker(Generic[T]):
    """One thread that does items in order; or, `newest_only`, the newest of those that wait.

    `do` returns False where the item should be tried again later (only with `newest_only`).
    """

    def __init__(
        self, name: str, do: Callable[[T], bool], *, newest_only: bool, again_s: float = AGAIN_S
    ) -> None:
        self._do = do
        self._again_s = again_s
        self._given: deque[T] = deque(maxlen=1 if newest_only else None)
        self._news = threading.Condition()
        self._newest_only = newest_only
        self._busy = False
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def give(self, item: T) -> None:
        with self._news:
            self._given.append(item)
            self._news.notify_all()

    def finish(self, timeout_s: float) -> bool:
        """Wait until nothing is left to do; False where that takes too long."""
        with self._news:
            return self._news.wait_for(lambda: not (self._given or self._busy), timeout=timeout_s)

    def _run(self) -> None:
        while True:
            with self._news:
                self._busy = False
                self._news.notify_all()
                self._news.wait_for(lambda: bool(self._given))
                item = self._given.popleft()
                self._busy = True
            while not self._do(item) and self._newest_only:
                with self._news:
                    if self._news.wait_for(lambda: bool(self._given), timeout=self._again_s):
                        break
