"""The agent's archive on its shelf: in the home bucket, under its digest."""

from __future__ import annotations

import contextlib
from pathlib import Path

from spotrunner.app import archive
from spotrunner.core.catalogue import Architecture
from spotrunner.daemon.request import AgentArchive
from spotrunner.ports import Objects, PreconditionFailed


def shelve(objects: Objects, folder: Path, architecture: Architecture) -> AgentArchive:
    """Build it in the folder, and upload it where the bucket has it not yet."""
    path = folder / f"agent-{architecture.value}.tar.gz"
    sha256 = archive.build(path, architecture)
    key = f"agent/{sha256}.tar.gz"
    # Looked for first: S3 reads all of a body before it says that the key is there.
    if not any(info.key == key for info in objects.list(key)):
        with contextlib.suppress(PreconditionFailed):
            objects.upload(path, key, if_absent=True)
    return AgentArchive(key=key, sha256=sha256)
