"""Bytes between bucket and disk: written once, verified on the way back."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from spotrunner.adapters import codec
from spotrunner.agent.courier import Courier, DamagedCheckpoint
from spotrunner.agent.folders import complete_steps, files_below
from spotrunner.agent.logs import CHUNK_BYTES, LogShipper, tail
from spotrunner.core.model import CheckpointRef, DataSource
from spotrunner.ports import Misconfigured, NotFound, Unavailable
from tests.agent.told import JOB
from tests.agent.world import Bucket, a_spec, save

FOLDER = f"jobs/{JOB}/checkpoints/00000050-g4-1/"


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def courier(bucket: Bucket, tmp_path: Path) -> Courier:
    return bucket.courier(4, tmp_path / "a")


@pytest.fixture
def other(bucket: Bucket, tmp_path: Path) -> Courier:
    """The replacement, on another machine."""
    return bucket.courier(5, tmp_path / "b")


def stored(courier: Courier, step: int = 50) -> CheckpointRef:
    save(courier.folders.root, step)
    return courier.store(step)


# -- checkpoints


def test_a_checkpoint_comes_back_as_it_was(courier: Courier, other: Courier) -> None:
    ref = stored(courier)
    other.restore(ref)
    there, back = courier.folders.checkpoints, other.folders.checkpoints
    assert _texts(back) == _texts(there)
    assert list(complete_steps(back)) == [50]


def test_what_is_carried_is_counted_both_ways(courier: Courier, other: Courier) -> None:
    ref = stored(courier)
    weight = sum(
        path.stat().st_size for path in courier.folders.checkpoints.rglob("*") if path.is_file()
    )
    assert courier.carried.bytes == weight > 0
    other.restore(ref)
    assert other.carried.bytes == weight


def test_the_manifest_is_written_last(bucket: Bucket, courier: Courier) -> None:
    bucket.objects.fail_next("put", Unavailable("503"), prefix=f"{FOLDER}weights")
    with pytest.raises(Unavailable):
        stored(courier)
    assert f"{FOLDER}MANIFEST.json" not in bucket.listed()
    ref = courier.store(50)
    assert ref.folder == FOLDER, "tried again in the same folder"
    assert f"{FOLDER}MANIFEST.json" in bucket.listed()


@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize("name", ["weights", "MANIFEST.json"])
def test_a_stored_object_with_a_lost_answer_is_not_written_twice(
    bucket: Bucket, courier: Courier, other: Courier, name: str, retried: bool
) -> None:
    bucket.objects.drop_answer_of_next_put(FOLDER + name, retried=retried)
    save(courier.folders.root, 50)
    try:
        ref = courier.store(50)
    except Unavailable:
        ref = courier.store(50)
    other.restore(ref)


def test_two_attempts_never_write_to_one_folder(
    bucket: Bucket, courier: Courier, other: Courier
) -> None:
    first = stored(courier)
    second = stored(other)
    assert first.folder != second.folder


@pytest.mark.parametrize("harm", ["torn", "flipped", "missing", "no manifest", "other manifest"])
def test_a_damaged_checkpoint_is_never_put_before_the_trainer(
    bucket: Bucket, courier: Courier, other: Courier, harm: str
) -> None:
    ref = stored(courier)
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
    assert complete_steps(other.folders.checkpoints) == {}


def test_a_name_that_leads_out_of_the_folder_is_damage(
    bucket: Bucket, courier: Courier, other: Courier
) -> None:
    ref = stored(courier)
    manifest, _ = bucket.heads.read_manifest(ref.folder)
    evil = dataclasses.replace(
        manifest, files=(dataclasses.replace(manifest.files[0], name="../../weights"),)
    )
    bucket.objects.delete([f"{FOLDER}MANIFEST.json"])
    digest = bucket.heads.write_manifest(ref.folder, evil)
    with pytest.raises(DamagedCheckpoint, match="leads out"):
        other.restore(dataclasses.replace(ref, manifest_sha256=digest))


def test_an_outage_during_a_restore_is_no_damage(
    bucket: Bucket, courier: Courier, other: Courier
) -> None:
    ref = stored(courier)
    bucket.objects.fail_next("get", Unavailable("503"), prefix=f"{FOLDER}weights")
    with pytest.raises(Unavailable):
        other.restore(ref)
    other.restore(ref)
    assert list(complete_steps(other.folders.checkpoints)) == [50]


def test_a_restore_leaves_only_what_head_names(courier: Courier, other: Courier) -> None:
    ref = stored(courier)
    save(other.folders.root, 80)
    other.restore(ref)
    assert list(complete_steps(other.folders.checkpoints)) == [50]


def test_only_checkpoints_older_than_the_commit_are_pruned(courier: Courier) -> None:
    for step in (50, 100, 150):
        save(courier.folders.root, step)
    (courier.folders.checkpoints / ".partial-00000200-7").mkdir()
    courier.prune(100)
    assert sorted(complete_steps(courier.folders.checkpoints)) == [100, 150]
    assert (courier.folders.checkpoints / ".partial-00000200-7").exists()


# -- the way up


def test_spec_and_workdir(bucket: Bucket, courier: Courier) -> None:
    body = _tar({"train.py": "print(1)", "pkg/x.py": "x = 1"})
    digest = hashlib.sha256(body).hexdigest()
    bucket.objects.put(f"jobs/{JOB}/workdir/{digest}.tar.gz", body)
    spec = a_spec(workdir_sha256=digest)
    bucket.objects.put(f"jobs/{JOB}/spec.json", codec.to_json(spec))
    assert courier.spec() == spec
    (courier.folders.workdir / "stale.py").touch()
    courier.fetch_workdir(digest)
    assert _texts(courier.folders.workdir) == {"train.py": "print(1)", "pkg/x.py": "x = 1"}


def test_a_workdir_that_is_not_what_its_name_says_is_refused(
    bucket: Bucket, courier: Courier
) -> None:
    bucket.objects.put(f"jobs/{JOB}/workdir/{'0' * 64}.tar.gz", _tar({"train.py": "evil"}))
    with pytest.raises(Misconfigured):
        courier.fetch_workdir("0" * 64)
    assert list(courier.folders.workdir.iterdir()) == []


def test_data_fills_its_target_and_is_not_fetched_twice(bucket: Bucket, courier: Courier) -> None:
    data = bucket.buckets.objects("data")
    for key in ("digits/train-0.npz", "digits/deep/test-0.npz", "digits/", "other/no.npz"):
        data.put(key, key.encode())
    sources = (DataSource(source="s3://data/digits/", target="digits"),)
    courier.fetch_data(sources)
    assert [name for name, _ in files_below(courier.folders.data)] == [
        "digits/deep/test-0.npz",
        "digits/train-0.npz",
    ]
    data.fail_next("get", Unavailable("nobody should ask"))
    courier.fetch_data(sources)


def test_a_prefix_without_data_is_said(courier: Courier) -> None:
    with pytest.raises(Misconfigured, match="s3://data/nothing/"):
        courier.fetch_data((DataSource(source="s3://data/nothing/", target="x"),))


# -- outputs and logs


def test_outputs_and_logs_are_in_one_manifest(bucket: Bucket, courier: Courier) -> None:
    (courier.folders.outputs / "saved_model").mkdir()
    (courier.folders.outputs / "saved_model" / "graph.pb").write_text("graph")
    courier.folders.progress.write_text("{}\n")
    key = courier.store_outputs(2300)
    assert key == f"jobs/{JOB}/outputs/4/MANIFEST.json"
    manifest, _ = bucket.heads.read_manifest(f"jobs/{JOB}/outputs/4/")
    assert manifest.step == 2300
    assert [file.name for file in manifest.files] == [
        "saved_model/graph.pb",
        "logs/progress.jsonl",
    ]
    assert courier.store_outputs(2300) == key, "the same again is the same"


def test_outputs_of_a_second_start_do_not_overwrite_a_manifest(
    bucket: Bucket, courier: Courier
) -> None:
    (courier.folders.outputs / "model").write_text("one")
    first = courier.store_outputs(10)
    (courier.folders.outputs / "model").write_text("two")
    second = courier.store_outputs(10)
    assert first != second
    assert bucket.objects.get(first.replace("MANIFEST.json", "model")).body == b"one"
    assert bucket.objects.get(second.replace("MANIFEST.json", "model")).body == b"two"


def test_logs_are_shipped_in_chunks_written_once(bucket: Bucket, courier: Courier) -> None:
    path = courier.folders.trainer_log
    shipper = LogShipper(bucket.objects, courier.keys, path)
    shipper.ship()
    path.write_bytes(b"a" * CHUNK_BYTES + b"b")
    shipper.ship()
    with path.open("ab") as file:
        file.write(b"c")
    bucket.objects.drop_answer_of_next_put(f"jobs/{JOB}/logs", retried=True)
    shipper.ship()
    prefix = f"jobs/{JOB}/logs/{JOB}.4/0/"
    assert bucket.listed(prefix) == [f"{prefix}{n:06d}.gz" for n in (1, 2, 3)]
    bodies = [gzip.decompress(bucket.objects.get(key).body) for key in bucket.listed(prefix)]
    assert b"".join(bodies) == path.read_bytes()


def test_an_agent_started_again_ships_after_what_is_there(bucket: Bucket, courier: Courier) -> None:
    path = courier.folders.trainer_log
    path.write_text("first\n")
    LogShipper(bucket.objects, courier.keys, path).ship()
    path.write_text("second\n")
    LogShipper(bucket.objects, courier.keys, path).ship()
    assert len(bucket.listed(f"jobs/{JOB}/logs/")) == 2


def test_a_log_that_could_not_be_shipped_is_not_lost(bucket: Bucket, courier: Courier) -> None:
    path = courier.folders.trainer_log
    path.write_text("x\n")
    shipper = LogShipper(bucket.objects, courier.keys, path)
    bucket.objects.fail_next("put", Unavailable("503"))
    with pytest.raises(Unavailable):
        shipper.ship()
    shipper.ship()
    with pytest.raises(NotFound):
        bucket.objects.get(courier.keys.log(2))
    assert gzip.decompress(bucket.objects.get(courier.keys.log(1)).body) == b"x\n"


def test_the_tail_is_the_last_fifty_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert tail(path) == ()
    path.write_bytes(b"\xff\n" + b"".join(b"line %d\n" % n for n in range(20_000)))
    assert tail(path)[-1] == "line 19999"
    assert len(tail(path)) == 50


def _texts(folder: Path) -> dict[str, str]:
    return {name: path.read_text() for name, path in files_below(folder)}


def _tar(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()
