"""`spotrunner bake` in a lab: an instance really pulls and unpacks, and a job that names the image
starts from what was baked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spotrunner.cli.demo.stage import Stage, stage
from tests.lab.followed import Followed
from tests.lab.traces import processes_of
from tests.lab.waiting import until

pytestmark = pytest.mark.slow

IMAGE = "tensorflow/tensorflow:2.17.0-gpu"
BOOT_S, DONE_S = 120.0, 180.0


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Stage]:
    with stage(3, tmp_path, print) as made:
        yield made
    assert processes_of(tmp_path) == []


def bake(ground: Stage, *arguments: str) -> Any:
    settings = ["--config", str(ground.lab.paths.settings)]
    return json.loads(ground.spotrunner("bake", *arguments, *settings, "-o", "json"))


def console(ground: Stage, instance: str) -> str:
    return (ground.lab.paths.folder / f"consoles/{instance}.log").read_text()


def test_a_job_starts_from_what_was_baked(ground: Stage) -> None:
    images = bake(ground, "--yes")["images"]
    assert {it["region"] for it in images} == {"us-east-1", "us-west-2", "eu-west-1"}
    assert {it["container"] for it in images} == {IMAGE}
    (bench,) = ground.lab.status()["instances"]
    assert bench["state"] in ("shutting-down", "terminated")
    assert "ready to become an image" in console(ground, bench["id"])

    job = Followed(ground, EPOCHS="20", SAVE_EVERY="200")
    try:
        until(lambda: job.trains(1), BOOT_S)
        started_from(ground, job, images)
        until(lambda: job.state == "succeeded", DONE_S)
    finally:
        job.close()

    listed = bake(ground, "ls")["images"]
    removed = bake(ground, "rm", *(it["image"] for it in listed), "--yes")["removed"]
    assert {it["image"] for it in removed} == {it["image"] for it in images}
    assert bake(ground, "ls")["images"] == []
    until(lambda: ground.lab.leftovers()["instances"] == [], 60)


def started_from(ground: Stage, job: Followed, images: Any) -> None:
    """The job's first attempt booted from the image of its region, and fetched nothing."""
    attempt = job.attempts[0]
    assert attempt["start"]["baked"] is True
    baked = next(it["image"] for it in images if it["region"] == attempt["region"])
    events = ground.api.get(f"/v1/jobs/{job.id}/events")["events"]
    (launched,) = [event for event in events if event["kind"] == "launched"]
    assert launched["why"].endswith(f", from the baked image {baked}")
    said = console(ground, attempt["instance_id"])
    assert "the agent is on the image already" in said
    assert "fetching the agent's archive" not in said
