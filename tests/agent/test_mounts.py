"""Data sets that are read where they are: the real rclone, the kernel's FUSE, an S3 on loopback.
systemd-run and systemctl are stand-ins that start a child and end it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotrunner.agent.folders import Folders
from spotrunner.agent.mounts import Mounts, detach_below, mounted_below
from spotrunner.agent.rclone import Place, Rclone
from spotrunner.ports import Misconfigured, Unavailable
from tests.agent.rclone_binary import rclone_binary
from tests.agent.s3_server import KEYS, S3Server

SET = {f"digits/d{n % 3}/part-{n}.npz": bytes([n]) * 1000 for n in range(9)}
PLACE = Place(bucket="sets", prefix="digits/", region="us-east-1")

_SYSTEMD_RUN = """\
#!/bin/bash
here="${0%/*}"
variables=()
while [[ "$1" == --* ]]; do
  case "$1" in
    --setenv=*) variables+=("${1#--setenv=}") ;;
    --unit=*) unit="${1#--unit=}" ;;
  esac
  shift
done
setsid env -i "${variables[@]}" "$@" > "$here/$unit.log" 2>&1 < /dev/null &
echo $! > "$here/$unit.service.pid"
"""
_SYSTEMCTL = """\
#!/bin/bash
here="${0%/*}"
pid="$(cat "$here/$2.pid" 2>/dev/null)" || exit 5
kill -TERM "$pid" 2>/dev/null
while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
"""


def _can_mount() -> str | None:
    """Why it cannot be tried here."""
    if os.geteuid() != 0:
        return "needs root"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "needs /dev/fuse"
    return None if shutil.which("fusermount3") else "needs fusermount3 (apt install fuse3)"


@pytest.fixture
def _can_be_tried() -> None:
    """Where they are required, what is not tried has not passed."""
    missing = _can_mount()
    if missing is None:
        return
    if os.environ.get("SPOTRUNNER_ROOT_TESTS") == "required":
        pytest.fail(f"{missing}, and SPOTRUNNER_ROOT_TESTS is `required`")
    pytest.skip(missing)


needs_fuse = pytest.mark.usefixtures("_can_be_tried")


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rclone_binary(tmp_path_factory.mktemp("bin"))


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        server.put("sets", SET)
        yield server


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tools"
    folder.mkdir()
    for name, script in (("systemd-run", _SYSTEMD_RUN), ("systemctl", _SYSTEMCTL)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def root() -> Iterator[Path]:
    """pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder, "an attempt")  # mountinfo writes a blank in octal


@pytest.fixture
def mounts(root: Path, binary: Path, s3: S3Server, tools: Path) -> Iterator[Mounts]:
    folders = Folders(root=root)
    folders.make()
    rclone = Rclone(
        binary=binary,
        pid_file=folders.root / "rclone.pid",
        endpoint_url=s3.url,
        environment=KEYS,
    )
    mounts = Mounts(attempt="digits.1", folders=folders, rclone=rclone)
    yield mounts
    mounts.unmount_all()


def _read(folder: Path) -> dict[str, bytes]:
    return {
        f"digits/{path.relative_to(folder)}": path.read_bytes()
        for path in sorted(folder.rglob("*.npz"))
    }


@pytest.mark.root
@needs_fuse
def test_a_mount_shows_the_set_and_takes_nothing(mounts: Mounts, s3: S3Server) -> None:
    target = mounts.folders.data / "digits"
    mounts.mount(PLACE, target)
    assert s3.asked("GET") == {}, "nothing is read before somebody reads it"
    assert _read(target) == SET
    with pytest.raises(OSError, match="Read-only"):
        (target / "d0" / "new.npz").write_bytes(b"x")
    mounts.unmount_all()
    assert list(mounted_below(mounts.folders.data)) == []


@pytest.mark.root
@needs_fuse
def test_another_user_reads_it_too(mounts: Mounts) -> None:
    target = mounts.folders.data / "digits"
    mounts.mount(PLACE, target)
    done = subprocess.run(
        ["head", "-c", "1000", "d2/part-2.npz"],
        cwd=target,
        user=10001,
        group=10001,
        capture_output=True,
        check=False,
    )
    assert done.stdout == SET["digits/d2/part-2.npz"], done.stderr


@pytest.mark.root
@needs_fuse
def test_what_was_read_is_read_from_the_disk_the_next_time(mounts: Mounts, s3: S3Server) -> None:
    target = mounts.folders.data / "digits"
    mounts.mount(PLACE, target)
    _read(target)
    s3.seen.clear()
    _read(target)
    assert s3.seen == {}


@pytest.mark.root
@needs_fuse
def test_an_agent_that_comes_back_finds_the_mount_as_it_was(mounts: Mounts, tools: Path) -> None:
    target = mounts.folders.data / "digits"
    mounts.mount(PLACE, target)
    (pid_file,) = tools.glob("*.pid")
    before = pid_file.read_text()
    mounts.mount(PLACE, target)
    assert pid_file.read_text() == before


@pytest.mark.root
@needs_fuse
def test_a_mount_whose_server_has_died_is_made_anew(mounts: Mounts, tools: Path) -> None:
    target = mounts.folders.data / "digits"
    mounts.mount(PLACE, target)
    (pid_file,) = tools.glob("*.pid")
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGKILL)
    _await_death(pid)
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        os.listdir(target)
    mounts.mount(PLACE, target)
    assert _read(target) == SET


@pytest.mark.root
@needs_fuse
def test_a_machine_without_power_leaves_no_mount_on_its_host(
    mounts: Mounts, tools: Path, root: Path
) -> None:
    """The lab's instances are processes, and their mounts the host's."""
    mounts.mount(PLACE, mounts.folders.data / "digits")
    (pid_file,) = tools.glob("*.pid")
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGKILL)
    _await_death(pid)
    detach_below(root)
    assert list(mounted_below(root)) == []
    shutil.rmtree(root)


@pytest.mark.root
@needs_fuse
def test_a_prefix_without_data_is_said(mounts: Mounts) -> None:
    nothing = Place(bucket="sets", prefix="nothing/", region="us-east-1")
    with pytest.raises(Misconfigured, match="nothing at s3://sets/nothing/"):
        mounts.mount(nothing, mounts.folders.data / "digits")
    assert list(mounted_below(mounts.folders.data)) == []


@pytest.mark.root
@needs_fuse
def test_the_cache_is_bounded_by_a_share_of_the_disk(mounts: Mounts) -> None:
    command = mounts.command(PLACE, mounts.folders.data / "a" / "b")
    most = command[command.index("--vfs-cache-max-size") + 1]
    free = shutil.disk_usage(mounts.folders.root).free
    assert 0.4 * free < int(most.removesuffix("B")) < 0.6 * free
    assert command[command.index("--cache-dir") + 1].endswith("/data-cache/a-b")
    assert "--read-only" in command


def test_without_fuse_the_way_out_is_said(mounts: Mounts, tmp_path: Path) -> None:
    without = dataclasses.replace(mounts, fuse=tmp_path / "no-such-device")
    with pytest.raises(Misconfigured, match="fuse3, or mode: copy"):
        without.mount(PLACE, mounts.folders.data / "digits")


def test_a_mount_that_does_not_come_says_what_rclone_said(
    mounts: Mounts, tools: Path, tmp_path: Path
) -> None:
    """Where the unit ends at once: its log says why, and nobody waits for long."""
    (tools / "systemd-run").write_text(
        "#!/bin/bash\n"
        "while [[ $1 != --log-file ]]; do shift; done; echo 'no mount today' > \"$2\"\n"
    )
    (tools / "fusermount3").write_text("#!/bin/bash\n")
    (tools / "fusermount3").chmod(0o755)
    hasty = dataclasses.replace(mounts, fuse=tmp_path, answers_s=0.1)
    with pytest.raises(Unavailable, match="no mount today"):
        hasty.mount(PLACE, mounts.folders.data / "digits")


def _await_death(pid: int) -> None:
    pause = threading.Event()
    while True:
        try:
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return
        except OSError:
            return
        pause.wait(0.02)
