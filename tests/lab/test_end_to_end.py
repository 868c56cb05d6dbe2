"""The whole line on real parts: daemon, emulated market, instances, agents and trainers, each a
process of its own. What is changed from a user's demo is said where it is changed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spotrunner.adapters.store.sqlite import open_store
from spotrunner.cli.demo.reference import reference_run
from spotrunner.cli.demo.stage import Stage, stage
from spotrunner.core.model import EndReason
from spotrunner.core.states import AttemptState
from spotrunner.daemon.settings import read_settings
from tests.lab.demo import Demo
from tests.lab.followed import Followed
from tests.lab.traces import processes_of
from tests.lab.waiting import until

pytestmark = pytest.mark.slow

BOOT_S = 90.0
TRAIN_S = 180.0
NOTICE_S = 120.0


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A lab with a daemon and the digits in its bucket."""
    folder = tmp_path_factory.mktemp("ground")
    with stage(3, folder, print) as made:
        yield made
    assert processes_of(folder) == []


# -- kill -9 of the daemon -----------------------------------------------------------------------

# Less than half of the demo's epochs.
SHORT = {"EPOCHS": "30", "SAVE_EVERY": "200", "SEED": "11"}


@pytest.fixture
def job(ground: Stage) -> Iterator[Followed]:
    """Whose launch's answer is lost, and of whose instance nothing can be learnt: it exists, and
    the daemon cannot know it."""
    for action, lose in (("RunInstances", "after"), ("DescribeInstances", "before")):
        ground.lab.post("fault", {"action": action, "lose": lose, "times": 1000})
    followed = Followed(ground, **SHORT)
    yield followed
    followed.close()


def restart(ground: Stage) -> None:
    ground.daemon.kill()
    ground.daemon.start()


def test_a_daemon_killed_at_three_moments_changes_nothing(
    ground: Stage, job: Followed, tmp_path: Path
) -> None:
    run = json.loads(ground.objects.get(f"jobs/{job.id}/spec.json").body)["run"]
    with reference_run(run, ground.payload, ground.dataset, job.envs, tmp_path / "alone") as alone:
        between_intent_and_launch(ground, job)
        until(lambda: job.made(1) > 40, BOOT_S)
        during_the_notice(ground, job)
        until(lambda: job.made(2) > 40, BOOT_S)
        while_the_replacement_boots(ground, job)
        until(lambda: job.state == "succeeded", TRAIN_S)
        # An instance that EC2 takes within its first hour is free, and waits for its end.
        ground.lab.skip(NOTICE_S)
        until(lambda: job.nothing_left() and all(each["to"] for each in job.attempts), 30)
        assert job.result()["weights_sha256"] == alone.result()["weights_sha256"]
    it_was_launched_once_each(job)
    no_step_was_lost_but_since_the_last_save(job)
    assert '"round failed"' not in (ground.folder / "daemon.log").read_text()


def between_intent_and_launch(ground: Stage, job: Followed) -> None:
    until(job.instances, 20)
    ground.daemon.kill()
    store = open_store(read_settings(ground.lab.paths.settings).database)
    *refused, attempt = store.attempts([job.id])
    store.close()
    assert (attempt.state, attempt.instance_id) == (AttemptState.PENDING, None)
    assert all(each.end_reason is EndReason.REFUSED for each in refused)
    ground.lab.post("clear", {})
    ground.daemon.start()
    until(lambda: job.has_instance(1), 20)


def during_the_notice(ground: Stage, job: Followed) -> None:
    job.interrupt(1, notice=True)
    until(lambda: job.events("notice") and job.has_instance(2), 20)
    assert not job.trains(2)
    restart(ground)
    until(lambda: job.trains(2), BOOT_S)
    assert job.head().attempt == job.attempts[1]["id"], "the one that took over goes on"


def while_the_replacement_boots(ground: Stage, job: Followed) -> None:
    job.interrupt(2, notice=False)
    until(lambda: job.has_instance(3), 30)
    assert not job.trains(3)
    restart(ground)
    until(lambda: job.trains(3), BOOT_S)


def it_was_launched_once_each(job: Followed) -> None:
    attempts = job.attempts
    assert [each["end_reason"] for each in attempts] == ["interrupted", "interrupted", "done"]
    launched = [(each["id"], each["instance_id"]) for each in attempts]
    assert sorted(launched) == sorted((row["attempt"], row["id"]) for row in job.instances())
    assert sorted(job.events("ended")) == [each["id"] for each in attempts]


def no_step_was_lost_but_since_the_last_save(job: Followed) -> None:
    (_, first_end), (second_start, second_end), (third_start, _) = map(job.span, (1, 2, 3))
    assert second_start == first_end, "a notice costs no step"
    assert 0 <= second_end - third_start <= int(SHORT["SAVE_EVERY"])


# -- the command line ----------------------------------------------------------------------------


@pytest.fixture
def running(ground: Stage) -> Iterator[Followed]:
    """A job that trains, and would go on for long."""
    followed = Followed(ground, EPOCHS="500", SAVE_EVERY="100000")
    until(lambda: followed.trains(1), BOOT_S)
    yield followed
    followed.close()


def test_the_commands_on_a_job_that_runs(ground: Stage, running: Followed) -> None:
    the_tables(ground, running)
    the_json(ground, running)
    a_checkpoint_that_was_asked_for(ground, running)
    a_cancelled_job_ends_with_a_last_commit(ground, running)


def the_tables(ground: Stage, job: Followed) -> None:
    (attempt,) = job.attempts
    listed = ground.spotrunner("ls", "--open").splitlines()
    assert listed[0].split()[:5] == ["JOB", "STATE", "STEP", "COST", "SAVED"]
    assert listed[1].startswith(f"{job.id}  active (train)")
    shown = ground.spotrunner("show", "digits")
    for words in (job.id, attempt["pool"], "tensorflow/tensorflow:2.17.0-gpu", "$2.00: "):
        assert words in shown
    told = ground.spotrunner("explain", job.id)
    assert [line.split()[3] for line in told.splitlines()[1:]][-4:] == [
        "placed",
        "launched",
        "starting",
        "training",
    ]
    until(lambda: "spotrunner: epoch 1/500" in ground.spotrunner("logs", job.id), 30)


def the_json(ground: Stage, job: Followed) -> None:
    def asked(*command: str) -> Any:
        return json.loads(ground.spotrunner(*command, "-o", "json"))

    (listed,) = asked("ls", "--open")["jobs"]
    shown = asked("show", job.id)
    assert (listed["id"], listed["state"]) == (job.id, "active")
    assert shown["attempts"][-1]["instance_id"] == job.instances()[-1]["id"]
    assert shown["report"]["phase"] == "train"
    assert asked("explain", job.id)["events"][0]["kind"] == "submitted"
    lines = ground.spotrunner("logs", job.id, "-o", "json").splitlines()
    assert {json.loads(line)["attempt"] for line in lines} == {shown["attempts"][-1]["id"]}


def a_checkpoint_that_was_asked_for(ground: Stage, job: Followed) -> None:
    assert job.head().step == 0, "none is due for long"
    (asked,) = json.loads(ground.spotrunner("checkpoint", job.id, "-o", "json"))["asked"]
    assert (asked["id"], asked["verb"]) == (job.id, "checkpoint")
    until(lambda: job.head().step > 0, 30)
    assert not job.head().final
    committed = job.head().step
    until(lambda: job.span(1)[1] > committed, 30)


def a_cancelled_job_ends_with_a_last_commit(ground: Stage, job: Followed) -> None:
    committed = job.head().step
    ground.spotrunner("cancel", "digits")
    until(lambda: job.state == "cancelled", 60)
    until(job.nothing_left, 60)
    head = job.head()
    assert head.final
    assert head.step == job.span(1)[1] > committed, "no step was lost"
    assert head.done is None
    until(lambda: all(each["to"] for each in job.attempts), 30)
    assert [each["end_reason"] for each in job.attempts] == ["cancelled"]


# -- the demo ------------------------------------------------------------------------------------

NUMBER = (int, float)
FACTS: dict[str, type | tuple[type, ...]] = {
    "job": str,
    "cost_usd": float,
    "ondemand_usd": float,
    "saved_fraction": float,
    "interruptions": int,
    "steps_total": int,
    "steps_redone": int,
    "notice_to_commit_s": NUMBER,
    "notice_to_next_step_s": NUMBER,
    "weights_sha256": str,
    "reference_sha256": str,
    "leftover_instances": list,
    "phases_s": dict,
}
# How long it may take is benchmarks/demo.py's business; here it must only come to its end.
PATIENCE_S = 480.0


def test_the_demo_as_it_is(tmp_path: Path) -> None:
    told = tmp_path / "facts.json"
    demo = Demo(tmp_path, "--seed", "5", "--json", str(told))
    try:
        assert demo.wait(PATIENCE_S) == 0, demo.said
    finally:
        demo.end()
    assert (demo.files, demo.processes) == ([], [])
    facts = json.loads(told.read_text())
    for key, kind in FACTS.items():
        assert isinstance(facts[key], kind), key
    attempts = [each for each in facts["attempts"] if each["ended"] != "refused"]
    assert [each["ended"] for each in attempts] == ["interrupted", "interrupted", "done"]
    assert {each["market"] for each in attempts} == {"spot"}
    assert len({each["pool"] for each in attempts[:2]}) == 2, "the replacement is in another pool"
    assert facts["cost_usd"] == pytest.approx(sum(it["cost_usd"] for it in facts["attempts"]))
    assert facts["saved_fraction"] == pytest.approx(
        1 - facts["cost_usd"] / facts["ondemand_usd"], abs=1e-4
    )
    assert facts["interruptions"] == 2
    assert facts["weights_sha256"] == facts["reference_sha256"]
    assert len(facts["weights_sha256"]) == 64
    after_notice, after_death = (
        facts["steps_redone_by_attempt"][each["id"]] for each in attempts[:2]
    )
    assert after_notice == 0
    assert 0 <= after_death <= facts["checkpoint_interval_steps"]
    assert facts["steps_redone"] == after_death
    assert 0 <= facts["notice_to_commit_s"] < facts["notice_to_next_step_s"] < 120
    assert facts["role_keys_of_one_instance"] == 2
    assert facts["leftover_instances"] == []
    assert all(seconds >= 0 for seconds in facts["phases_s"].values())
    assert "yes (sha256 " in demo.said


# A moment to be stopped at, by what it says then; each later than the one before.
LAB_STARTS = "a lab of three regions"
DAEMON_STARTS = "the daemon: spotrunner daemon"
LAUNCHES = "launched: EC2 gave"
TRAINS = r": step [1-9]"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    started = Demo(tmp_path)
    yield started
    started.end()


@pytest.mark.parametrize("moment", [LAUNCHES, TRAINS])
def test_ctrl_c_leaves_nothing(demo: Demo, moment: str) -> None:
    demo.until_it_says(moment, BOOT_S)
    demo.press_ctrl_c()
    it_stops_in_order(demo)


@pytest.mark.parametrize("moment", [LAB_STARTS, DAEMON_STARTS])
def test_neither_does_sigterm(demo: Demo, moment: str) -> None:
    demo.until_it_says(moment, BOOT_S)
    demo.send(signal.SIGTERM)
    it_stops_in_order(demo)


def it_stops_in_order(demo: Demo) -> None:
    assert demo.wait() == 1, demo.said
    assert (demo.files, demo.processes) == ([], [])
    assert demo.said.splitlines()[-1] == "spotrunner: stopped; nothing is left running"
    assert "Traceback" not in demo.said


def test_neither_does_a_terminal_that_hangs_up(tmp_path: Path) -> None:
    demo = Demo(tmp_path, terminal=True)
    try:
        demo.until_it_says(DAEMON_STARTS, BOOT_S)
        demo.send(signal.SIGKILL)
        until(lambda: not demo.processes and not demo.files, 60)
    finally:
        demo.end()


def test_a_killed_demo_takes_its_processes_with_it(demo: Demo) -> None:
    demo.until_it_says(TRAINS, BOOT_S)
    assert len(demo.processes) > 5
    demo.send(signal.SIGKILL)
    assert demo.wait() == -signal.SIGKILL
    until(lambda: not demo.processes, 30)
