"""The agent on an instance: `python -m spotrunner.app.agent <agent.json>`, under systemd.

Names the concrete adapters and nothing that the agent's archive does not hold (app/archive).
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import structlog

from spotrunner.adapters import codec
from spotrunner.adapters.aws.clock import ServerClock
from spotrunner.adapters.aws.objects import S3Buckets, S3Objects
from spotrunner.adapters.aws.registry import EcrRegistries
from spotrunner.adapters.aws.secrets import AwsSecrets
from spotrunner.adapters.aws.session import IMDS_URL, Aws, InstanceRole
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.adapters.mail import ObjectMailbox
from spotrunner.agent.aside import Aside
from spotrunner.agent.carry import Carried
from spotrunner.agent.checkpoints import Checkpoints
from spotrunner.agent.clock_check import ClockCheck
from spotrunner.agent.courier import Courier
from spotrunner.agent.data import DataSets, Uploads
from spotrunner.agent.deeds import Deeds
from spotrunner.agent.docker import Docker
from spotrunner.agent.folders import Folders, Keys
from spotrunner.agent.gpus import Gpus
from spotrunner.agent.holder import Holder
from spotrunner.agent.host_figures import HostFigures
from spotrunner.agent.images import Images
from spotrunner.agent.imds import Imds
from spotrunner.agent.logs import LogShipper
from spotrunner.agent.machine import Machine
from spotrunner.agent.main import Agent, Inbox
from spotrunner.agent.mask import Mask
from spotrunner.agent.monitor import Monitor
from spotrunner.agent.mounts import Mounts
from spotrunner.agent.nvidia import NvidiaSmi
from spotrunner.agent.outputs import Outputs
from spotrunner.agent.power import LAB_MARKER, Power
from spotrunner.agent.rclone import Rclone
from spotrunner.agent.retention import Retention
from spotrunner.agent.secrets import JobSecrets
from spotrunner.agent.trainer import Trainer
from spotrunner.agent.words import Config, Copied, ShuttingDown
from spotrunner.app import logs
from spotrunner.core.ids import generation_of
from spotrunner.core.model import JobSpec
from spotrunner.ports import Clock, Mailbox, PortError

# How often the first question to S3 is asked, for the time in its answer, before the machine's own
# clock has to do.
FIRST_TRIES = 30
FIRST_TRY_EVERY_S = 1.0

# In the archive it lies beside our package (app/archive).
RCLONE = Path(__file__).resolve().parents[2] / "bin" / "rclone"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """agent.json, as core/boot renders it."""

    attempt: str
    job: str
    installation: str
    bucket: str
    region: str
    first_step_s: int
    endpoint_url: str | None = None
    image_mirror: str | None = None


def main(arguments: list[str]) -> int:
    logs.configure(sys.stdout)
    logs.without_core_dumps()
    settings = codec.from_json(AgentSettings, Path(arguments[0]).read_bytes())
    structlog.contextvars.bind_contextvars(attempt=settings.attempt)
    root = os.environ.get("SPOTRUNNER_ROOT", "")
    clock = ServerClock()
    inbox = Inbox()
    deeds = _deeds(settings, root, clock, inbox)
    agent = Agent(machine=_machine(settings), deeds=deeds, clock=clock, inbox=inbox)
    deeds.ship_now = agent.ship_logs
    monitor = _monitor(root, deeds.folders, clock, inbox)
    deeds.put = monitor.tell

    def go_down(_signal: int, _frame: FrameType | None) -> None:
        inbox.put(ShuttingDown())

    signal.signal(signal.SIGTERM, go_down)
    _learn_the_time(deeds.mailbox, settings.attempt, clock)
    monitor.start()
    agent.run(_booted_at(root, clock))
    return 0


def _machine(settings: AgentSettings) -> Machine:
    generation = generation_of(settings.attempt)
    assert generation is not None, f"{settings.attempt} is no attempt's id"
    return Machine(
        Config(
            attempt=settings.attempt,
            box=settings.attempt,
            generation=generation,
            first_step_s=settings.first_step_s,
        )
    )


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """What several of its deeds stand on."""

    settings: AgentSettings
    clock: ServerClock
    imds: Imds
    aws: Aws
    buckets: S3Buckets
    objects: S3Objects
    heads: ObjectHeads
    folders: Folders
    keys: Keys
    carried: Carried
    rclone: Rclone


def _ground(settings: AgentSettings, root: str, clock: ServerClock) -> _Ground:
    endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or IMDS_URL
    role = InstanceRole(clock, endpoint)
    aws = Aws(clock=clock, endpoint_url=settings.endpoint_url, instance_role=role)
    buckets = S3Buckets(aws, settings.region)
    objects = buckets.objects(settings.bucket)
    folders = Folders(
        root=Path(f"{root}/var/lib/spotrunner/{settings.attempt}"),
        memory=Path(f"{root}/run/spotrunner/{settings.attempt}"),
        fast=_own_disk(root, settings.attempt),
    )
    generation = generation_of(settings.attempt) or 0
    return _Ground(
        settings=settings,
        clock=clock,
        imds=Imds(endpoint),
        aws=aws,
        buckets=buckets,
        objects=objects,
        heads=ObjectHeads(objects),
        folders=folders,
        keys=Keys(job_id=settings.job, attempt=settings.attempt, generation=generation),
        carried=Carried(),
        rclone=Rclone(
            binary=RCLONE,
            pid_file=folders.rclone_pid,
            endpoint_url=settings.endpoint_url,
            environment={"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint},
        ),
    )


def _deeds(settings: AgentSettings, root: str, clock: ServerClock, inbox: Inbox) -> Deeds:
    ground = _ground(settings, root, clock)
    objects, folders, mask = ground.objects, ground.folders, Mask()
    outputs = _outputs(ground)
    return Deeds(
        imds=ground.imds,
        power=Power(root=root, attempt=settings.attempt, imds=ground.imds),
        courier=_courier(ground),
        data=_data(ground, inbox),
        checkpoints=_checkpoints(ground),
        outputs=outputs,
        aside=_aside(ground, outputs),
        holder=_holder(ground),
        heads=ground.heads,
        mailbox=ObjectMailbox(objects),
        trainer=_trainer(ground),
        gpus=Gpus(root=root, imds=ground.imds),
        logs=LogShipper(objects, ground.keys, folders.trainer_log, folders.shipped, mask),
        folders=folders,
        secrets=_secrets(ground, mask),
        put=inbox.put,
        ship_now=lambda: None,
    )


# -- what it brings before the training --------------------------------------------------------


def _courier(ground: _Ground) -> Courier:
    return Courier(
        objects=ground.objects,
        folders=ground.folders,
        keys=ground.keys,
        decode_spec=lambda body: codec.from_json(JobSpec, body),
        carried=ground.carried,
    )


def _data(ground: _Ground, inbox: Inbox) -> DataSets:
    folders, rclone = ground.folders, ground.rclone
    return DataSets(
        buckets=ground.buckets,
        folders=folders,
        rclone=rclone,
        mounts=Mounts(attempt=ground.settings.attempt, folders=folders, rclone=rclone),
        told=lambda copying: inbox.put(Copied(copying=copying)),
    )


def _secrets(ground: _Ground, mask: Mask) -> JobSecrets:
    return JobSecrets(
        secrets=AwsSecrets(ground.aws, ground.settings.region),
        objects=ground.objects,
        job_id=ground.settings.job,
        folder=ground.folders.secrets,
        mask=mask,
        redact=logs.redacting,
    )


def _trainer(ground: _Ground) -> Trainer:
    settings, folders = ground.settings, ground.folders
    docker = Docker(config=folders.root / "docker")
    return Trainer(
        attempt=settings.attempt,
        job_id=settings.job,
        folders=folders,
        library_source=Path(__file__).resolve().parent.parent / "train",
        docker=docker,
        images=Images(
            docker=docker,
            registries=EcrRegistries(ground.aws),
            clock=ground.clock,
            pulled=folders.root / "pulled",
            mirror=settings.image_mirror or "",
        ),
    )


# -- what it keeps of the training -------------------------------------------------------------


def _holder(ground: _Ground) -> Holder:
    return Holder(
        heads=ground.heads,
        job_id=ground.settings.job,
        attempt=ground.settings.attempt,
        generation=ground.keys.generation,
        nonce=lambda: secrets.token_hex(8),
    )


def _checkpoints(ground: _Ground) -> Checkpoints:
    return Checkpoints(
        objects=ground.objects,
        heads=ground.heads,
        folders=ground.folders,
        keys=ground.keys,
        nonce=lambda: secrets.token_hex(4),
        carried=ground.carried,
    )


def _outputs(ground: _Ground) -> Outputs:
    settings = ground.settings
    return Outputs(
        objects=ground.objects,
        heads=ground.heads,
        folders=ground.folders,
        keys=ground.keys,
        nonce=lambda: secrets.token_hex(4),
        carried=ground.carried,
        bulk=Uploads(rclone=ground.rclone, bucket=settings.bucket, region=settings.region),
    )


def _aside(ground: _Ground, outputs: Outputs) -> Aside:
    objects, heads, keys = ground.objects, ground.heads, ground.keys
    return Aside(
        outputs=outputs,
        retention=Retention(objects=objects, heads=heads, keys=keys, clock=ground.clock),
        has_notice=lambda: ground.imds.notice() is not None,
    )


# -- the machine -------------------------------------------------------------------------------


def _booted_at(root: str, clock: Clock) -> dt.datetime | None:
    """By the age of what the user-data has written first of all (core/boot): an age is the same
    by any clock."""
    try:
        written_s = Path(f"{root}/var/lib/spotrunner/boot").stat().st_mtime
    except OSError:
        return None
    age_s = time.time() - written_s  # noqa: TID251 -- the clock of the file
    return clock.now() - dt.timedelta(seconds=max(0.0, age_s))


def _own_disk(root: str, attempt: str) -> Path | None:
    """On the instance's own NVMe, where the image has one mounted and the job did not ask for a
    root disk that is larger."""
    nvme = Path(f"{root}/opt/dlami/nvme")
    if not os.path.ismount(nvme):
        return None
    larger = shutil.disk_usage(nvme).total >= shutil.disk_usage(root or "/").total
    return nvme / f"spotrunner-{attempt}" if larger else None


def _monitor(root: str, folders: Folders, clock: ServerClock, inbox: Inbox) -> Monitor:
    # The lab's time is its own, and no fault of the machine's that it runs on.
    is_lab = Path(f"{root}/{LAB_MARKER}").exists()
    return Monitor(
        put=inbox.put,
        clock=clock,
        gpus=NvidiaSmi(),
        host=HostFigures(folder=folders.root),
        check=None if is_lab else ClockCheck(server=clock),
    )


def _learn_the_time(mailbox: Mailbox, box: str, clock: Clock) -> None:
    """Deadlines begin with the machine's first event, so the clock is set before it. Every answer
    of S3 tells the time, a refusal too; after a while the wall clock has to do."""
    pause = threading.Event()
    for _ in range(FIRST_TRIES):
        try:
            mailbox.order(box, None)
        except PortError as error:
            _log.warning("S3 does not answer yet", why=str(error))
            pause.wait(FIRST_TRY_EVERY_S)
        else:
            break
    _log.info("starts", now=clock.now().isoformat())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
