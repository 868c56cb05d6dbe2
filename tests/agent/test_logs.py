"""The trainer's output on its way into the bucket: in chunks, once, and never too much of it."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from spotrunner.agent import holes, shipped
from spotrunner.agent.folders import Keys
from spotrunner.agent.logs import (
    CHUNK_BYTES,
    KEPT_BYTES,
    MOST_WAITING_BYTES,
    LogShipper,
    tail,
)
from spotrunner.agent.shipped import Shipped
from spotrunner.ports import Unavailable
from tests.agent.told import JOB
from tests.agent.world import Bucket

KEYS = Keys(job_id=JOB, attempt=f"{JOB}.4", generation=4)
PREFIX = f"jobs/{JOB}/logs/{JOB}.4/0/"


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "trainer.log"


@pytest.fixture
def agent(bucket: Bucket, path: Path, tmp_path: Path) -> Callable[[], LogShipper]:
    """What the next agent on the machine ships with."""
    path.parent.mkdir()
    return lambda: LogShipper(bucket.objects, KEYS, path, tmp_path / "shipped.json")


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def chunks(bucket: Bucket) -> list[bytes]:
    return [gzip.decompress(bucket.objects.get(key).body) for key in bucket.listed(PREFIX)]


def disk_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


# -- once


def test_logs_are_shipped_in_chunks_written_once(
    bucket: Bucket, path: Path, agent: Callable[[], LogShipper]
) -> None:
    shipper = agent()
    shipper.ship()
    append(path, b"a" * CHUNK_BYTES + b"b")
    shipper.ship()
    append(path, b"c")
    bucket.objects.drop_answer_of_next_put(f"jobs/{JOB}/logs", retried=True)
    shipper.ship()
    assert bucket.listed(PREFIX) == [f"{PREFIX}{n:06d}.gz" for n in (1, 2, 3)]
    assert b"".join(chunks(bucket)) == path.read_bytes()


def test_an_agent_started_again_goes_on_where_the_last_one_was(
    bucket: Bucket, path: Path, agent: Callable[[], LogShipper]
) -> None:
    append(path, b"first\n")
    agent().ship()
    append(path, b"second\n")
    agent().ship()
    agent().ship()
    assert chunks(bucket) == [b"first\n", b"second\n"]


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
def test_an_agent_that_died_in_an_upload_ships_nothing_twice(
    bucket: Bucket, path: Path, agent: Callable[[], LogShipper], stored: bool
) -> None:
    """More is written before the next agent comes: it sends the same chunk again all the same."""
    append(path, b"first\n")
    if stored:
        bucket.objects.drop_answer_of_next_put(f"jobs/{JOB}/logs", retried=False)
    else:
        bucket.objects.fail_next("put", Unavailable("503"))
    with pytest.raises(Unavailable):
        agent().ship()
    append(path, b"second\n")
    agent().ship()
    assert chunks(bucket) == [b"first\n", b"second\n"]


def test_a_log_that_could_not_be_shipped_is_not_lost(
    bucket: Bucket, path: Path, agent: Callable[[], LogShipper]
) -> None:
    shipper = agent()
    append(path, b"x\n")
    bucket.objects.fail_next("put", Unavailable("503"))
    with pytest.raises(Unavailable):
        shipper.ship()
    shipper.ship()
    assert chunks(bucket) == [b"x\n"]


def test_a_chunk_of_another_agents_is_never_overwritten(
    bucket: Bucket, path: Path, agent: Callable[[], LogShipper]
) -> None:
    bucket.objects.put(f"{PREFIX}000001.gz", gzip.compress(b"theirs\n"))
    append(path, b"ours\n")
    agent().ship()
    assert chunks(bucket) == [b"theirs\n", b"ours\n"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"offset": "x"}', '{"other": 1}', "null"])
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    kept = tmp_path / "shipped.json"
    kept.write_text(text)
    assert shipped.read(kept) == Shipped()


# -- bounded


def test_what_is_shipped_takes_no_room_but_for_the_last_of_it(
    bucket: Bucket, path: Path, agent: Callable[[], LogShipper]
) -> None:
    line = b"x" * 1023 + b"\n"
    for _ in range(8):
        append(path, line * 1024)
        agent().ship()
    assert path.stat().st_size == 8 << 20
    assert disk_bytes(path) <= 3 * KEPT_BYTES
    assert len(b"".join(chunks(bucket))) == 8 << 20
    assert tail(path) == ("x" * 1023,) * 50, "the tail is still there"


def test_only_whole_blocks_are_freed_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"z" * 300_000)
    assert holes.punch(path, 0, 200_000) == 3 * holes.BLOCK_BYTES
    assert path.stat().st_size == 300_000
    text = path.read_bytes()
    assert text == b"\0" * (3 * holes.BLOCK_BYTES) + b"z" * (300_000 - 3 * holes.BLOCK_BYTES)
    assert holes.punch(path, 3 * holes.BLOCK_BYTES, 200_000) == 3 * holes.BLOCK_BYTES


def test_what_nobody_takes_is_dropped_from_the_front_and_told(
    bucket: Bucket, path: Path, agent: Callable[[], LogShipper]
) -> None:
    append(path, b"first\n")
    shipper = agent()
    bucket.objects.fail_next("put", Unavailable("503"))
    with pytest.raises(Unavailable):
        shipper.ship()
    # A file of mostly holes: only its size matters until it is read.
    with path.open("r+b") as file:
        file.truncate(2 * MOST_WAITING_BYTES)
    append(path, b"\n" + b"x" * 600 + b"\nlast\n")
    shipper.bound()
    assert shipper.waiting_bytes < MOST_WAITING_BYTES
    assert disk_bytes(path) < 1 << 20
    size = path.stat().st_size
    # The rest is skipped for the test's own speed: it is bytes like any others.
    at = shipped.read(path.parent.parent / "shipped.json")
    assert at.dropped == at.offset
    shipped.write(
        path.parent.parent / "shipped.json",
        Shipped(offset=size - 5, n=1, dropped=at.dropped),
    )
    agent().ship()
    told = f"[spotrunner: {at.dropped:,} bytes of the log were dropped here"
    assert chunks(bucket)[0].decode().startswith(told)
    assert chunks(bucket)[0].endswith(b"too long]\nlast\n")


def test_a_link_in_the_logs_place_shows_nothing_of_the_machine(
    bucket: Bucket, path: Path, tmp_path: Path, agent: Callable[[], LogShipper]
) -> None:
    secret = tmp_path / "shadow"
    secret.write_text("root:x\n")
    path.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic link"):
        agent().ship()
    assert tail(path) == ()
    assert chunks(bucket) == []


# -- the tail


def test_the_tail_is_the_last_fifty_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert tail(path) == ()
    path.write_bytes(b"\xff\n" + b"".join(b"line %d\n" % n for n in range(20_000)))
    assert tail(path)[-1] == "line 19999"
    assert len(tail(path)) == 50
