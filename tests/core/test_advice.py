"""Rules of thumb: what is said of which figures, and what is not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from spotrunner.core.advice import Rule, advise, clock_trouble
from spotrunner.core.figures import ClockState, Figures, GpuFigures
from spotrunner.core.model import Phase
from tests.build import a_report, at

GIB = 2**30
CALM = Figures(
    at=at(600),
    gpus=(GpuFigures(index=0, name="Tesla T4", memory_used_mib=13_000, memory_total_mib=15_360),),
    memory_used_bytes=8 * GIB,
    memory_total_bytes=16 * GIB,
    disk_free_bytes=50 * GIB,
    disk_total_bytes=100 * GIB,
    busy_share=0.9,
    step_s=0.2,
    input_wait_share=0.05,
    gradient_sync_share=0.1,
)


def rules(phase: Phase = Phase.TRAIN, **changes: Any) -> list[Rule]:
    figures = dataclasses.replace(CALM, **changes)
    return [it.rule for it in advise(a_report("j.1", 600, phase=phase, figures=figures))]


def gpus(*used_mib: int | None) -> tuple[GpuFigures, ...]:
    return tuple(
        GpuFigures(index=index, name="Tesla T4", memory_used_mib=used, memory_total_mib=10_000)
        for index, used in enumerate(used_mib)
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        # an idle GPU that waits
        ({"busy_share": 0.29, "input_wait_share": 0.31}, [Rule.INPUT]),
        ({"busy_share": 0.30, "input_wait_share": 0.9}, []),
        ({"busy_share": 0.29, "input_wait_share": 0.30}, [Rule.IDLE]),
        ({"busy_share": 0.0, "input_wait_share": None}, [Rule.IDLE]),
        # nobody knows yet, or there is no GPU
        ({"busy_share": None, "input_wait_share": 0.9}, []),
        # gradients: they are the reason, so the input is not suspected
        ({"gradient_sync_share": 0.30}, []),
        ({"gradient_sync_share": 0.31}, [Rule.SYNC]),
        (
            {"busy_share": 0.1, "gradient_sync_share": 0.6, "input_wait_share": None},
            [Rule.SYNC],
        ),
        # memory
        ({"gpus": gpus(9_000)}, []),
        ({"gpus": gpus(10, 9_001)}, [Rule.GPU_MEMORY]),
        ({"gpus": gpus(None)}, []),
        ({"gpus": ()}, []),
        ({"memory_used_bytes": 14.4 * GIB}, []),
        ({"memory_used_bytes": 14.5 * GIB}, [Rule.MEMORY]),
        ({"memory_used_bytes": None}, []),
        # the disk
        ({"disk_free_bytes": 5 * GIB}, []),
        ({"disk_free_bytes": 4.9 * GIB}, [Rule.DISK]),
        ({"disk_free_bytes": 0}, [Rule.DISK]),
        ({"disk_free_bytes": None, "disk_total_bytes": None}, []),
        # what costs most comes first
        (
            {"busy_share": 0.1, "input_wait_share": 0.8, "disk_free_bytes": 0},
            [Rule.INPUT, Rule.DISK],
        ),
    ],
)
def test_what_is_advised(changes: dict[str, Any], expected: list[Rule]) -> None:
    assert rules(**changes) == expected


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.TRAIN])
def test_only_who_trains_is_advised(phase: Phase) -> None:
    assert rules(phase, busy_share=0.0, disk_free_bytes=0) == []


def test_who_has_told_nothing_is_not_advised() -> None:
    assert advise(a_report("j.1", 600, phase=Phase.TRAIN)) == ()


def test_an_advice_has_the_figures_and_what_to_do() -> None:
    figures = dataclasses.replace(CALM, busy_share=0.12, input_wait_share=0.634)
    (advice,) = advise(a_report("j.1", 600, figures=figures))
    assert advice.what == "the GPU works 12% of the time, and 63% of each step waits for input"
    assert "prefetch" in advice.change
    assert advice.why.endswith(".")


@pytest.mark.parametrize(
    ("clock", "trouble"),
    [
        (ClockState(synchronised=True, offset_s=0.0001, source="chrony"), None),
        (ClockState(synchronised=True, offset_s=1.0, source="chrony"), None),
        (ClockState(synchronised=True), None),
        (ClockState(synchronised=True, offset_s=-5.25, source="chrony"), "5.2 s behind, by chrony"),
        (
            ClockState(synchronised=False, offset_s=90.0, source="S3"),
            "90.0 s ahead, by S3, and nothing sets it",
        ),
        (
            ClockState(synchronised=False, offset_s=0.2, source="chrony"),
            "not synchronised, says chrony",
        ),
        (ClockState(synchronised=False), "not synchronised, says the agent"),
    ],
)
def test_what_is_wrong_with_a_clock(clock: ClockState, trouble: str | None) -> None:
    assert clock_trouble(clock) == trouble
