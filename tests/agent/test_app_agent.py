"""The agent as a program: user-data boots it from its archive, over real HTTP to moto's S3, with
keys from its own metadata service. The tools on PATH are stand-ins; systemd-run starts a child."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from spotrunner.adapters import codec
from spotrunner.adapters.aws.clock import ServerClock
from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.adapters.mail import ObjectMailbox
from spotrunner.agent.power import LAB_MARKER
from spotrunner.app import archive
from spotrunner.core.boot import Boot, user_data
from spotrunner.core.model import DataSource, Order, Phase, Report, Verb
from tests.agent import standins
from tests.agent.imds_server import ATTEMPT, DOCUMENT, ImdsServer
from tests.agent.test_main import SCRIPT, until
from tests.agent.told import JOB
from tests.agent.world import a_spec

pytestmark = pytest.mark.slow

ME = f"{JOB}.1"
REGION: Final = "eu-central-1"
ROLE = "meta-data/iam/security-credentials/"

# Starts what follows the options, with the environment that --setenv gives, and lets it run.
_SYSTEMD_RUN = """\
#!/bin/bash
here="${0%/*}"
printf '%s\\n' "systemd-run $*" >> "$here/calls"
variables=("PATH=$PATH")
while [[ "$1" == --* ]]; do
  case "$1" in --setenv=*) variables+=("${1#--setenv=}") ;; esac
  shift
done
env -i "${variables[@]}" "$@" > "$here/agent.log" 2>&1 < /dev/null &
echo $! > "$here/agent.pid"
"""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


class Instance:
    """An emulated instance and the daemon's view of the bucket."""

    def __init__(self, root: Path, imds: ImdsServer, endpoint: str) -> None:
        self.root = root
        self.imds = imds
        self.endpoint = endpoint
        self.tools = standins.make(root / "standins", without=("systemd-run",))
        (self.tools / "systemd-run").write_text(_SYSTEMD_RUN)
        (self.tools / "systemd-run").chmod(0o755)
        (root / LAB_MARKER).write_text("i-0abc")
        # moto keeps its buckets for as long as this process lives
        self.bucket = f"home-{secrets.token_hex(4)}"
        self.clock = ServerClock()
        self.aws = Aws(clock=self.clock, endpoint_url=endpoint)
        client = self.aws.s3(REGION)
        client.create_bucket(
            Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        self.objects = S3Objects(client, self.bucket)
        imds.script.items |= {
            ATTEMPT: ME.encode(),
            DOCUMENT: b'{"pendingTime": "2026-01-01T00:00:00Z"}',
            ROLE: b"agent",
            f"{ROLE}agent": self._keys(),
        }

    def _keys(self) -> bytes:
        soon = self.clock.now() + dt.timedelta(hours=1)
        keys = {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": "ASIAEMULATED",
            "SecretAccessKey": "secret",
            "Token": "session",
            "Expiration": f"{soon:%Y-%m-%dT%H:%M:%SZ}",
        }
        return json.dumps(keys).encode()

    def submit(self, arguments: str) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            tar.add(SCRIPT, "train.py")
        digest = hashlib.sha256(out.getvalue()).hexdigest()
        self.objects.put(f"jobs/{JOB}/workdir/{digest}.tar.gz", out.getvalue())
        run = f"{sys.executable} -S train.py {arguments}"
        self.objects.put("datasets/digits/deep/a.txt", b"all of it")
        data = DataSource(source=f"s3://{self.bucket}/datasets/digits/", target="digits")
        has_data = 'test "$(cat "$SPOTRUNNER_DATA_DIR/digits/deep/a.txt")" = "all of it"'
        spec = a_spec(run=run, setup=has_data, workdir_sha256=digest, data=(data,))
        self.objects.put(f"jobs/{JOB}/spec.json", codec.to_json(spec))
        order = Order(
            box=ME,
            epoch=1,
            n=1,
            attempt=ME,
            generation=1,
            verb=Verb.RUN,
            paid_until=self.clock.now() + dt.timedelta(minutes=30),
        )
        ObjectMailbox(self.objects).post_order(order)

    def boot(self) -> None:
        sha256 = archive.build(self.root / "agent.tar.gz")
        self.objects.upload(self.root / "agent.tar.gz", f"agent/{sha256}.tar.gz")
        boot = Boot(
            attempt=ME,
            job=JOB,
            installation="inst-1",
            bucket=self.bucket,
            region=REGION,
            archive_url=self.objects.presigned(f"agent/{sha256}.tar.gz", 600),
            archive_sha256=sha256,
            first_step_s=1800,
            endpoint_url=self.endpoint,
        )
        script = self.root / "user-data"
        script.write_text(user_data(boot))
        done = subprocess.run(
            ["bash", str(script)],
            env={
                "PATH": f"{self.tools}:{Path(sys.executable).parent}:/usr/bin:/bin",
                "SPOTRUNNER_ROOT": str(self.root),
                "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url,
            },
            # `python -m` looks here first, and the agent has to be the archive's
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def report(self) -> Report | None:
        mailbox = ObjectMailbox(self.objects)
        mailbox.boxes()
        return mailbox.reports().get(ME)

    def until_phase(self, phase: Phase) -> Report:
        def told() -> Report | None:
            report = self.report()
            return report if report is not None and report.phase is phase else None

        return until(told, lambda: f"{self.report()}\n{self.log}")

    @property
    def log(self) -> str:
        return (self.tools / "agent.log").read_text()

    @property
    def offs(self) -> list[str]:
        return [call for call in standins.calls(self.tools) if call == "shutdown -P now"]

    def signal(self, number: int) -> None:
        os.kill(int((self.tools / "agent.pid").read_text()), number)

    def close(self) -> None:
        for file in self.tools.glob("*.pid"):
            try:
                os.kill(int(file.read_text()), signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.aws.close()


@pytest.fixture
def instance(tmp_path: Path, imds_server: ImdsServer, endpoint: str) -> Iterator[Instance]:
    instance = Instance(tmp_path, imds_server, endpoint)
    yield instance
    instance.close()


def test_boots_trains_and_ends(instance: Instance) -> None:
    instance.submit("60 0.02")
    instance.boot()
    report = instance.until_phase(Phase.DONE)
    until(lambda: instance.offs, lambda: instance.log)
    assert report.step == 60
    head = ObjectHeads(instance.objects).read(JOB).head
    assert head is not None
    assert head.done == f"jobs/{JOB}/outputs/1/MANIFEST.json"
    assert "Traceback" not in instance.log
    assert "secret" not in instance.log


def test_a_machine_that_goes_down_commits_before_it_is_gone(instance: Instance) -> None:
    """systemd stops the agent with SIGTERM before docker: the unannounced end that can be used."""
    instance.submit("9000 0.02")
    instance.boot()
    instance.until_phase(Phase.TRAIN)
    instance.signal(signal.SIGTERM)
    report = instance.until_phase(Phase.IDLE)
    until(lambda: instance.offs, lambda: instance.log)
    head = ObjectHeads(instance.objects).read(JOB).head
    assert head is not None
    assert head.final
    assert report.exit_code in (75, 143)
