"""The user-data as a whole, run in a sandbox of stand-ins against a real little HTTP server."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from spotrunner.agent.power import LAB_MARKER
from spotrunner.core.boot import Boot, user_data
from tests.agent import standins
from tests.agent.imds_server import ATTEMPT, ImdsServer

ME = "digits-7f3a.4"
ARCHIVE = "agent.tar.gz"


def an_archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo("spotrunner/app/agent.py")
        info.size = 9
        tar.addfile(info, io.BytesIO(b"print(1)\n"))
    return out.getvalue()


class Sandbox:
    """A machine's root, its tools, and a PATH without anything that could end the real one."""

    def __init__(self, root: Path, imds: ImdsServer) -> None:
        self.root = root
        self.imds = imds
        self.tools = standins.make(root / "standins")
        (root / LAB_MARKER).write_text("i-0abc")
        imds.script.items[ATTEMPT] = ME.encode()
        self.archive = an_archive()
        imds.script.files[ARCHIVE] = self.archive
        self.bin = root / "bin"
        self.bin.mkdir()
        for tool in ("bash", "date", "grep", "curl", "mkdir", "tar", "gzip", "mv", "rm", "sleep"):
            (self.bin / tool).symlink_to(Path("/usr/bin") / tool)
        (self.bin / "sha256sum").symlink_to("/usr/bin/sha256sum")
        (self.bin / "python3").symlink_to(sys.executable)

    def boot(self, *, sha256: str | None = None) -> subprocess.CompletedProcess[str]:
        # Waiting is not what is tested here.
        (self.bin / "sleep").unlink()
        (self.bin / "sleep").symlink_to("/usr/bin/true")
        boot = Boot(
            attempt=ME,
            job="digits-7f3a",
            installation="inst-1",
            bucket="home",
            region="us-east-1",
            archive_url=f"{self.imds.url}/latest/{ARCHIVE}?X-Amz-Signature=a&b='c'",
            archive_sha256=sha256 or hashlib.sha256(self.archive).hexdigest(),
            first_step_s=1800,
            endpoint_url="http://127.0.0.1:4566",
        )
        script = self.root / "user-data"
        script.write_text(user_data(boot))
        return subprocess.run(
            ["bash", str(script)],
            env={
                "PATH": f"{self.tools}:{self.bin}",
                "SPOTRUNNER_ROOT": str(self.root),
                "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        return standins.calls(self.tools)

    @property
    def started(self) -> list[str]:
        return [call for call in self.calls if call.startswith("systemd-run")]


@pytest.fixture
def sandbox(tmp_path: Path, imds_server: ImdsServer) -> Sandbox:
    return Sandbox(tmp_path, imds_server)


@pytest.mark.parametrize("curl", [True, False], ids=["curl", "without curl"])
def test_boots_the_agent(sandbox: Sandbox, curl: bool) -> None:
    if not curl:
        (sandbox.bin / "curl").unlink()
    done = sandbox.boot()
    assert done.returncode == 0, done.stdout + done.stderr
    assert sandbox.calls[0] == "shutdown -P +30", "the timer comes first"
    digest = hashlib.sha256(sandbox.archive).hexdigest()
    home = sandbox.root / "opt" / "spotrunner" / digest
    assert (home / "spotrunner" / "app" / "agent.py").read_text() == "print(1)\n"
    (start,) = sandbox.started
    assert "--unit=spotrunner-agent" in start
    assert "--property=Restart=always" in start
    assert f"--setenv=PYTHONPATH={home}" in start
    state = sandbox.root / "var" / "lib" / "spotrunner" / "agent.json"
    assert start.endswith(f"-sS -m spotrunner.app.agent {state}")
    assert json.loads(state.read_text())["endpoint_url"] == "http://127.0.0.1:4566"


def test_says_every_step(sandbox: Sandbox) -> None:
    said = sandbox.boot().stdout
    for step in ("shutdown -P +30", f"booting {ME}", "using ", "fetching", "the agent runs"):
        assert step in said


def test_a_second_boot_uses_what_is_unpacked(sandbox: Sandbox) -> None:
    sandbox.boot()
    assert sandbox.boot().returncode == 0
    assert len(sandbox.started) == 2


def test_an_archive_with_another_digest_is_never_started(sandbox: Sandbox) -> None:
    assert sandbox.boot(sha256="0" * 64).returncode == 1
    assert sandbox.started == []
    assert sandbox.calls[-1] == "shutdown -P now", "it costs nothing more"


def test_an_archive_that_is_gone_ends_the_machine(sandbox: Sandbox) -> None:
    sandbox.imds.script.files.clear()
    done = sandbox.boot()
    assert done.returncode == 1
    assert "could not be had" in done.stdout
    assert sandbox.calls[-1] == "shutdown -P now"


def test_a_machine_that_is_not_ours_is_left_as_it_is(sandbox: Sandbox) -> None:
    (sandbox.root / LAB_MARKER).unlink()
    done = sandbox.boot()
    assert done.returncode == 1
    assert sandbox.calls == []
    assert not (sandbox.root / "opt").exists()


def test_an_instance_that_serves_another_attempt_is_left_as_it_is(sandbox: Sandbox) -> None:
    sandbox.imds.script.items[ATTEMPT] = b"digits-7f3a.9"
    assert sandbox.boot().returncode == 1
    assert sandbox.calls == []


def test_the_newest_python_that_works_is_taken(sandbox: Sandbox) -> None:
    for name, text in {
        "python3.29": "#!/bin/bash\nexit 127\n",  # a shim of a version that is not installed
        "python3.14": f'#!/bin/bash\nexec {sys.executable} "$@"\n',
        "python3.11": f'#!/bin/bash\nexec {sys.executable} "$@"\n',
    }.items():
        (sandbox.bin / name).write_text(text)
        (sandbox.bin / name).chmod(0o755)
    assert f"using {sandbox.bin / 'python3.14'}" in sandbox.boot().stdout


def test_without_a_python_the_machine_ends(sandbox: Sandbox) -> None:
    (sandbox.bin / "python3").unlink()
    assert sandbox.boot().returncode == 1
    assert sandbox.calls[-1] == "shutdown -P now"


def test_nothing_of_the_sandbox_is_the_real_machine(sandbox: Sandbox) -> None:
    for tool in standins.NOTING:
        assert not os.path.lexists(sandbox.bin / tool)
