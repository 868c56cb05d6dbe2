"""Which checkpoints go: never one that anybody may still restore."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core.model import CheckpointRef, Head
from spotrunner.core.retention import (
    TORN_AFTER,
    StoredCheckpoint,
    folder_name,
    maker_of,
    spent,
)
from spotrunner.core.saving import Saving

NOW = dt.datetime(2026, 11, 2, 9, 0, tzinfo=dt.timezone.utc)
MINE = 4


def folder(step: int, generation: int = MINE) -> str:
    return f"jobs/digits/checkpoints/{folder_name(step, generation, 'n')}/"


def ref(step: int, generation: int = MINE) -> CheckpointRef:
    return CheckpointRef(folder=folder(step, generation), step=step, manifest_sha256="0")


def stored(
    step: int, generation: int = MINE, *, complete: bool = True, age_s: float = 0.0
) -> StoredCheckpoint:
    return StoredCheckpoint(
        folder=folder(step, generation),
        step=step,
        generation=generation,
        complete=complete,
        newest_at=NOW - dt.timedelta(seconds=age_s),
    )


def a_head(
    step: int,
    previous: int | None = None,
    damaged: int | None = None,
    generation: int = MINE,
) -> Head:
    return Head(
        seq=7,
        generation=generation,
        attempt=f"digits.{generation}",
        manifest=ref(step),
        previous=None if previous is None else ref(previous),
        damaged=None if damaged is None else ref(damaged),
        nonce="n",
    )


def gone(
    there: list[StoredCheckpoint], head: Head, keep_last: int = 3, every: int | None = None
) -> list[int]:
    saving = Saving(keep_last=keep_last, keep_every_steps=every)
    return [each.step for each in spent(there, head, saving, generation=MINE, now=NOW)]


@pytest.mark.parametrize(
    ("keep_last", "every", "removed"),
    [
        (3, None, [10, 20, 30, 40]),
        (1, None, [10, 20, 30, 40, 50]),  # what HEAD names before the last stays anyway
        (9, None, []),
        (3, 25, [10, 20, 40]),  # 30 is the first from 25 on, 50 from 50 on
        (1, 20, [10, 30, 50]),
        (2, 1000, [10, 20, 30, 40, 50]),  # nothing has got that far
    ],
)
def test_the_newest_stay_and_one_in_every_so_many_steps(
    keep_last: int, every: int | None, removed: list[int]
) -> None:
    there = [stored(step) for step in (70, 10, 60, 20, 50, 30, 40)]
    assert gone(there, a_head(70, 60), keep_last, every) == removed


def test_what_head_names_stays_wherever_it_is() -> None:
    there = [stored(step) for step in (10, 20, 30, 40, 50)]
    assert gone(there, a_head(50, previous=10, damaged=20), keep_last=1) == [30, 40]


def test_what_head_has_not_reached_stays() -> None:
    """Found damaged, or complete and not committed: somebody may want to look at it."""
    there = [stored(step) for step in (10, 20, 30, 90)]
    assert gone(there, a_head(30, 20), keep_last=1) == [10]


def test_what_a_later_attempt_has_made_is_not_ours_to_judge() -> None:
    """It took HEAD over after we had read it, and went back to a step before ours."""
    there = [stored(30), stored(20), stored(10), stored(15, 5), stored(16, 5, complete=False)]
    assert gone(there, a_head(30, 20), keep_last=1) == [10]


def test_a_head_that_is_no_longer_ours_removes_nothing() -> None:
    there = [stored(step) for step in (10, 20, 30, 40)]
    assert gone(there, a_head(40, 30, generation=5), keep_last=1) == []


@pytest.mark.parametrize(
    ("step", "generation", "age_s", "goes"),
    [
        (25, 3, 3600, True),  # a fenced attempt's: nobody can commit it any more
        (95, 3, 3600, True),
        (25, 3, 3599, False),  # it may still be writing
        (25, 4, 3600, True),  # our own, from before HEAD's step: left by an earlier agent
        (95, 4, 3600, False),  # our own, under way
        (30, 4, 3600, False),
        (25, 5, 99999, False),
    ],
)
def test_a_torn_folder_goes_when_nobody_can_complete_it(
    step: int, generation: int, age_s: float, goes: bool
) -> None:
    torn = stored(step, generation, complete=False, age_s=age_s)
    there = [stored(30), stored(20), torn]
    assert gone(there, a_head(30, 20)) == ([step] if goes else [])


def test_of_two_at_one_milestone_the_later_one_stays() -> None:
    there = [stored(100, 2), stored(100, 4), stored(150), stored(190), stored(200)]
    went = spent(
        there, a_head(200, 190), Saving(keep_last=1, keep_every_steps=100), generation=MINE, now=NOW
    )
    assert [each.folder for each in went] == [folder(100, 2), folder(150)]


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        (folder_name(50, 4, "ab12"), (50, 4)),
        (folder_name(123456789, 12, "x"), (123456789, 12)),
        ("00000050-ab12cd34", None),
        ("HEAD.json", None),
        ("50-4-", None),
        ("50-4-a/b", None),
        ("५-4-a", None),
    ],
)
def test_a_folder_says_who_made_it(name: str, maker: tuple[int, int] | None) -> None:
    assert maker_of(name) == maker


FOLDERS = st.lists(
    st.builds(
        stored,
        st.integers(0, 40),
        st.integers(1, 6),
        complete=st.booleans(),
        age_s=st.sampled_from([0, 1800, 3600, 90000]),
    ),
    max_size=30,
    unique_by=lambda each: each.folder,
)


@given(
    there=FOLDERS,
    picks=st.tuples(st.integers(0, 29), st.integers(0, 29)),
    keep_last=st.integers(1, 5),
    every=st.none() | st.integers(1, 20),
)
def test_nothing_that_may_be_needed_goes(
    there: list[StoredCheckpoint],
    picks: tuple[int, int],
    keep_last: int,
    every: int | None,
) -> None:
    complete = [each for each in there if each.complete and each.generation <= MINE]
    if not complete:
        return
    named = sorted((complete[pick % len(complete)] for pick in picks), key=lambda one: one.step)
    refs = [
        CheckpointRef(folder=each.folder, step=each.step, manifest_sha256="0") for each in named
    ]
    head = Head(
        seq=3, generation=MINE, attempt="a.4", manifest=refs[1], previous=refs[0], nonce="n"
    )
    saving = Saving(keep_last=keep_last, keep_every_steps=every)
    went = spent(there, head, saving, generation=MINE, now=NOW)
    left = [each for each in there if each not in went]
    older = [each for each in there if each.complete and each.step <= head.step]
    for each in went:
        assert each.folder not in (refs[0].folder, refs[1].folder)
        assert each.generation <= MINE
        assert each.step <= head.step or not each.complete
        assert each.complete or NOW - each.newest_at >= TORN_AFTER
    assert sum(each in left for each in older) >= min(keep_last, len(older))
    # What was kept once is kept again: nothing goes because something else went.
    assert spent(left, head, saving, generation=MINE, now=NOW) == []
    if every is not None:
        reached = {each.step // every for each in older} - {0}
        assert reached <= {each.step // every for each in left if each.complete}
