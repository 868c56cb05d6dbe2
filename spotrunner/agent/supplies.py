"""The image and the data of a job, fetched at once: the shorter of the two costs no paid time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from spotrunner.agent.images import Image, PullFailed
from spotrunner.agent.words import DataThere, Event, ImageThere
from spotrunner.core.model import JobSpec
from spotrunner.ports import Throttled, Unavailable

# A pull that did not come is tried again as long as the copy lasts anyway: docker may be starting.
PULL_AGAIN_S = 10.0
# ... and what did not come may come then.
_PASSING = (PullFailed, Throttled, Unavailable)


@dataclass(frozen=True, kw_only=True)
class Supplies:
    """`put` is told of each as it is there. `data` leaves with GaveWay when it is told that it may
    not go on."""

    image: Callable[[JobSpec], Image]
    data: Callable[[JobSpec, Callable[[], bool]], None]
    put: Callable[[Event], None]
    pull_again_s: float = PULL_AGAIN_S

    def fetch(self, spec: JobSpec) -> None:
        """Raises what the first that fails raises. No copy is at work then: it would race with the
        next one. A pull may be: docker itself makes one of two."""
        ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        refused, copied = threading.Event(), threading.Event()

        def copy() -> None:
            try:
                self.data(spec, lambda: not refused.is_set())
            finally:
                copied.set()
            self.put(DataThere())

        copying = _start("data", copy, ended)
        _start("image", lambda: self._pull(spec, copied), ended)
        for _ in range(2):
            error = ended.get()
            if error is not None:
                refused.set()
                copying.join()
                raise error

    def _pull(self, spec: JobSpec, copied: threading.Event) -> None:
        while True:
            try:
                image = self.image(spec)
            except _PASSING:
                if copied.wait(self.pull_again_s):
                    raise
            else:
                self.put(ImageThere(digest=image.digest, baked=image.baked))
                return


def _start(
    name: str, deed: Callable[[], None], ended: queue.SimpleQueue[Exception | None]
) -> threading.Thread:
    def run() -> None:
        try:
            deed()
        except Exception as error:  # noqa: BLE001 -- raised by whoever waits for it
            ended.put(error)
        else:
            ended.put(None)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
