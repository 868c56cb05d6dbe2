"""What is pulled on the instance whose disk becomes a machine image, by the lab's docker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spotrunner.agent.docker import Docker
from spotrunner.agent.images import Images
from spotrunner.app.baker import TRIES, bake
from spotrunner.lab.shims.images import digest
from spotrunner.lab.shims.machine import Machine
from spotrunner.ports import RegistryLogin
from spotrunner.sim.cloud import VirtualClock
from tests.agent import standins
from tests.contracts.clouds import START

NAME = "busybox:1.36"


class NoRegistries:
    def login(self, region: str) -> RegistryLogin:
        raise AssertionError(f"nobody asks for a password of {region}")


class Ground:
    def __init__(self, folder: Path) -> None:
        self.tools = standins.make(folder / "tools")
        self.folder = folder
        self.docker = Docker(config=folder / "docker")
        self.waited_s: list[float] = []

    def bake(self, container: str, mirror: str = "") -> dict[str, str]:
        images = Images(
            docker=self.docker,
            registries=NoRegistries(),
            clock=VirtualClock(START),
            pulled=self.folder / "pulled",
            mirror=mirror,
        )
        return bake(images, self.docker, container, self.waited_s.append)

    def has(self, name: str) -> bool:
        return digest(Machine.read(str(self.tools / "lab")), name) is not None


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    made = Ground(tmp_path)
    monkeypatch.setenv("PATH", f"{made.tools}:{os.environ['PATH']}")
    return made


def test_what_was_pulled_is_told_with_its_digest(ground: Ground) -> None:
    said = ground.bake(NAME)
    assert said["name"] == NAME
    assert said["digest"].startswith("sha256:")
    assert ground.has(NAME)


def test_what_came_from_a_mirror_has_its_own_name_too(ground: Ground) -> None:
    """A copy in another region has another mirror."""
    said = ground.bake(NAME, "mirror.local/hub")
    assert said["name"] == f"mirror.local/hub/{NAME}"
    assert ground.has(NAME)


def test_an_image_that_there_is_not_is_not_tried_again(ground: Ground) -> None:
    said = ground.bake("missing/image:1.0")
    assert "manifest unknown" in said["failed"]
    assert ground.waited_s == []


def test_a_registry_that_is_busy_is_asked_again(ground: Ground) -> None:
    assert "digest" in ground.bake("limited/image:1.0")
    assert len(ground.waited_s) == 1


def test_a_docker_that_never_comes_up_is_given_up(ground: Ground) -> None:
    (ground.tools / "docker").write_text(
        "#!/bin/bash\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n"
    )
    assert "Cannot connect" in ground.bake(NAME)["failed"]
    assert len(ground.waited_s) == TRIES - 1
