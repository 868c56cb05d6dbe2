"""SIGUSR1 and SIGTERM as the trainer contract has them: requests that a step boundary answers."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

EXIT_RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: "run me again, I go on from where I was"


class Requests:
    """What the signals have asked for, and whether this process holds work that is not saved.

    While nothing is unsaved (importing, loading data, tracing the first step, exporting after
    the last one) a SIGTERM ends the process at once; otherwise the training loop answers it.
    """

    def __init__(self) -> None:
        self.save = False
        self.stop = False
        self.unsaved = False
        self._owner = os.getpid()

    def on_save(self, signum: int, frame: FrameType | None) -> None:
        self.save = True

    def on_stop(self, signum: int, frame: FrameType | None) -> None:
        self.stop = True
        # A forked child has no step boundary that could answer, and nothing of its own to save.
        if not self.unsaved or os.getpid() != self._owner:
            leave()

    def install(self) -> None:
        """Take over both signals.

        Raises ValueError outside of the main thread, where Python can set none.
        """
        signal.signal(signal.SIGUSR1, self.on_save)
        signal.signal(signal.SIGTERM, self.on_stop)


# Signals belong to the process, so there is one such object.
REQUESTS = Requests()


def leave() -> NoReturn:
    """End the process with the code that means "resumable".

    os._exit and not sys.exit: TensorFlow's threads take up to 3 s to shut down in order, and
    inside a notice everything that matters is on disk by now.
    """
    for stream in (sys.stdout, sys.stderr):
        # RuntimeError: the signal came in the middle of a write to this very stream.
        with contextlib.suppress(RuntimeError, ValueError, OSError):
            stream.flush()
    os._exit(EXIT_RESUMABLE)
