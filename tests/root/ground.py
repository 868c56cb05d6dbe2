"""An isolated lab with a daemon, for jobs in real containers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.cli.demo.daemon import Daemon
from spotrunner.cli.demo.stage import Stage
from spotrunner.lab import process
from spotrunner.lab.mail import owner_client
from spotrunner.lab.paths import HOME_BUCKET, HOME_REGION
from spotrunner.lab.settings import control_environment
from tests.lab.followed import Followed
from tests.lab.waiting import until
from tests.root.left import Traces, machine
from tests.root.registry import Registry

PAYLOAD = Path(__file__).with_name("payload")
BOOT_S = 120.0
TRAIN_S = 240.0
NOTICE_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Ground:
    stage: Stage
    registry: Registry
    jobs: list[Followed] = field(default_factory=list)

    def submit(self, image: str | None = None, **envs: str) -> Followed:
        """The counter, by default with the registry's image."""
        image = image or self.registry.image
        text = (PAYLOAD / "job.yaml").read_text().replace("${IMAGE}", image)
        file = self.stage.payload / "job.yaml"
        file.write_text(text)
        self.jobs.append(Followed(self.stage, file, **envs))
        return self.jobs[-1]

    def traces(self, instance_id: str | None = None) -> Traces:
        """Of the whole lab, or of one instance."""
        folder = self.stage.lab.paths.folder
        within = folder if instance_id is None else folder / "instances" / instance_id
        return Traces(within, self.stage.lab.id)

    def kill(self, instance_id: str, program: str) -> None:
        """-9 for the process of this instance whose command line has these words."""
        found = [pid for pid, line in self.traces(instance_id).processes() if program in line]
        assert len(found) == 1, self.traces(instance_id).processes()
        psutil.Process(found[0]).kill()


def finished(job: Followed) -> Any:
    """The result of a job that has come to its end, and whose instances are gone."""
    until(lambda: job.state == "succeeded", TRAIN_S)
    # An instance that EC2 takes within its first hour is free, and waits for its end.
    job.stage.lab.skip(NOTICE_S)
    until(job.nothing_left, 60)
    return job.result()


@contextmanager
def isolated(folder: Path, registry: Registry, seed: int = 3) -> Iterator[Ground]:
    """At its end nothing of it may be left on this machine."""
    before = machine()
    payload = folder / "payload"
    payload.mkdir(parents=True)
    (payload / "train.py").write_text((PAYLOAD / "train.py").read_text())
    with ExitStack() as stack:
        reach = [registry.port]
        lab = process.up(folder / "lab", seed=seed, isolated=True, reach=reach, watched=True)
        stack.callback(lab.close)
        environment = control_environment(os.environ)
        daemon = Daemon(lab, environment)
        stack.callback(daemon.stop)
        daemon.start()
        made = Ground(
            stage=Stage(
                folder=lab.paths.folder,
                lab=lab,
                daemon=daemon,
                objects=S3Objects(owner_client(lab.url, "s3", HOME_REGION), HOME_BUCKET),
                payload=payload,
                dataset=payload,
                environment=environment,
            ),
            registry=registry,
        )
        yield made
        for job in made.jobs:
            job.close()
    until(lambda: not made.traces().look(), 30)
    assert machine() == before, "the machine's own network is as it was"
