"""What the demo stands on: a lab, its data, a daemon, and the end of all of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import spotrunner
from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.cli.api import Api, find
from spotrunner.cli.failure import Failure
from spotrunner.lab import process
from spotrunner.lab.mail import owner_client
from spotrunner.lab.paths import HOME_BUCKET, HOME_REGION
from spotrunner.lab.process import RunningLab
from spotrunner.lab.settings import control_environment

DATA_PREFIX = "datasets/digits/"
_DAEMON_START_S = 60.0
_DAEMON_STOP_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """`folder` holds everything that the demo writes."""

    folder: Path
    lab: RunningLab
    api: Api
    objects: S3Objects
    payload: Path
    dataset: Path
    environment: dict[str, str]

    def spotrunner(self, *arguments: str) -> str:
        """Run a command of the command line, as a user would; what it wrote to stdout. Its other
        words go where ours go. Raises Failure."""
        done = subprocess.run(
            [sys.executable, "-m", "spotrunner", *arguments],
            env={**self.environment, "SPOTRUNNER_API_FILE": str(self.lab.paths.api_file)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Failure(f"`spotrunner {' '.join(arguments)}` failed ({done.returncode})")
        return done.stdout


@contextlib.contextmanager
def stage(seed: int, keep: Path | None, say: Callable[[str], None]) -> Iterator[Stage]:
    """From nothing to a daemon that waits for a job; at the end, however it comes, no process is
    left, and no file unless `keep` names their folder."""
    payload = _payload()
    with _folder(keep) as folder, contextlib.ExitStack() as stack:
        say(f"a lab of three regions, seed {seed}, in {folder}")
        stack.callback(process.down, folder)
        lab = process.up(folder, seed=seed, watched=True)
        dataset = folder / "dataset"
        objects = S3Objects(owner_client(lab.url, "s3", HOME_REGION), HOME_BUCKET)
        say(f"scikit-learn's digits, as shards in s3://{HOME_BUCKET}/{DATA_PREFIX}")
        _make_data(payload, dataset, objects)
        environment = control_environment(os.environ)
        say(f"the daemon: spotrunner daemon --config {lab.paths.settings}")
        stack.enter_context(_daemon(lab, environment))
        yield Stage(
            folder=folder,
            lab=lab,
            api=find(lab.paths.api_file),
            objects=objects,
            payload=payload,
            dataset=dataset,
            environment=environment,
        )


def _payload() -> Path:
    """The digits payload of this source tree."""
    payload = Path(spotrunner.__file__).resolve().parent.parent / "payloads" / "digits"
    if not (payload / "job.yaml").is_file():
        raise Failure(f"the demo trains {payload}, which is not there: run it from a git clone")
    return payload


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="spotrunner-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_data(payload: Path, dataset: Path, objects: S3Objects) -> None:
    run_or_fail([sys.executable, str(payload / "make_data.py"), str(dataset)], os.environ)
    for file in sorted(path for path in dataset.rglob("*") if path.is_file()):
        objects.upload(file, f"{DATA_PREFIX}{file.relative_to(dataset).as_posix()}")


def run_or_fail(command: Sequence[str], environment: os._Environ[str] | dict[str, str]) -> None:
    done = subprocess.run(
        list(command), env=dict(environment), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Failure(f"`{' '.join(command)}` failed:\n{done.stderr.strip()}")


@contextlib.contextmanager
def _daemon(lab: RunningLab, environment: dict[str, str]) -> Iterator[None]:
    log_file = lab.paths.folder / "daemon.log"
    with log_file.open("ab") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "spotrunner", "daemon", "--config", str(lab.paths.settings)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C is for the demo, which then ends the daemon in its order.
            start_new_session=True,
        )
    try:
        _wait_for_api(daemon, lab, log_file)
        yield
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(_DAEMON_STOP_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _wait_for_api(daemon: subprocess.Popen[bytes], lab: RunningLab, log: Path) -> None:
    give_up_at, pause = time.monotonic() + _DAEMON_START_S, threading.Event()
    while not lab.paths.api_file.exists():
        if daemon.poll() is not None or time.monotonic() > give_up_at:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise Failure(f"the daemon did not start:\n{last}")
        pause.wait(0.1)
