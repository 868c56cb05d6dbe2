"""The rhythm: a round every tick, and at once when something wakes it. The only file that knows
APScheduler.

Notices, commands and reports never act by themselves; they wake the tick, so that one thread
decides everything, at its own pace.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from spotrunner.ports import StaleEpoch

log = structlog.get_logger(__name__)

# Rounds in a row without a pause, when each asks for another: after them the tick comes anyway.
ROUNDS_IN_A_ROW = 20


class Ticker:
    """Runs `round_` (True: another one at once) every `tick_s` seconds in one thread.

    An error in a round is recorded and the next tick tries again; `on_stale` is called once when
    another daemon has taken over.
    """

    def __init__(
        self, round_: Callable[[], bool], tick_s: float, on_stale: Callable[[], None]
    ) -> None:
        self._round = round_
        self._on_stale = on_stale
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(1)}, timezone="UTC"
        )
        self._tick_s = tick_s
        self._state = threading.Condition()
        self._wakes = 0  # how often somebody asked for a round
        self._begun = 0  # rounds begun
        self._over = 0  # rounds over
        self.last_error = ""

    def start(self) -> None:
        self._scheduler.add_job(
            self._tick, "interval", seconds=self._tick_s, id="tick", coalesce=True, max_instances=1
        )
        self._scheduler.start()
        self.wake()

    def stop(self) -> None:
        """Waits for the round that runs."""
        self._scheduler.shutdown(wait=True)

    def wake(self) -> None:
        """Ask for a round that begins after this call; many calls may share one."""
        with self._state:
            self._wakes += 1
        # A wake job that is still queued or running notices the count; replacing it is harmless.
        self._scheduler.add_job(
            self._tick, id="wake", replace_existing=True, misfire_grace_time=None
        )

    def round(self, timeout_s: float) -> bool:
        """Wake and wait until a round that began after this call is over; False: not in time."""
        with self._state:
            wanted = self._begun + 1
        self.wake()
        with self._state:
            return self._state.wait_for(lambda: self._over >= wanted, timeout_s)

    def _tick(self) -> None:
        for _ in range(ROUNDS_IN_A_ROW):
            with self._state:
                wakes = self._wakes
                self._begun += 1
            again = self._run()
            with self._state:
                self._over = self._begun
                self._state.notify_all()
                if not again and self._wakes == wakes:
                    return

    def _run(self) -> bool:
        try:
            again = self._round()
        except StaleEpoch as error:
            log.error("another daemon leads now", error=str(error))
            self._on_stale()
            return False
        except Exception as error:  # the outermost catch of the loop; it records
            self.last_error = f"{type(error).__name__}: {error}"
            log.exception("round failed")
            return False
        self.last_error = ""
        return again
