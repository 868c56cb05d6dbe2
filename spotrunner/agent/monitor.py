"""Looks at the machine while the agent works: its figures every 10 s, its clock every minute.

In a thread of its own, whose slowest question has a time-out; nothing in the agent waits for it.
Figures are of the last minute, so that a report tells of all of the time since the one before.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from spotrunner.agent import nvidia
from spotrunner.agent.clock_check import ClockCheck
from spotrunner.agent.host_figures import Counters, HostFigures
from spotrunner.agent.nvidia import GpuLine, NvidiaSmi
from spotrunner.agent.steady import Steady
from spotrunner.agent.words import ClockSeen, Event, FiguresSeen, Progressed, TrainerExited
from spotrunner.core.figures import Figures, GpuFigures
from spotrunner.ports import Clock

LOOK_EVERY_S = 10.0
# A minute of looks, and with each the one that it is compared with.
LOOKS = 6
# The clock is looked at with every so many-th look, and not before: chrony needs some seconds.
LOOKS_A_CLOCK = 6

_log = structlog.get_logger(__name__)


class Monitor:
    """`put` takes what it sees, and is told by whoever puts events: `hear` learns from some of
    them. `check` is None where the clock is not this machine's own (the lab's time)."""

    def __init__(
        self,
        *,
        put: Callable[[Event], None],
        clock: Clock,
        gpus: NvidiaSmi,
        host: HostFigures,
        check: ClockCheck | None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._put = put
        self._clock = clock
        self._gpus = gpus
        self._host = host
        self._check = check
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._steady = Steady()
        self._counted: deque[tuple[float, Counters]] = deque(maxlen=LOOKS + 1)
        self._seen: deque[list[GpuLine]] = deque(maxlen=LOOKS)
        self._looks = 0

    def start(self) -> None:
        self._gpus.start()
        threading.Thread(target=self._run, name="monitor", daemon=True).start()

    def tell(self, event: Event) -> None:
        """Pass an event on, and learn from it: called by the threads of the trainer."""
        if isinstance(event, Progressed):
            with self._lock:
                self._steady.progressed(event, self._clock_s())
        elif isinstance(event, TrainerExited):
            with self._lock:
                self._steady.restarted()
        self._put(event)

    def look(self) -> None:
        """One look at everything."""
        self._looks += 1
        self._put(FiguresSeen(figures=self._figures()))
        if self._check is not None and self._looks % LOOKS_A_CLOCK == 0:
            self._put(ClockSeen(clock=self._check.state()))

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(LOOK_EVERY_S):
            try:
                self.look()
            except Exception:  # noqa: BLE001 -- the outermost catch of this thread: it records
                _log.exception("a bug")

    def _figures(self) -> Figures:
        lines = self._gpus.lines()
        self._seen.append(lines)
        self._counted.append((self._clock_s(), self._host.counters()))
        memory, disk = self._host.memory(), self._host.disk()
        (then_s, before), (now_s, now) = self._counted[0], self._counted[-1]

        def rate(old: int | None, new: int | None) -> float | None:
            return _rate(old, new, now_s - then_s)

        with self._lock:
            busy_share = _busy_share(lines)
            if busy_share is not None:
                self._steady.looked(busy_share)
            steady = self._steady
            return Figures(
                at=self._clock.now(),
                gpus=_gpus(self._seen),
                driver=next((line.driver for line in lines), ""),
                cpu_share=_cpu_share(before, now),
                memory_used_bytes=memory.total_bytes - memory.free_bytes if memory else None,
                memory_total_bytes=memory.total_bytes if memory else None,
                disk_free_bytes=disk.free_bytes if disk else None,
                disk_total_bytes=disk.total_bytes if disk else None,
                disk_read_bytes_s=rate(before.read_bytes, now.read_bytes),
                disk_written_bytes_s=rate(before.written_bytes, now.written_bytes),
                received_bytes_s=rate(before.received_bytes, now.received_bytes),
                sent_bytes_s=rate(before.sent_bytes, now.sent_bytes),
                busy_share=steady.busy_share,
                step_s=steady.step_s,
                input_wait_share=steady.input_wait_share,
                gradient_sync_share=steady.gradient_sync_share,
            )


def _gpus(seen: Sequence[Sequence[GpuLine]]) -> tuple[GpuFigures, ...]:
    """Those of the last look, over the last minute."""
    return tuple(
        nvidia.over_time([each.gpu for look in seen for each in look if each.gpu.index == index])
        for index in (line.gpu.index for line in seen[-1])
    )


def _busy_share(lines: Sequence[GpuLine]) -> float | None:
    """The mean over all GPUs: one that idles beside seven is a waste as well."""
    used = [line.gpu.used_percent for line in lines if line.gpu.used_percent is not None]
    return sum(used) / len(used) / 100 if used else None


def _cpu_share(before: Counters, now: Counters) -> float | None:
    if before.cpu_all is None or now.cpu_all is None:
        return None
    assert before.cpu_busy is not None
    assert now.cpu_busy is not None
    ticks = now.cpu_all - before.cpu_all
    return round((now.cpu_busy - before.cpu_busy) / ticks, 3) if ticks > 0 else None


def _rate(before: int | None, now: int | None, span_s: float) -> float | None:
    """None also where a counter began anew: another disk, another interface."""
    if before is None or now is None or span_s <= 0 or now < before:
        return None
    return float(round((now - before) / span_s))
