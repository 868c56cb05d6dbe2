"""Instances as real processes: they boot from user-data, and nothing of them outlives them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from spotrunner.core.model import Market
from spotrunner.lab.hypervisor import Hypervisor
from spotrunner.lab.keys import RoleKeys
from spotrunner.lab.locked import LockedWorld
from spotrunner.lab.marks import INSTANCE_MARK
from spotrunner.lab.processes import marked
from spotrunner.sim.setups import plain_setup
from spotrunner.sim.values import LIGHT, RunRequest, Stage
from spotrunner.sim.world import World
from tests.lab.clients import START, HandClock
from tests.lab.waiting import until

pytestmark = pytest.mark.slow
LAB_ID = f"test-{os.getpid()}"


class Lab:
    def __init__(self, folder: Path) -> None:
        self.clock = HandClock()
        self.world = World(plain_setup(START, manners=LIGHT), seed=7)
        locked = LockedWorld(self.world, self.clock)
        self.hypervisor = Hypervisor(lab_id=LAB_ID, folder=folder, world=locked, keys=RoleKeys())
        self.folder = folder

    def boot(self, script: str) -> str:
        """Launch an instance whose user-data is this script; its id."""
        request = RunRequest(
            region="us-east-1",
            instance_type="g4dn.xlarge",
            image_id=f"ami-{0:017x}",
            market=Market.SPOT,
            user_data=f"#!/bin/bash\n{script}\n",
            tags=(("spotrunner:attempt", "digits-7f3a.1"),),
            shutdown_behavior="terminate",
        )
        (record,) = self.world.run_instances(self.clock.now(), request)
        self.pass_s(5)
        return record.id

    def pass_s(self, seconds: float) -> None:
        self.clock.pass_s(seconds)
        self.hypervisor.tick()

    def root(self, id_: str) -> Path:
        return self.folder / "instances" / id_

    def stage(self, id_: str) -> Stage:
        return {r.id: r.stage for r in self.world.truth(self.clock.now())}[id_]

    def said(self, id_: str) -> str:
        return self.hypervisor.console(id_).decode()

    def processes(self, id_: str) -> list[psutil.Process]:
        return marked(INSTANCE_MARK, lambda value: value == f"{LAB_ID}/{id_}")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path / "lab")
    yield made
    made.hypervisor.close()
    assert not marked(INSTANCE_MARK, lambda value: value.startswith(LAB_ID))


def test_user_data_runs_in_a_world_of_its_own(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-persons-own")
    id_ = lab.boot('env | sort; cat "$SPOTRUNNER_ROOT/.spotrunner-lab-instance"; echo; echo end')
    until(lambda: "end" in lab.said(id_))
    said = dict(line.partition("=")[::2] for line in lab.said(id_).splitlines())
    root = str(lab.root(id_))
    assert said["PATH"].startswith(f"{root}/.lab/bin:")
    assert (said["SPOTRUNNER_ROOT"], said["HOME"]) == (root, f"{root}/root")
    assert said["AWS_EC2_METADATA_SERVICE_ENDPOINT"].startswith("http://127.0.0.1:")
    assert not [name for name in said if name.startswith("AWS_") and "METADATA" not in name]
    assert id_ in said


@pytest.mark.parametrize(
    "script",
    [
        "sleep 1000 &",
        "(setsid sleep 1000 &)",
        "(setsid env -i sleep 1000 &); (setsid setsid sleep 1000 &)",
        "trap '' TERM HUP INT; sleep 1000 &",
    ],
)
def test_the_end_of_an_instance_is_the_end_of_its_processes(lab: Lab, script: str) -> None:
    id_ = lab.boot(f"{script}\necho forked; sleep 1000")
    until(lambda: "forked" in lab.said(id_))
    supervisor = _supervisor(lab, id_)
    until(lambda: [p.name() for p in supervisor.children(recursive=True)].count("sleep") >= 2)
    family = supervisor.children(recursive=True)
    lab.world.interrupt(lab.clock.now(), id_, notice=False)
    lab.hypervisor.tick()
    assert not [process for process in (supervisor, *family) if process.is_running()]
    assert not lab.root(id_).exists(), "the disk is gone too"
    lab.pass_s(10)
    assert lab.stage(id_) is Stage.TERMINATED


def _supervisor(lab: Lab, id_: str) -> psutil.Process:
    by_module = "from spotrunner.lab.supervisor"
    return next(p for p in lab.processes(id_) if by_module in str(p.cmdline()))


def test_a_killed_supervisor_is_a_dead_machine(lab: Lab) -> None:
    id_ = lab.boot("(setsid sleep 1000 &); echo up; sleep 1000")
    until(lambda: "up" in lab.said(id_))
    _supervisor(lab, id_).kill()
    until(lambda: not lab.hypervisor.instances[id_].alive)
    lab.hypervisor.tick()
    lab.hypervisor.tick()
    assert lab.stage(id_) is Stage.SHUTTING_DOWN
    assert lab.processes(id_) == []


def test_shutdown_counts_lab_time_and_the_last_word_holds(lab: Lab) -> None:
    id_ = lab.boot("shutdown -P +30; shutdown -P +60; echo armed; sleep 1000")
    until(lambda: "armed" in lab.said(id_))
    lab.pass_s(31 * 60)
    assert lab.stage(id_) is Stage.RUNNING
    lab.pass_s(30 * 60)
    assert lab.stage(id_) is Stage.SHUTTING_DOWN
    lab.pass_s(10)
    assert lab.stage(id_) is Stage.TERMINATED
    assert lab.processes(id_) == []


def test_a_cancelled_shutdown_never_comes(lab: Lab) -> None:
    id_ = lab.boot("shutdown -P +1; shutdown -c; echo armed; reboot; shutdown -r now; sleep 1000")
    until(lambda: lab.said(id_).count("the lab knows no") == 2)
    lab.pass_s(3600)
    assert lab.stage(id_) is Stage.RUNNING


def test_a_unit_is_restarted_and_stopped_with_the_machine(lab: Lab) -> None:
    id_ = lab.boot(
        """
cat > "$SPOTRUNNER_ROOT/agent.sh" <<'END'
trap 'echo saved and committed; exit 0' TERM
echo "alive as $NAME at ${HOME##*/}"
[ -e "$SPOTRUNNER_ROOT/once" ] || { touch "$SPOTRUNNER_ROOT/once"; kill -9 $$; }
while :; do sleep 0.1; done
END
systemd-run --unit=agent --property=Restart=always --property=RestartSec=100ms \\
  --property=StartLimitIntervalSec=0 --property=StandardOutput=journal+console \\
  --setenv=NAME=one --setenv=SPOTRUNNER_ROOT="$SPOTRUNNER_ROOT" bash "$SPOTRUNNER_ROOT/agent.sh"
systemd-run --unit=agent true; echo "again: $?"
systemd-run --bogus true; echo "bogus: $?"
systemctl is-active agent
"""
    )
    until(lambda: lab.said(id_).count("alive as one at root") == 2)
    until(lambda: "\nactive\n" in lab.said(id_))
    assert "again: 1" in lab.said(id_)
    assert "bogus: 1" in lab.said(id_)
    lab.world.terminate(lab.clock.now(), "us-east-1", [id_])
    lab.hypervisor.tick()
    until(lambda: "saved and committed" in lab.said(id_))
    lab.pass_s(10)
    assert lab.processes(id_) == []
    assert lab.said(id_).count("alive as") == 2, "a machine that goes down restarts nothing"


def test_containers(lab: Lab) -> None:
    id_ = lab.boot(
        r"""
w="$SPOTRUNNER_ROOT/work"; mkdir "$w"; image=tensorflow/tensorflow:2.21.0
docker pull --quiet $image; docker pull tensorflow/tensorflow:latest; echo "floating: $?"
docker run --rm --privileged $image true; echo "unknown: $?"
docker run --rm -v "$w/none:$w/none" $image true; echo "no mount: $?"
docker run --init --rm --name one -e COLOUR=red -v "$w:$w" -w "$w" $image \
  bash -c 'env | cut -d= -f1 | sort | tr "\n" " "; echo; echo "$COLOUR"; pwd; exit 7'
echo "code: $?"
docker run --init --rm --name two -v "$w:$w" -w "$w" $image \
  bash -c 'trap "echo got usr1" USR1; trap "exit 75" TERM; touch up; while :; do sleep 0.1; done' &
until [ -e "$w/up" ]; do sleep 0.1; done
docker kill --signal SIGUSR1 two; sleep 0.3; docker kill -s TERM two; wait $!; echo "stopped: $?"
docker kill two; echo "gone: $?"
docker run --rm --name three $image bash -c 'sleep 1000; true' &
until docker ps | grep three; do sleep 0.1; done
docker kill -s TERM three; sleep 0.3; docker inspect three | grep Running
docker kill three; wait $!; echo "killed: $?"; docker ps -a -q; docker rm -f three
echo end"""
    )
    until(lambda: "\nend" in lab.said(id_), 60)
    said = lab.said(id_)
    for line in ("floating: 1", "unknown: 125", "no mount: 125", "red", "code: 7", "got usr1"):
        assert f"\n{line}\n" in said
    assert "\nstopped: 75\n" in said
    assert "\ngone: 1\n" in said
    assert '"Running": true' in said, "PID 1 without a handler does not see SIGTERM"
    assert "\nkilled: 137\n" in said
    assert "not pinned" in said
    names = next(line for line in said.splitlines() if "COLOUR" in line).split()
    assert not [name for name in names if name.startswith("AWS_EC2_METADATA_SERVICE")]
    assert not [name for name in names if name == "SPOTRUNNER_ROOT"]


def test_a_container_outlives_its_client_and_dies_with_the_machine(lab: Lab) -> None:
    id_ = lab.boot(
        r"""
docker run --init --rm --name one busybox:1.36 bash -c 'while :; do sleep 0.1; done' &
until docker ps | grep one; do sleep 0.1; done
kill -9 $!; docker ps | grep -c one; echo "client is gone"; sleep 1000"""
    )
    until(lambda: "client is gone" in lab.said(id_))
    assert "\n1\n" in lab.said(id_)
    lab.world.interrupt(lab.clock.now(), id_, notice=False)
    lab.hypervisor.tick()
    assert lab.processes(id_) == []


def test_iptables_remembers(lab: Lab) -> None:
    id_ = lab.boot(
        """
rule="OUTPUT -d 169.254.169.254 -j DROP"
iptables -C $rule; echo "before: $?"; iptables -I $rule; iptables -C $rule; echo "after: $?"
iptables -D $rule; iptables -C $rule; echo "deleted: $?" """
    )
    until(lambda: "deleted" in lab.said(id_))
    assert lab.said(id_).split("\n")[:3] == ["before: 1", "after: 0", "deleted: 1"]
