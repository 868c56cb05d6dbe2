"""The agent on an instance: `python -m spotrunner.app.agent <agent.json>`, under systemd.

Names the concrete adapters and nothing that the agent's archive does not hold (app/archive).
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import structlog

from spotrunner.adapters import codec
from spotrunner.adapters.aws.clock import ServerClock
from spotrunner.adapters.aws.objects import S3Buckets
from spotrunner.adapters.aws.session import IMDS_URL, Aws, InstanceRole
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.adapters.mail import ObjectMailbox
from spotrunner.agent.courier import Courier
from spotrunner.agent.deeds import Deeds
from spotrunner.agent.folders import Folders, Keys
from spotrunner.agent.gpus import Gpus
from spotrunner.agent.holder import Holder
from spotrunner.agent.imds import Imds
from spotrunner.agent.logs import LogShipper
from spotrunner.agent.machine import Machine
from spotrunner.agent.main import Agent, Inbox
from spotrunner.agent.power import Power
from spotrunner.agent.trainer import Trainer
from spotrunner.agent.words import Config, ShuttingDown
from spotrunner.app import logs
from spotrunner.core.ids import generation_of
from spotrunner.core.model import JobSpec
from spotrunner.ports import Clock, Mailbox, PortError

# How often the first question to S3 is asked, for the time in its answer, before the machine's own
# clock has to do.
FIRST_TRIES = 30
FIRST_TRY_EVERY_S = 1.0

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


def main(arguments: list[str]) -> int:
    logs.configure(sys.stdout)
    settings = codec.from_json(AgentSettings, Path(arguments[0]).read_bytes())
    structlog.contextvars.bind_contextvars(attempt=settings.attempt)
    root = os.environ.get("SPOTRUNNER_ROOT", "")
    clock = ServerClock()
    inbox = Inbox()
    deeds = _deeds(settings, root, clock, inbox)
    agent = Agent(machine=_machine(settings), deeds=deeds, clock=clock, inbox=inbox)
    deeds.ship_now = agent.ship_logs

    def go_down(_signal: int, _frame: FrameType | None) -> None:
        inbox.put(ShuttingDown())

    signal.signal(signal.SIGTERM, go_down)
    image_mirror: str | None = None
    _learn_the_time(deeds.mailbox, settings.attempt, clock)
    agent.run()
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


def _deeds(settings: AgentSettings, root: str, clock: ServerClock, inbox: Inbox) -> Deeds:
    endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or IMDS_URL
    role = InstanceRole(clock, endpoint)
    aws = Aws(clock=clock, endpoint_url=settings.endpoint_url, instance_role=role)
    buckets = S3Buckets(aws, settings.region)
    objects = buckets.objects(settings.bucket)
    heads = ObjectHeads(objects)
    imds = Imds(endpoint)
    folders = Folders(root=Path(f"{root}/var/lib/spotrunner/{settings.attempt}"))
    generation = generation_of(settings.attempt) or 0
    keys = Keys(job_id=settings.job, attempt=settings.attempt, generation=generation)
    return Deeds(
        imds=imds,
        power=Power(root=root, attempt=settings.attempt, imds=imds),
        courier=Courier(
            objects=objects,
            buckets=buckets,
            heads=heads,
            folders=folders,
            keys=keys,
            decode_spec=lambda body: codec.from_json(JobSpec, body),
            nonce=lambda: secrets.token_hex(4),
        ),
        holder=Holder(
            heads=heads,
            job_id=settings.job,
            attempt=settings.attempt,
            generation=generation,
            nonce=lambda: secrets.token_hex(8),
        ),
        heads=heads,
        mailbox=ObjectMailbox(objects),
        trainer=Trainer(
            attempt=settings.attempt,
            job_id=settings.job,
            folders=folders,
            library_source=Path(__file__).resolve().parent.parent / "train",
        ),
        gpus=Gpus(root=root, imds=imds),
        logs=LogShipper(objects, keys, folders.trainer_log),
        folders=folders,
        put=inbox.put,
        ship_now=lambda: None,
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
