"""Checkpoints between bucket and disk: written once, verified on the way back."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spotrunner.agent.checkpoints import Checkpoints, DamagedCheckpoint
from spotrunner.agent.folders import PARTIAL_PREFIX, complete_steps, files_below
from spotrunner.core.model import CheckpointRef
from spotrunner.ports import Content, Misconfigured, Objects, PreconditionFailed, Unavailable
from tests.agent.told import JOB
from tests.agent.world import Bucket, save

FOLDER = f"jobs/{JOB}/checkpoints/00000050-4-n1/"


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def ours(bucket: Bucket, tmp_path: Path) -> Checkpoints:
    return bucket.checkpoints(4, tmp_path / "a")


@pytest.fixture
def other(bucket: Bucket, tmp_path: Path) -> Checkpoints:
    """The replacement's, on another machine."""
    return bucket.checkpoints(5, tmp_path / "b")


def stored(checkpoints: Checkpoints, step: int = 50) -> CheckpointRef:
    save(checkpoints.folders.root, step)
    return checkpoints.store(step)


# -- up


def test_a_checkpoint_comes_back_as_it_was(ours: Checkpoints, other: Checkpoints) -> None:
    other.restore(stored(ours))
    there, back = ours.folders.checkpoints, other.folders.checkpoints
    assert _texts(back) == _texts(there)
    assert list(complete_steps(back)) == [50]


def test_what_is_carried_is_counted_both_ways(ours: Checkpoints, other: Checkpoints) -> None:
    ref = stored(ours)
    weight = sum(
        path.stat().st_size for path in ours.folders.checkpoints.rglob("*") if path.is_file()
    )
    assert ours.carried.bytes == weight > 0
    other.restore(ref)
    assert other.carried.bytes == weight


def _links(folder: Path) -> None:
    (folder / "latest").symlink_to("weights")


def _links_a_folder(folder: Path) -> None:
    (folder / "shared").symlink_to(folder.parent)


def _names(folder: Path) -> None:
    (folder / "variables" / os.fsdecode(b"w\xff")).write_text("x")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_links, "latest is a link"),
        (_links_a_folder, "shared is a link"),
        (_names, r"the name variables/w\\xff is no UTF-8"),
    ],
)
def test_what_could_not_come_back_is_not_stored(
    bucket: Bucket, ours: Checkpoints, spoil: Callable[[Path], None], why: str
) -> None:
    spoil(save(ours.folders.root, 50))
    with pytest.raises(Misconfigured, match=f"step 50 is not stored: {why}"):
        ours.store(50)
    assert bucket.listed() == []
    stored(ours, 60)
    assert f"{FOLDER.replace('50-4', '60-4')}MANIFEST.json" in bucket.listed()


def test_the_manifest_is_written_last(bucket: Bucket, ours: Checkpoints) -> None:
    bucket.objects.fail_next("put", Unavailable("503"), prefix=f"{FOLDER}weights")
    with pytest.raises(Unavailable):
        stored(ours)
    assert f"{FOLDER}MANIFEST.json" not in bucket.listed()
    ref = ours.store(50)
    assert ref.folder == FOLDER, "tried again in the same folder"
    assert f"{FOLDER}MANIFEST.json" in bucket.listed()


def test_what_was_stored_is_not_sent_again(bucket: Bucket, ours: Checkpoints) -> None:
    bucket.objects.fail_next("put", Unavailable("503"), prefix=f"{FOLDER}MANIFEST")
    with pytest.raises(Unavailable):
        stored(ours)
    bucket.objects.fail_next("put", Unavailable("sent again"), prefix=f"{FOLDER}weights")
    ours.store(50)


@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize("name", ["weights", "MANIFEST.json"])
def test_a_stored_object_with_a_lost_answer_is_not_written_twice(
    bucket: Bucket, ours: Checkpoints, other: Checkpoints, name: str, retried: bool
) -> None:
    bucket.objects.drop_answer_of_next_put(FOLDER + name, retried=retried)
    save(ours.folders.root, 50)
    try:
        ref = ours.store(50)
    except Unavailable:
        ref = ours.store(50)
    other.restore(ref)


@pytest.mark.parametrize("name", ["weights", "MANIFEST.json"])
def test_a_refusal_for_somebody_elses_write_that_came_to_nothing_is_no_success(
    bucket: Bucket, ours: Checkpoints, other: Checkpoints, name: str
) -> None:
    """S3's 409: two writes at once, and neither need be there afterwards."""
    save(ours.folders.root, 50)
    bucket.objects.fail_next("put", PreconditionFailed("409"), prefix=FOLDER + name)
    with pytest.raises((PreconditionFailed, Unavailable)):
        ours.store(50)
    other.restore(ours.store(50))


def test_two_attempts_never_write_to_one_folder(ours: Checkpoints, other: Checkpoints) -> None:
    assert stored(ours).folder != stored(other).folder


def test_a_checkpoint_that_is_gone_from_the_disk_is_said(ours: Checkpoints) -> None:
    with pytest.raises(FileNotFoundError, match="step 50"):
        ours.store(50)


def test_only_checkpoints_older_than_the_commit_are_pruned(ours: Checkpoints) -> None:
    for step in (50, 100, 150):
        save(ours.folders.root, step)
    (ours.folders.checkpoints / ".partial-00000200-7").mkdir()
    ours.prune(100)
    assert sorted(complete_steps(ours.folders.checkpoints)) == [100, 150]
    assert (ours.folders.checkpoints / ".partial-00000200-7").exists()


# -- down


@pytest.mark.parametrize("harm", ["torn", "flipped", "missing", "no manifest", "other manifest"])
def test_a_damaged_checkpoint_is_never_put_before_the_trainer(
    bucket: Bucket, ours: Checkpoints, other: Checkpoints, harm: str
) -> None:
    ref = stored(ours)
    key = f"{FOLDER}weights"
    body = bucket.objects.get(key).body
    if harm == "torn":
        bucket.objects.put(key, body[:-1])
    elif harm == "flipped":
        bucket.objects.put(key, body[:-1] + b"!")
    elif harm == "missing":
        bucket.objects.delete([key])
    elif harm == "no manifest":
        bucket.objects.delete([f"{FOLDER}MANIFEST.json"])
    else:
        ref = dataclasses.replace(ref, manifest_sha256="00" * 32)
    with pytest.raises(DamagedCheckpoint):
        other.restore(ref)
    assert list(other.folders.checkpoints.iterdir()) == []


def test_head_that_names_another_step_than_the_manifest_is_damage(
    ours: Checkpoints, other: Checkpoints
) -> None:
    ref = stored(ours)
    with pytest.raises(DamagedCheckpoint, match="not the committed one"):
        other.restore(dataclasses.replace(ref, step=60))


def test_bytes_that_were_changed_on_the_way_are_fetched_again(
    bucket: Bucket, ours: Checkpoints, other: Checkpoints
) -> None:
    """S3 keeps them well; lines and memory do so less."""
    ref = stored(ours)
    objects: Any = FlippedOnce(other.objects)
    dataclasses.replace(other, objects=objects).restore(ref)
    assert objects.flipped
    assert _texts(other.folders.checkpoints) == _texts(ours.folders.checkpoints)


def test_a_name_that_leads_out_of_the_folder_is_damage(
    bucket: Bucket, ours: Checkpoints, other: Checkpoints
) -> None:
    ref = stored(ours)
    manifest, _ = bucket.heads.read_manifest(ref.folder)
    evil = dataclasses.replace(
        manifest, files=(dataclasses.replace(manifest.files[0], name="../../weights"),)
    )
    bucket.objects.delete([f"{FOLDER}MANIFEST.json"])
    digest = bucket.heads.write_manifest(ref.folder, evil)
    with pytest.raises(DamagedCheckpoint, match="leads out"):
        other.restore(dataclasses.replace(ref, manifest_sha256=digest))


def test_an_outage_during_a_restore_is_no_damage(
    bucket: Bucket, ours: Checkpoints, other: Checkpoints
) -> None:
    ref = stored(ours)
    bucket.objects.fail_next("get", Unavailable("503"), prefix=f"{FOLDER}weights")
    with pytest.raises(Unavailable):
        other.restore(ref)
    assert list(other.folders.checkpoints.iterdir()) == []
    other.restore(ref)
    assert list(complete_steps(other.folders.checkpoints)) == [50]


def test_a_restore_leaves_only_what_head_names(ours: Checkpoints, other: Checkpoints) -> None:
    ref = stored(ours)
    save(other.folders.root, 80)
    (other.folders.checkpoints / f"{PARTIAL_PREFIX}restore").mkdir()
    other.restore(ref)
    assert [path.name for path in other.folders.checkpoints.iterdir()] == ["00000050"]


def test_a_disk_that_is_too_small_is_said_before_the_download(
    bucket: Bucket, ours: Checkpoints, other: Checkpoints
) -> None:
    manifest, _ = bucket.heads.read_manifest(stored(ours).folder)
    huge = dataclasses.replace(manifest.files[0], bytes=10**18)
    digest = bucket.heads.write_manifest("huge/", dataclasses.replace(manifest, files=(huge,)))
    ref = CheckpointRef(folder="huge/", step=50, manifest_sha256=digest)
    with pytest.raises(OSError, match=r"step 50 needs [0-9,]+ MB .* MB left") as told:
        other.restore(ref)
    assert told.value.errno == errno.ENOSPC
    assert list(other.folders.checkpoints.iterdir()) == []
    assert other.carried.bytes == 0


class FlippedOnce:
    """Objects of which the first download has a bit wrong."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.flipped = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._objects, name)

    def download(self, key: str, path: Path) -> Content:
        content = self._objects.download(key, path)
        if self.flipped:
            return content
        self.flipped = True
        return dataclasses.replace(content, sha256="00" * 32)


def _texts(folder: Path) -> dict[str, str]:
    return {name: path.read_text() for name, path in files_below(folder)}
