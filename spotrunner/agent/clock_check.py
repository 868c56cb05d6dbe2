"""How the machine's clock stands: chrony's word, or else the comparison with S3's time."""

from __future__ import annotations

import datetime as dt
import math
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spotrunner.core.figures import ClockState
from spotrunner.ports import Clock

# `-c`: fields with commas between, whatever the language.
TRACKING = ("chronyc", "-c", "tracking")
TIMEOUT_S = 5.0
# Of the fields: the correction that is still due (positive: we are slow), and the leap status.
_FIELDS = 14
_CORRECTION = 4
_LEAP = 13
_UNSYNCHRONISED = "Not synchronised"

CHRONY = "chrony"
S3 = "S3"
# S3 tells whole seconds, so that nearer than this nobody can tell by it.
S3_TELLS_S = 1.0


def parse_tracking(text: str) -> ClockState | None:
    """The answer to `chronyc -c tracking`; None for any other text."""
    fields = text.strip().split(",")
    if len(fields) != _FIELDS:
        return None
    try:
        offset_s = -float(fields[_CORRECTION])
    except ValueError:
        return None
    if fields[_LEAP] == _UNSYNCHRONISED or not math.isfinite(offset_s):
        return ClockState(synchronised=False, source=CHRONY)
    return ClockState(synchronised=True, offset_s=offset_s, source=CHRONY)


@dataclass(frozen=True, kw_only=True)
class ClockCheck:
    """`server` tells S3's time; `wall_s` is the machine's own, in seconds since 1970."""

    server: Clock
    command: Sequence[str] = TRACKING
    wall_s: Callable[[], float] = time.time  # noqa: TID251 -- the clock that is checked

    def state(self) -> ClockState:
        said = self._chrony()
        if said is not None and said.synchronised:
            return said
        offset_s = self._ahead_s()
        if said is not None:
            return ClockState(synchronised=False, offset_s=offset_s, source=CHRONY)
        # The server's clock is moved no further than its answers demand, so what it shows is there.
        return ClockState(synchronised=abs(offset_s) <= S3_TELLS_S, offset_s=offset_s, source=S3)

    def _ahead_s(self) -> float:
        wall = dt.datetime.fromtimestamp(self.wall_s(), dt.timezone.utc)
        return round((wall - self.server.now()).total_seconds(), 3)

    def _chrony(self) -> ClockState | None:
        """None where nobody answers: no chrony, or one that does not run."""
        try:
            done = subprocess.run(
                self.command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**os.environ, "LC_ALL": "C"},
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return parse_tracking(done.stdout.decode(errors="replace"))
