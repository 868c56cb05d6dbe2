"""What ports.Heads promises, and the stories in which HEAD is judged by reading it."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from spotrunner.adapters import codec
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.core.head import Verdict, judge, taken_over
from spotrunner.core.model import Head, Manifest, ManifestFile
from spotrunner.ports import (
    Heads,
    NotFound,
    Objects,
    PreconditionFailed,
    StoredHead,
    Unavailable,
)
from tests.contracts.conftest import Bench

JOB = "digits-7f3a"
FOLDER = f"jobs/{JOB}/checkpoints/00000042-n1/"
MANIFEST = Manifest(
    step=42,
    attempt=f"{JOB}.1",
    files=(ManifestFile(name="weights.data", bytes=4, sha256="ab" * 32),),
)
RACERS = 6


@pytest.fixture
def objects(bench: Bench) -> Objects:
    return bench.objects


@pytest.fixture
def heads(objects: Objects) -> Heads:
    return ObjectHeads(objects)


def a_head(seq: int, generation: int = 1, nonce: str = "n") -> Head:
    return Head(seq=seq, generation=generation, attempt=f"{JOB}.{generation}", nonce=nonce)


# -- HEAD --------------------------------------------------------------------------------------


def test_a_job_begins_without_a_head(heads: Heads) -> None:
    assert heads.read(JOB) == StoredHead(head=None, etag=None)


def test_a_swap_shows_to_everybody(heads: Heads) -> None:
    heads.swap(JOB, a_head(1), None)
    first = heads.read(JOB)
    assert first.head == a_head(1)
    heads.swap(JOB, a_head(2), first.etag)
    assert heads.read(JOB).head == a_head(2)
    assert heads.read("other-7f3a").head is None


def test_a_swap_from_anything_but_what_lies_there_is_refused(heads: Heads) -> None:
    heads.swap(JOB, a_head(1), None)
    first = heads.read(JOB)
    with pytest.raises(PreconditionFailed):
        heads.swap(JOB, a_head(2), None)
    heads.swap(JOB, a_head(2), first.etag)
    with pytest.raises(PreconditionFailed):
        heads.swap(JOB, a_head(3), first.etag)
    assert heads.read(JOB).head == a_head(2)


def test_a_head_that_cannot_be_read_is_not_taken_for_none(objects: Objects, heads: Heads) -> None:
    objects.put(f"jobs/{JOB}/checkpoints/HEAD.json", b"{")
    with pytest.raises(Unavailable):
        heads.read(JOB)


def test_one_of_many_attempts_takes_an_empty_head(heads: Heads) -> None:
    start = threading.Barrier(RACERS)

    def take(number: int) -> bool:
        start.wait(timeout=10)
        try:
            heads.swap(JOB, a_head(1, generation=number), None)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(RACERS) as racers:
        won = list(racers.map(take, range(1, RACERS + 1)))
    assert won.count(True) == 1
    head = heads.read(JOB).head
    assert head is not None
    assert won[head.generation - 1]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("retried", [False, True])
def test_a_swap_whose_answer_is_lost_is_settled_by_reading(
    bench: Bench, heads: Heads, first: bool, retried: bool
) -> None:
    if not first:
        heads.swap(JOB, a_head(1), None)
    seen = heads.read(JOB)
    ours = taken_over(seen.head, attempt=f"{JOB}.2", generation=2, nonce="ours")
    bench.lose_answer(retried)
    with pytest.raises(PreconditionFailed if retried else Unavailable):
        heads.swap(JOB, ours, seen.etag)
    lies_there = heads.read(JOB)
    verdict = judge(lies_there.head, attempt=f"{JOB}.2", generation=2, nonce="ours")
    assert verdict is Verdict.OURS
    # ... and the next swap goes from what was read.
    heads.swap(JOB, a_head(3, generation=2), lies_there.etag)


# -- manifests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [FOLDER, FOLDER.rstrip("/")])
def test_a_manifest_comes_back_with_its_digest(objects: Objects, heads: Heads, folder: str) -> None:
    digest = heads.write_manifest(folder, MANIFEST)
    assert heads.read_manifest(folder) == (MANIFEST, digest)
    body = objects.get(f"{FOLDER}MANIFEST.json").body
    assert hashlib.sha256(body).hexdigest() == digest
    assert codec.from_json(Manifest, body) == MANIFEST


@pytest.mark.parametrize("retried", [False, True])
def test_the_same_manifest_again_is_no_error(bench: Bench, heads: Heads, retried: bool) -> None:
    bench.lose_answer(retried)
    if not retried:
        with pytest.raises(Unavailable):
            heads.write_manifest(FOLDER, MANIFEST)
    digest = heads.write_manifest(FOLDER, MANIFEST)
    assert heads.read_manifest(FOLDER) == (MANIFEST, digest)


def test_another_manifest_never_replaces_the_first(heads: Heads) -> None:
    digest = heads.write_manifest(FOLDER, MANIFEST)
    other = Manifest(step=43, attempt=f"{JOB}.2", files=())
    with pytest.raises(PreconditionFailed):
        heads.write_manifest(FOLDER, other)
    assert heads.read_manifest(FOLDER) == (MANIFEST, digest)


@pytest.mark.parametrize("body", [None, b"", b"{}"])
def test_what_is_no_manifest_is_not_found(
    objects: Objects, heads: Heads, body: bytes | None
) -> None:
    if body is not None:
        objects.put(f"{FOLDER}MANIFEST.json", body)
    with pytest.raises(NotFound):
        heads.read_manifest(FOLDER)
