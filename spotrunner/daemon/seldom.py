"""A source that is asked a few times a day, in the background."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

import structlog

from spotrunner.core.tracked import Said, Source
from spotrunner.ports import NotAuthorized, PortError, Throttled, Unavailable

log = structlog.get_logger(__name__)
T = TypeVar("T")

# What did not answer is asked again after so long; what refused us, not before its usual time.
AGAIN_AFTER = dt.timedelta(hours=1)


class Seldom(Generic[T]):
    """`read` asks for it and keeps the answer in the store, `remembered` is what the store has.
    Both may raise ports' errors. Safe from several threads."""

    def __init__(
        self,
        name: str,
        every: dt.timedelta,
        executor: Executor,
        *,
        read: Callable[[dt.datetime], T],
        remembered: Callable[[], Said[T] | None],
    ) -> None:
        self.name = name
        self._every = every
        self._executor = executor
        self._read = read
        self._remembered = remembered
        self._source: Source[T] | None = None
        self._asking: Future[None] | None = None
        # The executor of a story runs the call where it is submitted, in this thread.
        self._lock = threading.RLock()

    def look(self, now: dt.datetime) -> None:
        """Ask, without waiting for the answer, if it is time to."""
        with self._lock:
            if self._source is None:
                self._source = self._loaded()
            if self._asking is not None:
                if not self._asking.done():
                    return
                asked, self._asking = self._asking, None
                self._note_bug(asked, now)
            again_after = min(self._every, AGAIN_AFTER)
            if self._source.is_due(frozenset({self.name}), now, self._every, again_after):
                self._asking = self._executor.submit(self._ask, now)

    @property
    def source(self) -> Source[T]:
        with self._lock:
            return self._source or Source()

    @property
    def value(self) -> T | None:
        return self.source.values.get(self.name)

    def _ask(self, now: dt.datetime) -> None:
        try:
            value = self._read(now)
        except PortError as error:
            log.warning("not read", what=self.name, error=str(error))
            refused = isinstance(error, (NotAuthorized, Throttled))
            with self._lock:
                self._source = self.source.failed({self.name}, now, str(error), refused)
            return
        with self._lock:
            self._source = self.source.heard({self.name: value}, now)

    def _note_bug(self, asked: Future[None], now: dt.datetime) -> None:
        """A bug of ours is the source's trouble, and what it said stays: no round ends by it."""
        error = asked.exception()
        if error is None:
            return
        if not isinstance(error, Exception):
            raise error
        log.error("not read", what=self.name, exc_info=error)
        trouble = f"an error of spotrunner's own ({type(error).__name__}: {error}); see the log"
        self._source = self.source.failed({self.name}, now, trouble)

    def _loaded(self) -> Source[T]:
        try:
            said = self._remembered()
        except Unavailable as error:
            log.warning("not read", what=f"stored {self.name}", error=str(error))
            return Source()
        return Source(said={} if said is None else {self.name: said})
