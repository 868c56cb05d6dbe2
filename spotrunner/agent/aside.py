"""What is done beside the training, at its own pace, and never beside what is urgent.

Outputs and logs that have changed go to the bucket every minute, so that a machine that dies
without a word takes no more of them with it; and after a commit the checkpoints go that nobody
needs any more. Both give way to a save, a commit and a notice, and end with the training.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import structlog

from spotrunner.agent.imds import ImdsUnknown
from spotrunner.agent.outputs import Outputs
from spotrunner.agent.retention import Retention
from spotrunner.core.saving import Saving
from spotrunner.ports import GaveWay, PortError

SEND_EVERY_S = 60.0
SEND_WATCHED_EVERY_S = 10.0
# From a signal on, for the save that it asks for; the commit then stands in the way itself.
AFTER_SIGNAL_S = 60.0
LOOK_EVERY_S = 1.0

_log = structlog.get_logger(__name__)


class Aside:
    """One thread from `start` to `end`. `has_notice` asks the metadata service, and raises
    ImdsUnknown; what it does not say for sure counts as one."""

    def __init__(
        self,
        *,
        outputs: Outputs,
        retention: Retention,
        has_notice: Callable[[], bool],
        look_every_s: float = LOOK_EVERY_S,
        send_every_s: float = SEND_EVERY_S,
    ) -> None:
        self._outputs = outputs
        self._retention = retention
        self._has_notice = has_notice
        self._look_every_s = look_every_s
        self._send_every_s = send_every_s
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._urgent = 0
        self._quiet_until_s = 0.0
        self._committed = False
        # None while nobody knows what the job wants to keep: then nothing is removed
        self.saving: Saving | None = None
        self.watched = False

    # -- for whoever has something urgent --------------------------------------------------------

    @contextlib.contextmanager
    def urgent(self) -> Iterator[None]:
        """Nothing goes on, and nothing begins, inside of it."""
        with self._lock:
            self._urgent += 1
        try:
            yield
        finally:
            with self._lock:
                self._urgent -= 1

    def signalled(self) -> None:
        """The trainer was told to save, or to stop: what comes of it has the line for itself."""
        self._quiet_until_s = time.monotonic() + AFTER_SIGNAL_S

    def committed(self) -> None:
        """There may be something to remove."""
        self._committed = True

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """With the trainer; again is no matter."""
        self._ended.set()
        self._ended = threading.Event()
        threading.Thread(target=self._run, args=(self._ended,), name="aside", daemon=True).start()

    def end(self) -> None:
        """From the way down on."""
        self._ended.set()

    def may_go_on(self) -> bool:
        return (
            not self._ended.is_set()
            and self._urgent == 0
            and time.monotonic() >= self._quiet_until_s
        )

    # -- the thread --------------------------------------------------------------------------------

    def _run(self, ended: threading.Event) -> None:
        began_s = time.monotonic()
        while not ended.wait(self._look_every_s):
            every_s = SEND_WATCHED_EVERY_S if self.watched else self._send_every_s
            is_due = time.monotonic() - began_s >= every_s
            if (is_due or self._committed) and self.is_calm():
                self.look(send=is_due)
                began_s = time.monotonic() if is_due else began_s

    def is_calm(self) -> bool:
        if not self.may_go_on():
            return False
        try:
            return not self._has_notice()
        except ImdsUnknown:
            return False

    def look(self, *, send: bool) -> None:
        """One turn. What fails is tried again at the next one, or after the next commit."""
        try:
            if self._committed and self.saving is not None:
                self._committed = False
                self._retention.tidy(self.saving, self.may_go_on)
            if send:
                self._outputs.send_changed(self.may_go_on)
        except GaveWay:
            _log.info("gave way to what is urgent")
        except (PortError, OSError) as error:
            _log.warning("not done", what="aside", why=f"{type(error).__name__}: {error}")
        except Exception:  # noqa: BLE001 -- the outermost catch of this thread: it records
            _log.exception("a bug")
