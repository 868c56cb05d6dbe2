"""Outputs and logs: sent while the job trains, only what changed, and named by one manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from spotrunner.agent.outputs import MANY, SMALL_BYTES, Outputs
from spotrunner.ports import GaveWay, PreconditionFailed, Unavailable
from tests.agent.told import JOB
from tests.agent.world import Bucket

FOLDER = f"jobs/{JOB}/outputs/4/"


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def outputs(bucket: Bucket, tmp_path: Path) -> Outputs:
    return bucket.outputs(4, tmp_path / "a")


def write(path: Path, text: str) -> None:
    """With a time of its own, whatever the clock of the file system counts in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    write.calls += 1  # type: ignore[attr-defined]
    os.utime(path, ns=(write.calls, write.calls))  # type: ignore[attr-defined]


write.calls = 0  # type: ignore[attr-defined]


def test_outputs_and_logs_are_in_one_manifest(bucket: Bucket, outputs: Outputs) -> None:
    write(outputs.folders.outputs / "saved_model" / "graph.pb", "graph")
    write(outputs.folders.progress, "{}\n")
    key = outputs.finish(2300)
    assert key == f"{FOLDER}MANIFEST.json"
    manifest, _ = bucket.heads.read_manifest(FOLDER)
    assert manifest.step == 2300
    assert {file.name for file in manifest.files} == {
        "saved_model/graph.pb",
        "logs/progress.jsonl",
    }
    assert outputs.finish(2300) == key, "the same again is the same"


def test_what_the_trainer_has_so_far_is_in_the_bucket(bucket: Bucket, outputs: Outputs) -> None:
    write(outputs.folders.logs / "train" / "events.out.attempt-4", "one")
    write(outputs.folders.outputs / "samples.txt", "a")
    outputs.send_changed()
    assert bucket.listed(FOLDER) == [
        f"{FOLDER}logs/train/events.out.attempt-4",
        f"{FOLDER}samples.txt",
    ]
    write(outputs.folders.logs / "train" / "events.out.attempt-4", "one, two")
    bucket.objects.fail_next("put", Unavailable("nobody should ask"), prefix=f"{FOLDER}samples")
    before = outputs.carried.bytes
    outputs.send_changed()
    assert bucket.objects.get(f"{FOLDER}logs/train/events.out.attempt-4").body == b"one, two"
    assert outputs.carried.bytes - before == len("one, two")


def test_at_the_end_only_what_differs_is_sent_and_everything_is_named(
    bucket: Bucket, outputs: Outputs
) -> None:
    write(outputs.folders.outputs / "a", "a")
    write(outputs.folders.outputs / "b", "b")
    write(outputs.folders.outputs / "temporary", "x")
    outputs.send_changed()
    (outputs.folders.outputs / "temporary").unlink()
    write(outputs.folders.outputs / "b", "B")
    bucket.objects.fail_next("put", Unavailable("nobody should ask"), prefix=f"{FOLDER}a")
    outputs.finish(9)
    manifest, _ = bucket.heads.read_manifest(FOLDER)
    assert {file.name: file.sha256 for file in manifest.files} == {
        "a": hashlib.sha256(b"a").hexdigest(),
        "b": hashlib.sha256(b"B").hexdigest(),
    }
    for file in manifest.files:
        body = bucket.objects.get(FOLDER + file.name).body
        assert (len(body), hashlib.sha256(body).hexdigest()) == (file.bytes, file.sha256)


def test_a_manifest_is_not_overwritten_by_a_second_end(bucket: Bucket, outputs: Outputs) -> None:
    write(outputs.folders.outputs / "model", "one")
    first = outputs.finish(10)
    write(outputs.folders.outputs / "model", "two")
    second = outputs.finish(10)
    assert first != second
    assert bucket.objects.get(first.replace("MANIFEST.json", "model")).body == b"one"
    assert bucket.objects.get(second.replace("MANIFEST.json", "model")).body == b"two"


def test_nor_by_an_agent_that_was_started_again(
    bucket: Bucket, outputs: Outputs, tmp_path: Path
) -> None:
    write(outputs.folders.outputs / "model", "one")
    first = outputs.finish(10)
    again = bucket.outputs(4, tmp_path / "a")
    write(outputs.folders.outputs / "model", "two")
    again.send_changed()
    assert again.finish(20) != first
    assert bucket.objects.get(f"{FOLDER}model").body == b"one"


def test_two_ends_at_once_keep_out_of_each_others_way(bucket: Bucket, outputs: Outputs) -> None:
    write(outputs.folders.outputs / "model", "one")
    outputs.send_changed()
    bucket.objects.put(f"{FOLDER}MANIFEST.json", b"somebody else's")
    with pytest.raises(Unavailable):
        outputs.finish(10)
    key = outputs.finish(10)
    assert key != f"{FOLDER}MANIFEST.json"
    assert bucket.objects.get(key.replace("MANIFEST.json", "model")).body == b"one"


def test_a_manifest_whose_answer_was_lost_is_ours(bucket: Bucket, outputs: Outputs) -> None:
    write(outputs.folders.outputs / "model", "one")
    bucket.objects.drop_answer_of_next_put(f"{FOLDER}MANIFEST", retried=True)
    assert outputs.finish(10) == f"{FOLDER}MANIFEST.json"


def test_printed_lines_are_left_to_the_chunks(bucket: Bucket, outputs: Outputs) -> None:
    """Their file may have holes."""
    write(outputs.folders.trainer_log, "epoch 1")
    outputs.send_changed()
    outputs.finish(1)
    assert bucket.listed(FOLDER) == [f"{FOLDER}MANIFEST.json"]


def test_a_file_that_could_not_be_sent_is_sent_the_next_time(
    bucket: Bucket, outputs: Outputs
) -> None:
    write(outputs.folders.outputs / "a", "a")
    write(outputs.folders.outputs / "b", "b")
    bucket.objects.fail_next("put", PreconditionFailed("?"), prefix=f"{FOLDER}a")
    with pytest.raises(PreconditionFailed):
        outputs.send_changed()
    outputs.send_changed()
    assert bucket.listed(FOLDER) == [f"{FOLDER}a", f"{FOLDER}b"]


def test_it_gives_way(bucket: Bucket, outputs: Outputs) -> None:
    write(outputs.folders.outputs / "a", "a")
    asked = iter([True, False])
    with pytest.raises(GaveWay):
        outputs.send_changed(lambda: next(asked))
    outputs.send_changed(lambda: False)
    assert bucket.listed(FOLDER) == []


class Bulk:
    """Uploads to the bucket, and does something of the trainer's before or after."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.calls: list[int] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def __call__(
        self, folder: Path, names: Sequence[str], prefix: str, may_go_on: Callable[[], bool]
    ) -> None:
        self.calls.append(len(names))
        for name in names:
            self.bucket.objects.upload(folder / name, prefix + name, may_go_on=may_go_on)
        self.meanwhile()


def many(outputs: Outputs) -> None:
    for n in range(MANY):
        write(outputs.folders.outputs / "samples" / f"{n}.txt", f"sample {n}")
    write(outputs.folders.outputs / "model", "m" * (SMALL_BYTES + 1))
    write(outputs.folders.progress, "{}\n")


def test_many_small_outputs_go_up_in_one_go(bucket: Bucket, outputs: Outputs) -> None:
    bulk = Bulk(bucket)
    outputs = dataclasses.replace(outputs, bulk=bulk)
    many(outputs)
    outputs.send_changed()
    assert bulk.calls == [MANY], "neither the large file nor the log"
    outputs.finish(10)
    assert bulk.calls == [MANY], "nothing has changed"
    manifest, _ = bucket.heads.read_manifest(FOLDER)
    digests = {file.name: file.sha256 for file in manifest.files}
    assert len(digests) == MANY + 2
    assert digests["samples/7.txt"] == hashlib.sha256(b"sample 7").hexdigest()
    assert outputs.carried.bytes == sum(file.bytes for file in manifest.files)


def test_names_that_are_no_keys_fail_no_job(bucket: Bucket, outputs: Outputs) -> None:
    """A trainer may call its files anything; S3 and rclone may not."""
    bulk = Bulk(bucket)
    outputs = dataclasses.replace(outputs, bulk=bulk)
    many(outputs)
    folder = outputs.folders.outputs
    write(folder / os.fsdecode(b"caf\xe9.txt"), "latin-1")
    write(folder / "two\nlines", "odd")
    outputs.finish(10)
    assert bulk.calls == [MANY]
    assert bucket.objects.get(f"{FOLDER}caf\\xe9.txt").body == b"latin-1"
    assert bucket.objects.get(f"{FOLDER}two\nlines").body == b"odd"
    for key in bucket.listed(FOLDER):
        assert key.encode().decode() == key


def test_one_of_many_that_changes_on_the_way_is_sent_again(
    bucket: Bucket, outputs: Outputs
) -> None:
    bulk = Bulk(bucket)
    outputs = dataclasses.replace(outputs, bulk=bulk)
    many(outputs)
    changing = outputs.folders.outputs / "samples" / "3.txt"
    bulk.meanwhile = lambda: write(changing, "another")
    outputs.send_changed()
    outputs.finish(10)
    manifest, _ = bucket.heads.read_manifest(FOLDER)
    digests = {file.name: file.sha256 for file in manifest.files}
    assert digests["samples/3.txt"] == hashlib.sha256(b"another").hexdigest()
    assert bucket.objects.get(f"{FOLDER}samples/3.txt").body == b"another"


def test_many_give_way_too(bucket: Bucket, outputs: Outputs) -> None:
    many(outputs)
    with pytest.raises(GaveWay):
        outputs.send_changed(iter([True] * 5 + [False] * 999).__next__)
    outputs.send_changed()
    assert len(bucket.listed(FOLDER)) == MANY + 2


def test_a_new_start_begins_without_outputs(bucket: Bucket, outputs: Outputs) -> None:
    write(outputs.folders.outputs / "deep" / "model", "one")
    outputs.send_changed()
    outputs.clear()
    assert list(outputs.folders.outputs.iterdir()) == []
    outputs.finish(3)
    manifest, _ = bucket.heads.read_manifest(FOLDER)
    assert manifest.files == ()


@pytest.mark.parametrize("generations", [(1, 2)])
def test_the_curves_of_all_attempts_lie_side_by_side(
    bucket: Bucket, tmp_path: Path, generations: tuple[int, ...]
) -> None:
    """Laid over each other they are one run: each attempt's file has a name of its own."""
    for generation in generations:
        outputs = bucket.outputs(generation, tmp_path / str(generation))
        write(outputs.folders.logs / "train" / f"events.attempt-{generation}", "points")
        outputs.send_changed()
    names = {key.partition("/logs/")[2] for key in bucket.listed(f"jobs/{JOB}/outputs/")}
    assert names == {"train/events.attempt-1", "train/events.attempt-2"}
