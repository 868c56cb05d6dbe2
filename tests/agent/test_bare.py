"""A trainer without a container: the lab's stand-ins play systemd, the processes are real."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from spotrunner.agent.bare import Bare
from spotrunner.agent.docker import Docker
from spotrunner.agent.folders import Folders
from spotrunner.agent.images import Images
from spotrunner.agent.runs import NotStarted
from spotrunner.agent.trainer import Exit, Trainer
from spotrunner.agent.words import Sig
from spotrunner.core.model import NO_IMAGE, JobSpec
from tests.agent import standins
from tests.agent.world import HandClock, NoRegistries, a_spec
from tests.lab.waiting import until

pytestmark = pytest.mark.slow


class Machine:
    """One machine with a systemd, and the agents that it has one after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.oom_kills = 3
        self.tools = standins.make_systemd(root / "tools")
        self.folders = Folders(root=root / "state")
        self.folders.make()
        (root / "train").mkdir()
        self.trainer = self.next_agent()

    def next_agent(self) -> Trainer:
        docker = Docker(config=self.root / "docker")
        self.trainer = Trainer(
            attempt="j.1",
            job_id="j",
            folders=self.folders,
            library_source=self.root / "train",
            docker=docker,
            images=Images(
                docker=docker,
                registries=NoRegistries(),
                clock=HandClock(),
                pulled=self.root / "pulled",
            ),
            oom_kills=lambda: self.oom_kills,
        )
        return self.trainer

    def start(self, run: str, secrets: dict[str, str] | None = None, **changes: object) -> None:
        spec: JobSpec = a_spec(**{"run": run, "image": NO_IMAGE, **changes})
        assert self.trainer.prepare(spec).digest == ""
        self.trainer.start(spec, secrets)

    def end(self) -> Exit:
        until(lambda: self.trainer.poll() is not None)
        found = self.trainer.poll()
        assert found is not None
        return found

    @property
    def log(self) -> list[str]:
        return self.folders.trainer_log.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:/usr/bin:/bin")
    made = Machine(tmp_path)
    yield made
    Bare(name=made.trainer.name, folders=made.folders).remove()


LISTENS = (
    "trap 'echo saved' USR1; trap 'echo stopped; exit 75' TERM; touch $SPOTRUNNER_OUTPUT_DIR/up\n"
    "while [ ! -e $SPOTRUNNER_OUTPUT_DIR/end ]; do sleep 0.05; done\nexit 3"
)


def listening(machine: Machine) -> None:
    machine.start(LISTENS)
    until((machine.folders.outputs / "up").exists)


def test_it_runs_on_the_machines_own_python_and_no_docker_is_asked(machine: Machine) -> None:
    python = Path(sys.executable)
    machine.start(f"{python} -c 'import os; print(os.environ[\"SPOTRUNNER_JOB\"])'")
    assert machine.end() == Exit(code=0)
    assert machine.log == ["j"]
    assert not [call for call in standins.calls(machine.tools) if call.startswith("docker")]


@pytest.mark.parametrize(("run", "code"), [("exit 5", 5), ("false | cat\ntrue", 1)])
def test_the_exit_code_is_the_commands(machine: Machine, run: str, code: int) -> None:
    machine.start(run)
    assert machine.end() == Exit(code=code)


def test_a_save_and_a_stop_reach_it(machine: Machine) -> None:
    listening(machine)
    until(lambda: machine.trainer.signal(Sig.SAVE))
    until(lambda: "saved" in machine.log)
    assert machine.trainer.signal(Sig.STOP)
    assert machine.end() == Exit(code=75)


def test_a_trainer_that_clears_its_folder_can_still_be_asked_to_save(machine: Machine) -> None:
    clears = "trap 'rm -rf \"$SPOTRUNNER_CHECKPOINT_DIR\"; echo cleared' USR1\n"
    machine.start(f"{clears}while :; do sleep 0.05; done")
    until(lambda: machine.trainer.signal(Sig.SAVE))
    until(lambda: "cleared" in machine.log)
    assert machine.trainer.signal(Sig.SAVE)
    assert machine.trainer.signal(Sig.STOP)
    assert machine.end() == Exit(code=143)


def test_a_kill_leaves_nothing_of_it(machine: Machine) -> None:
    machine.start("sleep 1234.5 & sleep 1234.5")
    until(lambda: _sleepers() == 2)
    assert machine.trainer.signal(Sig.KILL)
    assert machine.end() == Exit(code=137)
    until(lambda: _sleepers() == 0)


def test_the_next_agent_adopts_it(machine: Machine) -> None:
    listening(machine)
    assert machine.next_agent().found()
    machine.trainer.adopt()
    assert machine.trainer.poll() is None
    (machine.folders.outputs / "end").touch()
    assert machine.end() == Exit(code=3)
    assert machine.next_agent().found(), "its end can still be told"


def test_one_that_somebody_killed_is_the_machines_fault(machine: Machine) -> None:
    machine.start("kill -9 $PPID; sleep 100")
    assert machine.end().lost


@pytest.mark.parametrize(("code", "short"), [(1, True), (137, True), (0, False), (75, False)])
def test_a_machine_that_killed_for_want_of_memory_meanwhile(
    machine: Machine, code: int, short: bool
) -> None:
    """It may have been a worker of the trainer, which then ends in its own way."""
    machine.start(f"until [ -e $SPOTRUNNER_OUTPUT_DIR/end ]; do sleep 0.05; done; exit {code}")
    machine.oom_kills += 1
    (machine.folders.outputs / "end").touch()
    assert machine.end() == Exit(code=code, oom_killed=short)


def test_variables_come_as_they_are_and_secrets_through_a_file_that_is_gone(
    machine: Machine,
) -> None:
    strange = "a \"b\" $HOME `c` \\ 'd'\nnext % line"
    run = 'printf "%s" "$STRANGE" > $SPOTRUNNER_OUTPUT_DIR/a; printf "%s" "$KEY"'
    machine.start(run, {"KEY": "s3cr3t-value"}, envs=(("STRANGE", strange),))
    assert machine.end() == Exit(code=0)
    assert (machine.folders.outputs / "a").read_text() == strange
    assert machine.log == ["s3cr3t-value"]
    assert not list(machine.folders.root.glob("*.env"))
    assert "s3cr3t-value" not in "".join(standins.calls(machine.tools))


def test_the_metadata_service_is_kept_from_it(machine: Machine) -> None:
    machine.start("true")
    machine.end()
    rules = [call for call in standins.calls(machine.tools) if call.startswith("iptables")]
    assert "169.254.169.254" in rules[0]
    assert "--uid-owner" in rules[0]


def test_without_that_nothing_is_started(machine: Machine) -> None:
    (machine.tools / "iptables").unlink()
    machine.tools.joinpath("iptables").write_text("#!/bin/sh\necho no such table >&2\nexit 3\n")
    machine.tools.joinpath("iptables").chmod(0o755)
    with pytest.raises(NotStarted, match=r"kept from the trainer: no such table"):
        machine.start("true")


def _sleepers() -> int:
    return sum("1234.5" in (it.info["cmdline"] or ()) for it in psutil.process_iter(["cmdline"]))
