"""What only S3 can show: parts that are left behind, URLs that open, answers that break off."""

from __future__ import annotations

import hashlib
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from spotrunner.adapters.aws.objects import S3Buckets, S3Objects
from spotrunner.adapters.aws.session import Aws
from spotrunner.ports import (
    Content,
    GaveWay,
    Misconfigured,
    NotFound,
    PreconditionFailed,
    Unavailable,
)
from tests.contracts.conftest import PART_BYTES
from tests.contracts.s3 import REGION, MotoServer


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture
def aws(moto: MotoServer) -> Iterator[Aws]:
    clients = Aws(endpoint_url=moto.url)
    yield clients
    clients.close()


@pytest.fixture
def bucket(moto: MotoServer, aws: Aws) -> str:
    return moto.bucket(aws)


@pytest.fixture
def objects(aws: Aws, bucket: str) -> S3Objects:
    return S3Objects(aws.s3(REGION), bucket, part_bytes=PART_BYTES)


def unfinished(aws: Aws, bucket: str) -> int:
    """How many multipart uploads lie there, and cost."""
    return len(aws.s3(REGION).list_multipart_uploads(Bucket=bucket).get("Uploads", []))


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(b"\xa5" * (PART_BYTES + 1))
    return path


def test_a_refused_upload_leaves_no_parts(
    objects: S3Objects, aws: Aws, bucket: str, large: Path
) -> None:
    objects.put("weights", b"first")
    with pytest.raises(PreconditionFailed):
        objects.upload(large, "weights", if_absent=True)
    assert unfinished(aws, bucket) == 0


def test_an_upload_that_breaks_off_leaves_no_parts(
    aws: Aws, bucket: str, moto: MotoServer, large: Path
) -> None:
    objects = S3Objects(aws.s3(REGION), bucket, part_bytes=PART_BYTES, part_pauses_s=())
    moto.lose_answers("PUT", 6)  # both parts, three times each
    with pytest.raises(Unavailable):
        objects.upload(large, "weights", if_absent=True)
    assert unfinished(aws, bucket) == 0
    with pytest.raises(NotFound):
        objects.get("weights")


def test_a_lost_part_is_sent_again(objects: S3Objects, moto: MotoServer, large: Path) -> None:
    moto.lose_answers("PUT", 1)
    objects.upload(large, "weights", if_absent=True)
    assert objects.get("weights").body == large.read_bytes()


def test_a_part_is_sent_for_longer_than_a_client_tries(
    aws: Aws, bucket: str, moto: MotoServer, large: Path
) -> None:
    objects = S3Objects(aws.s3(REGION), bucket, part_bytes=PART_BYTES, part_pauses_s=(0, 0))
    moto.lose_answers("PUT", 5)
    objects.upload(large, "weights", if_absent=True)
    assert objects.get("weights").body == large.read_bytes()


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES])
def test_a_file_is_weighed_on_its_way_up_and_down(
    objects: S3Objects, tmp_path: Path, size: int
) -> None:
    up, down = tmp_path / "up", tmp_path / "down"
    up.write_bytes(random.Random(size).randbytes(size))
    digest = hashlib.sha256(up.read_bytes()).hexdigest()
    assert objects.upload(up, "x") == Content(bytes=size, sha256=digest)
    assert objects.download("x", down) == Content(bytes=size, sha256=digest)
    assert down.read_bytes() == up.read_bytes()


def test_an_upload_that_gives_way_leaves_nothing(
    objects: S3Objects, aws: Aws, bucket: str, large: Path
) -> None:
    asked = iter([True, False])
    with pytest.raises(GaveWay):
        objects.upload(large, "weights", may_go_on=lambda: next(asked))
    assert list(objects.list("")) == []
    assert unfinished(aws, bucket) == 0


def test_what_is_written_to_a_file_under_way_waits_for_another_time(
    objects: S3Objects, large: Path
) -> None:
    """Logs grow while they are sent."""
    size = large.stat().st_size

    def grow() -> bool:
        with large.open("ab") as file:
            file.write(b"more")
        return True

    content = objects.upload(large, "log", may_go_on=grow)
    assert content.bytes == len(objects.get("log").body) == size
    assert content.sha256 == hashlib.sha256(objects.get("log").body).hexdigest()


def test_a_url_opens_without_keys(objects: S3Objects) -> None:
    objects.put("agent/a b.tar.gz", b"the archive")
    answer = requests.get(objects.presigned("agent/a b.tar.gz", 60), timeout=10)
    assert (answer.status_code, answer.content) == (200, b"the archive")


def test_a_bucket_that_is_not_there_is_misconfigured(aws: Aws, tmp_path: Path) -> None:
    nowhere = S3Buckets(aws, REGION).objects("nobodys-bucket")
    (tmp_path / "file").write_bytes(b"")
    calls: list[Callable[[], object]] = [
        lambda: nowhere.get("x"),
        lambda: nowhere.put("x", b""),
        lambda: list(nowhere.list("")),
        lambda: nowhere.delete(["x"]),
        lambda: nowhere.upload(tmp_path / "file", "x"),
    ]
    for call in calls:
        with pytest.raises(Misconfigured):
            call()


def test_nobody_there_is_unavailable_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        aws = Aws(endpoint_url=f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(Unavailable):
            S3Objects(aws.s3(REGION), "home").download("x", tmp_path / "x")
        aws.close()
    assert list(tmp_path.iterdir()) == []
