"""What the demo stands on: a lab, its data, a daemon, and the end of all of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import spotrunner
from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.cli.api import Api
from spotrunner.cli.demo.daemon import Daemon
from spotrunner.cli.demo.stops import ignore_stops
from spotrunner.cli.failure import Failure
from spotrunner.lab import process
from spotrunner.lab.mail import owner_client
from spotrunner.lab.paths import HOME_BUCKET, HOME_REGION
from spotrunner.lab.process import RunningLab
from spotrunner.lab.settings import control_environment

DATA_PREFIX = "datasets/digits/"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """`folder` holds everything that the demo writes."""

    folder: Path
    lab: RunningLab
    daemon: Daemon
    objects: S3Objects
    payload: Path
    dataset: Path
    environment: dict[str, str]

    @property
    def api(self) -> Api:
        return self.daemon.api

    def spotrunner(self, *arguments: str) -> str:
        """Run a command of the command line, as a user would; what it wrote to stdout. Its other
        words go where ours go. Raises Failure."""
        done = subprocess.run(
            [sys.executable, "-m", "spotrunner", *arguments],
            env={**self.environment, "SPOTRUNNER_API_FILE": str(self.lab.paths.api_file)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            # Ctrl-C is for the demo, which then ends this.
            start_new_session=True,
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
        lab = process.up(folder, seed=seed, watched=True)
        stack.callback(lab.close)
        dataset = folder / "dataset"
        objects = S3Objects(owner_client(lab.url, "s3", HOME_REGION), HOME_BUCKET)
        say(f"scikit-learn's digits, as shards in s3://{HOME_BUCKET}/{DATA_PREFIX}")
        _make_data(payload, dataset, objects)
        environment = control_environment(os.environ)
        daemon = Daemon(lab, environment)
        say(f"the daemon: {' '.join(daemon.command)}")
        stack.callback(daemon.stop)
        daemon.start()
        stack.callback(ignore_stops)
        yield Stage(
            folder=folder,
            lab=lab,
            daemon=daemon,
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
        list(command),
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    if done.returncode != 0:
        raise Failure(f"`{' '.join(command)}` failed:\n{done.stderr.strip()}")
