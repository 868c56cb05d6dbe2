"""Logs page by page: nothing twice, nothing lost, no character cut."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.adapters.memory import MemoryObjects
from spotrunner.core.model import Attempt
from spotrunner.core.states import AttemptState, JobState
from spotrunner.ports import Changes
from spotrunner.sim.cloud import VirtualClock
from spotrunner.web import logs
from tests.build import JOB, T0, a_job, an_attempt
from tests.web.conftest import Api


def _write(objects: MemoryObjects, generation: int, n: int, text: bytes) -> None:
    key = f"jobs/{JOB}/logs/{JOB}.{generation}/0/{n:06d}.gz"
    objects.put(key, gzip.compress(text, mtime=0), if_absent=True)


@pytest.fixture
def following(api: Api) -> Api:
    """A job whose first attempt has ended and whose second one runs."""
    api.store.add_job(a_job(), [])
    ended, running = an_attempt(1, AttemptState.ENDED), an_attempt(2)
    api.store.write(api.store.lead("a test"), Changes(attempts=(ended, running)))
    _write(api.home, 1, 1, b"one\n")
    _write(api.home, 1, 2, b"two\n")
    _write(api.home, 2, 1, b"three\n")
    return api


def test_all_attempts_in_their_order(following: Api) -> None:
    page = following.get(f"/v1/jobs/{JOB}/logs")
    assert page["chunks"] == [
        {"attempt": f"{JOB}.1", "text": "one\ntwo\n"},
        {"attempt": f"{JOB}.2", "text": "three\n"},
    ]
    assert page["after"] == "1:end,2:2+0"
    assert not page["more"]
    assert not page["over"]


@pytest.mark.parametrize("word", ["1", f"{JOB}.1"])
def test_one_attempt(following: Api, word: str) -> None:
    page = following.get(f"/v1/jobs/{JOB}/logs", attempt=word)
    assert page["chunks"] == [{"attempt": f"{JOB}.1", "text": "one\ntwo\n"}]
    assert page["over"]


def test_only_what_is_new(following: Api) -> None:
    after = following.get(f"/v1/jobs/{JOB}/logs")["after"]
    assert following.get(f"/v1/jobs/{JOB}/logs", after=after)["chunks"] == []
    _write(following.home, 2, 2, b"four\n")
    page = following.get(f"/v1/jobs/{JOB}/logs", after=after)
    assert page["chunks"] == [{"attempt": f"{JOB}.2", "text": "four\n"}]
    assert following.get(f"/v1/jobs/{JOB}/logs", after=page["after"])["chunks"] == []


def test_the_end_comes_with_the_jobs_end(following: Api) -> None:
    epoch = following.store.lead("a test")
    ended = an_attempt(2, AttemptState.ENDED)
    following.store.write(epoch, Changes(jobs=(a_job(JobState.SUCCEEDED),), attempts=(ended,)))
    page = following.get(f"/v1/jobs/{JOB}/logs")
    assert page["over"]
    assert page["after"] == "1:end,2:end"


def test_a_job_without_an_attempt_has_no_log_yet(api: Api) -> None:
    api.store.add_job(a_job(JobState.QUEUED), [])
    page = api.get(f"/v1/jobs/{JOB}/logs")
    assert page == {"chunks": [], "after": "", "more": False, "over": False}


def test_a_damaged_chunk_does_not_hide_the_others(following: Api) -> None:
    following.home.put(f"jobs/{JOB}/logs/{JOB}.2/0/000002.gz", b"no gzip")
    _write(following.home, 2, 3, b"four\n")
    page = following.get(f"/v1/jobs/{JOB}/logs", attempt="2")
    assert page["chunks"][0]["text"] == "three\n[a part of the log is damaged]\nfour\n"


# -- pages -------------------------------------------------------------------------------------


def _read_all(objects: MemoryObjects, attempts: Sequence[Attempt]) -> tuple[dict[str, str], int]:
    """The texts by attempt, and the number of pages."""
    texts: dict[str, str] = {}
    cursor, pages, more = "", 0, True
    while more:
        page = logs.read(objects, attempts, logs.parse(cursor))
        assert sum(len(chunk.text.encode()) for chunk in page.chunks) <= logs.PAGE_BYTES + 4
        for chunk in page.chunks:
            texts[chunk.attempt] = texts.get(chunk.attempt, "") + chunk.text
        cursor, pages, more = logs.dump(page.cursor), pages + 1, page.more
        assert pages < 100
    return texts, pages


def test_a_page_is_bounded() -> None:
    objects = MemoryObjects(VirtualClock(T0))
    text = "".join(f"{number:07d}\n" for number in range(3 * logs.PAGE_BYTES // 16))
    _write(objects, 1, 1, text.encode())
    _write(objects, 1, 2, text.encode())
    texts, pages = _read_all(objects, [an_attempt(1), an_attempt(2)])
    assert texts == {f"{JOB}.1": text + text}
    assert pages == 4


@given(
    text=st.text(st.sampled_from("a━\U0001f600\n"), max_size=60),
    cuts=st.lists(st.integers(0, 240), max_size=6),
    ended=st.booleans(),
)
def test_characters_cut_by_chunks_come_whole(text: str, cuts: list[int], ended: bool) -> None:
    objects, body = MemoryObjects(VirtualClock(T0)), text.encode()
    attempt = an_attempt(1, AttemptState.ENDED) if ended else an_attempt(1)
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    read, cursor = "", ""
    for n, (start, end) in enumerate(itertools.pairwise(places), start=1):
        # The agent goes on writing between two looks.
        _write(objects, 1, n, body[start:end])
        page = logs.read(objects, [an_attempt(1)], logs.parse(cursor))
        read += "".join(chunk.text for chunk in page.chunks)
        cursor = logs.dump(page.cursor)
    page = logs.read(objects, [attempt], logs.parse(cursor))
    read += "".join(chunk.text for chunk in page.chunks)
    assert read == text


def test_a_log_that_ends_within_a_character_ends() -> None:
    objects = MemoryObjects(VirtualClock(T0))
    _write(objects, 1, 1, "a━".encode()[:-1])
    live = logs.read(objects, [an_attempt(1)], {})
    assert [chunk.text for chunk in live.chunks] == ["a"]
    ended = logs.read(objects, [an_attempt(1, AttemptState.ENDED)], live.cursor)
    assert [chunk.text for chunk in ended.chunks] == ["�"]
    assert ended.cursor[1].ended


@pytest.mark.parametrize("cursor", ["x", "1", "1:", "1:1", "1:1+", "a:end", "1:end,", "1:-1+0"])
def test_a_cursor_that_is_none_of_ours_is_refused(cursor: str) -> None:
    with pytest.raises(ValueError, match="expected the `after` of an earlier answer"):
        logs.parse(cursor)
