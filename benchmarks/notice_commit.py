"""A checkpoint on the disk until HEAD names it, beside a bare boto3 upload of the same bytes.

Both run in a process of their own against one server, alternately, so that whatever else the
machine does meets both. The server is `rclone serve s3`: it speaks S3 and stores what it gets, and
ignores conditions, which cost S3 nothing either.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config

from spotrunner.adapters.aws.objects import S3Buckets
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.agent.carry import Carried
from spotrunner.agent.checkpoints import Checkpoints
from spotrunner.agent.folders import Folders, Keys
from spotrunner.agent.holder import Holder
from spotrunner.app import wheel
from spotrunner.core.catalogue import Architecture

REGION = "us-east-1"
BUCKET = "home"
MB = 1_000_000
_BLOCK = secrets.token_bytes(1 << 22)
# The settings of a bare upload that are tried; the best one is what we are held against.
SETTINGS = ((8, 10), (16, 8), (16, 16), (64, 8))
SMALL_FILES = {"variables.index": 40_000, "state.json": 2_000}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Of one upload, in its own process."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def lay(folder: Path, size_bytes: int, files: int) -> float:
    """A checkpoint as tf.train writes it: its data in one file or several, and small ones. Returns
    how long it took until it was on the disk: the trainer's own save."""
    folder.mkdir(parents=True)
    began_s = time.perf_counter()
    for number in range(files):
        _write(folder / f"variables.data-{number:05d}-of-{files:05d}", size_bytes // files)
    for name, small_bytes in SMALL_FILES.items():
        _write(folder / name, small_bytes)
    return time.perf_counter() - began_s


def _write(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        left = size_bytes
        while left:
            left -= file.write(_BLOCK[:left])
        file.flush()
        os.fsync(file.fileno())


# -- the two that are compared: each is a child process ------------------------------------------


def bare(url: str, root: Path, part_mib: int, threads: int) -> Callable[[Path], None]:
    """What boto3 does by itself, all files at once."""
    client = boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=url,
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=threads),
    )
    settings = TransferConfig(
        preferred_transfer_client="classic",
        multipart_threshold=part_mib << 20,
        multipart_chunksize=part_mib << 20,
        max_concurrency=threads,
    )

    def upload(folder: Path) -> None:
        with create_transfer_manager(client, settings) as transfers:
            for path in sorted(folder.iterdir()):
                transfers.upload(str(path), BUCKET, f"bare/{path.name}")

    return upload


def ours(url: str, root: Path) -> Callable[[Path], None]:
    """Upload with digests, manifest, and the swap of HEAD."""
    objects = S3Buckets(Aws(endpoint_url=url), REGION).objects(BUCKET)
    heads = ObjectHeads(objects)
    job = f"bench-{secrets.token_hex(4)}"
    checkpoints = Checkpoints(
        objects=objects,
        heads=heads,
        folders=Folders(root=root),
        keys=Keys(job_id=job, attempt=f"{job}.1", generation=1),
        nonce=lambda: secrets.token_hex(4),
        carried=Carried(),
    )
    holder = Holder(
        heads=heads,
        job_id=job,
        attempt=f"{job}.1",
        generation=1,
        nonce=lambda: secrets.token_hex(8),
    )

    def commit(folder: Path) -> None:
        step = int(folder.name)
        assert holder.commit(checkpoints.store(step), final=False).step == step

    return commit


def child(what: str, url: str, place: str, *numbers: str) -> None:
    """Prints a Measured. An agent has commits behind it: both have sent something small before."""
    root = Path(place)
    folders = sorted((root / "checkpoints").iterdir())
    deed = ours(url, root) if what == "ours" else bare(url, root, *map(int, numbers))
    deed(folders[0])
    began_s, used_s = time.perf_counter(), time.process_time()
    deed(folders[1])
    found = {
        "wall_s": time.perf_counter() - began_s,
        "cpu_s": time.process_time() - used_s,
        "peak_mb": _peak_mb(),
    }
    print(json.dumps(found))


def _peak_mb() -> float:
    """Of this program: what getrusage tells may be its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak_kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(peak_kib) * 1024 / MB


def run(what: str, url: str, root: Path, *numbers: int) -> Measured:
    command = [sys.executable, __file__, what, url, str(root), *map(str, numbers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=600)
    return Measured(**json.loads(done.stdout))


# -- the comparison ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Row:
    """One shape of a checkpoint: the medians of all rounds."""

    size_gb: float
    files: int
    save_s: float
    bare_s: float
    commit_s: float
    ratio: float
    cpu_ratio: float
    peak_mb: float
    bare_peak_mb: float


def compare(
    shapes: Sequence[tuple[float, int]], rounds: int, folder: Path
) -> Iterator[tuple[Row, tuple[int, int]]]:
    """Each row with the settings that bare boto3 was best with."""
    with server(rclone(folder), folder / "served") as (url, empty):
        settings = _best(url, empty, folder / "warm")
        for size_gb, files in shapes:
            root = folder / f"{size_gb}-{files}"
            lay(root / "checkpoints" / "00000001", MB, 1)
            save_s = lay(root / "checkpoints" / "00000100", int(size_gb * 1000 * MB), files)
            pairs = []
            for number in range(rounds):
                both = [("bare", settings), ("ours", ())]
                found = {}
                for what, numbers in both if number % 2 == 0 else reversed(both):
                    found[what] = run(what, url, root, *numbers)
                    empty()
                pairs.append((found["bare"], found["ours"]))
            shutil.rmtree(root)
            yield _row(size_gb, files, save_s, pairs), settings


def _row(
    size_gb: float, files: int, save_s: float, pairs: Sequence[tuple[Measured, Measured]]
) -> Row:
    median = statistics.median
    return Row(
        size_gb=size_gb,
        files=files,
        save_s=save_s,
        bare_s=median(theirs.wall_s for theirs, _ in pairs),
        commit_s=median(mine.wall_s for _, mine in pairs),
        # Of each pair, which had the same neighbours on this machine.
        ratio=median(mine.wall_s / theirs.wall_s for theirs, mine in pairs),
        cpu_ratio=median(mine.cpu_s / theirs.cpu_s for theirs, mine in pairs),
        peak_mb=max(mine.peak_mb for _, mine in pairs),
        bare_peak_mb=max(theirs.peak_mb for theirs, _ in pairs),
    )


def _best(url: str, empty: Callable[[], None], root: Path) -> tuple[int, int]:
    lay(root / "checkpoints" / "00000001", MB, 1)
    lay(root / "checkpoints" / "00000100", 300 * MB, 1)
    taken: dict[tuple[int, int], list[float]] = {each: [] for each in SETTINGS}
    for _ in range(3):
        for each in SETTINGS:
            taken[each].append(run("bare", url, root, *each).wall_s)
            empty()
    shutil.rmtree(root)
    return min(SETTINGS, key=lambda each: statistics.median(taken[each]))


@contextmanager
def server(binary: Path, folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """`rclone serve s3` over a folder; the second value empties the bucket."""
    (folder / BUCKET).mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "benchbench"}
    command = [
        *(str(binary), "serve", "s3", "--config", "/notfound", "--addr", f"127.0.0.1:{port}"),
        *("--auth-key", "bench,benchbench", "--no-checksum", str(folder)),
    ]
    with (folder / "log").open("wb") as log:
        serving = subprocess.Popen(command, stdout=log, stderr=log)

    def empty() -> None:
        for path in (folder / BUCKET).iterdir():
            shutil.rmtree(path)

    try:
        _until_it_serves(port)
        yield f"http://127.0.0.1:{port}", empty
    finally:
        serving.terminate()
        serving.wait()


def _until_it_serves(port: int) -> None:
    pause, until_s = threading.Event(), time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until_s:
                raise
            pause.wait(0.05)
        else:
            return


def rclone(folder: Path) -> Path:
    """The binary that agents have as well."""
    path = folder / "rclone"
    machine = Architecture.ARM64 if os.uname().machine == "aarch64" else Architecture.X86_64
    path.write_bytes(zlib.decompress(wheel.rclone(machine).deflated, wbits=-15))
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    child(*sys.argv[1:])
