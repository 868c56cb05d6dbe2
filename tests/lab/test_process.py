"""The lab as a process of its own: what it needs to say, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from spotrunner.daemon.settings import read_settings
from spotrunner.lab.marks import INSTANCE_MARK
from spotrunner.lab.paths import HOME_BUCKET
from spotrunner.lab.process import LabError, NoLab, RunningLab, down, find, up
from spotrunner.lab.processes import marked
from spotrunner.lab.settings import control_environment
from tests.lab.clients import client
from tests.lab.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RunningLab]:
    running = up(tmp_path / "lab", seed=4, watched=True)
    yield running
    running.close()


def boot(lab: RunningLab, script: str) -> str:
    """An instance in the always open g4dn pool of some region; its id."""
    for region in lab.status()["regions"]:
        ec2 = client(lab.url, "ec2", region)
        ec2.meta.config.retries["total_max_attempts"] = 4
        for zone in _zones(ec2):
            try:
                return str(_launch(ec2, zone, script))
            except ec2.exceptions.ClientError:
                continue
    raise AssertionError("two pools are always open")


def _zones(ec2: Any) -> list[str]:
    pages = ec2.get_paginator("describe_subnets").paginate()
    return [subnet["SubnetId"] for page in pages for subnet in page["Subnets"]]


def _launch(ec2: Any, subnet_id: str, script: str) -> str:
    images = ec2.get_paginator("describe_images").paginate(Owners=["amazon"])
    (image,) = [image["ImageId"] for page in images for image in page["Images"]]
    answer = ec2.run_instances(
        ImageId=image,
        InstanceType="g4dn.xlarge",
        MinCount=1,
        MaxCount=1,
        SubnetId=subnet_id,
        UserData=f"#!/bin/bash\n{script}\n",
        InstanceMarketOptions={"MarketType": "spot"},
    )
    return str(answer["Instances"][0]["InstanceId"])


def state(lab: RunningLab, id_: str) -> str:
    rows = {row["id"]: row for row in lab.status()["instances"]}
    return str(rows[id_]["state"])


def processes(lab: RunningLab) -> list[psutil.Process]:
    return marked(INSTANCE_MARK, lambda value: value.startswith(f"{lab.id}/"))


def test_what_is_in_place(lab: RunningLab) -> None:
    paths = lab.paths
    assert stat.S_IMODE(paths.token_file.stat().st_mode) == 0o600
    settings = read_settings(paths.settings)
    assert settings.endpoint_url == lab.url
    assert len(settings.regions) == 3
    assert settings.address_file == paths.api_file
    client(lab.url, "s3").head_bucket(Bucket=HOME_BUCKET)
    profile = client(lab.url, "iam").get_instance_profile(
        InstanceProfileName=settings.instance_profile
    )
    assert profile["InstanceProfile"]["Roles"]
    assert requests.get(f"{lab.url}/lab/status", timeout=5).status_code == 401
    with pytest.raises(LabError, match="already"):
        up(paths.folder)


def test_an_instance_is_interrupted_and_billed(lab: RunningLab) -> None:
    id_ = boot(lab, "echo up; sleep 1000")
    until(lambda: state(lab, id_) == "running")
    until(lambda: processes(lab))
    lab.skip(3 * 3600)
    lab.interrupt(id_, notice=False)
    until(lambda: not processes(lab))
    until(lambda: state(lab, id_) == "terminated")
    assert lab.leftovers() == {"instances": [], "processes": []}
    bill = lab.bill()
    assert bill["usd"] == bill["lines"][0]["usd"] > 0
    with pytest.raises(LabError, match="no running spot instance"):
        lab.interrupt(id_)
    with pytest.raises(LabError, match="missing"):
        lab.post("skip", {})


def test_a_killed_lab_takes_its_instances_with_it(tmp_path: Path) -> None:
    lab = up(tmp_path / "lab", seed=4)
    boot(lab, "(setsid sleep 1000 &); echo up; sleep 1000")
    until(lambda: [p for p in processes(lab) if p.name() == "sleep"])
    os.kill(lab.pid, signal.SIGKILL)
    until(lambda: not processes(lab))
    with pytest.raises(NoLab, match="without a word"):
        find(tmp_path / "lab")
    assert down(tmp_path / "lab") is False
    assert not lab.paths.lab_file.exists()


def test_down_ends_everything(tmp_path: Path) -> None:
    lab = up(tmp_path / "lab", seed=4)
    boot(lab, "trap '' TERM; sleep 1000")
    until(lambda: processes(lab))
    assert down(tmp_path / "lab") is True
    assert not processes(lab)
    assert not psutil.pid_exists(lab.pid)
    assert down(tmp_path / "lab") is False


def test_a_lab_that_cannot_start_says_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for watched in (True, False):
            with pytest.raises(LabError, match="did not start"):
                up(tmp_path / "lab", port=port, watched=watched)
    with pytest.raises(NoLab):
        find(tmp_path / "lab")


def test_the_control_environment_has_no_key_of_a_person() -> None:
    made = control_environment({"AWS_PROFILE": "mine", "PATH": "/bin", "AWS_SESSION_TOKEN": "x"})
    assert made["PATH"] == "/bin"
    assert {"AWS_PROFILE", "AWS_SESSION_TOKEN"}.isdisjoint(made)
    assert made["AWS_EC2_METADATA_DISABLED"] == "true"
