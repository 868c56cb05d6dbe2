"""What a job consists of, fetched: its spec, its workdir, its data; and its logs, shipped."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from spotrunner.adapters import codec
from spotrunner.agent.courier import Courier
from spotrunner.agent.folders import files_below
from spotrunner.core.model import DataSource
from spotrunner.ports import Misconfigured, Unavailable
from tests.agent.told import JOB
from tests.agent.world import Bucket, a_spec


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def courier(bucket: Bucket, tmp_path: Path) -> Courier:
    return bucket.courier(4, tmp_path / "a")


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
