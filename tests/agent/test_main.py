"""Whole agents: the real loop, a real trainer behind a docker stand-in, IMDS over HTTP, S3 in
memory. The tools on PATH are stand-ins."""

from __future__ import annotations

import dataclasses
import datetime as dt
import gzip
import hashlib
import io
import json
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from spotrunner.adapters import codec
from spotrunner.adapters.mail import ObjectMailbox
from spotrunner.agent.deeds import SIGNAL_S, Deeds
from spotrunner.agent.docker import TIMEOUT_S as DOCKER_TIMEOUT_S
from spotrunner.agent.docker import Docker
from spotrunner.agent.folders import Folders
from spotrunner.agent.gpus import Gpus
from spotrunner.agent.images import Images
from spotrunner.agent.imds import Imds
from spotrunner.agent.logs import LogShipper
from spotrunner.agent.machine import Machine
from spotrunner.agent.main import Agent, Inbox
from spotrunner.agent.mask import Mask
from spotrunner.agent.power import LAB_MARKER, Power
from spotrunner.agent.secrets import JobSecrets
from spotrunner.agent.trainer import Trainer
from spotrunner.agent.words import ArmTimer, Config, PowerOff, Sig, Signal
from spotrunner.core.model import Order, Phase, Report, TakeOver, Verb
from spotrunner.core.secret_place import SecretPlace
from spotrunner.core.secret_ref import SecretForm, SecretRef
from spotrunner.ports import NotFound, Unavailable
from tests.agent import standins
from tests.agent.imds_server import ATTEMPT, DOCUMENT, INSTANCE_ACTION, ImdsServer
from tests.agent.told import JOB, T0
from tests.agent.world import Bucket, NoRegistries, a_spec

SCRIPT = Path(__file__).with_name("trainer_script.py")
PATIENCE_S = 30.0

pytestmark = pytest.mark.slow

T = TypeVar("T")


class RunningClock:
    """Begins at T0 and runs."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    def now(self) -> dt.datetime:
        return T0 + dt.timedelta(seconds=time.monotonic() - self._began_s)


class Kept:
    """Secrets by the names that AWS has for them."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def read(self, place: SecretPlace) -> str:
        if place.name not in self.values:
            raise NotFound(f"the parameter {place.name} does not exist there")
        return self.values[place.name]


class Rig:
    """One bucket, and agents that each have a machine of their own below `root`."""

    def __init__(self, root: Path, imds: ImdsServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.imds = imds
        self.tools = standins.make(root / "standins")
        monkeypatch.setenv("PATH", f"{self.tools}:/usr/bin:/bin")
        self.clock = RunningClock()
        self.bucket = Bucket(clock=self.clock)  # type: ignore[arg-type]
        self.agents: list[Agent] = []
        self.kept = Kept()
        # what their logs do not show
        self.redacted: set[str] = set()
        self.threads: list[threading.Thread] = []

    def submit(self, arguments: str, **changes: object) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            tar.add(SCRIPT, "train.py")
        digest = hashlib.sha256(out.getvalue()).hexdigest()
        self.bucket.objects.put(f"jobs/{JOB}/workdir/{digest}.tar.gz", out.getvalue())
        # Three commands and a pipe: signals have to find the one that listens.
        run = f"echo begin\n{sys.executable} -S train.py {arguments} | cat\necho end"
        spec = a_spec(**{"run": run, "workdir_sha256": digest, **changes})
        self.bucket.objects.put(f"jobs/{JOB}/spec.json", codec.to_json(spec))

    def printed(self, generation: int) -> str:
        """What the trainer of an attempt has printed, as its agent has shipped it."""
        chunks = self.bucket.listed(f"jobs/{JOB}/logs/{JOB}.{generation}/")
        bodies = (self.bucket.objects.get(key).body for key in chunks)
        return b"".join(gzip.decompress(body) for body in bodies).decode()

    def order(self, generation: int, n: int, **changes: object) -> None:
        attempt = f"{JOB}.{generation}"
        order = Order(
            box=attempt,
            epoch=1,
            n=n,
            attempt=attempt,
            generation=generation,
            verb=Verb.RUN,
            paid_until=T0 + dt.timedelta(hours=1),
        )
        changed = dataclasses.replace(order, **changes)  # type: ignore[arg-type]
        ObjectMailbox(self.bucket.objects).post_order(changed)

    def launch(self, generation: int, *, place: str = "", **limits: float) -> Agent:
        """Start the agent of an attempt. The first hour of its instance is over."""
        attempt = f"{JOB}.{generation}"
        self.imds.script.items[ATTEMPT] = attempt.encode()
        long_ago = T0 - dt.timedelta(hours=2)
        self.imds.script.items[DOCUMENT] = json.dumps(
            {"pendingTime": f"{long_ago:%Y-%m-%dT%H:%M:%SZ}"}
        ).encode()
        root = self.root / (place or attempt)
        folders = Folders(root=root / "state")
        folders.make()
        (root / LAB_MARKER).write_text("i-0abc")
        courier = self.bucket.courier(generation, folders.root)
        outputs = self.bucket.outputs(generation, folders.root, courier.carried)
        paces = {"order_s": 0.1, "urgent_order_s": 0.1, "head_s": 0.1, "logs_s": 0.3}
        inbox = Inbox()
        imds = Imds(self.imds.url)
        docker = Docker(config=root / "docker")
        mask = Mask()
        deeds = Deeds(
            imds=imds,
            power=Power(root=str(root), attempt=attempt, imds=imds),
            courier=courier,
            data=self.bucket.data_sets(folders),
            checkpoints=self.bucket.checkpoints(generation, folders.root, courier.carried),
            outputs=outputs,
            aside=self.bucket.aside(
                generation, outputs, has_notice=lambda: imds.notice() is not None
            ),
            holder=self.bucket.holder(generation, f"{place}g{generation}-"),
            heads=self.bucket.heads,
            mailbox=ObjectMailbox(self.bucket.objects),
            trainer=Trainer(
                attempt=attempt,
                job_id=JOB,
                folders=folders,
                library_source=Path(__file__).parent,
                docker=docker,
                images=Images(
                    docker=docker,
                    registries=NoRegistries(),
                    clock=self.clock,
                    pulled=folders.root / "pulled",
                ),
            ),
            gpus=Gpus(root=str(root), imds=imds),
            logs=LogShipper(
                self.bucket.objects, courier.keys, folders.trainer_log, folders.shipped, mask
            ),
            folders=folders,
            secrets=JobSecrets(
                secrets=self.kept,
                objects=self.bucket.objects,
                job_id=JOB,
                folder=folders.secrets,
                mask=mask,
                redact=self.redacted.update,
            ),
            put=inbox.put,
            ship_now=lambda: None,
        )
        config = Config(attempt=attempt, box=attempt, generation=generation, **{**paces, **limits})  # type: ignore[arg-type]
        agent = Agent(machine=Machine(config), deeds=deeds, clock=self.clock, inbox=inbox)
        self.agents.append(agent)
        thread = threading.Thread(target=agent.run, daemon=True)
        thread.start()
        self.threads.append(thread)
        return agent

    def report(self, generation: int) -> Report | None:
        mailbox = ObjectMailbox(self.bucket.objects)
        mailbox.boxes()
        return mailbox.reports().get(f"{JOB}.{generation}")

    def until_report(self, generation: int, holds: Callable[[Report], object]) -> Report:
        def told() -> Report | None:
            report = self.report(generation)
            return report if report is not None and holds(report) else None

        return until(told, lambda: f"the last report is {self.report(generation)}")

    def until_off(self, times: int = 1) -> None:
        until(
            lambda: len(self.calls("shutdown -P now")) >= times,
            lambda: f"only {standins.calls(self.tools)}",
        )

    def calls(self, beginning: str) -> list[str]:
        return [call for call in standins.calls(self.tools) if call.startswith(beginning)]

    def close(self) -> None:
        for agent in self.agents:
            agent.stop()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()
        until(
            lambda: not standins.containers(self.tools),
            lambda: f"{[it.spec['name'] for it in standins.containers(self.tools)]} still there",
        )


def until(
    holds: Callable[[], T | None], story: Callable[[], str], patience_s: float = PATIENCE_S
) -> T:
    """Wait for a condition, a bounded time."""
    end_s = time.monotonic() + patience_s
    pause = threading.Event()
    while time.monotonic() < end_s:
        found = holds()
        if found:
            return found
        pause.wait(0.05)
    raise AssertionError(f"waited {patience_s:.0f} s in vain: {story()}")


@pytest.fixture
def rig(tmp_path: Path, imds_server: ImdsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    rig = Rig(tmp_path, imds_server, monkeypatch)
    yield rig
    rig.close()


def test_a_job_trains_to_its_end(rig: Rig) -> None:
    rig.submit("60 0.01")
    rig.order(1, 1)
    rig.launch(1)
    report = rig.until_report(1, lambda r: r.phase is Phase.DONE)
    rig.until_off()
    assert report.first_step_at is not None
    head = rig.bucket.head
    assert head.done == f"jobs/{JOB}/outputs/1/MANIFEST.json"
    manifest, _ = rig.bucket.heads.read_manifest(f"jobs/{JOB}/outputs/1/")
    names = {file.name for file in manifest.files}
    assert names == {"model.json", "logs/progress.jsonl"}
    log = rig.printed(1)
    assert log.splitlines() == ["begin", "resumes from 0", "end"]
    assert rig.calls("shutdown -P +")[0].startswith("shutdown -P +5"), "paid for an hour"


def test_a_notice_hands_over_without_a_lost_step(rig: Rig) -> None:
    rig.submit("400 0.02")
    rig.order(1, 1)
    rig.launch(1)
    rig.until_report(1, lambda r: r.committed_step)
    at = rig.clock.now() + dt.timedelta(seconds=120)
    notice = {"action": "terminate", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
    rig.imds.script.items[INSTANCE_ACTION] = json.dumps(notice).encode()
    told = rig.until_report(1, lambda r: r.notice is not None)
    assert told.notice is not None
    saved = rig.until_report(
        1, lambda r: r.notice and r.committed_at and r.committed_at > r.notice.seen_at
    )
    assert saved.phase is Phase.TRAIN, "it goes on until the replacement is ready"

    del rig.imds.script.items[INSTANCE_ACTION]
    rig.order(2, 1, take_over=TakeOver(attempt=f"{JOB}.1", by=at + dt.timedelta(seconds=15)))
    rig.launch(2)
    rig.until_report(2, lambda r: r.phase is Phase.READY)
    rig.order(1, 2, replacement_ready=True)
    last = rig.until_report(1, lambda r: r.phase is Phase.IDLE)
    done = rig.until_report(2, lambda r: r.phase is Phase.DONE)
    rig.until_off(2)
    log = rig.printed(2)
    assert f"resumes from {last.committed_step}" in log
    assert done.step == 400
    model = json.loads(rig.bucket.objects.get(f"jobs/{JOB}/outputs/2/model.json").body)
    assert model == {"steps": 400, "trail": [f"{JOB}.1"]}


def test_a_failing_trainer_is_told_with_its_last_lines(rig: Rig) -> None:
    rig.submit("60 0.01 fails")
    rig.order(1, 1)
    rig.launch(1)
    report = rig.until_report(1, lambda r: r.phase is Phase.FAILED)
    rig.until_off()
    assert report.exit_code == 3
    assert report.log_tail[-1] == "about to fail"
    assert rig.bucket.head.final


SECRETS = (
    SecretRef(name="WANDB_API_KEY", source="ssm:/wandb"),
    SecretRef(name="HF_TOKEN", source="ssm:/hf", form=SecretForm.FILE),
)
TELLS = 'echo "$WANDB_API_KEY and $(cat "$SPOTRUNNER_SECRETS_DIR/HF_TOKEN")"; '


def test_a_trainer_has_its_secrets_and_nobody_else_what_it_prints_of_them(rig: Rig) -> None:
    rig.kept.values.update({"/wandb": "w-1234567", "/hf": "hf-1234567"})
    matches = 'test "$WANDB_API_KEY" = w-123"4567"; '
    rig.submit("5 0.01 fails", setup=TELLS + matches, secrets=SECRETS)
    rig.order(1, 1)
    rig.launch(1)
    report = rig.until_report(1, lambda r: r.phase is Phase.FAILED)
    rig.until_off()
    assert (report.exit_code, report.log_tail[0]) == (3, "*** and ***")
    log = b"".join(
        gzip.decompress(rig.bucket.objects.get(key).body)
        for key in rig.bucket.listed(f"jobs/{JOB}/logs/")
    )
    assert log.startswith(b"*** and ***\n")
    assert rig.redacted == {"w-1234567", "hf-1234567"}
    files = [path for path in (rig.root / f"{JOB}.1").rglob("*") if path.is_file()]
    left = [path.name for path in files if "payload-lib" not in path.parts and _tells(path)]
    assert left == ["trainer.log"], "the trainer's own, on its machine"


def test_what_a_trainer_printed_stays_where_nobody_knows_its_secrets_any_more(rig: Rig) -> None:
    """After a reboot, which takes our copy of them along, when they cannot be had again."""
    rig.kept.values.update({"/wandb": "w-1234567", "/hf": "hf-1234567"})
    waits = 'until [ -e "$SPOTRUNNER_OUTPUT_DIR/go" ]; do sleep 0.05; done; '
    rig.submit("5 0.01", setup=f"{TELLS}{waits}{TELLS}exit 3", secrets=SECRETS)
    rig.order(1, 1)
    first = rig.launch(1)
    until(lambda: "***" in rig.printed(1), lambda: "nothing was shipped")
    first.stop()
    state = rig.root / f"{JOB}.1" / "state"
    (state / "secrets.json").unlink()
    rig.kept.values.clear()
    (state / "outputs" / "go").touch()
    until((state / "marks" / "exited").exists, lambda: "it has not ended")
    rig.launch(1, first_retry_s=0.01)
    report = rig.until_report(1, lambda r: r.phase is Phase.FAILED)
    rig.until_off()
    assert "the rest of the log stays here, since nobody knows its secrets: " in report.message
    assert "-1234567" not in rig.printed(1)
    assert not report.log_tail


def _tells(path: Path) -> bool:
    return "-1234567" in path.read_text(errors="replace")


def test_secrets_that_nobody_can_have_fail_the_job_before_anything_is_fetched(rig: Rig) -> None:
    rig.kept.values["/wandb"] = "w-1234567"
    rig.submit("10 0.01", secrets=SECRETS)
    rig.order(1, 1)
    rig.launch(1, first_retry_s=0.01)
    report = rig.until_report(1, lambda r: r.phase is Phase.FAILED)
    rig.until_off()
    assert "the secret HF_TOKEN: the parameter /hf does not exist there" in report.message
    assert "w-1234567" not in report.message
    assert not rig.calls("docker pull")


def test_a_deaf_trainer_is_killed_and_its_last_checkpoint_committed(rig: Rig) -> None:
    rig.submit("4000 0.01 deaf")
    rig.order(1, 1)
    rig.launch(1, stop_s=3.0, safety_s=1.0, least_grace_s=0.5)
    rig.until_report(1, lambda r: r.committed_step)
    rig.order(1, 2, verb=Verb.STOP)
    report = rig.until_report(1, lambda r: r.phase is Phase.STOPPED)
    rig.until_off()
    assert report.exit_code == 137
    assert rig.bucket.head.final
    assert rig.bucket.head.step == report.committed_step


def test_s3_that_fails_now_and_then_loses_nothing(rig: Rig) -> None:
    rig.submit("100 0.01")
    rig.order(1, 1)
    for operation, prefix in (
        ("get", "mail/orders"),
        ("get", f"jobs/{JOB}/spec"),
        ("get", f"jobs/{JOB}/checkpoints/HEAD"),
        ("put", f"jobs/{JOB}/checkpoints/0"),
        ("put", f"mail/reports/{JOB}.1"),
        ("put", f"jobs/{JOB}/outputs"),
    ):
        rig.bucket.objects.fail_next(operation, Unavailable("503 SlowDown"), prefix=prefix)
    rig.bucket.objects.drop_answer_of_next_put(rig.bucket.head_key, retried=True)
    rig.launch(1)
    rig.until_report(1, lambda r: r.phase is Phase.DONE)
    rig.until_off()
    assert rig.bucket.head.done is not None


def test_a_fenced_agent_kills_its_trainer_and_leaves_the_bucket_alone(rig: Rig) -> None:
    rig.submit("4000 0.01")
    rig.order(1, 1)
    rig.launch(1)
    rig.until_report(1, lambda r: r.committed_step)
    rig.bucket.holder(2).take()
    rig.until_report(1, lambda r: r.phase is Phase.FENCED)
    rig.until_off()
    assert rig.bucket.head.attempt == f"{JOB}.2"
    assert not rig.bucket.head.final


def test_an_agent_started_again_goes_on_as_the_same_attempt(rig: Rig) -> None:
    """The container outlives its agent; the next one ends it before it starts its own."""
    rig.submit("300 0.02")
    rig.order(1, 1)
    first = rig.launch(1)
    rig.until_report(1, lambda r: r.committed_step)
    first.stop()
    seq = rig.bucket.head.seq
    rig.launch(1, place=f"{JOB}.1")
    rig.until_report(1, lambda r: r.phase is Phase.DONE)
    assert rig.bucket.head.generation == 1
    assert rig.bucket.head.seq > seq
    rig.until_off()


def test_a_docker_that_hangs_does_not_hold_up_the_power(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, released = threading.Event(), threading.Event()

    def hang(_trainer: Trainer, _sig: Sig) -> bool:
        asked.set()
        return released.wait(2 * PATIENCE_S)

    monkeypatch.setattr(Trainer, "signal", hang)
    agent = rig.launch(1)
    agent._pass_on(Signal(signal=Sig.STOP))
    assert asked.wait(PATIENCE_S)
    agent._pass_on(ArmTimer(minutes=5))
    agent._pass_on(PowerOff(why="its time is over"))
    rig.until_off()
    assert rig.calls("shutdown -P +5")
    released.set()


def test_a_signal_is_given_up_in_half_a_minute() -> None:
    assert SIGNAL_S + DOCKER_TIMEOUT_S <= 30


def test_an_image_that_cannot_be_pulled_is_said(rig: Rig) -> None:
    rig.submit("10 0.01", image="missing:1")
    rig.order(1, 1)
    rig.launch(1, first_retry_s=0.01)
    report = rig.until_report(1, lambda r: r.phase is Phase.FAILED)
    assert "manifest unknown" in report.message
    rig.until_off()


def test_a_registry_that_limits_its_rate_is_asked_again(rig: Rig) -> None:
    rig.submit("10 0.01", image="limited:1")
    rig.order(1, 1)
    rig.launch(1, first_retry_s=0.01, hopeless_tries=1)
    rig.until_report(1, lambda r: r.phase is Phase.DONE)
    rig.until_off()
