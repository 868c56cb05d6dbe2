"""The user-data as a whole, run in a sandbox of stand-ins against a real little HTTP server."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from spotrunner.agent.power import LAB_MARKER
from spotrunner.core.boot import Boot, user_data
from tests.agent import standins
from tests.agent.imds_server import ATTEMPT, ImdsServer

ME = "digits-7f3a.4"
ARCHIVE = "agent.tar.gz"


def now_s() -> float:
    """What `date` says: the script under test compares with it."""
    return time.time()  # noqa: TID251


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
        for tool in (
            "bash",
            "date",
            "grep",
            "curl",
            "mkdir",
            "tar",
            "gzip",
            "mv",
            "rm",
            "sleep",
            "cat",
        ):
            (self.bin / tool).symlink_to(Path("/usr/bin") / tool)
        (self.bin / "sha256sum").symlink_to("/usr/bin/sha256sum")
        (self.bin / "python3").symlink_to(sys.executable)

    def boot(self, *, sha256: str | None = None) -> subprocess.CompletedProcess[str]:
        script = self.root / "user-data"
        script.write_text(user_data(self.rendered(sha256)))
        return self.run(script)

    def rendered(self, sha256: str | None) -> Boot:
        return Boot(
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

    @property
    def unit(self) -> Path:
        return self.root / "etc" / "systemd" / "system" / "spotrunner-boot.service"

    @property
    def paid_until(self) -> Path:
        return self.root / "var" / "lib" / "spotrunner" / f"{ME}.paid_until"

    def reboot(self) -> subprocess.CompletedProcess[str]:
        """As systemd does it by the unit that the first boot has left; the calls begin anew."""
        (self.tools / "calls").unlink()
        (start,) = re.findall(r"^ExecStart=/bin/bash (.*)$", self.unit.read_text(), re.MULTILINE)
        return self.run(Path(start))

    def run(self, script: Path) -> subprocess.CompletedProcess[str]:
        # Waiting is not what is tested here.
        (self.bin / "sleep").unlink()
        (self.bin / "sleep").symlink_to("/usr/bin/true")
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
            cwd=self.root,
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
    assert "--property=StartLimitIntervalSec=0" in start
    assert "--property=OOMScoreAdjust=-900" in start, "the trainer goes first"
    assert "--property=LimitMEMLOCK=infinity" in start, "containers get no more than it has"
    assert "--property=StandardOutput=journal+console" in start
    assert "--property=StandardError=journal+console" in start
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


def test_a_reboot_arms_the_timer_to_what_was_paid_and_starts_the_agent(sandbox: Sandbox) -> None:
    assert sandbox.boot().returncode == 0
    assert "systemctl enable spotrunner-boot.service" in sandbox.calls
    assert "WantedBy=multi-user.target" in sandbox.unit.read_text()
    sandbox.paid_until.write_text(f"{int(now_s()) + 17 * 60 + 30}\n")
    sandbox.imds.script.files.clear()  # the presigned address ran out long ago
    done = sandbox.reboot()
    assert done.returncode == 0, done.stdout + done.stderr
    assert sandbox.calls[0] == "shutdown -P +17"
    assert len(sandbox.started) == 1


def test_a_reboot_before_the_first_order_has_the_rest_of_the_first_step(sandbox: Sandbox) -> None:
    sandbox.boot()
    left_s = int(sandbox.paid_until.read_text()) - now_s()
    assert 1800 - 70 < left_s <= 1800
    sandbox.reboot()
    assert sandbox.calls[0] in ("shutdown -P +30", "shutdown -P +29")


@pytest.mark.parametrize("ago_s", [5, 4000])
def test_a_reboot_after_the_paid_time_ends_at_once(sandbox: Sandbox, ago_s: int) -> None:
    sandbox.boot()
    sandbox.paid_until.write_text(f"{int(now_s()) - ago_s}\n")
    sandbox.reboot()
    assert sandbox.calls[0] == "shutdown -P +0"


def test_a_paid_time_that_cannot_be_read_is_the_first_step(sandbox: Sandbox) -> None:
    sandbox.boot()
    sandbox.paid_until.write_text("08x\n")
    sandbox.reboot()
    assert sandbox.calls[0] == "shutdown -P +30"


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
