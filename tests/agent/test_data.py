"""Data sets on their way to the disk, by the real rclone from an S3 on loopback."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spotrunner.adapters.memory import MemoryBuckets
from spotrunner.agent.data import DataSets, Uploads
from spotrunner.agent.folders import Folders, files_below
from spotrunner.agent.mounts import Mounts
from spotrunner.agent.rclone import (
    PARTIAL_SUFFIX,
    TRANSFERS,
    DiskFull,
    Moved,
    Place,
    Rclone,
    meaning,
    moved_of,
)
from spotrunner.core.figures import Copying
from spotrunner.core.model import DataSource
from spotrunner.ports import GaveWay, Misconfigured, NotAuthorized, Unavailable
from tests.agent.rclone_binary import rclone_binary
from tests.agent.s3_server import KEYS, RESET, S3Server
from tests.agent.world import Bucket, HandClock, a_spec

SET = {f"digits/part-{n}.npz": bytes([n]) * 1000 for n in range(6)}
SOURCE = DataSource(source="s3://sets/digits/", target="digits", region="us-east-1")


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rclone_binary(tmp_path_factory.mktemp("bin"))


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


class Disk:
    """The data sets of one attempt, and what was told of them."""

    def __init__(self, root: Path, binary: Path, url: str) -> None:
        self.folders = Folders(root=root, memory=root.with_name("run") / root.name)
        self.folders.make()
        self.told: list[Copying] = []
        rclone = Rclone(
            binary=binary,
            pid_file=self.folders.rclone_pid,
            endpoint_url=url,
            environment=KEYS,
            again_s=0.01,
            told_every_s=0.05,
        )
        self.data = DataSets(
            buckets=Bucket().buckets,
            folders=self.folders,
            rclone=rclone,
            mounts=Mounts(attempt="digits.1", folders=self.folders, rclone=rclone),
            told=self.told.append,
            margin_bytes=0,
        )

    def fetch(self, *sources: DataSource) -> None:
        self.data.fetch(a_spec(data=sources or (SOURCE,)))

    @property
    def files(self) -> dict[str, bytes]:
        return {name: path.read_bytes() for name, path in files_below(self.folders.data)}


@pytest.fixture
def disk(tmp_path: Path, binary: Path, s3: S3Server) -> Disk:
    return Disk(tmp_path / "attempt", binary, s3.url)


def test_data_fills_its_target_and_is_not_fetched_twice(s3: S3Server, disk: Disk) -> None:
    beside = {"digits/": b"", "digits": b"no folder", "other/no.npz": b"no"}
    s3.put("sets", {**SET, "digits/deep/er.npz": b"deep", **beside})
    disk.fetch()
    assert disk.files == {**SET, "digits/deep/er.npz": b"deep"}
    assert set(s3.asked("GET").values()) == {1}, "one request an object"
    assert not [path for how, path in s3.seen if how == "HEAD"]
    s3.seen.clear()
    disk.fetch()
    assert s3.asked("GET") == {}


def test_what_a_copy_has_done_is_told(s3: S3Server, disk: Disk) -> None:
    s3.put("sets", SET)
    disk.fetch(dataclasses.replace(SOURCE, bytes=6000))
    last = disk.told[-1]
    assert last.source == SOURCE.source
    assert (last.bytes, last.total_bytes, last.files, last.total_files) == (6000, 6000, 6, 6)


def test_a_copy_that_nobody_needs_any_more_is_ended(s3: S3Server, disk: Disk) -> None:
    s3.put("sets", SET)
    with pytest.raises(GaveWay):
        disk.data.fetch(a_spec(data=(SOURCE,)), lambda: False)
    assert not disk.folders.rclone_pid.exists(), "it left no child at work"


def test_what_is_there_counts_as_copied(s3: S3Server, disk: Disk) -> None:
    s3.put("sets", SET)
    there = disk.folders.data / "digits"
    there.mkdir()
    (there / "part-0.npz").write_bytes(SET["digits/part-0.npz"])
    disk.fetch()
    last = disk.told[-1]
    assert (last.bytes, last.total_bytes, last.files, last.total_files) == (6000, 6000, 6, 6)
    assert "/sets/digits/part-0.npz" not in s3.asked("GET")


def test_two_sources_have_a_folder_each(s3: S3Server, disk: Disk) -> None:
    s3.put("sets", SET)
    s3.put("more", {"a/b/c.bin": b"c"})
    disk.fetch(SOURCE, DataSource(source="s3://more/a/", target="x/y", region="us-east-1"))
    assert disk.files == {**SET, "x/y/b/c.bin": b"c"}


@pytest.mark.parametrize("size", ["short", "none"])
def test_a_file_that_is_not_whole_is_fetched_again(s3: S3Server, disk: Disk, size: str) -> None:
    s3.put("sets", SET)
    there = disk.folders.data / "digits"
    there.mkdir()
    (there / "part-0.npz").write_bytes(b"" if size == "none" else b"\x00" * 999)
    disk.fetch()
    assert disk.files == SET


# -- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["InternalError", "SlowDown", RESET, "NoSuchKey"])
def test_a_fault_that_passes_is_outlived(s3: S3Server, disk: Disk, fault: str) -> None:
    s3.put("sets", SET)
    s3.fails = {"/sets/digits/part-3.npz": [fault, fault], "/sets": [fault]}
    if fault in (RESET, "NoSuchKey"):
        s3.fails.pop("/sets")
    disk.fetch()
    assert disk.files == SET


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("AccessDenied", Misconfigured, "s3:GetObject"),
        ("InvalidObjectState", Misconfigured, "restore them first"),
        ("ExpiredToken", Unavailable, "ExpiredToken"),
        ("NoSuchKey", Unavailable, "part-3.npz"),
    ],
)
def test_a_fault_that_stays_is_told_by_its_meaning(
    s3: S3Server, disk: Disk, fault: str, kind: type[Exception], said: str
) -> None:
    s3.put("sets", SET)
    s3.fails = {"/sets/digits/part-3.npz": [fault] * 99}
    with pytest.raises(kind, match=said):
        disk.fetch()
    assert "digits/part-3.npz" not in disk.files
    s3.fails.clear()
    s3.seen.clear()
    disk.fetch()
    assert disk.files == SET
    assert list(s3.asked("GET")) == ["/sets/digits/part-3.npz"], "the rest was there"


def test_bytes_that_are_not_those_of_the_digest_are_no_data(s3: S3Server, disk: Disk) -> None:
    """moto gives the ETag of what was put; the body is another."""
    s3.put("sets", SET)
    client = s3.client
    from moto.s3.models import s3_backends

    key = s3_backends["123456789012"]["aws"].buckets["sets"].keys["digits/part-1.npz"]
    key._value_buffer.seek(0)
    key._value_buffer.write(b"\xff")
    client.close()
    with pytest.raises(Unavailable, match="part-1"):
        disk.fetch()
    assert "digits/part-1.npz" not in disk.files


def test_a_prefix_without_data_is_said(s3: S3Server, disk: Disk) -> None:
    s3.put("sets", {"other/no.npz": b"no"})
    with pytest.raises(Misconfigured, match="there is nothing at s3://sets/digits/"):
        disk.fetch()


def test_a_bucket_that_is_not_there_is_said(s3: S3Server, disk: Disk) -> None:
    with pytest.raises(Misconfigured, match="there is no bucket sets"):
        disk.fetch()


def test_a_bucket_that_the_role_may_not_ask_for_its_region_is_said(disk: Disk) -> None:
    class Barred(MemoryBuckets):
        def region(self, bucket: str) -> str:
            raise NotAuthorized(f"HeadBucket of {bucket}: 403")

    disk.data = dataclasses.replace(disk.data, buckets=Barred(HandClock()))
    with pytest.raises(Misconfigured, match=r"s3://sets/digits/: grant .* s3:ListBucket .*403"):
        disk.fetch(dataclasses.replace(SOURCE, region=None))


def test_a_name_cannot_lead_out_of_the_folder(s3: S3Server, disk: Disk) -> None:
    s3.put("sets", {"digits/../../evil.npz": b"evil", "digits/a.npz": b"a"})
    disk.fetch()
    written = list(disk.folders.root.parent.rglob("evil.npz"))
    assert all(disk.folders.data / "digits" in path.resolve().parents for path in written)
    assert disk.files["digits/a.npz"] == b"a"


@pytest.mark.parametrize("target", ["../x", "/x", "", "a/../../x"])
def test_a_target_cannot_lead_out_of_the_data_folder(disk: Disk, target: str) -> None:
    with pytest.raises(Misconfigured, match="leads out"):
        disk.fetch(dataclasses.replace(SOURCE, target=target))


# -- the disk ----------------------------------------------------------------------------------


def test_data_that_does_not_fit_is_refused_before_a_byte_of_it(s3: S3Server, disk: Disk) -> None:
    s3.put("sets", SET)
    with pytest.raises(Misconfigured) as told:
        disk.fetch(dataclasses.replace(SOURCE, bytes=10**18))
    assert "1000000000.0 GB of it are missing" in str(told.value)
    assert "resources.disk_gib, now 100" in str(told.value)
    assert s3.seen == {}


def test_data_that_nobody_has_counted_is_refused_when_the_listing_shows_it(
    s3: S3Server, disk: Disk
) -> None:
    s3.put("sets", {f"digits/{n}.npz": b"n" * 1000 for n in range(TRANSFERS + 5)})
    waits = threading.Event()
    s3.before = lambda method, path: _hold(waits) if path.endswith(".npz") else None
    full = dataclasses.replace(disk.data, margin_bytes=10**18)
    with pytest.raises(Misconfigured, match="does not fit"):
        full.fetch(a_spec(data=(SOURCE,)))
    waits.set()
    assert disk.files == {}


def test_what_is_there_already_needs_no_room(s3: S3Server, disk: Disk) -> None:
    s3.put("sets", SET)
    disk.fetch()
    full = dataclasses.replace(disk.data, margin_bytes=10**18)
    full.fetch(a_spec(data=(dataclasses.replace(SOURCE, bytes=6000),)))


@pytest.mark.root
def test_a_disk_that_fills_up_on_the_way(s3: S3Server, tmp_path: Path, binary: Path) -> None:
    """Somebody else writes too: the check before saw room enough."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", small], check=True)
    try:
        disk = Disk(small / "attempt", binary, s3.url)
        s3.put("sets", {"digits/a.npz": b"a" * 3_000_000, "digits/b.npz": b"b" * 100})
        s3.before = lambda method, path: _fill(small) if path.endswith("a.npz") else None
        with pytest.raises(Misconfigured, match=r"does not fit .* larger disk"):
            disk.fetch()
        assert "digits/a.npz" not in disk.files
        (small / "others").unlink()
        s3.before = lambda method, path: None
        disk.fetch()
        assert len(disk.files["digits/a.npz"]) == 3_000_000
    finally:
        subprocess.run(["umount", small], check=True)


def _hold(waits: threading.Event) -> None:
    waits.wait(30)


def _fill(folder: Path) -> None:
    (folder / "others").write_bytes(bytes(2_500_000))


# -- an agent that is killed -------------------------------------------------------------------

_AGENT = """
import pathlib, sys
from spotrunner.agent.rclone import Place, Rclone
root, pid_file, binary = map(pathlib.Path, sys.argv[1:4])
url, keys = sys.argv[4], dict(part.split("=") for part in sys.argv[5:])
rclone = Rclone(binary=binary, pid_file=pid_file, endpoint_url=url, environment=keys)
place = Place(bucket="sets", prefix="digits/", region="us-east-1")
rclone.down(place, root / "data" / "digits", lambda _: None)
"""


def test_an_agent_that_comes_back_ends_the_old_copy_and_fetches_nothing_twice(
    s3: S3Server, disk: Disk, binary: Path
) -> None:
    s3.put("sets", SET)
    held, waits = threading.Event(), threading.Event()

    def hold(method: str, path: str) -> None:
        if path.endswith("part-5.npz") and not held.is_set():
            _await(lambda: len(disk.files) >= 5)
            held.set()
            waits.wait(30)

    s3.before = hold
    keys = [f"{name}={value}" for name, value in KEYS.items()]
    root, pid_file = disk.folders.root, disk.folders.rclone_pid
    agent = subprocess.Popen([sys.executable, "-c", _AGENT, root, pid_file, binary, s3.url, *keys])
    try:
        assert held.wait(30)
        pid = int(pid_file.read_text())
        agent.kill()
        agent.wait()
        assert Path(f"/proc/{pid}").exists(), "the copy has outlived its agent"
        (disk.folders.data / "digits" / f"part-5.npz.1234{PARTIAL_SUFFIX}").write_bytes(b"half")
        s3.seen.clear()
        s3.before = lambda method, path: None
        disk.fetch()
    finally:
        waits.set()
    assert not _runs(pid)
    assert disk.files == SET
    assert list(s3.asked("GET")) == ["/sets/digits/part-5.npz"]


def test_a_process_that_only_has_the_number_is_left_alone(disk: Disk, s3: S3Server) -> None:
    s3.put("sets", SET)
    other = subprocess.Popen(["sleep", "60"])
    try:
        disk.folders.rclone_pid.parent.mkdir(parents=True)
        disk.folders.rclone_pid.write_text(str(other.pid))
        disk.fetch()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def _runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def _await(there: Callable[[], bool]) -> None:
    pause = threading.Event()
    while not there():
        pause.wait(0.02)


# -- outputs -----------------------------------------------------------------------------------


def test_many_files_go_up_at_once_and_need_no_second_look(s3: S3Server, disk: Disk) -> None:
    s3.put("home", {})
    folder = disk.folders.outputs
    for n in range(20):
        (folder / f"part {n}.bin").write_bytes(bytes([n]) * 100)
    (folder / "left-out.bin").touch()
    names = [f"part {n}.bin" for n in range(20)]
    place = Place(bucket="home", prefix="jobs/d/outputs/1/", region="us-east-1")
    disk.data.rclone.up(folder, names, place)
    client = s3.client
    kept = client.list_objects_v2(Bucket="home", Prefix=place.prefix)["Contents"]
    client.close()
    assert sorted(it["Key"] for it in kept) == sorted(place.prefix + name for name in names)
    assert set(s3.asked("PUT").values()) == {1}
    assert s3.asked("HEAD") == s3.asked("GET") == {}


def test_an_upload_needs_no_room_on_the_disk(s3: S3Server, disk: Disk) -> None:
    """The trainer may have left none: what the copy itself needs lies in memory."""
    s3.put("home", {})
    (disk.folders.outputs / "a.bin").write_bytes(b"a")
    memory, seen = disk.folders.memory, set[str]()
    assert memory is not None
    before = set(disk.folders.root.iterdir())

    def look(method: str, _path: str) -> None:
        assert set(disk.folders.root.iterdir()) == before
        seen.update(path.name for path in memory.iterdir())

    s3.before = look
    uploads = Uploads(rclone=disk.data.rclone, bucket="home", region="us-east-1")
    uploads(disk.folders.outputs, ["a.bin"], "jobs/d/outputs/1/", lambda: True)
    assert seen == {"rclone.pid", "rclone.names"}


def test_an_upload_gives_way_to_what_is_more_urgent(s3: S3Server, disk: Disk) -> None:
    s3.put("home", {})
    waits = threading.Event()
    s3.before = lambda method, path: _hold(waits) if method == "PUT" else None
    (disk.folders.outputs / "a.bin").write_bytes(b"a")
    uploads = Uploads(rclone=disk.data.rclone, bucket="home", region="us-east-1")
    with pytest.raises(GaveWay):
        uploads(disk.folders.outputs, ["a.bin"], "jobs/d/outputs/1/", lambda: False)
    waits.set()


# -- what rclone says --------------------------------------------------------------------------


def test_nothing_secret_is_among_the_arguments(disk: Disk) -> None:
    arguments = disk.data.rclone.command("copy", "spot:sets/digits", "there")
    assert not any(value in argument for argument in arguments for value in ("testing",))


def test_on_an_instance_the_keys_come_from_its_own_metadata_service(tmp_path: Path) -> None:
    imds = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}
    rclone = Rclone(binary=tmp_path / "rclone", pid_file=tmp_path / "pid", environment=imds)
    variables = rclone.variables("eu-west-1")
    assert variables["RCLONE_CONFIG_SPOT_ENV_AUTH"] == "true"
    assert variables["RCLONE_CONFIG_SPOT_REGION"] == "eu-west-1"
    assert variables["RCLONE_CONFIG_SPOT_PROVIDER"] == "AWS"
    assert "RCLONE_CONFIG_SPOT_ENDPOINT" not in variables
    assert variables["AWS_SHARED_CREDENTIALS_FILE"] == "/dev/null"
    assert imds.items() <= variables.items()


PLACE = Place(bucket="b", prefix="p/", region="us-east-1")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("a.bin: write /data/a.bin: no space left on device", DiskFull),
        ("a.bin: write /data/a.bin: disk quota exceeded", DiskFull),
        ("a.bin: Failed to copy: preallocate: file too big for remaining disk space", DiskFull),
        ("x: api error AccessDenied: User is not authorized to perform", Misconfigured),
        ("x: https response error StatusCode: 403, api error RequestTimeTooSkewed", Unavailable),
        ("x: api error ExpiredToken: The provided token has expired", Unavailable),
        ("x: api error NoSuchBucket: The specified bucket does not exist", Misconfigured),
        ("x: dial tcp 127.0.0.1:9: connect: connection refused", Unavailable),
        ("x: api error SlowDown: Please reduce your request rate.", Unavailable),
        ("fatal error: runtime: cannot allocate memory", Unavailable),
    ],
)
def test_what_an_error_means(line: str, kind: type[Exception]) -> None:
    told = meaning(PLACE, [line, "Attempt 3/3 failed with 1 errors", "Failed to copy: it"])
    assert type(told) is kind


def test_a_child_that_says_nothing_is_told_as_such() -> None:
    assert "said nothing" in str(meaning(PLACE, []))


def test_totals_that_are_not_known_yet_are_zero() -> None:
    none = Moved(bytes=0, total_bytes=0, files=0, total_files=0, bytes_s=0.0)
    assert moved_of({"eta": None, "speed": None}) == none
