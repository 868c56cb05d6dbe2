"""rclone as a child: it copies what is not there yet, several objects at a time, and verifies what
it copies. The keys of the instance's role it takes from the metadata service by itself; nothing
secret is among its arguments.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spotrunner.ports import Misconfigured, Unavailable

# Transfers at a time (docs/data.md has the measurements), and parts at a time of a large object.
TRANSFERS = 16
PARTS = 4
# What is not complete yet is called so; rclone itself leaves such files when it is killed.
PARTIAL_SUFFIX = ".spot-partial"
REMOTE = "spot"
# An orphan that does not die of SIGKILL waits for the disk; so do we.
ORPHAN_S = 30.0

_USUAL = (
    *("--config", "/notfound"),  # rclone's own word for "no file"
    *("--contimeout", "10s", "--timeout", "60s"),
    *("--use-json-log", "--log-level", "NOTICE"),
)
_COPY = (
    *("--transfers", str(TRANSFERS), "--checkers", str(TRANSFERS)),
    # A large buffer for each would be memory without use: the disk and the network have their own.
    *("--buffer-size", "0", "--multi-thread-streams", str(PARTS)),
    *("--multi-thread-cutoff", "64M", "--partial-suffix", PARTIAL_SUFFIX),
    # The space that a file has been given ahead would count as taken and as still missing.
    "--local-no-preallocate",
    *("--stats-log-level", "NOTICE", "--retries", "3"),
)


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How far it is. Totals grow while the listing goes on."""

    bytes: int
    total_bytes: int
    files: int
    total_files: int
    bytes_s: float


class DiskFull(Exception):
    """The local disk takes no more."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A prefix in a bucket; `region` is the bucket's own."""

    bucket: str
    prefix: str
    region: str

    @property
    def name(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def path(self) -> str:
        """With its slash: an object that only has the folder's name is another thing."""
        return f"{REMOTE}:{self.bucket}/{self.prefix.rstrip('/')}/"


@dataclass(frozen=True, kw_only=True)
class Rclone:
    """`environment` is what the child needs to find its keys; `pid_file` outlives this process, so
    that the next one ends a child that is still at work."""

    binary: Path
    pid_file: Path
    endpoint_url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    # before all that failed is tried again; what fails in passing is tried at once
    again_s: float = 2.0
    told_every_s: float = 2.0

    def down(self, place: Place, folder: Path, told: Callable[[Moved], None]) -> Moved:
        """Copy what is not in `folder` with the right size. What `told` raises ends it. Raises
        Misconfigured (no such bucket, not allowed), DiskFull, Unavailable."""
        # Data sets do not change under a job: what is there with the right size is right, and no
        # object is asked for its time.
        options = ("--size-only", "--use-server-modtime")
        return self._copy(place, [*options, place.path, str(folder)], told)

    def up(
        self,
        folder: Path,
        names: Sequence[str],
        place: Place,
        told: Callable[[Moved], None] = lambda _: None,
    ) -> None:
        """Copy these files of `folder`, whatever is there. Raises as `down`."""
        listed = self.pid_file.with_suffix(".names")
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{name}\n" for name in names))
        options = [
            *("--files-from-raw", str(listed), "--no-traverse", "--no-check-dest"),
            # S3 itself refuses a body that is not what its digest says, so nobody has to ask again.
            *("--s3-no-head", "--s3-no-check-bucket", "--s3-upload-concurrency", str(PARTS)),
            *("--s3-chunk-size", "16M"),
        ]
        try:
            self._copy(place, [*options, str(folder), place.path], told)
        finally:
            listed.unlink(missing_ok=True)

    def variables(self, region: str) -> dict[str, str]:
        """The child's environment, and no more: not the profiles of whoever uses this machine."""
        prefix = f"RCLONE_CONFIG_{REMOTE.upper()}_"
        endpoint = self.endpoint_url
        remote = {
            "TYPE": "s3",
            "PROVIDER": "Other" if endpoint else "AWS",
            "ENV_AUTH": "true",
            "REGION": region,
            **({"ENDPOINT": endpoint} if endpoint else {}),
        }
        return {
            "PATH": os.environ.get("PATH", ""),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_V1_DISABLED": "true",
            **{prefix + name: value for name, value in remote.items()},
            **self.environment,
        }

    def command(self, *arguments: str) -> list[str]:
        return [str(self.binary), *arguments, *_USUAL]

    def end_orphan(self) -> None:
        """One that an earlier agent of this attempt has left at work would race with ours."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(self.pid_file.read_text())
            if os.readlink(f"/proc/{pid}/exe") == str(self.binary.resolve()):
                os.kill(pid, signal.SIGKILL)
                _await_end(pid)
        self.pid_file.unlink(missing_ok=True)

    def _copy(self, place: Place, rest: Sequence[str], told: Callable[[Moved], None]) -> Moved:
        self.end_orphan()
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        times = ("--retries-sleep", f"{self.again_s:g}s", "--stats", f"{self.told_every_s:g}s")
        child = subprocess.Popen(
            self.command("copy", *_COPY, *times, *rest),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self.variables(place.region),
            text=True,
        )
        self.pid_file.write_text(str(child.pid))
        try:
            heard = _listen(child, told)
        finally:
            child.kill()
            child.wait()
            self.pid_file.unlink(missing_ok=True)
        if child.returncode != 0:
            raise meaning(place, heard.errors)
        return heard.moved


@dataclass
class _Heard:
    moved: Moved = Moved(bytes=0, total_bytes=0, files=0, total_files=0, bytes_s=0.0)
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=20))


def _listen(child: subprocess.Popen[str], told: Callable[[Moved], None]) -> _Heard:
    """All that the child says until it ends."""
    heard = _Heard()
    assert child.stderr is not None
    with child.stderr as lines:
        for line in lines:
            said = _parsed(line)
            if "stats" in said:
                heard.moved = moved_of(said["stats"])
                told(heard.moved)
            else:
                heard.errors.append(f"{said.get('object', '')}: {said.get('msg', '')}".strip(": "))
    child.wait()
    return heard


def _parsed(line: str) -> dict[str, Any]:
    """A line that is no JSON is the Go run-time's, which dies."""
    try:
        said = json.loads(line)
    except ValueError:
        return {"msg": line.strip()}
    return said if isinstance(said, dict) else {"msg": line.strip()}


def moved_of(stats: Mapping[str, Any]) -> Moved:
    """What is there already counts as a file, and not as bytes."""
    return Moved(
        bytes=int(stats.get("bytes") or 0),
        total_bytes=int(stats.get("totalBytes") or 0),
        files=int(stats.get("transfers") or 0) + int(stats.get("checks") or 0),
        total_files=int(stats.get("totalTransfers") or 0) + int(stats.get("totalChecks") or 0),
        bytes_s=float(stats.get("speed") or 0.0),
    )


# -- errors, by meaning ------------------------------------------------------------------------

_FULL = re.compile(
    r"no space left on device|file too big for remaining disk space|disk quota exceeded",
    re.IGNORECASE,
)
_FORBIDDEN = re.compile(r"AccessDenied|AllAccessDisabled|InvalidAccessKeyId|KMS\.|StatusCode: 403")
# A 403 that is over by itself: keys that were just renewed, a clock that was just set.
_PASSING = re.compile(r"ExpiredToken|RequestTimeTooSkewed|TokenRefreshRequired")
_NO_BUCKET = re.compile(r"NoSuchBucket|directory not found")
_ARCHIVED = re.compile(r"InvalidObjectState|Object in GLACIER")


def meaning(place: Place, errors: Sequence[str]) -> Exception:
    """What the last words of a child that failed say."""
    said = "\n".join(errors)
    last = _telling(errors)[-400:]
    if _FULL.search(said):
        return DiskFull(last)
    if _PASSING.search(said):
        return Unavailable(f"{place.name}: {last}")
    if _ARCHIVED.search(said):
        return Misconfigured(
            f"{place.name} has objects in an archive (Glacier): restore them first: {last}"
        )
    if _FORBIDDEN.search(said):
        return Misconfigured(
            f"{place.name}: the instance's role is not allowed to: grant it s3:ListBucket on the"
            " bucket and s3:GetObject on the prefix, for outputs s3:PutObject (and the bucket's own"
            f" key, if it has one): {last}"
        )
    if _NO_BUCKET.search(said):
        return Misconfigured(f"{place.name}: there is no bucket {place.bucket}: check its name")
    return Unavailable(f"{place.name}: {last}")


def _telling(errors: Sequence[str]) -> str:
    """The last error that names its object; rclone's own summaries come after it."""
    for error in reversed(errors):
        if not error.startswith(("Attempt ", "Failed to ")):
            return error
    return errors[-1] if errors else "it said nothing"


def _await_end(pid: int) -> None:
    pause = threading.Event()
    for _ in range(int(ORPHAN_S / 0.05)):
        if not Path(f"/proc/{pid}").exists() or _is_zombie(pid):
            return
        pause.wait(0.05)


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    return True
