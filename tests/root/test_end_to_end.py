"""The whole line with real containers: daemon, market, user-data, agent, registry, docker, trainer.

Each instance has a network of its own with its metadata service at 169.254.169.254.
"""

from __future__ import annotations

from collections.abc import Iterator
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
def ground(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with isolated(tmp_path_factory.mktemp("ground"), registry) as made:
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
    (saved, stopped) = result["signals"]
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
    assert result["signals"] == []
