"""Rented machines: each runs the agent as a process of its own, out of its archive, with its own
metadata service and its own tools; all share one S3 that breaks where a test says so."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from spotrunner.adapters import codec
from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.adapters.mail import ObjectMailbox
from spotrunner.agent.carry import Carried
from spotrunner.agent.checkpoints import Checkpoints
from spotrunner.agent.folders import Folders
from spotrunner.agent.holder import Holder
from spotrunner.agent.power import LAB_MARKER
from spotrunner.app import archive
from spotrunner.app.agent import AgentSettings
from spotrunner.core.ids import generation_of
from spotrunner.core.model import DataSource, Head, Order, Phase, Report, Verb
from tests.agent import standins
from tests.agent.faulty_s3 import REGION, FaultyS3
from tests.agent.imds_server import ATTEMPT, DOCUMENT, INSTANCE_ACTION, ImdsServer
from tests.agent.promises import left_of, nothing_is_lost, remember_heads
from tests.agent.test_main import SCRIPT, until
from tests.agent.told import JOB
from tests.agent.world import a_spec, keys_of, nonces
from tests.lab.traces import processes_of

ROLE = "meta-data/iam/security-credentials/"
# A whole life, on a host that is busy with other tests.
PATIENCE_S = 90.0
END_S = 40.0
# What every job goes on from: attempt 1 has committed this step, and is gone.
SEED_STEP = 10


def unpacked(folder: Path) -> Path:
    """The agent's archive, as the user-data leaves it on an instance."""
    archive.build(folder / "agent.tar.gz")
    with tarfile.open(folder / "agent.tar.gz") as tar:
        tar.extractall(folder / "agent", filter="data")
    return folder / "agent"


class Account:
    """A bucket, its job, and the machines that were rented for it."""

    def __init__(self, folder: Path, s3: FaultyS3, agent: Path) -> None:
        s3.script()
        s3.ahead = dt.timedelta()
        self.folder = folder
        self.s3 = s3
        self.agent = agent
        self._aws = Aws(endpoint_url=s3.calm_url)
        self.bucket = s3.bucket(self._aws)
        self.client = self._aws.s3(REGION)
        remember_heads(self.client, self.bucket)
        self.objects = S3Objects(self.client, self.bucket)
        self.machines: list[Rented] = []
        self._nonces = nonces("seed")

    @property
    def head(self) -> Head:
        head = ObjectHeads(self.objects).read(JOB).head
        assert head is not None
        return head

    def in_s(self, seconds: float) -> dt.datetime:
        return self.s3.now() + dt.timedelta(seconds=seconds)

    def submit(self, arguments: str, **changes: object) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            tar.add(SCRIPT, "train.py")
        digest = hashlib.sha256(out.getvalue()).hexdigest()
        self.objects.put(f"jobs/{JOB}/workdir/{digest}.tar.gz", out.getvalue())
        self.objects.put("datasets/digits/deep/a.txt", b"all of it")
        data = DataSource(source=f"s3://{self.bucket}/datasets/digits/", target="digits")
        spec = a_spec(
            **{
                "run": f"{sys.executable} -S train.py {arguments} | cat",
                "setup": 'test "$(cat "$SPOTRUNNER_DATA_DIR/digits/deep/a.txt")" = "all of it"',
                "workdir_sha256": digest,
                "data": (data,),
                **changes,
            }
        )
        self.objects.put(f"jobs/{JOB}/spec.json", codec.to_json(spec))
        self.commit(SEED_STEP, final=True)

    def commit(
        self, step: int, *, generation: int = 1, final: bool = False, weights_bytes: int = 4096
    ) -> Head:
        """As an attempt that is not there any more."""
        folders = Folders(root=self.folder / f"seed-{generation}")
        folders.make()
        saved = folders.checkpoints / f"{step:08d}"
        saved.mkdir()
        state = {"step": step, "trail": [f"{JOB}.{generation}"]}
        (saved / "state.json").write_text(json.dumps(state))
        (saved / "weights").write_bytes(os.urandom(weights_bytes))
        heads = ObjectHeads(self.objects)
        checkpoints = Checkpoints(
            objects=self.objects,
            heads=heads,
            folders=folders,
            keys=keys_of(generation),
            nonce=self._nonces,
            carried=Carried(),
        )
        holder = self.holder(generation)
        holder.take()
        return holder.commit(checkpoints.store(step), final=final)

    def holder(self, generation: int) -> Holder:
        return Holder(
            heads=ObjectHeads(self.objects),
            job_id=JOB,
            attempt=f"{JOB}.{generation}",
            generation=generation,
            nonce=self._nonces,
        )

    def rent(self, generation: int = 2, **order: object) -> Rented:
        """A machine for the attempt, with a first order; nothing runs there yet."""
        machine = Rented(self, generation)
        self.machines.append(machine)
        machine.order(paid_until=self.in_s(1800), **order)
        return machine

    def model(self) -> dict[str, object]:
        """What the job has brought."""
        done = self.head.done
        assert done is not None
        body = self.objects.get(done.replace("MANIFEST.json", "model.json")).body
        model: dict[str, object] = json.loads(body)
        return model

    def holds(self) -> Head:
        """The promises, once every machine has come to its end."""
        for machine in self.machines:
            machine.is_gone()
        head = nothing_is_lost(self.client, self.bucket, JOB, self.folder / "restored")
        told = [machine.report for machine in self.machines]
        steps = [report.committed_step or 0 for report in told if report is not None]
        assert head.step >= max(steps), "what was told as committed is there"
        return head

    def close(self) -> None:
        self.s3.release()
        for machine in self.machines:
            machine.close()
        self._aws.close()


class Rented:
    """One machine of an attempt. What systemd and EC2 would do to it, a test does."""

    def __init__(self, account: Account, generation: int) -> None:
        self.account = account
        self.attempt = f"{JOB}.{generation}"
        self.root = account.folder / f"machine-{len(account.machines)}"
        self.root.mkdir()
        (self.root / LAB_MARKER).write_text("i-0abc")
        self.tools = standins.make(self.root / "tools")
        self.state = self.root / "var/lib/spotrunner" / self.attempt
        self.imds = ImdsServer().__enter__()
        self._order: Order | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._settings = self.root / "agent.json"
        settings = AgentSettings(
            attempt=self.attempt,
            job=JOB,
            installation="inst-1",
            bucket=account.bucket,
            region=REGION,
            first_step_s=1800,
            endpoint_url=account.s3.url,
        )
        self._settings.write_bytes(codec.to_json(settings))
        # Past the hour in which an instance that EC2 takes is free, and idles.
        launched = account.s3.now() - dt.timedelta(hours=2)
        self.imds.script.items |= {
            ATTEMPT: self.attempt.encode(),
            DOCUMENT: json.dumps({"pendingTime": f"{launched:%Y-%m-%dT%H:%M:%SZ}"}).encode(),
            ROLE: b"agent",
            f"{ROLE}agent": _keys(account.s3.now() + dt.timedelta(hours=6)),
        }

    # -- the agent -----------------------------------------------------------------------------

    def start(self) -> None:
        """As systemd does it."""
        with (self.root / "agent.log").open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-sS", "-m", "spotrunner.app.agent", str(self._settings)],
                env={
                    "PATH": f"{self.tools}:{Path(sys.executable).parent}:/usr/bin:/bin",
                    "PYTHONPATH": str(self.account.agent),
                    "SPOTRUNNER_ROOT": str(self.root),
                    "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url,
                },
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def child(self) -> subprocess.Popen[bytes]:
        """The agent that was started last."""
        assert self._child is not None
        return self._child

    def signal(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def kill(self) -> None:
        """-9, as the kernel does where memory runs out."""
        self.child.kill()
        self.child.wait()

    @property
    def log(self) -> str:
        path = self.root / "agent.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # -- what it is told -----------------------------------------------------------------------

    def order(self, **changes: object) -> None:
        """The next one; without changes as the last one."""
        last = self._order or Order(
            box=self.attempt,
            epoch=1,
            n=0,
            attempt=self.attempt,
            generation=generation_of(self.attempt) or 0,
            verb=Verb.RUN,
            paid_until=self.account.s3.now(),
        )
        self._order = dataclasses.replace(last, n=last.n + 1, **changes)  # type: ignore[arg-type]
        ObjectMailbox(self.account.objects).post_order(self._order)

    def notice(self, in_s: float = 120.0) -> dt.datetime:
        """EC2's word that it takes the machine."""
        at = (self.account.s3.now() + dt.timedelta(seconds=in_s)).replace(microsecond=0)
        body = {"action": "terminate", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
        self.imds.script.items[INSTANCE_ACTION] = json.dumps(body).encode()
        return at

    # -- what it says and does -----------------------------------------------------------------

    @property
    def report(self) -> Report | None:
        mailbox = ObjectMailbox(self.account.objects)
        mailbox.boxes()
        return mailbox.reports().get(self.attempt)

    def until_report(self, holds: Callable[[Report], object]) -> Report:
        def told() -> Report | None:
            report = self.report
            return report if report is not None and holds(report) else None

        return until(told, self._story, PATIENCE_S)

    def until_phase(self, *phases: Phase) -> Report:
        return self.until_report(lambda report: report.phase in phases)

    def until(self, holds: Callable[[], object]) -> None:
        until(lambda: holds() or None, self._story, PATIENCE_S)

    def _story(self) -> str:
        return f"{self.report}\n{self.log}\n{self.calls('')}\n{left_of(self.root)}"

    def calls(self, beginning: str) -> list[str]:
        return [call for call in standins.calls(self.tools) if call.startswith(beginning)]

    @property
    def printed(self) -> str:
        path = self.state / "logs" / "trainer.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # -- its end -------------------------------------------------------------------------------

    def ends(self) -> None:
        """It switches its power off by itself, when no container runs any more, and its agent hears
        of it as of any shutdown."""
        self.until(lambda: self.calls("shutdown -P now"))
        if self.child.poll() is None:
            self.until(lambda: not standins.containers(self.tools))
            self.child.terminate()
        self.child.wait(END_S)
        (self.tools / "released").touch()

    def is_gone(self) -> None:
        """Nothing of it runs any more, and no bug was met on the way."""
        self.ends()
        self.until(lambda: not left_of(self.root))
        assert '"a bug"' not in self.log
        assert not any(line.startswith("Traceback") for line in self.log.splitlines())

    def close(self) -> None:
        """Whatever became of it."""
        (self.tools / "released").touch()
        self.imds.__exit__()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        pause = threading.Event()
        while left := [int(line.split()[0]) for line in processes_of(self.root)]:
            for pid in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()
            pause.wait(0.1)


def _keys(until_: dt.datetime) -> bytes:
    keys = {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIAEMULATED",
        "SecretAccessKey": "secret",
        "Token": "session",
        "Expiration": f"{until_:%Y-%m-%dT%H:%M:%SZ}",
    }
    return json.dumps(keys).encode()
