"""The file system that the tests' images are made of: Debian with Python, since no hub is asked."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

PACKAGES = ("python3", "python3-venv", "ca-certificates")
SUITE = "bookworm"
_UNREAD = ("man", "doc", "locale", "info")


def rootfs() -> Path:
    """A tar file of it, made once and kept in the machine's temporary folder: it takes a minute."""
    folder = Path(tempfile.gettempdir()) / f"spotrunner-root-tests-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    kept = folder / f"{SUITE}-{'-'.join(PACKAGES)}.tar"
    if not kept.exists():
        part = kept.with_name(f"{os.getpid()}.part.tar")
        _make(part)
        part.rename(kept)
    return kept


def _make(tar: Path) -> None:
    done = subprocess.run(
        [
            *("mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
            *(f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in _UNREAD),
            *(SUITE, str(tar)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
