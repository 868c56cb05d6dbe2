"""The agent's loop: one queue of events, one machine, and workers that do what it says.

Nothing that IMDS, S3 or docker answers ends the loop. A bug in the machine does: systemd starts
the agent again, and meanwhile the machine's own timer bounds the bill.
"""

from __future__ import annotations

import datetime as dt
import queue
import threading
from collections.abc import Callable

import structlog

from spotrunner.agent import words as w
from spotrunner.agent.deeds import EXPECTED, Deeds
from spotrunner.agent.imds import Imds, ImdsUnknown
from spotrunner.agent.machine import Machine
from spotrunner.agent.workers import Worker
from spotrunner.ports import Clock

NOTICE_EVERY_S = 1.0
# The clock may jump (the lab's `skip`), so the machine hears of the time at least this often.
TICK_S = 1.0
# How long the power switch, and then the last signals, may take when the loop is left.
LAST_S = 30.0
# What comes again and again would fill the log and say nothing: it is in the reports.
_QUIET = (w.Tick, w.Progressed, w.Copied, w.FiguresSeen, w.ClockSeen)

_log = structlog.get_logger(__name__)


class Inbox:
    """The events that wait for the machine. Safe from any thread and from signal handlers."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[w.Event] = queue.SimpleQueue()

    def put(self, event: w.Event) -> None:
        self._events.put(event)

    def get(self, timeout_s: float) -> w.Event:
        """The next event; a Tick where none comes in time."""
        try:
            return self._events.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return w.Tick()


class Agent:
    """Runs one machine. `deeds` are built with `inbox.put`, so the inbox comes from outside."""

    def __init__(self, *, machine: Machine, deeds: Deeds, clock: Clock, inbox: Inbox) -> None:
        self._machine = machine
        self._deeds = deeds
        self._clock = clock
        self._inbox = inbox
        self._stopped = threading.Event()
        self._goes_down = False
        # In order: a signal must not overtake the start, nor SIGKILL the SIGTERM.
        self._hands: Worker[w.Instruction] = Worker("hands", self._try, newest_only=False)
        # Whatever docker does not answer, the power waits for nobody.
        self._power: Worker[w.Instruction] = Worker("power", self._try, newest_only=False)
        # A report or a poll that waits is replaced by the next one.
        self._pollers: dict[type[w.Instruction], Worker[w.Instruction]] = {
            w.Post: Worker("reports", self._try, newest_only=True),
            w.PollOrder: Worker("orders", self._try_once, newest_only=True),
            w.ReadHead: Worker("heads", self._try_once, newest_only=True),
            w.ShipLogs: Worker("logs", self._try_once, newest_only=True),
        }

    def run(self, booted_at: dt.datetime | None = None) -> None:
        """Until `stop`, or until the power is off and the system ends us."""
        watch = threading.Thread(target=self._watch_notices, name="notices", daemon=True)
        watch.start()
        self._hear(w.Started(booted_at=booted_at))
        while not self._stopped.is_set() and not (self._machine.off and self._goes_down):
            until = (self._machine.next_deadline() - self._clock.now()).total_seconds()
            self._hear(self._inbox.get(min(until, TICK_S)))
        self._power.finish(LAST_S)
        self._hands.finish(LAST_S)

    def stop(self) -> None:
        """For tests: leave the loop, do nothing more."""
        self._stopped.set()
        self._inbox.put(w.Tick())

    def ship_logs(self) -> None:
        self._pollers[w.ShipLogs].give(w.ShipLogs())

    def _hear(self, event: w.Event) -> None:
        if not isinstance(event, _QUIET):
            _log.info("heard", what=str(event))
        self._goes_down = self._goes_down or isinstance(event, w.ShuttingDown)
        for instruction in self._machine.on(event, self._clock.now()):
            self._pass_on(instruction)

    def _pass_on(self, instruction: w.Instruction) -> None:
        poller = self._pollers.get(type(instruction))
        if poller is not None:
            poller.give(instruction)
            return
        _log.info("does", what=str(instruction))
        if isinstance(instruction, w.Task):
            # A thread each: an abandoned fetch must not keep the last report waiting.
            threading.Thread(
                target=self._attempt, args=(instruction,), name="task", daemon=True
            ).start()
        else:
            switches = isinstance(instruction, w.ArmTimer | w.PowerOff)
            (self._power if switches else self._hands).give(instruction)

    # -- in other threads ----------------------------------------------------------------------

    def _attempt(self, task: w.Task) -> None:
        answer = self._guarded(lambda: self._deeds.attempt_task(task))
        if answer is None:
            answer = w.Undone(task=task, why=f"{type(task).__name__}: see the log", hopeless=True)
        self._inbox.put(answer)

    def _try(self, instruction: w.Instruction) -> bool:
        """False where it should be tried again."""
        done = False

        def attempt() -> w.Event | None:
            nonlocal done
            try:
                answer = self._deeds.do(instruction)
            except EXPECTED as error:
                name = type(instruction).__name__
                _log.warning("not done", what=name, why=f"{type(error).__name__}: {error}")
                return None
            done = True
            return answer

        answer = self._guarded(attempt)
        if answer is not None:
            self._inbox.put(answer)
        return done

    def _try_once(self, instruction: w.Instruction) -> bool:
        self._try(instruction)
        return True

    def _guarded(self, attempt: Callable[[], w.Event | None]) -> w.Event | None:
        try:
            return attempt()
        except Exception:  # noqa: BLE001 -- the outermost catch of every worker: it records
            _log.exception("a bug")
            return None

    def _watch_notices(self) -> None:
        watch = NoticeWatch(self._deeds.imds)

        def look() -> w.Event | None:
            at = watch.poll()
            return None if at is None else w.NoticeSeen(at=at)

        while not self._stopped.wait(NOTICE_EVERY_S):
            seen = self._guarded(look)
            if seen is not None:
                self._inbox.put(seen)


class NoticeWatch:
    """Asks IMDS for a notice and tells each time once."""

    def __init__(self, imds: Imds) -> None:
        self._imds = imds
        self._told: dt.datetime | None = None
        self._silent = False

    def poll(self) -> dt.datetime | None:
        """The announced time if it is news. Never raises: an IMDS that does not answer is asked
        again, and a notice that was told stays told."""
        try:
            at = self._imds.notice()
        except ImdsUnknown as error:
            if not self._silent:
                _log.warning("the metadata service gives no answer", why=str(error))
            self._silent = True
            return None
        self._silent = False
        if at is None or at == self._told:
            return None
        self._told = at
        return at
