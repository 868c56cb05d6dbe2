"""Scripted faults of S3: answers that are lost, for the stories of conditional writes, and requests
that take long, for the stories of what happens meanwhile."""

from __future__ import annotations

import fnmatch
import threading
from dataclasses import dataclass

from spotrunner.sim.faults import Lose


@dataclass(frozen=True, kw_only=True)
class ObjectFault:
    """The next `times` requests with this HTTP method whose path (`/bucket/key`, with `*` and `?`)
    fits get no answer where `lose` says so, and whether they had their effect; they are served
    `late_s` after they came."""

    method: str
    path: str
    lose: Lose | None = None
    late_s: float = 0.0
    times: int = 1


class ObjectFaults:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._script: list[tuple[ObjectFault, int]] = []
        self._lock = threading.Lock()

    def script(self, fault: ObjectFault) -> None:
        with self._lock:
            self._script.append((fault, fault.times))

    def clear(self) -> None:
        """Forget what is scripted."""
        with self._lock:
            self._script.clear()

    def next(self, method: str, path: str) -> ObjectFault | None:
        """What happens to this request; the fault counts it."""
        with self._lock:
            for index, (fault, left) in enumerate(self._script):
                if fault.method == method and fnmatch.fnmatchcase(path, fault.path):
                    self._script[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                    return fault
        return None
