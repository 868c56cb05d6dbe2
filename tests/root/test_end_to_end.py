"""The whole line with real containers: daemon, market, user-data, agent, registry, docker, trainer.

Each instance has a network of its own with its metadata service at 169.254.169.254.
"""

from __future__ import annotations

import pytest

from tests.lab.waiting import until
from tests.root.ground import BOOT_S, Ground, finished

pytestmark = pytest.mark.root


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


def test_without_an_image_the_role_is_out_of_reach_too(ground: Ground) -> None:
    """By the instance's own firewall, since there is no second hop."""
    job = ground.submit("none", STEPS="5")
    seen = finished(job)["seen"]
    assert (seen["uid"], seen["role_token"]) == (10001, "no answer")
