"""The daemon of the demo's lab, as a process of its own."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping

from spotrunner.cli.api import Api, find
from spotrunner.cli.failure import Failure
from spotrunner.lab.process import RunningLab
from spotrunner.lab.watched import Watched

_START_S = 60.0
_STOP_S = 20.0


class Daemon:
    """From `start` to `stop` or `kill`, as often as wanted. It ends with this process."""

    def __init__(self, lab: RunningLab, environment: Mapping[str, str]) -> None:
        """`environment` has the lab's keys."""
        self._paths = lab.paths
        self._environment = environment
        self._log = lab.paths.folder / "daemon.log"
        self._running: Watched | None = None
        self._api: Api | None = None

    @property
    def command(self) -> list[str]:
        return ["spotrunner", "daemon", "--config", str(self._paths.settings)]

    @property
    def api(self) -> Api:
        """Of the last start: each has a port and a token of its own."""
        assert self._api is not None, "it was started"
        return self._api

    def start(self) -> None:
        """Returns when its API answers. Raises Failure with the end of its log."""
        # One that was killed has left its address behind.
        self._paths.api_file.unlink(missing_ok=True)
        self._running = Watched(
            [sys.executable, "-m", *self.command], environment=self._environment, log=self._log
        )
        self._wait_for_api(self._running)
        self._api = find(self._paths.api_file)

    def stop(self) -> None:
        """SIGTERM, as systemd would. Again is no error."""
        if self._running is not None:
            self._running.stop(_STOP_S)

    def kill(self) -> None:
        """As `kill -9`: it is told nothing, and tidies nothing up."""
        assert self._running is not None, "it was started"
        self._running.kill()

    def _wait_for_api(self, running: Watched) -> None:
        give_up_at, pause = time.monotonic() + _START_S, threading.Event()
        while not self._paths.api_file.exists():
            if not running.alive or time.monotonic() > give_up_at:
                last = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
                raise Failure(f"the daemon did not start:\n{last}")
            pause.wait(0.1)
