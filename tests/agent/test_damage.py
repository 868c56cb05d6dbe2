"""Checkpoints that cannot be had, or cannot be made, in the life of whole agents."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotrunner.agent import words as w
from spotrunner.core.model import CheckpointRef, Phase, Verb
from tests.agent.imds_server import ImdsServer
from tests.agent.test_main import Rig, until
from tests.agent.told import JOB

pytestmark = pytest.mark.slow


@pytest.fixture
def rig(tmp_path: Path, imds_server: ImdsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    rig = Rig(tmp_path, imds_server, monkeypatch)
    yield rig
    rig.close()


def harm(rig: Rig, ref: CheckpointRef | None) -> str:
    assert ref is not None
    rig.bucket.objects.put(f"{ref.folder}state.json", b"{")
    return ref.folder


def trained(rig: Rig) -> None:
    """Attempt 1 has trained, committed more than once, and was stopped."""
    rig.submit("4000 0.01")
    rig.order(1, 1)
    rig.launch(1)
    rig.until_report(1, lambda r: r.committed_step and r.committed_step >= 40)
    rig.order(1, 2, verb=Verb.STOP)
    rig.until_report(1, lambda r: r.phase is Phase.STOPPED)
    rig.until_off()


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(rig: Rig) -> None:
    trained(rig)
    before = rig.bucket.head.previous
    assert before is not None
    harm(rig, rig.bucket.head.manifest)
    rig.order(2, 1)
    rig.launch(2)
    rig.until_report(2, lambda r: r.phase is Phase.TRAIN and r.step)
    assert f"resumes from {before.step}" in rig.printed(2) or rig.bucket.head.step >= before.step
    rig.order(2, 2, verb=Verb.STOP)
    rig.until_report(2, lambda r: r.phase is Phase.STOPPED)
    assert f"resumes from {before.step}" in rig.printed(2)
    rig.until_off(2)


def test_two_damaged_checkpoints_end_it_and_lose_nothing(rig: Rig) -> None:
    trained(rig)
    last, before = rig.bucket.head.manifest, rig.bucket.head.previous
    names = [harm(rig, last), harm(rig, before)]
    there = rig.bucket.listed(f"jobs/{JOB}/checkpoints/")
    rig.order(2, 1)
    rig.launch(2, first_retry_s=0.01)
    report = rig.until_report(2, lambda r: r.phase is Phase.FAILED)
    rig.until_off(2)
    assert all(name in report.message for name in names)
    assert "submit the job anew" in report.message
    assert rig.bucket.head.manifest == before, "HEAD still names what may be mended"
    assert rig.bucket.listed(f"jobs/{JOB}/checkpoints/") == there
    assert rig.bucket.head.done is None


def test_a_disk_that_is_full_while_it_saves_costs_the_save_and_not_the_one_before(
    rig: Rig,
) -> None:
    """From step 50 on the trainer's saves break off in the middle; it tells and goes on."""
    rig.submit("4000 0.01 full")
    rig.order(1, 1)
    rig.launch(1)
    rig.until_report(1, lambda r: r.committed_step == 40)
    until(lambda: "No space left on device" in rig.printed(1), lambda: rig.printed(1))
    rig.order(1, 2, verb=Verb.STOP)
    report = rig.until_report(1, lambda r: r.phase is Phase.STOPPED)
    rig.until_off()
    assert (rig.bucket.head.step, rig.bucket.head.final) == (40, True)
    assert report.committed_step == 40


def test_a_disk_that_is_too_small_for_the_checkpoint_is_tried_again(rig: Rig) -> None:
    """On the way up it has as long as the paid time lasts: a disk may be made larger."""
    trained(rig)
    committed = rig.bucket.head.manifest
    assert committed is not None
    manifest, _ = rig.bucket.heads.read_manifest(committed.folder)
    huge = dataclasses.replace(manifest.files[0], bytes=10**18)
    digest = rig.bucket.heads.write_manifest("huge/", dataclasses.replace(manifest, files=(huge,)))
    ref = dataclasses.replace(committed, folder="huge/", manifest_sha256=digest)
    answer = rig.agents[0]._deeds.attempt_task(w.Restore(ref=ref))
    assert isinstance(answer, w.Undone)
    assert not answer.hopeless
    assert "disk_gib" in answer.why
