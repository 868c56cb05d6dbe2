"""A whole job whose trainer prints its secrets, on real processes: afterwards they are looked for
in everything that anybody else could read, and found nowhere."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from spotrunner.cli.demo.stage import Stage, stage
from spotrunner.lab.paths import HOME_BUCKET, HOME_REGION
from tests.lab.clients import client
from tests.lab.followed import Followed
from tests.lab.traces import processes_of
from tests.lab.waiting import until

pytestmark = pytest.mark.slow

BOOT_S = 120.0
TRAIN_S = 240.0
# In each of them, and nowhere else in the world.
STEM = "c4n4ry-7f3a9c"
SHELL, MANAGED, PARAMETER = f"{STEM}-shell", f"{STEM}-managed", f"{STEM}-parameter"
ELSEWHERE = "eu-west-1"

JOB = """\
name: canary
resources: {{instance_types: [g4dn.xlarge, g5.xlarge], regions: [us-east-1, us-west-2, eu-west-1]}}
image: tensorflow/tensorflow:2.17.0-gpu
workdir: src
run: python train.py
retries: 1
budget: 3.00
secrets:
  WANDB_API_KEY: env:MY_WANDB
  DB_PASSWORD: "secretsmanager:{arn}#password"
  HF_TOKEN: {{from: "ssm:/team/hf", as: file}}
"""
# Of the commands that tell of a job, with and without `-o json`.
COMMANDS = (("ls",), ("show", "JOB"), ("explain", "JOB"), ("logs", "JOB"), ("budget",), ("report",))
# On an instance the trainer's own log has what it printed, docker's record of a container its
# variables, and the agent's folder in memory the values: all of it goes with the machine.
ITS_OWN = ("trainer.log", "containers", "run")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("ground")
    with stage(5, folder, print) as made:
        yield made
    assert processes_of(folder) == []


@pytest.fixture(scope="module")
def job(ground: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    """Submitted from a shell that has one of the secrets; the others are where AWS keeps them."""
    kept = client(ground.lab.url, "secretsmanager", ELSEWHERE).create_secret(
        Name="team/db", SecretString=json.dumps({"user": "me", "password": MANAGED})
    )
    client(ground.lab.url, "ssm", HOME_REGION).put_parameter(
        Name="/team/hf", Value=PARAMETER, Type="SecureString"
    )
    folder = tmp_path_factory.mktemp("job")
    (folder / "src").mkdir()
    shutil.copy(Path(__file__).with_name("secret_trainer.py"), folder / "src" / "train.py")
    (folder / "job.yaml").write_text(JOB.format(arn=kept["ARN"]))
    # The daemon was started without it.
    ground.environment["MY_WANDB"] = SHELL
    followed = Followed(ground, folder / "job.yaml")
    del ground.environment["MY_WANDB"]
    yield followed
    followed.close()


@dataclass
class Watch:
    """Looks at the command lines of all processes, again and again."""

    found: set[str] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            self.found.update(line for line in command_lines() if STEM in line)


def command_lines() -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            yield " ".join(process.cmdline())
        except psutil.Error:
            continue  # gone meanwhile


# -- where they are looked for -------------------------------------------------------------------


def tells(body: bytes) -> bool:
    return STEM.encode() in body or (
        body.startswith(b"\x1f\x8b") and STEM.encode() in gzip.decompress(body)
    )


def in_the_bucket(ground: Stage) -> list[str]:
    keys = [info.key for info in ground.objects.list("")]
    assert any(key.startswith("jobs/") for key in keys)
    shown = [key for key in keys if "/secrets/" not in key]
    return [key for key in shown if tells(ground.objects.get(key).body)]


def in_files(paths: Iterable[Path]) -> list[str]:
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    assert files
    return [str(path) for path in files if tells(path.read_bytes())]


def of_the_control_host(ground: Stage) -> Iterator[Path]:
    """The store, the API's files, and the logs of daemon, lab and instances' consoles."""
    yield from ground.lab.paths.state.rglob("*")
    yield from (path for path in ground.folder.iterdir() if path.name != "instances")
    yield from (ground.folder / "consoles").rglob("*")


def of_the_instances(ground: Stage) -> Iterator[Path]:
    """User-data and agent.json among them."""
    for path in (ground.folder / "instances").rglob("*"):
        if not set(ITS_OWN) & set(path.parts):
            yield path


def in_ec2(ground: Stage) -> list[str]:
    """Tags and all else that it says of instances, and their consoles."""
    found = []
    for region in ground.lab.status()["regions"]:
        ec2 = client(ground.lab.url, "ec2", region)
        ec2.meta.config.retries["total_max_attempts"] = 4
        pages = list(ec2.get_paginator("describe_instances").paginate())
        ids = [
            each["InstanceId"]
            for page in pages
            for launched in page["Reservations"]
            for each in launched["Instances"]
        ]
        said: list[Any] = [pages, *(ec2.get_console_output(InstanceId=each) for each in ids)]
        if STEM in json.dumps(said, default=str):
            found.append(region)
    return found


def in_commands(ground: Stage, job: Followed) -> list[str]:
    found = []
    for command in COMMANDS:
        words = [job.id if word == "JOB" else word for word in command]
        for form in ((), ("-o", "json")):
            if STEM in ground.spotrunner(*words, *form):
                found.append(" ".join((*words, *form)))
    return found


# -- the story -----------------------------------------------------------------------------------


def test_they_are_found_nowhere(ground: Stage, job: Followed) -> None:
    with Watch() as watch:
        until(lambda: job.trains(1), BOOT_S)
        lies_encrypted(ground, job)
        looked_at = list(of_the_instances(ground))
        assert {"user-data.txt", "agent.json"} <= {path.name for path in looked_at}
        assert in_files(looked_at) == []
        assert in_commands(ground, job) == []
        until(lambda: job.state == "succeeded", TRAIN_S)
    assert watch.found == set()
    it_was_told_of_its_first_end(job)
    it_had_them(job)
    until(lambda: job.events("secrets-deleted"), 60)
    assert not list(ground.objects.list(f"jobs/{job.id}/secrets/"))
    assert in_the_bucket(ground) == []
    assert in_files(of_the_control_host(ground)) == []
    assert in_ec2(ground) == []
    assert in_commands(ground, job) == []
    shown = json.loads(ground.spotrunner("show", job.id, "-o", "json"))["job"]["secrets"]
    assert [(it["name"], it["as"]) for it in shown] == [
        ("WANDB_API_KEY", "env"),
        ("DB_PASSWORD", "env"),
        ("HF_TOKEN", "file"),
    ]


def lies_encrypted(ground: Stage, job: Followed) -> None:
    key = f"jobs/{job.id}/secrets/WANDB_API_KEY"
    s3 = client(ground.lab.url, "s3", HOME_REGION)
    assert s3.head_object(Bucket=HOME_BUCKET, Key=key)["ServerSideEncryption"] == "aws:kms"
    assert ground.objects.get(key).body.decode() == SHELL


def it_was_told_of_its_first_end(job: Followed) -> None:
    until(lambda: all(each["end_reason"] for each in job.attempts), 60)
    assert [each["end_reason"] for each in job.attempts] == ["failed", "done"]
    text = job.stage.spotrunner("logs", job.id)
    assert "my WANDB_API_KEY is ***" in text
    assert "in two halves: ***" in text
    assert "cannot log in with *** *** ***" in text


def it_had_them(job: Followed) -> None:
    done = job.head().done
    assert done is not None
    body = job.stage.objects.get(done.replace("MANIFEST.json", "digests.json")).body
    values = {"WANDB_API_KEY": SHELL, "DB_PASSWORD": MANAGED, "HF_TOKEN": PARAMETER}
    wanted = {name: hashlib.sha256(it.encode()).hexdigest() for name, it in values.items()}
    assert json.loads(body) == wanted


def test_where_one_is_it_is_found(ground: Stage, job: Followed) -> None:
    plain, packed = f"jobs/{job.id}/outputs/planted.txt", f"mail/{job.id}.planted.gz"
    ground.objects.put(plain, f"key={SHELL}".encode())
    ground.objects.put(packed, gzip.compress(f"key={SHELL}".encode()))
    assert in_the_bucket(ground) == [plain, packed]
    log = ground.lab.paths.state / "planted.log"
    log.write_text(f"key={MANAGED}\n")
    assert in_files(of_the_control_host(ground)) == [str(log)]
    with Watch() as watch:
        command = ["bash", "-c", "read -r _", PARAMETER]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as told:
            until(lambda: watch.found, 20)
            told.kill()
