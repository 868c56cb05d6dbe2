"""Rules of thumb over an instance's figures: what wastes its time, or is about to end it.

They rest on the last minutes in which the trainer made steps (agent/steady), so that neither a
restore nor a compilation nor a validation looks like an idle GPU.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from spotrunner.core.figures import ClockState, Figures
from spotrunner.core.model import Phase, Report

IDLE_SHARE = 0.30
INPUT_WAIT_SHARE = 0.30
SYNC_SHARE = 0.30
FULL_SHARE = 0.90
DISK_LEFT_SHARE = 0.05
CLOCK_S = 1.0


class Rule(str, enum.Enum):
    INPUT = "input"  # an idle GPU waits for the input pipeline
    IDLE = "idle"  # an idle GPU, and it is not the input as far as anybody knows
    SYNC = "sync"
    GPU_MEMORY = "gpu-memory"
    MEMORY = "memory"
    DISK = "disk"


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What is so, why that matters, and what to change: a sentence or two each."""

    rule: Rule
    what: str
    why: str
    change: str


def advise(report: Report) -> tuple[Advice, ...]:
    """The most costly first; nothing of an instance that does not train."""
    figures = report.figures
    if figures is None or report.phase is not Phase.TRAIN:
        return ()
    return tuple(found for rule in _RULES for found in rule(figures))


def clock_trouble(clock: ClockState) -> str | None:
    """What is wrong with an instance's clock, if anything is."""
    offset_s = clock.offset_s or 0.0
    if abs(offset_s) > CLOCK_S:
        way = "ahead" if offset_s > 0 else "behind"
        off = f"{abs(offset_s):.1f} s {way}, by {clock.source or 'its time server'}"
        return off if clock.synchronised else f"{off}, and nothing sets it"
    return None if clock.synchronised else f"not synchronised, says {clock.source or 'the agent'}"


# -- the rules ---------------------------------------------------------------------------------


def _input(figures: Figures) -> Iterator[Advice]:
    busy, waits = figures.busy_share, figures.input_wait_share
    if busy is None or waits is None or busy >= IDLE_SHARE or waits <= INPUT_WAIT_SHARE:
        return
    yield Advice(
        rule=Rule.INPUT,
        what=f"the GPU works {_percent(busy)} of the time, and {_percent(waits)} of each step"
        " waits for input",
        why="The input pipeline makes batches more slowly than the GPU trains on them.",
        change="Map in parallel and prefetch (tf.data: num_parallel_calls, prefetch), cache what"
        " fits into memory, read few large files (TFRecord) rather than many small ones, and give"
        " data with mode: copy where it is mounted. If the CPU is at its limit, a type with more"
        " vCPUs a GPU.",
    )


def _idle(figures: Figures) -> Iterator[Advice]:
    busy, waits = figures.busy_share, figures.input_wait_share
    if busy is None or busy >= IDLE_SHARE or (figures.gradient_sync_share or 0) > SYNC_SHARE:
        return
    if waits is None:
        yield Advice(
            rule=Rule.IDLE,
            what=f"the GPU works {_percent(busy)} of the time",
            why="Either its input comes too slowly or its steps are too small for it. The trainer"
            " does not tell which: its lines of progress have no input_wait_share.",
            change="See whether the steps get shorter with a batch that is made once and repeated:"
            " then it is the input (parallel map, prefetch, cache). If not, a larger batch, mixed"
            " precision and steps_per_execution, or a smaller and cheaper GPU.",
        )
    elif waits <= INPUT_WAIT_SHARE:
        yield Advice(
            rule=Rule.IDLE,
            what=f"the GPU works {_percent(busy)} of the time, and it does not wait for input",
            why="The steps are too small for this GPU: most of the time goes into starting them.",
            change="A larger batch, steps_per_execution or jit_compile in model.compile; or a"
            " smaller and cheaper GPU, which would do the same work for less.",
        )


def _sync(figures: Figures) -> Iterator[Advice]:
    share = figures.gradient_sync_share
    if share is not None and share > SYNC_SHARE:
        yield Advice(
            rule=Rule.SYNC,
            what=f"{_percent(share)} of each step waits for the other workers' gradients",
            why="The network between the workers carries them more slowly than they are computed.",
            change="A larger batch a worker, mixed precision (half the bytes), fewer and larger"
            " instances, or a type with a faster network.",
        )


def _gpu_memory(figures: Figures) -> Iterator[Advice]:
    shares = [
        gpu.memory_used_mib / gpu.memory_total_mib
        for gpu in figures.gpus
        if gpu.memory_used_mib is not None and gpu.memory_total_mib
    ]
    most = max(shares, default=0.0)
    if most > FULL_SHARE:
        yield Advice(
            rule=Rule.GPU_MEMORY,
            what=f"{_percent(most)} of the GPU's memory is taken",
            why="A longer input or another shape may not fit, and the trainer ends. But TensorFlow"
            " takes nearly all of it at its start, used or not, unless memory growth is set, as"
            " spotrunner.train does.",
            change="With memory growth: a smaller batch, mixed precision, or a GPU with more"
            " memory. Without: set TF_FORCE_GPU_ALLOW_GROWTH: 'true' in envs to see what is used.",
        )


def _memory(figures: Figures) -> Iterator[Advice]:
    used, total = figures.memory_used_bytes, figures.memory_total_bytes
    if used is not None and total and used / total > FULL_SHARE:
        yield Advice(
            rule=Rule.MEMORY,
            what=f"{_percent(used / total)} of the instance's memory is used",
            why="What comes beyond it is killed, and that is the trainer.",
            change="Smaller shuffle buffers and caches (tf.data: shuffle, cache to a file), fewer"
            " parallel calls, or a type with more memory.",
        )


def _disk(figures: Figures) -> Iterator[Advice]:
    free, total = figures.disk_free_bytes, figures.disk_total_bytes
    if free is not None and total and free / total < DISK_LEFT_SHARE:
        yield Advice(
            rule=Rule.DISK,
            what=f"{_percent(free / total)} of the disk is free",
            why="A checkpoint that does not fit is not saved, and the next interruption loses the"
            " steps since the last one.",
            change="A larger disk_gib, or fewer files in the outputs.",
        )


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


_RULES: tuple[Callable[[Figures], Iterator[Advice]], ...] = (
    _input,
    _idle,
    _sync,
    _memory,
    _disk,
    _gpu_memory,
)
