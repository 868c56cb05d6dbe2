"""The whole line with real containers: daemon, market, user-data, agent, registry, docker, trainer.

Each instance has a network of its own with its metadata service at 169.254.169.254.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.followed import Followed
from tests.lab.waiting import until
from tests.root.ground import Ground, isolated
from tests.root.registry import Registry

pytestmark = pytest.mark.root

BOOT_S = 120.0
TRAIN_S = 240.0
NOTICE_S = 120.0


@pytest.fixture(scope="module")
def ground(registry: Registry) -> Iterator[Ground]:
    # Without an image a trainer is a user of this machine, who must be able to go there.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with isolated(Path(folder), registry) as made:
            yield made


def finished(job: Followed) -> Any:
    """The result of a job that has come to its end, and whose instances are gone."""
    until(lambda: job.state == "succeeded", TRAIN_S)
    # An instance that EC2 takes within its first hour is free, and waits for its end.
    job.stage.lab.skip(NOTICE_S)
    until(job.nothing_left, 60)
    result = job.result()
    job.close()
    return result


def test_a_notice_is_a_save_in_time(ground: Ground) -> None:
    job = ground.submit()
    until(lambda: job.trains(1) and job.made(1) > 20, BOOT_S)
    assert job.head().step == 0, "it saves only when it is asked to"
    job.interrupt(1, notice=True)
    until(lambda: job.head().step > 0, 20)
    assert job.head().attempt == job.attempts[0]["id"], "committed before the instance is taken"
    until(lambda: job.trains(2), BOOT_S)
    result = finished(job)
    first, second = (attempt["id"] for attempt in job.attempts)
    assert [start[0] for start in result["starts"]] == [first, second]
    saved, *_, stopped = result["signals"]
    assert saved[0] == "SIGUSR1", "through docker and the shell, to the Python before a pipe"
    assert (stopped[0], stopped[1]) == ("SIGTERM", result["starts"][1][1]), "no step was lost"


def test_what_a_trainer_sees_of_the_instance(ground: Ground) -> None:
    job = ground.submit(STEPS="5")
    assert finished(job)["seen"] == {
        "uid": 10001,
        "pid_namespace": True,
        "writable": {"workdir": False, "data": False, "outputs": True, "home": True},
        "role_token": "no answer",
    }
    (attempt,) = job.attempts
    assert attempt["image_digest"] == ground.registry.digest


def test_a_sudden_death_costs_what_was_not_saved(ground: Ground) -> None:
    job = ground.submit(SAVE_EVERY="50")
    until(lambda: job.trains(1) and job.head().step >= 50, BOOT_S)
    died = job.attempts[0]["instance_id"]
    job.interrupt(1, notice=False)
    until(lambda: not ground.traces(died).look(), 20)
    until(lambda: job.trains(2), BOOT_S)
    result = finished(job)
    (_, went_on_from) = result["starts"][1]
    assert went_on_from >= 50
    assert went_on_from % 50 == 0


def test_a_killed_agent_finds_its_trainer_where_it_was(ground: Ground) -> None:
    job = ground.submit()
    until(lambda: job.trains(1) and job.made(1) > 20, BOOT_S)
    (attempt,) = job.attempts
    ground.kill(attempt["instance_id"], "spotrunner.app.agent")
    until(lambda: job.made(1) > 150, TRAIN_S)
    result = finished(job)
    assert result["starts"] == [[attempt["id"], 0]], "it never stopped"
    assert len(job.attempts) == 1


def test_a_killed_docker_daemon_costs_no_work(ground: Ground) -> None:
    """When it is back it ends the containers that it finds, as it does on EC2."""
    job = ground.submit(SAVE_EVERY="50")
    until(lambda: job.trains(1) and job.head().step >= 50, BOOT_S)
    ground.kill(job.attempts[0]["instance_id"], "dockerd --data-root")
    result = finished(job)
    (stopped,) = result["signals"]
    (_, went_on_from) = result["starts"][1]
    assert stopped == ["SIGTERM", went_on_from], "it saved, and that was committed"
    assert [each["end_reason"] for each in job.attempts] == ["fault", "done"]


def test_without_an_image_the_role_is_out_of_reach_too(ground: Ground) -> None:
    """By the instance's own firewall, since there is no second hop."""
    job = ground.submit("none", STEPS="5")
    seen = finished(job)["seen"]
    assert (seen["uid"], seen["role_token"]) == (10001, "no answer")
