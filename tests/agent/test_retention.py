"""Old checkpoints leave the bucket, and nothing else does."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from spotrunner.agent.checkpoints import Checkpoints
from spotrunner.agent.retention import MOST_AT_ONCE
from spotrunner.core.saving import Saving
from spotrunner.ports import Unavailable, always
from tests.agent.told import JOB
from tests.agent.world import Bucket, save

SAVING = Saving(keep_last=2)
PREFIX = f"jobs/{JOB}/checkpoints/"


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def checkpoints(bucket: Bucket, tmp_path: Path) -> Checkpoints:
    bucket.holder(4).take()
    return bucket.checkpoints(4, tmp_path)


def commit(bucket: Bucket, checkpoints: Checkpoints, *steps: int) -> None:
    holder = bucket.holder(checkpoints.keys.generation)
    for step in steps:
        save(checkpoints.folders.root, step)
        holder.commit(checkpoints.store(step), final=False)


def steps_there(bucket: Bucket) -> list[int]:
    names = [key.removeprefix(PREFIX) for key in bucket.listed(PREFIX)]
    return sorted({int(name.partition("-")[0]) for name in names if "/" in name})


def test_after_a_commit_the_old_ones_go(bucket: Bucket, checkpoints: Checkpoints) -> None:
    commit(bucket, checkpoints, 10, 20, 30, 40)
    assert bucket.retention(4).tidy(SAVING, always) == 2
    assert steps_there(bucket) == [30, 40]
    assert bucket.head.step == 40
    assert bucket.retention(4).tidy(SAVING, always) == 0


def test_the_manifest_goes_first(bucket: Bucket, checkpoints: Checkpoints) -> None:
    """Nobody reads one whose files are gone, whenever we die."""
    holder = bucket.holder(4)
    save(checkpoints.folders.root, 10, A="a name before the manifest's", z="after it")
    holder.commit(checkpoints.store(10), final=False)
    commit(bucket, checkpoints, 20, 30)
    bucket.objects.fail_next("delete", Unavailable("503"), prefix=f"{PREFIX}00000010-4-n1/A")
    with pytest.raises(Unavailable):
        bucket.retention(4).tidy(SAVING, always)
    left = [key for key in bucket.listed(PREFIX) if "00000010" in key]
    assert left, "not everything is gone"
    assert not any(key.endswith("MANIFEST.json") for key in left)


def test_a_delete_that_failed_is_made_up_for_later(
    bucket: Bucket, checkpoints: Checkpoints
) -> None:
    commit(bucket, checkpoints, 10, 20, 30)
    bucket.objects.fail_next("delete", Unavailable("503"), prefix=f"{PREFIX}00000010-4-n1/v")
    with pytest.raises(Unavailable):
        bucket.retention(4).tidy(SAVING, always)
    bucket.clock.at += dt.timedelta(hours=1)
    bucket.retention(4).tidy(SAVING, always)
    assert steps_there(bucket) == [20, 30]


def test_who_no_longer_holds_head_removes_nothing(bucket: Bucket, checkpoints: Checkpoints) -> None:
    commit(bucket, checkpoints, 10, 20, 30)
    bucket.holder(5).take()
    assert bucket.retention(4).tidy(SAVING, always) == 0
    assert steps_there(bucket) == [10, 20, 30]


def test_a_successor_tidies_up_after_the_dead(
    bucket: Bucket, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    commit(bucket, checkpoints, 10, 20, 30)
    save(tmp_path, 35)
    bucket.objects.fail_next("put", Unavailable("it died"), prefix=f"{PREFIX}00000035-4-n4/M")
    with pytest.raises(Unavailable):
        checkpoints.store(35)
    bucket.holder(5).take()
    bucket.clock.at += dt.timedelta(hours=2)
    commit(bucket, bucket.checkpoints(5, tmp_path / "b"), 40, 50)
    bucket.retention(5).tidy(SAVING, always)
    assert steps_there(bucket) == [40, 50]


def test_names_that_are_not_ours_are_left_alone(bucket: Bucket, checkpoints: Checkpoints) -> None:
    strange = [f"{PREFIX}mine/notes.txt", f"{PREFIX}00000001-abcdef/MANIFEST.json"]
    for key in strange:
        bucket.objects.put(key, b"x")
    commit(bucket, checkpoints, 10, 20, 30)
    bucket.retention(4).tidy(SAVING, always)
    assert set(strange) < set(bucket.listed(PREFIX))


def test_it_is_bounded_and_gives_way(bucket: Bucket, checkpoints: Checkpoints) -> None:
    commit(bucket, checkpoints, *range(1, MOST_AT_ONCE + 10))
    asked = iter([True, True, False])
    assert bucket.retention(4).tidy(SAVING, lambda: next(asked)) == 2
    assert bucket.retention(4).tidy(SAVING, always) == MOST_AT_ONCE
    assert min(steps_there(bucket)) == MOST_AT_ONCE + 3
