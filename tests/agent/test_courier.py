"""What a job consists of, fetched: its spec and its workdir."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from spotrunner.adapters import codec
from spotrunner.agent.courier import Courier
from spotrunner.agent.folders import files_below
from spotrunner.ports import Misconfigured
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
