"""HEAD: who holds a job, judged by reading it, never by the status of a write.

An attempt takes HEAD over before it reads a checkpoint, commits by swapping it, and finishes by a
swap with `done`. Every swap that is refused or unanswered is settled by `judge` on what a fresh
read shows.
"""

from __future__ import annotations

import enum
from dataclasses import replace

from spotrunner.core.model import CheckpointRef, Head

# A swap that loses this often in a row meets something that is not a race.
MAX_SWAPS = 5


class Verdict(enum.Enum):
    OURS = "ours"  # the swap happened: go on
    AGAIN = "again"  # somebody raced us legally: judge again and swap again
    FENCED = "fenced"  # another attempt holds the job: stop, write nothing more


def judge(seen: Head | None, *, attempt: str, generation: int, nonce: str) -> Verdict:
    """What became of our swap with `nonce`, given the HEAD that a fresh read shows."""
    if seen is not None and seen.nonce == nonce:
        return Verdict.OURS
    if may_write(seen, attempt=attempt, generation=generation):
        return Verdict.AGAIN
    return Verdict.FENCED


def may_write(seen: Head | None, *, attempt: str, generation: int) -> bool:
    """May this attempt swap HEAD? Only from its own or from a lower generation; an equal one of
    somebody else is as foreign as a higher one."""
    if seen is None or seen.generation < generation:
        return True
    return seen.generation == generation and seen.attempt == attempt


def taken_over(seen: Head | None, *, attempt: str, generation: int, nonce: str) -> Head:
    """HEAD after `attempt` has taken it: the checkpoints stay, `final` is spent."""
    if seen is None:
        return Head(seq=1, generation=generation, attempt=attempt, nonce=nonce)
    mine = _next(seen, nonce)
    return replace(mine, generation=generation, attempt=attempt, final=False)


def committed(seen: Head, ref: CheckpointRef, *, final: bool, nonce: str) -> Head:
    """HEAD after its holder committed `ref`. The step never falls: an older checkpoint that
    arrives late changes nothing but `final`."""
    after = replace(_next(seen, nonce), final=final or seen.final)
    newer = seen.manifest is None or ref.step > seen.manifest.step
    return replace(after, manifest=ref, previous=seen.manifest) if newer else after


def finalized(seen: Head, *, nonce: str) -> Head:
    """HEAD after its holder said that nothing more will come of it."""
    return replace(_next(seen, nonce), final=True)


def finished(seen: Head, *, outputs: str, nonce: str) -> Head:
    """HEAD after its holder committed the outputs: the job has succeeded."""
    return replace(_next(seen, nonce), final=True, done=outputs)


def fallen_back(seen: Head, *, nonce: str) -> Head:
    """HEAD after its holder found `manifest` damaged: `previous` counts, and the failure stays on
    record. The only swap in which the step may fall. Whatever `final` and `done` said was said of
    the damaged one."""
    return replace(
        _next(seen, nonce),
        manifest=seen.previous,
        previous=None,
        final=False,
        done=None,
        damaged=seen.manifest,
    )


def _next(seen: Head, nonce: str) -> Head:
    """`damaged` is of one swap only: it says why the step fell in that one."""
    return replace(seen, seq=seen.seq + 1, nonce=nonce, damaged=None)
