"""Isolated instances: what is within their reach, and that nothing of them stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from spotrunner.core.model import Market
from spotrunner.lab.cgroups import groups
from spotrunner.lab.hypervisor import Hypervisor
from spotrunner.lab.isolation import Isolation
from spotrunner.lab.keys import RoleKeys
from spotrunner.lab.locked import LockedWorld
from spotrunner.sim.setups import plain_setup
from spotrunner.sim.values import LIGHT, RunRequest, Stage
from spotrunner.sim.world import World
from tests.lab.clients import START, HandClock
from tests.lab.waiting import until
from tests.root.left import Traces, machine
from tests.root.registry import Registry

pytestmark = pytest.mark.root
LAB_ID = f"lab-root-{os.getpid()}"
DOCKER_S = 30.0

# Asks IMDS as an SDK does: a token first. Says the status, or that there was no answer.
ASK = """\
import urllib.request as u
for method, path in (("GET", "meta-data/instance-id"), ("PUT", "api/token")):
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"} if method == "PUT" else {}
    asked = u.Request("http://169.254.169.254/latest/" + path, method=method, headers=ttl)
    try:
        print(method, u.urlopen(asked, timeout=3).status, flush=True)
    except u.HTTPError as refused:
        print(method, refused.code, flush=True)
    except OSError as error:
        print(method, "no answer", flush=True)
"""


class Ground:
    """A market whose instances are isolated, under a clock that a test moves."""

    def __init__(self, folder: Path, ports: list[int], lab_id: str = LAB_ID) -> None:
        self.clock = HandClock()
        self.world = World(plain_setup(START, manners=LIGHT), seed=7)
        self.folder = folder
        self.hypervisor = Hypervisor(
            lab_id=lab_id,
            folder=folder,
            world=LockedWorld(self.world, self.clock),
            keys=RoleKeys(),
            isolation=Isolation(ports=lambda: ports),
        )

    def boot(self, script: str, disk_gib: int = 3) -> str:
        """An instance whose user-data is this script; its id."""
        request = RunRequest(
            region="us-east-1",
            instance_type="g4dn.xlarge",
            image_id=f"ami-{0:017x}",
            market=Market.SPOT,
            user_data=f"#!/bin/bash\n{script}\n",
            tags=(("spotrunner:attempt", "digits-7f3a.1"),),
            shutdown_behavior="terminate",
            http_tokens="required",
            disk_gib=disk_gib,
        )
        (record,) = self.world.run_instances(self.clock.now(), request)
        self.pass_s(5)
        return record.id

    def pass_s(self, seconds: float) -> None:
        self.clock.pass_s(seconds)
        self.hypervisor.tick()

    def pass_until_it_ends(self, id_: str) -> None:
        def ended() -> bool:
            self.pass_s(30)
            return self.stage(id_) is Stage.TERMINATED

        until(ended)

    def stage(self, id_: str) -> Stage:
        return {r.id: r.stage for r in self.world.truth(self.clock.now())}[id_]

    def said(self, id_: str) -> str:
        return self.hypervisor.console(id_).decode()

    def lines(self, id_: str) -> list[str]:
        return self.said(id_).splitlines()

    def kill(self, id_: str) -> None:
        self.world.interrupt(self.clock.now(), id_, notice=False)
        self.hypervisor.tick()


@pytest.fixture
def ground(tmp_path: Path, registry: Registry) -> Iterator[Ground]:
    before = machine()
    made = Ground(tmp_path / "lab", [registry.port])
    yield made
    made.hypervisor.close()
    traces = Traces(tmp_path, LAB_ID)
    until(lambda: not traces.look(), 20)
    assert machine() == before, "the machine's own network is as it was"


# `docker` answers when its daemon is up.
DOCKER_IS_UP = "until docker version > /dev/null 2>&1; do sleep 0.1; done"


def test_a_container_is_one_hop_too_far_from_the_credentials(
    ground: Ground, registry: Registry
) -> None:
    id_ = ground.boot(
        f"{DOCKER_IS_UP}\n"
        f"python3 -c '{ASK}' | sed 's/^/machine: /'\n"
        f"docker run --rm {registry.image} python3 -c '{ASK}' | sed 's/^/container: /'\n"
        f"docker run --rm --network host {registry.image} python3 -c '{ASK}' | sed 's/^/host: /'\n"
        "echo end"
    )
    until(lambda: "end" in ground.lines(id_), DOCKER_S)
    said = ground.said(id_).splitlines()
    # A container sees that IMDS is there, and gets no token, without which it answers nothing.
    for line in (
        *("machine: GET 401", "machine: PUT 200"),
        *("container: GET 401", "container: PUT no answer"),
        *("host: GET 401", "host: PUT 200"),
    ):
        assert line in said


def test_an_instance_is_a_machine_of_its_own(ground: Ground) -> None:
    ids = [
        ground.boot(
            f"{DOCKER_IS_UP}\nip -brief address\nip route\ndf -h /$PWD/var/lib/docker\n"
            'docker info --format "{{.DockerRootDir}} {{.Driver}}"; env\n'
            "(exec 3<> /dev/tcp/192.0.2.1/80); cat /proc/[0-9]*/comm; echo end; sleep 1000"
        )
        for _ in range(2)
    ]
    for id_ in ids:
        until(lambda: "end" in ground.lines(id_), DOCKER_S)  # noqa: B023 -- asked in this round
        said = ground.said(id_)
        assert f"{ground.folder}/instances/{id_}/var/lib/docker overlay2" in said
        assert "AWS_EC2_METADATA_SERVICE_ENDPOINT" not in said, "it is where it always is"
        assert "default" not in said
        assert "Network is unreachable" in said, "nothing else is within reach"
        assert ground.lines(id_).count("dockerd") == 1, "another's is out of sight"
        assert "3.0G" in said or "2.9G" in said, "as large as the launch asked for"
    networks = {_network(ground, id_) for id_ in ids}
    assert len({*networks, os.readlink("/proc/self/ns/net")}) == 3


def _network(ground: Ground, id_: str) -> str:
    mine = Traces(ground.folder / "instances" / id_, LAB_ID)
    (daemon, *_) = [pid for pid, line in mine.processes() if line.startswith("dockerd ")]
    return os.readlink(f"/proc/{daemon}/ns/net")


def test_a_sudden_death_leaves_nothing(ground: Ground, registry: Registry) -> None:
    id_ = ground.boot(
        f"{DOCKER_IS_UP}\ndocker run --detach --name trainer {registry.image} sleep 1000\n"
        "(setsid env -i sleep 1000 &)\necho end; sleep 1000"
    )
    until(lambda: "end" in ground.lines(id_), DOCKER_S)
    assert groups(f"spotrunner-{LAB_ID}"), "a container has its control groups"
    ground.kill(id_)
    traces = Traces(ground.folder / "instances" / id_, LAB_ID)
    assert traces.processes() == []
    until(lambda: not traces.look(), 10)


def test_a_killed_daemon_comes_back(ground: Ground) -> None:
    id_ = ground.boot(
        f"{DOCKER_IS_UP}\nfirst=$(cat /run/docker.pid)\nkill -9 $first\n"
        "until docker version > /dev/null 2>&1 && [ $(cat /run/docker.pid) != $first ]\n"
        "do sleep 0.1; done\necho end"
    )
    until(lambda: "end" in ground.lines(id_), DOCKER_S)


def test_a_shutdown_gives_containers_their_time(ground: Ground, registry: Registry) -> None:
    id_ = ground.boot(
        f"{DOCKER_IS_UP}\ndocker run --init --rm {registry.image}"
        """ bash -c 'trap "echo saved; exit" TERM; echo up; sleep 1000 & wait'; sleep 1000"""
    )
    until(lambda: "up" in ground.lines(id_), DOCKER_S)
    ground.world.shutdown_from_inside(ground.clock.now(), id_)
    ground.hypervisor.tick()
    until(lambda: "saved" in ground.lines(id_), 20)
    ground.pass_until_it_ends(id_)


def test_a_disk_that_cannot_be_made_is_said_on_the_console(ground: Ground) -> None:
    id_ = ground.boot("echo never", disk_gib=0)
    until(lambda: "mkfs.ext4" in ground.said(id_), 10)
    assert "never" not in ground.said(id_)
    ground.pass_until_it_ends(id_)


def test_an_instance_without_its_network_is_a_host_that_failed(tmp_path: Path) -> None:
    """Here a port that it cannot listen on twice; another instance is not held up."""
    ground = Ground(tmp_path / "lab", [4444, 4444])
    id_ = ground.boot("echo never")
    assert ground.said(id_) == (
        "the lab could not make this instance: [Errno 98] Address already in use"
        " (while attempting to bind on address ('127.0.0.1', 4444))\n"
    )
    ground.pass_until_it_ends(id_)
    ground.hypervisor.close()
    assert not Traces(tmp_path, LAB_ID).look()


def test_a_lab_that_is_killed_takes_its_namespaces_with_it(
    tmp_path: Path,
) -> None:
    before = machine()
    code = (
        "import sys, time; from pathlib import Path\n"
        "from tests.root.test_isolation import *\n"
        f"ground = Ground(Path({str(tmp_path / 'lab')!r}), [], {LAB_ID!r})\n"
        f"ground.boot({DOCKER_IS_UP + '; echo end; sleep 1000'!r})\n"
        "print('booted', flush=True)\nsys.stdin.read()\n"
    )
    lab = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert lab.stdout is not None
    assert lab.stdout.readline() == b"booted\n"
    traces = Traces(tmp_path, LAB_ID)
    until(lambda: any("dockerd" in line for _, line in traces.processes()), DOCKER_S)
    psutil.Process(lab.pid).kill()
    lab.communicate()
    until(lambda: not traces.look(), 20)
    assert machine() == before
