"""A GPU instance trains on its GPU or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from spotrunner.agent.gpus import WAIT_S, Gpus, NoGpu, driver_version
from spotrunner.agent.imds import Imds, ImdsUnknown
from spotrunner.agent.power import LAB_MARKER
from tests.agent.imds_server import ImdsServer

TYPE = "meta-data/instance-type"


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def gpus(
    tmp_path: Path, imds_server: ImdsServer, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> Gpus:
    monkeypatch.setenv("PATH", str(tmp_path))  # no tool of this machine answers
    imds_server.script.items[TYPE] = b"g4dn.xlarge"
    return Gpus(
        root=str(tmp_path),
        imds=Imds(imds_server.url),
        device=tmp_path / "nvidia0",
        wait=waits.append,
    )


def test_a_gpu_type_with_its_device_has_gpus(gpus: Gpus, waits: list[float]) -> None:
    gpus.device.touch()
    assert gpus.ready()
    assert waits == []


def test_a_gpu_type_without_its_device_is_unfit_after_a_minute(
    gpus: Gpus, waits: list[float]
) -> None:
    with pytest.raises(NoGpu, match=r"g4dn\.xlarge has no .*nvidia0"):
        gpus.ready()
    assert sum(waits) == WAIT_S == 60


def test_a_driver_that_comes_up_late_is_waited_for(gpus: Gpus, tmp_path: Path) -> None:
    late = Gpus(
        root=gpus.root, imds=gpus.imds, device=gpus.device, wait=lambda _s: gpus.device.touch()
    )
    assert late.ready()


def test_the_labs_instances_need_none(gpus: Gpus, tmp_path: Path, waits: list[float]) -> None:
    (tmp_path / LAB_MARKER).write_text("i-0abc")
    assert not gpus.ready()
    assert waits == []


def test_a_type_without_gpus_needs_none(gpus: Gpus, imds_server: ImdsServer) -> None:
    imds_server.script.items[TYPE] = b"m5.large"
    assert not gpus.ready()


def test_a_type_that_nobody_tells_is_asked_for_again(gpus: Gpus, imds_server: ImdsServer) -> None:
    imds_server.script.fails[TYPE] = 503
    with pytest.raises(ImdsUnknown):
        gpus.ready()


@pytest.mark.parametrize(
    ("said", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build"
            "  (dvs-builder@U22)  Tue Sep 23 10:11:16 UTC 2025\nGCC version:  gcc version 11.4.0\n",
            "580.95.05",
        ),
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  352.93  Tue Apr 5 18:18:24 PDT 2016\n"
            "GCC version:  gcc version 4.8.4\n",
            "352.93",
        ),
        ("", ""),
    ],
)
def test_the_driver_tells_its_version(tmp_path: Path, said: str, version: str) -> None:
    path = tmp_path / "version"
    assert driver_version(path) == ""
    path.write_text(said)
    assert driver_version(path) == version
