"""HEAD's rules: who may write, what became of a swap, and what each swap leaves as it was."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core.head import (
    Verdict,
    committed,
    fallen_back,
    finalized,
    finished,
    judge,
    may_write,
    taken_over,
)
from spotrunner.core.model import CheckpointRef, Head


def a_ref(step: int) -> CheckpointRef:
    return CheckpointRef(folder=f"c/{step}/", step=step, manifest_sha256="0" * 64)


def a_head(step: int | None = None, **changes: object) -> Head:
    head = Head(
        seq=7,
        generation=3,
        attempt="job.3",
        nonce="old",
        manifest=None if step is None else a_ref(step),
        previous=None if step is None else a_ref(step - 1),
    )
    return dataclasses.replace(head, **changes)  # type: ignore[arg-type]


refs = st.none() | st.integers(1, 9).map(a_ref)
heads = st.builds(
    a_head,
    manifest=refs,
    previous=refs,
    final=st.booleans(),
    seq=st.integers(1, 99),
    generation=st.integers(1, 5),
    attempt=st.sampled_from(["job.3", "job.4", "other.4"]),
    nonce=st.sampled_from(["old", "ours"]),
)


@pytest.mark.parametrize(
    ("seen", "allowed"),
    [
        (None, True),
        (a_head(), True),  # a lower generation
        (a_head(generation=4, attempt="job.4"), True),  # our own
        (a_head(generation=4, attempt="other.4"), False),
        (a_head(generation=5, attempt="job.5"), False),
        (a_head(generation=5, attempt="job.4"), False),
    ],
)
def test_who_may_write(seen: Head | None, allowed: bool) -> None:
    assert may_write(seen, attempt="job.4", generation=4) is allowed


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (None, Verdict.AGAIN),
        (a_head(), Verdict.AGAIN),
        (a_head(generation=4, attempt="job.4"), Verdict.AGAIN),  # ours, but an older swap's
        (a_head(generation=4, attempt="job.4", nonce="ours"), Verdict.OURS),
        (a_head(generation=4, attempt="other.4"), Verdict.FENCED),
        (a_head(generation=9, attempt="job.9"), Verdict.FENCED),
    ],
)
def test_what_became_of_a_swap(seen: Head | None, verdict: Verdict) -> None:
    assert judge(seen, attempt="job.4", generation=4, nonce="ours") is verdict


@given(st.none() | heads)
def test_a_refused_swap_is_never_judged_ours_by_accident(seen: Head | None) -> None:
    verdict = judge(seen, attempt="job.4", generation=4, nonce="ours")
    if verdict is Verdict.OURS:
        assert seen is not None
        assert seen.nonce == "ours"
    else:
        assert (verdict is Verdict.AGAIN) is may_write(seen, attempt="job.4", generation=4)


def test_the_first_head() -> None:
    head = taken_over(None, attempt="job.1", generation=1, nonce="n")
    assert head == Head(seq=1, generation=1, attempt="job.1", nonce="n")
    assert head.step == 0


@given(heads)
def test_a_take_over_keeps_the_checkpoints_and_spends_final(seen: Head) -> None:
    head = taken_over(seen, attempt="job.9", generation=9, nonce="n")
    assert (head.manifest, head.previous, head.done) == (seen.manifest, seen.previous, seen.done)
    assert (head.attempt, head.generation, head.final) == ("job.9", 9, False)


@given(heads, st.integers(1, 9), st.booleans())
def test_a_commit_never_lowers_the_step(seen: Head, step: int, final: bool) -> None:
    head = committed(seen, a_ref(step), final=final, nonce="n")
    assert head.step == max(seen.step, step)
    if step > seen.step:
        assert head.previous == seen.manifest
    else:
        assert (head.manifest, head.previous) == (seen.manifest, seen.previous)
    assert head.final is (final or seen.final)


@given(heads)
def test_every_swap_raises_the_sequence_by_one_and_bears_its_nonce(seen: Head) -> None:
    for head in (
        taken_over(seen, attempt="job.9", generation=9, nonce="n"),
        committed(seen, a_ref(5), final=False, nonce="n"),
        finalized(seen, nonce="n"),
        finished(seen, outputs="o/MANIFEST.json", nonce="n"),
        fallen_back(seen, nonce="n"),
    ):
        assert head.seq == seen.seq + 1
        assert head.nonce == "n"


def test_the_end_of_a_job_is_final_and_names_its_outputs() -> None:
    head = finished(a_head(50), outputs="o/MANIFEST.json", nonce="n")
    assert (head.done, head.final, head.step) == ("o/MANIFEST.json", True, 50)


def test_the_step_falls_only_with_the_damage_on_record() -> None:
    head = fallen_back(a_head(50), nonce="n")
    assert (head.step, head.damaged) == (49, a_ref(50))
    again = fallen_back(head, nonce="m")
    assert (again.step, again.manifest, again.damaged) == (0, None, a_ref(49))
