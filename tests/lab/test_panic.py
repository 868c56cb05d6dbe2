"""`spotrunner panic` on real parts: beside a daemon, and where nothing is left of its host."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spotrunner.adapters.mail import BRAKE
from spotrunner.cli.demo.stage import Stage, stage
from spotrunner.lab.paths import HOME_BUCKET, HOME_REGION
from tests.lab.followed import Followed
from tests.lab.traces import processes_of
from tests.lab.waiting import until

pytestmark = pytest.mark.slow

BOOT_S = 90.0


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Stage]:
    with stage(3, tmp_path, print) as made:
        yield made
    assert processes_of(tmp_path) == []


@pytest.fixture
def job(ground: Stage) -> Iterator[Followed]:
    """It trains and has a checkpoint, and would go on for long."""
    followed = Followed(ground, EPOCHS="5000", SAVE_EVERY="200")
    until(lambda: followed.trains(1) and followed.head().step > 0, BOOT_S)
    yield followed
    followed.close()


def panic(ground: Stage) -> Any:
    said = ground.spotrunner("panic", "--yes", "-o", "json", "--endpoint-url", ground.lab.url)
    return json.loads(said)


def test_a_daemon_launches_nothing_until_the_brake_is_off(ground: Stage, job: Followed) -> None:
    (attempt,) = job.attempts
    told = panic(ground)
    assert [(each["attempt"], each["how"]) for each in told["instances"]] == [
        (attempt["id"], "saved and ended itself")
    ]
    saved = job.head().step
    # As systemd does with a daemon that ends because an order of panic's has fenced it.
    ground.daemon.kill()
    ground.daemon.start()
    ground.lab.skip(300)
    assert len(job.instances()) == 1
    assert "spotrunner hold --off" in job.detail["job"]["reason"]

    ground.spotrunner("hold", "--off")
    until(lambda: job.trains(2), BOOT_S)
    assert job.span(2)[0] == saved, "no step was lost"


def test_a_job_saves_and_ends_without_daemon_and_store(ground: Stage, job: Followed) -> None:
    (attempt,) = job.attempts
    before = job.head()
    assert not before.final
    ground.daemon.kill()
    shutil.rmtree(ground.lab.paths.state)

    told = panic(ground)

    (ended,) = told["instances"]
    assert (ended["instance"], ended["attempt"]) == (attempt["instance_id"], attempt["id"])
    assert ended["how"] == "saved and ended itself"
    head = job.head()
    assert head.final
    assert head.attempt == attempt["id"]
    assert ended["checkpoint_step"] == head.step > before.step
    assert {row["state"] for row in job.instances()} <= {"shutting-down", "terminated"}
    until(job.nothing_left, 30)
    home = f"{HOME_BUCKET}/{HOME_REGION}"
    assert told["brakes"] == {home: {"set": True, "why": ""}}
    assert json.loads(ground.objects.get(BRAKE).body)["why"] == "spotrunner panic"
    assert told["done"] is True
