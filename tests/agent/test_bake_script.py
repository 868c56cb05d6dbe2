"""The user-data of `spotrunner bake` as a whole, and the NVMe part of the agents': run in a sandbox
of stand-ins against a real little HTTP server."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from spotrunner.agent.power import LAB_MARKER
from spotrunner.core.boot import Baking, baking_user_data
from tests.agent import standins
from tests.agent.imds_server import ATTEMPT, ImdsServer
from tests.agent.test_boot_script import ARCHIVE, Sandbox

BAKE = "bake:7f3a"
REPORT = "put/bake/7f3a.json"
DONE = {"digest": "sha256:" + "ab" * 32, "name": "busybox:1.36"}


def an_archive(said: Mapping[str, str], code: int = 0) -> bytes:
    """Where the puller says this."""
    text = f"import sys; print({json.dumps(dict(said))!r}); sys.exit({code})"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, body in {
            "spotrunner/__init__.py": "",
            "spotrunner/app/__init__.py": "",
            "spotrunner/app/baker.py": text,
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body.encode()))
    return out.getvalue()


class Bakery(Sandbox):
    def __init__(self, root: Path, imds: ImdsServer) -> None:
        super().__init__(root, imds)
        imds.script.items[ATTEMPT] = BAKE.encode()
        for tool in ("find", "truncate", "sync"):
            (self.bin / tool).symlink_to(Path("/usr/bin") / tool)
        for left in (
            "var/lib/cloud/instances/i-0abc/user-data.txt",
            "var/lib/cloud/instances/i-0abc/scripts/part-001",
            "etc/ssh/ssh_host_rsa_key",
            "root/.docker/config.json",
            "root/.ssh/authorized_keys",
            "var/log/journal/ab/system.journal",
            "var/log/syslog",
            "etc/machine-id",
            "var/lib/docker/layer",
        ):
            (root / left).parent.mkdir(parents=True, exist_ok=True)
            (root / left).write_text("something\n")

    def bake(self, archive: bytes) -> subprocess.CompletedProcess[str]:
        self.imds.script.files[ARCHIVE] = archive
        script = self.root / "user-data"
        script.write_text(
            baking_user_data(
                Baking(
                    bake=BAKE,
                    archive_url=f"{self.imds.url}/latest/{ARCHIVE}",
                    archive_sha256=hashlib.sha256(archive).hexdigest(),
                    report_url=f"{self.imds.url}/latest/{REPORT}?X-Amz-Signature=a&b='c'",
                    container="busybox:1.36",
                    longest_s=3600,
                )
            )
        )
        return self.run(script)

    @property
    def told(self) -> dict[str, str]:
        told: dict[str, str] = json.loads(self.imds.script.written[REPORT])
        return told


@pytest.fixture
def bakery(tmp_path: Path, imds_server: ImdsServer) -> Bakery:
    return Bakery(tmp_path, imds_server)


def test_what_was_pulled_is_told_when_the_disk_is_at_rest(bakery: Bakery) -> None:
    done = bakery.bake(an_archive(DONE))
    assert done.returncode == 0, done.stdout + done.stderr
    assert bakery.told == DONE
    assert bakery.calls[0] == "shutdown -P +60", "the timer comes first"
    assert bakery.calls[1:] == [
        "systemctl enable spotrunner-boot.service",
        "systemctl stop docker.socket docker.service containerd.service",
        "systemctl disable spotrunner-boot.service",
    ], "it stays for its image to be made, until the timer"


def test_the_image_has_the_agent_and_nothing_of_this_instance(bakery: Bakery) -> None:
    archive = an_archive(DONE)
    bakery.bake(archive)
    root = bakery.root
    home = root / "opt" / "spotrunner" / hashlib.sha256(archive).hexdigest()
    assert (home / "spotrunner" / "app" / "baker.py").exists()
    assert (root / "var/lib/docker/layer").exists()
    for gone in (
        "var/lib/cloud/instances/i-0abc/user-data.txt",
        "var/lib/cloud/instances/i-0abc/scripts",
        "etc/ssh/ssh_host_rsa_key",
        "root/.docker",
        "root/.ssh",
        "var/log/journal/ab",
        "var/lib/spotrunner",
        "etc/systemd/system/spotrunner-boot.service",
    ):
        assert not (root / gone).exists(), gone
    assert (root / "var/log/syslog").read_text() == ""
    assert (root / "etc/machine-id").read_text() == ""


def test_a_reboot_half_way_ends_it_at_once(bakery: Bakery) -> None:
    """It has forgotten the timer, and nobody may be there to end it."""
    bakery.bake(an_archive({"failed": "cut short"}, 1))
    assert "systemctl enable spotrunner-boot.service" in bakery.calls
    assert "WantedBy=multi-user.target" in bakery.unit.read_text()
    done = bakery.reboot()
    assert bakery.calls[0] == "shutdown -P +0"
    assert not any(call.startswith("systemctl") for call in bakery.calls)
    assert "baking" not in done.stdout


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        (an_archive({"failed": "manifest unknown"}, 1), {"failed": "manifest unknown"}),
        (
            an_archive({}, 1)[:-20],
            {"failed": "the agent's archive could not be unpacked"},
        ),
    ],
)
def test_a_failure_is_told_and_ends_the_machine(
    bakery: Bakery, archive: bytes, told: dict[str, str]
) -> None:
    assert bakery.bake(archive).returncode == 1
    assert bakery.told == told
    assert bakery.calls[-1] == "shutdown -P now", "it costs nothing more"


def test_a_machine_that_is_not_ours_is_left_as_it_is(bakery: Bakery) -> None:
    (bakery.root / LAB_MARKER).unlink()
    assert bakery.bake(an_archive(DONE)).returncode == 1
    assert bakery.calls == []
    assert (bakery.root / "etc/ssh/ssh_host_rsa_key").exists()


def test_an_instance_of_somebody_else_is_left_as_it_is(bakery: Bakery) -> None:
    bakery.imds.script.items[ATTEMPT] = b"digits-7f3a.1"
    assert bakery.bake(an_archive(DONE)).returncode == 1
    assert bakery.calls == []
    assert (bakery.root / "etc/ssh/ssh_host_rsa_key").exists()


# -- an instance's own NVMe --------------------------------------------------------------------

_MOUNTPOINT = """\
#!/bin/bash
grep -qxF "$2" "{folder}/mounted"
"""
_MOUNT = """\
#!/bin/bash
echo "mount $*" >> "{folder}/calls"
echo "$3" >> "{folder}/mounted"
"""
_DOCKER = """\
#!/bin/bash
echo "docker $*" >> "{folder}/calls"
[ "$1" = images ] && cat "{folder}/images"
exit 0
"""


class Fast(Sandbox):
    """A machine with an NVMe; `images` are docker's."""

    def __init__(self, root: Path, imds: ImdsServer) -> None:
        super().__init__(root, imds)
        for tool in ("cp",):
            (self.bin / tool).symlink_to(Path("/usr/bin") / tool)
        for name, text in {
            "mountpoint": _MOUNTPOINT,
            "mount": _MOUNT,
            "docker": _DOCKER,
        }.items():
            body = text.replace("{folder}", str(self.tools))
            (self.tools / name).write_text(body)
            (self.tools / name).chmod(0o755)
        (self.tools / "images").write_text("")
        (root / "opt/dlami/nvme").mkdir(parents=True)
        (self.tools / "mounted").write_text(f"{root}/opt/dlami/nvme\n")
        (root / "var/lib/docker").mkdir(parents=True)
        (root / "var/lib/docker/engine-id").write_text("id")

    @property
    def moves(self) -> list[str]:
        kept = ("mount", "systemctl stop", "systemctl start")
        root = str(self.root)
        return [call.replace(root, "") for call in self.calls if call.startswith(kept)]


@pytest.fixture
def fast(tmp_path: Path, imds_server: ImdsServer) -> Fast:
    return Fast(tmp_path, imds_server)


def test_docker_goes_to_the_nvme_before_it_has_anything(fast: Fast) -> None:
    assert fast.boot().returncode == 0
    assert fast.moves == [
        "systemctl stop docker.socket docker.service containerd.service",
        "mount --bind /opt/dlami/nvme/spotrunner-docker /var/lib/docker",
        "mount --bind /opt/dlami/nvme/spotrunner-containerd /var/lib/containerd",
        "systemctl start containerd.service docker.socket docker.service",
    ]
    moved = fast.root / "opt/dlami/nvme/spotrunner-docker/engine-id"
    assert moved.read_text() == "id", "what docker had comes along"
    started = fast.calls.index(fast.started[0])
    assert started > fast.calls.index(fast.moves[-1]), "the agent finds it as it will stay"


def test_images_that_were_baked_stay_where_they_are(fast: Fast) -> None:
    (fast.tools / "images").write_text("0123456789ab\n")
    assert fast.boot().returncode == 0
    assert fast.moves == []
    assert len(fast.started) == 1


def test_without_an_nvme_nothing_moves(fast: Fast) -> None:
    (fast.tools / "mounted").write_text("")
    assert fast.boot().returncode == 0
    assert fast.moves == []


def test_after_a_reboot_docker_finds_on_the_nvme_what_it_had(fast: Fast) -> None:
    fast.boot()
    layer = fast.root / "opt/dlami/nvme/spotrunner-docker/layer"
    layer.write_text("pulled")
    (fast.tools / "mounted").write_text(f"{fast.root}/opt/dlami/nvme\n")
    assert fast.reboot().returncode == 0
    assert len([call for call in fast.moves if call.startswith("mount")]) == 2
    assert layer.read_text() == "pulled"


def test_docker_that_cannot_be_moved_is_started_again(fast: Fast) -> None:
    (fast.tools / "mount").write_text("#!/bin/bash\nexit 32\n")
    assert fast.boot().returncode == 0
    assert fast.moves[-1] == "systemctl start containerd.service docker.socket docker.service"
    assert len(fast.started) == 1


def test_nothing_of_the_sandbox_is_the_real_machine(fast: Fast) -> None:
    for tool in (*standins.NOTING, "mount", "mountpoint", "docker"):
        assert not (fast.bin / tool).exists()
