"""What ports.Objects promises."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spotrunner.ports import NotFound, Objects, PreconditionFailed, Unavailable
from tests.contracts.conftest import PART_BYTES, Bench

RACERS = 8


@pytest.fixture
def objects(bench: Bench) -> Objects:
    return bench.objects


def test_what_was_put_is_got(objects: Objects) -> None:
    etag = objects.put("jobs/a/spec.json", b"{}")
    blob = objects.get("jobs/a/spec.json")
    assert (blob.body, blob.etag) == (b"{}", etag)


@pytest.mark.parametrize("key", ["a b+c.gz", "ü/名.json", "x=1&y=%2F", "a//b"])
def test_keys_are_kept_as_they_are(objects: Objects, key: str) -> None:
    objects.put(key, b"x")
    assert objects.get(key).body == b"x"
    assert [found.key for found in objects.list("")] == [key]


def test_an_empty_object_is_an_object(objects: Objects) -> None:
    objects.put("empty", b"")
    assert objects.get("empty").body == b""


def test_what_is_not_there_is_not_found(objects: Objects, tmp_path: Path) -> None:
    reads: list[Callable[[], object]] = [
        lambda: objects.get("nothing"),
        lambda: objects.get_if_changed("nothing", None),
        lambda: objects.get_if_changed("nothing", '"0"'),
        lambda: objects.download("nothing", tmp_path / "file"),
    ]
    for read in reads:
        with pytest.raises(NotFound):
            read()
    assert list(tmp_path.iterdir()) == []


def test_only_what_changed_is_got_again(objects: Objects) -> None:
    etag = objects.put("order", b"1")
    assert objects.get_if_changed("order", etag) is None
    assert objects.get_if_changed("order", None) is not None
    newer = objects.put("order", b"2")
    blob = objects.get_if_changed("order", etag)
    assert blob is not None
    assert (blob.body, blob.etag) == (b"2", newer)


# -- conditions --------------------------------------------------------------------------------


def test_a_put_if_absent_never_replaces(objects: Objects) -> None:
    objects.put("once", b"1", if_absent=True)
    with pytest.raises(PreconditionFailed):
        objects.put("once", b"2", if_absent=True)
    assert objects.get("once").body == b"1"
    objects.delete(["once"])
    objects.put("once", b"3", if_absent=True)


def test_a_put_if_match_replaces_only_what_was_read(objects: Objects) -> None:
    first = objects.put("head", b"1")
    second = objects.put("head", b"2", if_match=first)
    with pytest.raises(PreconditionFailed):
        objects.put("head", b"3", if_match=first)
    assert objects.get("head").body == b"2"
    objects.put("head", b"3", if_match=second)


def test_a_put_if_match_of_nothing_is_refused(objects: Objects) -> None:
    with pytest.raises(PreconditionFailed):
        objects.put("gone", b"1", if_match='"c4ca4238a0b923820dcc509a6f75849b"')
    assert list(objects.list("")) == []


@pytest.mark.parametrize("exists", [False, True])
def test_one_of_many_racers_wins(objects: Objects, exists: bool) -> None:
    etag = objects.put("head", b"seen") if exists else None
    start = threading.Barrier(RACERS)

    def race(number: int) -> int | None:
        start.wait(timeout=10)
        try:
            objects.put("head", b"%d" % number, if_match=etag, if_absent=etag is None)
        except PreconditionFailed:
            return None
        return number

    with ThreadPoolExecutor(RACERS) as racers:
        winners = [won for won in racers.map(race, range(RACERS)) if won is not None]
    assert [b"%d" % winner for winner in winners] == [objects.get("head").body]


def test_a_lost_answer_is_unavailable_though_it_was_stored(bench: Bench) -> None:
    bench.lose_answer(False)
    with pytest.raises(Unavailable):
        bench.objects.put("head", b"1")
    assert bench.objects.get("head").body == b"1"


@pytest.mark.parametrize("exists", [False, True])
def test_a_retry_below_us_is_refused_by_its_own_success(bench: Bench, exists: bool) -> None:
    etag = bench.objects.put("head", b"0") if exists else None
    bench.lose_answer(True)
    with pytest.raises(PreconditionFailed):
        bench.objects.put("head", b"1", if_match=etag, if_absent=etag is None)
    assert bench.objects.get("head").body == b"1"


def test_a_retry_below_us_of_a_plain_put_is_no_matter(bench: Bench) -> None:
    bench.lose_answer(True)
    etag = bench.objects.put("report", b"1")
    assert bench.objects.get_if_changed("report", etag) is None


# -- many --------------------------------------------------------------------------------------


def test_a_listing_is_in_the_order_of_the_keys(objects: Objects) -> None:
    # U+FFFD comes before U+1F600 in bytes, and after it in UTF-16.
    keys = ["b/2", "b/10", "b/1", "a/1", "b", "b/\ufffd", "b/\U0001f600", "c"]
    for key in keys:
        objects.put(key, key.encode())
    assert [info.key for info in objects.list("")] == sorted(keys, key=str.encode)
    assert [info.key for info in objects.list("b/1")] == ["b/1", "b/10"]
    assert list(objects.list("nothing/")) == []


def test_a_listing_says_what_a_get_would(objects: Objects) -> None:
    etag = objects.put("mail/orders/x.json", b"four")
    (info,) = objects.list("mail/")
    assert (info.key, info.bytes, info.etag) == ("mail/orders/x.json", 4, etag)
    assert info.modified_at.tzinfo is not None


def test_more_than_a_page_is_listed_and_deleted(objects: Objects) -> None:
    keys = [f"logs/{number:04d}" for number in range(1001)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda key: objects.put(key, b""), keys))
    assert [info.key for info in objects.list("logs/")] == keys
    objects.delete(keys)
    assert list(objects.list("")) == []


def test_to_delete_what_is_not_there_is_no_error(objects: Objects) -> None:
    objects.put("here", b"")
    objects.delete(["gone", "here", "here"])
    objects.delete([])
    assert list(objects.list("")) == []


# -- files -------------------------------------------------------------------------------------

SIZES = {"empty": 0, "small": 1000, "one part": PART_BYTES, "several parts": 2 * PART_BYTES + 7}


@pytest.fixture(params=list(SIZES.values()), ids=list(SIZES))
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "up"
    path.write_bytes((bytes(range(251)) * (request.param // 251 + 1))[: request.param])
    return path


@pytest.mark.parametrize("if_absent", [False, True])
def test_a_file_comes_back_as_it_went(
    objects: Objects, file: Path, tmp_path: Path, if_absent: bool
) -> None:
    objects.upload(file, "data/file", if_absent=if_absent)
    (info,) = objects.list("data/")
    assert info.bytes == file.stat().st_size
    down = tmp_path / "down"
    down.write_bytes(b"what was there before")
    objects.download("data/file", down)
    assert down.read_bytes() == file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["down", "up"]


def test_an_upload_if_absent_never_replaces(objects: Objects, file: Path) -> None:
    objects.put("data/file", b"first")
    with pytest.raises(PreconditionFailed):
        objects.upload(file, "data/file", if_absent=True)
    assert objects.get("data/file").body == b"first"
    objects.upload(file, "data/file")
    assert objects.get("data/file").body == file.read_bytes()


def test_an_upload_of_no_file_says_so(objects: Objects, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        objects.upload(tmp_path / "nothing", "data/file")
    assert list(objects.list("")) == []


def test_a_download_into_no_folder_leaves_nothing(objects: Objects, tmp_path: Path) -> None:
    objects.put("data/file", b"x")
    with pytest.raises(FileNotFoundError):
        objects.download("data/file", tmp_path / "nowhere" / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_url_names_the_object(objects: Objects) -> None:
    objects.put("agent/x.tar.gz", b"x")
    assert "agent/x.tar.gz" in objects.presigned("agent/x.tar.gz", 60)


def test_what_is_put_encrypted_is_read_as_any_other(bench: Bench) -> None:
    bench.objects.put_encrypted("secrets/token", b"s-1")
    bench.objects.put_encrypted("secrets/token", b"s-2", kms_key="alias/mine")
    assert bench.objects.get("secrets/token").body == b"s-2"
    bench.objects.delete(["secrets/token"])
    assert not list(bench.objects.list("secrets/"))
