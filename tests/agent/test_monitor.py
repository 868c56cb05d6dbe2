"""The monitor: what it puts, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from spotrunner.agent import words as w
from spotrunner.agent.clock_check import ClockCheck
from spotrunner.agent.host_figures import HostFigures
from spotrunner.agent.monitor import LOOKS, Monitor
from spotrunner.agent.nvidia import NvidiaSmi
from spotrunner.core.figures import Figures
from tests.agent.test_clock_check import FOLLOWS, check
from tests.agent.test_host_figures import MEMINFO, ROUTE
from tests.agent.test_nvidia import Enough
from tests.agent.told import T0


class Time:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


class Seen:
    """A machine with two GPUs, of which every look finds ten seconds later."""

    def __init__(self, tmp_path: Path, clock: ClockCheck | None = None) -> None:
        self.events: list[w.Event] = []
        self.time = Time()
        self.proc = tmp_path
        (tmp_path / "net").mkdir()
        (tmp_path / "block/nvme0n1/device").mkdir(parents=True)
        self.busy, self.moved = 1000, 0
        self.smi_said = tmp_path / "smi"
        self.gpus_say(90, 30)
        self.smi = NvidiaSmi(("cat", str(self.smi_said)), clock_s=self.time, wait=self._pause)
        self.monitor = Monitor(
            put=self.events.append,
            clock=check("", ahead_s=0).server,
            gpus=self.smi,
            host=HostFigures(folder=tmp_path, proc=tmp_path, blocks=tmp_path / "block"),
            check=clock,
            clock_s=self.time,
        )

    def _pause(self, _: float) -> None:
        raise Enough

    def gpus_say(self, *used: int) -> None:
        lines = (
            f"{i}, Tesla T4, {it}, 9000, 15360, 60, 50.0, 535.1\n" for i, it in enumerate(used)
        )
        self.smi_said.write_text("".join(lines))

    def look(self) -> Figures:
        self.time.s += 10
        with pytest.raises(Enough):
            self.smi.run()
        self.busy += 600
        self.moved += 10 * 2**20
        self._write()
        self.monitor.look()
        seen = [it for it in self.events if isinstance(it, w.FiguresSeen)]
        return seen[-1].figures

    def _write(self) -> None:
        idle = 400 * round(self.time.s / 10)
        (self.proc / "stat").write_text(f"cpu  {self.busy} 0 0 {idle} 0 0 0 0 0 0\n")
        (self.proc / "meminfo").write_text(MEMINFO)
        sectors = self.moved // 512
        (self.proc / "diskstats").write_text(
            f" 259 0 nvme0n1 1 0 {sectors} 0 1 0 {2 * sectors} 0 0 0 0\n"
        )
        (self.proc / "net/route").write_text(ROUTE)
        (self.proc / "net/dev").write_text(f"  ens5: {self.moved} 1 0 0 0 0 0 0 {self.moved} 1\n")


@pytest.fixture
def seen(tmp_path: Path) -> Seen:
    return Seen(tmp_path)


def test_the_first_look_has_no_rates_yet(seen: Seen) -> None:
    figures = seen.look()
    assert [gpu.used_percent for gpu in figures.gpus] == [90, 30]
    assert figures.driver == "535.1"
    assert figures.memory_total_bytes == 16093360 * 1024
    assert figures.disk_free_bytes
    assert figures.cpu_share is None
    assert figures.received_bytes_s is None


def test_rates_and_shares_are_of_the_last_minute(seen: Seen) -> None:
    for _ in range(LOOKS):
        seen.look()
    seen.gpus_say(0, 0)
    for _ in range(3):
        figures = seen.look()
    assert figures.cpu_share == 0.6
    assert figures.disk_read_bytes_s == 2**20
    assert figures.disk_written_bytes_s == 2 * 2**20
    assert figures.received_bytes_s == figures.sent_bytes_s == 2**20
    assert [gpu.used_percent for gpu in figures.gpus] == [45, 15]
    assert figures.at == T0


def test_a_counter_that_began_anew_is_no_rate(seen: Seen) -> None:
    seen.look()
    seen.moved = -10 * 2**20
    assert seen.look().received_bytes_s is None


def test_gpus_that_are_silent_are_told_no_longer(seen: Seen) -> None:
    seen.look()
    seen.smi_said.write_text("")
    for _ in range(4):
        figures = seen.look()
    assert figures.gpus == ()


def test_the_figures_of_steps_come_with_the_lines_of_progress(seen: Seen) -> None:
    for step in range(20):
        figures = seen.look()
        line = w.Progressed(step=step, input_wait_share=0.4)
        seen.monitor.tell(line)
        assert seen.events[-1] is line
    assert figures.busy_share == 0.6
    assert figures.step_s == 10
    assert figures.input_wait_share == 0.4
    gone = w.TrainerExited(code=0)
    seen.monitor.tell(gone)
    assert seen.events[-1] is gone


def test_the_clock_is_looked_at_once_a_minute(tmp_path: Path) -> None:
    seen = Seen(tmp_path, check(FOLLOWS, ahead_s=0))
    for _ in range(LOOKS - 1):
        seen.look()
    assert not [it for it in seen.events if isinstance(it, w.ClockSeen)]
    for _ in range(LOOKS + 1):
        seen.look()
    clocks = [it.clock for it in seen.events if isinstance(it, w.ClockSeen)]
    assert [clock.source for clock in clocks] == ["chrony", "chrony"]


def test_a_clock_that_is_not_the_machines_own_is_not_looked_at(seen: Seen) -> None:
    """The lab's time is not the time of the machine that it runs on."""
    for _ in range(3 * LOOKS):
        seen.look()
    assert not [it for it in seen.events if isinstance(it, w.ClockSeen)]


def test_a_kernel_that_tells_nothing_is_no_trouble(tmp_path: Path) -> None:
    events: list[w.Event] = []
    monitor = Monitor(
        put=events.append,
        clock=check("", ahead_s=0).server,
        gpus=NvidiaSmi(("/no/nvidia-smi",)),
        host=HostFigures(folder=tmp_path, proc=tmp_path, blocks=tmp_path / "none"),
        check=None,
    )
    monitor.look()
    (told,) = events
    assert isinstance(told, w.FiguresSeen)
    assert told.figures.cpu_share is None
    assert told.figures.gpus == ()
