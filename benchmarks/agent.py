"""How large the agent is, how fast it starts, and what it costs beside the training.

    python benchmarks/agent.py [--seconds N] [--runs N] [-o json] [--check]

Its archives, the import of the program from one (the first time, when Python compiles it, and the
next ones), and of the real agent beside a trainer that makes a step a second, with its S3 and its
metadata service on loopback: resident memory, and its share of a core over N seconds.

`--check` exits with 1 above the limits: 35 MB, 1 s, 80 MB, 1 %. Run it on an idle machine; the
seconds of CPU are told beside those of the clock, since they hold on a busy one too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from moto.server import ThreadedMotoServer

from spotrunner.app import archive
from spotrunner.core.catalogue import Architecture
from spotrunner.core.model import Phase
from tests.agent.imds_server import ImdsServer
from tests.agent.test_app_agent import Instance

LIMITS = {"archive_mb": 35.0, "start_s": 1.0, "resident_mb": 80.0, "core_percent": 1.0}
_TICKS_S = os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description="Size, start and cost of the agent.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sizes = _sizes(Path(name))
        starts = _starts(Path(name), asked.runs)
    figures = {"archive_mb": max(sizes.values()), **starts, **_beside_training(asked.seconds)}
    found = {
        "benchmark": "agent",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "archives_mb": sizes,
        **figures,
        "limits": LIMITS,
    }
    if asked.output == "json":
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(f"{name}: {value}" for name, value in found.items()))
    return int(asked.check and any(figures[name] > most for name, most in LIMITS.items()))


def _sizes(folder: Path) -> dict[str, float]:
    """Megabytes, by CPU."""
    for architecture in Architecture:
        archive.build(folder / f"{architecture.value}.tar.gz", architecture)
    return {
        each.value: round((folder / f"{each.value}.tar.gz").stat().st_size / 1e6, 2)
        for each in Architecture
    }


def _starts(folder: Path, runs: int) -> dict[str, float]:
    home = folder / "home"
    with tarfile.open(folder / f"{archive.here().value}.tar.gz") as tar:
        tar.extractall(home, filter="data")
    took = [_start(home) for _ in range(runs + 1)]
    first, later = took[0], took[1:]
    return {
        "start_s": round(min(wall for wall, _ in later), 3),
        "start_cpu_s": round(min(cpu for _, cpu in later), 3),
        "first_start_s": round(first[0], 3),
        "first_start_cpu_s": round(first[1], 3),
    }


def _start(home: Path) -> tuple[float, float]:
    """To the first instruction of `main`, which an instance without a file of settings ends."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-sS", "-c", "import spotrunner.app.agent"],
        env={"PYTHONPATH": str(home), "PATH": "/usr/bin:/bin"},
        cwd="/",
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu_s


def _beside_training(seconds: float) -> dict[str, float]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    server.start()
    host, port = server.get_host_and_port()
    with tempfile.TemporaryDirectory() as name, ImdsServer() as imds:
        instance = Instance(Path(name), imds, f"http://{host}:{port}")
        try:
            instance.submit("100000 1")
            instance.boot()
            instance.until_phase(Phase.TRAIN)
            pid = int((instance.tools / "agent.pid").read_text())
            return _watched(pid, seconds)
        finally:
            instance.close()
            server.stop()


def _watched(pid: int, seconds: float) -> dict[str, float]:
    threading.Event().wait(10)  # what the start still has to do is over then
    before, began = _cpu_s(pid), time.monotonic()
    threading.Event().wait(seconds)
    share = (_cpu_s(pid) - before) / (time.monotonic() - began)
    return {"resident_mb": round(_resident_mb(pid), 1), "core_percent": round(100 * share, 2)}


def _cpu_s(pid: int) -> float:
    fields: list[Any] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(f"{pid} has ended")


if __name__ == "__main__":
    sys.exit(main())
