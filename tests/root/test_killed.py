"""What runs beside a trainer is killed with -9, and comes back: the agent, the docker daemon."""

from __future__ import annotations

import pytest

from tests.lab.waiting import until
from tests.root.ground import BOOT_S, TRAIN_S, Ground, finished

pytestmark = pytest.mark.root


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
