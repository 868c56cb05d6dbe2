"""A log on a file system that frees nothing of a file."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotrunner.agent import holes
from spotrunner.agent.folders import Keys
from spotrunner.agent.logs import LogShipper
from tests.agent.told import JOB
from tests.agent.world import Bucket

pytestmark = pytest.mark.root


@pytest.fixture
def ramfs(tmp_path: Path) -> Iterator[Path]:
    """The one file system of the kernel's that is always there and makes no holes."""
    folder = tmp_path / "ramfs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_without_holes_the_log_stays_on_the_disk_and_is_shipped_all_the_same(ramfs: Path) -> None:
    bucket, path = Bucket(), ramfs / "trainer.log"
    path.write_bytes(b"y" * (4 << 20))
    with pytest.raises(holes.CannotFree):
        holes.punch(path, 0, 1 << 20)
    keys = Keys(job_id=JOB, attempt=f"{JOB}.4", generation=4)
    LogShipper(bucket.objects, keys, path, ramfs / "shipped.json").ship()
    there = [gzip.decompress(bucket.objects.get(key).body) for key in bucket.listed("jobs/")]
    assert b"".join(there) == path.read_bytes()
