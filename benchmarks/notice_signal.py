"""From the notice in the metadata service to the signal at the trainer, on real agents.

Each measurement is an instance of its own: the agent as a program, the lab's metadata service and
its stand-ins for docker and the power switch, S3 as moto plays it. Times are the machine's
monotonic clock, which all processes share.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from moto.server import ThreadedMotoServer

from spotrunner.adapters import codec
from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.mail import ObjectMailbox
from spotrunner.core.model import JobSpec, Order, Verb
from spotrunner.lab.imds import Imds
from spotrunner.lab.instance import (
    MARKER_FILE,
    PACKAGE_ROOT,
    SHARED_TOOLS,
    TOOLS,
    write_tool,
)
from spotrunner.lab.isolation import SYSTEM_PATH
from spotrunner.lab.marks import INSTANCE_MARK
from spotrunner.lab.processes import kill_until_none, marked
from spotrunner.lab.shims.machine import Machine, run_module

REGION = "us-east-1"
BUCKET = "home"
INSTANCE = "i-0123456789abcdef0"
PATIENCE_S = 60.0
# Says when it is ready, and when it was told to save.
_TRAINER = """\
import pathlib, signal, sys, time
place = pathlib.Path(sys.argv[1])
def told(*_):
    (place / "part").write_text(str(time.clock_gettime(time.CLOCK_MONOTONIC)))
    (place / "part").rename(place / "told")
signal.signal(signal.SIGUSR1, told)
(place / "ready").touch()
while True:
    time.sleep(60)
"""


def seconds_to_signal(notices: int, seed: int) -> Iterator[float]:
    """One figure a notice. Each comes at another moment of the agent's polls."""
    dice = random.Random(seed)
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        aws = Aws(endpoint_url=f"http://{host}:{port}")
        aws.s3(REGION).create_bucket(Bucket=BUCKET)
        objects = S3Objects(aws.s3(REGION), BUCKET)
        for number in range(notices):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                yield _one(Path(folder), objects, f"http://{host}:{port}", number, dice.random())
        aws.close()
    finally:
        server.stop()


def _one(folder: Path, objects: S3Objects, endpoint: str, number: int, wait_s: float) -> float:
    job = f"notice-{number:04d}"
    instance = _Instance(folder, f"{job}.1")
    _submit(objects, job, f"{sys.executable} -I -S {folder / 'trainer.py'} {folder}")
    (folder / "trainer.py").write_text(_TRAINER)
    with instance.agent(job, endpoint):
        _until((folder / "ready").exists, instance.log)
        # The signal finds its trainer, and the agent is at rest: a moment of its choosing.
        threading.Event().wait(1.0 + wait_s)
        visible_s = instance.notice()
        _until((folder / "told").exists, instance.log)
        return float((folder / "told").read_text()) - visible_s


def _submit(objects: S3Objects, job: str, run: str) -> None:
    spec = JobSpec(
        name=job,
        run=run,
        image="tensorflow/tensorflow:2.17.0-gpu",
        instance_types=("g4dn.xlarge",),
        regions=(REGION,),
    )
    objects.put(f"jobs/{job}/spec.json", codec.to_json(spec))
    order = Order(
        box=f"{job}.1",
        epoch=1,
        n=1,
        attempt=f"{job}.1",
        generation=1,
        verb=Verb.RUN,
        paid_until=_now() + dt.timedelta(hours=1),
    )
    ObjectMailbox(objects).post_order(order)


class _Instance:
    """A folder with stand-ins, a metadata service, and an agent."""

    def __init__(self, folder: Path, attempt: str) -> None:
        self.root = folder / "root"
        self.attempt = attempt
        self._log = folder / "agent.log"
        self._mark = f"bench/{secrets.token_hex(4)}"
        self._tree = {
            "meta-data/instance-id": INSTANCE,
            "meta-data/tags/instance/spotrunner:attempt": attempt,
            "dynamic/instance-identity/document": '{"pendingTime": "2026-01-01T00:00:00Z"}',
            "meta-data/iam/security-credentials/agent": _keys(),
        }

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else "no log"

    def notice(self) -> float:
        """EC2 says that it takes the instance; when that could be read first."""
        at = _now() + dt.timedelta(minutes=2)
        action = json.dumps({"action": "terminate", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"})
        self._tree = {**self._tree, "meta-data/spot/instance-action": action}
        return time.clock_gettime(time.CLOCK_MONOTONIC)

    @contextmanager
    def agent(self, job: str, endpoint: str) -> Iterator[None]:
        imds = Imds(read=lambda: self._tree, now=_now, control=lambda path, body: {"at": None})
        imds.start()
        self._make_disk(imds.url)
        settings = {
            "attempt": self.attempt,
            "job": job,
            "installation": "bench",
            "bucket": BUCKET,
            "region": REGION,
            "first_step_s": 3600,
            "endpoint_url": endpoint,
        }
        (self.root / "agent.json").write_text(json.dumps(settings))
        environment = {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.url,
            "PATH": f"{self.root / '.lab/bin'}:{SYSTEM_PATH}",
            "PYTHONPATH": PACKAGE_ROOT,
            "HOME": str(self.root),
            "SPOTRUNNER_ROOT": str(self.root),
            INSTANCE_MARK: self._mark,
        }
        command = [sys.executable, "-m", "spotrunner.app.agent", str(self.root / "agent.json")]
        with self._log.open("wb") as log:
            child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            child.kill()
            child.wait()
            kill_until_none(lambda: marked(INSTANCE_MARK, lambda value: value == self._mark))
            imds.close()

    def _make_disk(self, imds_url: str) -> None:
        lab = self.root / ".lab"
        for path in ("bin", "units", "containers"):
            (lab / path).mkdir(parents=True)
        (lab / "console.log").touch()
        (self.root / MARKER_FILE).write_text(INSTANCE)
        Machine(
            lab=lab,
            instance_id=INSTANCE,
            mark=self._mark,
            control_url=f"{imds_url}/lab",
            python=sys.executable,
            package_root=PACKAGE_ROOT,
        ).write()
        for name, (module, *told) in {**TOOLS, **SHARED_TOOLS}.items():
            command = run_module(sys.executable, PACKAGE_ROOT, module, lab, *told, site=False)
            write_tool(lab / "bin" / name, command)


def _keys() -> str:
    keys = {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIABENCH",
        "SecretAccessKey": "bench",
        "Token": "bench",
        "Expiration": f"{_now() + dt.timedelta(hours=6):%Y-%m-%dT%H:%M:%SZ}",
    }
    return json.dumps(keys)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)  # noqa: TID251 -- a benchmark is of the wall clock


def _until(holds: Callable[[], bool], story: Callable[[], str]) -> None:
    pause, until_s = threading.Event(), time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > until_s:
            raise TimeoutError(story()[-4000:])
        pause.wait(0.005)
