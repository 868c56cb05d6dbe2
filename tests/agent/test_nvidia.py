"""The GPUs: what nvidia-smi prints, and one that is absent, fails, hangs or comes late.

No machine with a GPU runs these tests: the lines have the form of published outputs of g4dn (T4),
g5 (A10G), p3 (V100) and p5 (H100) and of broken cards.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.agent import nvidia
from spotrunner.agent.nvidia import GpuLine, NvidiaSmi, parse
from spotrunner.core.figures import GpuFigures


def a_gpu(index: int = 0, name: str = "Tesla T4", **figures: Any) -> GpuFigures:
    return GpuFigures(index=index, name=name, **figures)


T4 = a_gpu(
    used_percent=97, memory_used_mib=13909, memory_total_mib=15360, temperature_c=71, power_w=68.52
)


@pytest.mark.parametrize(
    ("line", "gpu", "driver"),
    [
        ("0, Tesla T4, 97, 13909, 15360, 71, 68.52, 535.183.01\n", T4, "535.183.01"),
        (
            "0, NVIDIA A10G, 0, 0, 23028, 28, 15.31, 580.126.09\n",
            a_gpu(
                name="NVIDIA A10G",
                used_percent=0,
                memory_used_mib=0,
                memory_total_mib=23028,
                temperature_c=28,
                power_w=15.31,
            ),
            "580.126.09",
        ),
        (
            "3, Tesla V100-SXM2-16GB, 38, 2, 16160, 41, 42.15, 450.51.06\n",
            a_gpu(
                3,
                "Tesla V100-SXM2-16GB",
                used_percent=38,
                memory_used_mib=2,
                memory_total_mib=16160,
                temperature_c=41,
                power_w=42.15,
            ),
            "450.51.06",
        ),
        (
            "1, NVIDIA H100 80GB HBM3, 97, 65432, 81559, 61, 512.30, 550.54.15\n",
            a_gpu(
                1,
                "NVIDIA H100 80GB HBM3",
                used_percent=97,
                memory_used_mib=65432,
                memory_total_mib=81559,
                temperature_c=61,
                power_w=512.3,
            ),
            "550.54.15",
        ),
        # a vGPU, an old card, one in MIG mode
        (
            "0, GRID M60-2Q, 12, 51, 2048, [Not Supported], [Not Supported], 450.51.06\n",
            a_gpu(
                name="GRID M60-2Q",
                used_percent=12,
                memory_used_mib=51,
                memory_total_mib=2048,
            ),
            "450.51.06",
        ),
        (
            "0, NVIDIA A100-SXM4-40GB, [N/A], 19, 40960, 32, 61.20, 535.183.01\n",
            a_gpu(
                name="NVIDIA A100-SXM4-40GB",
                memory_used_mib=19,
                memory_total_mib=40960,
                temperature_c=32,
                power_w=61.2,
            ),
            "535.183.01",
        ),
        # memory of its own it has none
        (
            "0, NVIDIA GB10, 96, [N/A], [N/A], 60, 45.00, 580.10\n",
            a_gpu(name="NVIDIA GB10", used_percent=96, temperature_c=60, power_w=45.0),
            "580.10",
        ),
        # broken ones
        (
            "0, NVIDIA H100 80GB HBM3, [GPU requires reset], 0, 81559, [GPU requires reset],"
            " [Unknown Error], 550.54.15\n",
            a_gpu(name="NVIDIA H100 80GB HBM3", memory_used_mib=0, memory_total_mib=81559),
            "550.54.15",
        ),
        ("0, Tesla T4, ERR!, ERR!, ERR!, ERR!, ERR!, [N/A]\n", a_gpu(), ""),
        (
            "0, Tesla T4, nan, -1, inf, 7, 1e3, 1.2\n",
            a_gpu(temperature_c=7, power_w=1000.0),
            "1.2",
        ),
    ],
)
def test_what_a_line_of_nvidia_smi_says(line: str, gpu: GpuFigures, driver: str) -> None:
    assert parse(line) == GpuLine(gpu=gpu, driver=driver)


@given(st.one_of(st.text(), st.lists(st.text(), min_size=8, max_size=8).map(",".join)))
def test_no_line_is_too_odd_to_be_read(line: str) -> None:
    told = parse(line)
    assert told is None or told.gpu.index >= 0


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        "No devices were found\n",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure"
        " that the latest NVIDIA driver is installed and running.\n",
        "Unable to determine the device handle for GPU0000:00:1E.0: GPU is lost.  Reboot the system"
        " to recover this GPU\n",
        "Failed to initialize NVML: Driver/library version mismatch\n",
        'Field "driver_version" is not a valid field to query.\n',
        "x, Tesla T4, 1, 2, 3, 4, 5, 535\n",
        "0, Tesla T4, 1, 2\n",
        '"0, Tesla T4, 1, 2, 3, 4, 5, 535\n',
    ],
)
def test_what_else_it_prints_is_no_gpu(line: str) -> None:
    assert parse(line) is None


def test_a_minute_of_a_gpu_is_its_mean_and_the_most_of_what_must_not_run_over() -> None:
    looks = [
        a_gpu(used_percent=100, memory_used_mib=9000, temperature_c=70, power_w=70.0),
        a_gpu(used_percent=None, memory_used_mib=12000, temperature_c=72, power_w=None),
        a_gpu(used_percent=51, memory_used_mib=8000, temperature_c=None, power_w=60.0),
    ]
    minute = a_gpu(used_percent=76, memory_used_mib=12000, temperature_c=72, power_w=65.0)
    assert nvidia.over_time(looks) == minute
    assert nvidia.over_time([a_gpu()]) == a_gpu()


def test_it_is_asked_for_the_fields_that_are_read() -> None:
    assert nvidia.COMMAND[0] == "nvidia-smi"
    assert nvidia.COMMAND[1].removeprefix("--query-gpu=").split(",") == list(nvidia.FIELDS)
    assert "--format=csv,noheader,nounits" in nvidia.COMMAND


# -- the child ---------------------------------------------------------------------------------


class Enough(Exception):
    """Leaves a loop that has no end."""


class Pauses:
    """Notes how long the loop would wait, and ends it."""

    def __init__(self, most: int) -> None:
        self.all_s: list[float] = []
        self._most = most

    def __call__(self, seconds: float) -> None:
        self.all_s.append(seconds)
        if len(self.all_s) >= self._most:
            raise Enough


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """A stand-in that runs this text."""

    def write(text: str) -> tuple[str, ...]:
        return ("/bin/sh", "-c", text)

    return write


LINE = "echo '0, Tesla T4, 97, 13909, 15360, 71, 68.52, 535.183.01'"
OTHER = "echo '1, Tesla T4, 3, 5, 15360, 40, 20.00, 535.183.01'"


def listened(command: tuple[str, ...], pauses: Pauses, clock_s: Callable[[], float]) -> NvidiaSmi:
    smi = NvidiaSmi(command, clock_s=clock_s, wait=pauses)
    with pytest.raises(Enough):
        smi.run()
    return smi


def test_each_gpu_is_what_was_last_said_of_it(script: Callable[[str], tuple[str, ...]]) -> None:
    old = LINE.replace("97", "1")
    smi = listened(script(f"{old}; {OTHER}; {LINE}"), Pauses(1), lambda: 0.0)
    assert [line.gpu.used_percent for line in smi.lines()] == [97, 3]
    assert {line.driver for line in smi.lines()} == {"535.183.01"}


def test_what_a_hanging_child_said_long_ago_is_no_news(
    script: Callable[[str], tuple[str, ...]],
) -> None:
    now_s = 0.0
    smi = listened(script(LINE), Pauses(1), lambda: now_s)
    now_s = nvidia.STALE_S
    assert len(smi.lines()) == 1
    now_s += 1
    assert smi.lines() == []


def test_a_child_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    """It tells one line, and then nothing for as long as nobody lets go of the pipe."""
    pipe = tmp_path / "hangs"
    os.mkfifo(pipe)
    told = threading.Event()

    def clock_s() -> float:
        told.set()
        return 0.0

    smi = NvidiaSmi(("/bin/sh", "-c", f"{LINE}; cat {pipe}"), clock_s=clock_s, wait=Pauses(1))
    ended = threading.Event()

    def run() -> None:
        with pytest.raises(Enough):
            smi.run()
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    assert told.wait(30)
    assert len(smi.lines()) == 1
    assert not ended.is_set()
    pipe.write_text("")
    assert ended.wait(30)


def test_one_that_tells_nothing_is_asked_ever_more_seldom(
    script: Callable[[str], tuple[str, ...]],
) -> None:
    pauses = Pauses(8)
    smi = listened(script("echo 'No devices were found'; exit 6"), pauses, lambda: 0.0)
    assert smi.lines() == []
    assert pauses.all_s == [20, 40, 80, 160, 320, 600, 600, 600]


def test_one_that_told_something_is_back_soon(script: Callable[[str], tuple[str, ...]]) -> None:
    pauses = Pauses(2)
    listened(script(LINE), pauses, lambda: 0.0)
    assert pauses.all_s == [10, 10]


def test_a_machine_without_nvidia_smi_is_asked_once(tmp_path: Path) -> None:
    smi = NvidiaSmi((str(tmp_path / "nvidia-smi"),), wait=Pauses(1))
    smi.run()  # returns, and has not waited
    assert smi.lines() == []


def test_one_that_may_not_be_started_is_tried_again(tmp_path: Path) -> None:
    forbidden = tmp_path / "nvidia-smi"
    forbidden.mkdir()
    pauses = Pauses(1)
    listened((str(forbidden),), pauses, lambda: 0.0)
    assert pauses.all_s == [20]
