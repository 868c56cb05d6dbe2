"""Checkpoint folders: complete ones are named by their step in digits and appear by one rename."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# The contract reserves all-digit names for complete checkpoints, so anything that starts like
# this is known to be unfinished, whoever looks at it and whenever the machine died.
PARTIAL_PREFIX = ".partial-"


def name_of(step: int) -> str:
    return f"{step:08d}"


def complete(root: Path) -> list[Path]:
    """The complete checkpoints under `root`, oldest step first."""
    found = (entry for entry in root.iterdir() if _is_step(entry.name) and entry.is_dir())
    return sorted(found, key=lambda entry: int(entry.name))


def latest(root: Path) -> Path | None:
    found = complete(root)
    return found[-1] if found else None


def exists(root: Path, step: int) -> bool:
    return (root / name_of(step)).is_dir()


def begin(root: Path, step: int) -> Path:
    """An empty folder to write the checkpoint of `step` into."""
    partial = root / f"{PARTIAL_PREFIX}{name_of(step)}-{os.getpid()}"
    # In a container every attempt has the same process id, so the name may be left from before.
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    return partial


def publish(partial: Path, step: int) -> Path:
    """Make a written folder the complete checkpoint of `step`: on disk first, visible after."""
    for file in partial.rglob("*"):
        _sync(file)
    _sync(partial)
    final = partial.with_name(name_of(step))
    partial.rename(final)
    _sync(final.parent)
    return final


def sweep(root: Path) -> None:
    """Remove what a trainer that died in the middle of a save has left."""
    for entry in root.glob(f"{PARTIAL_PREFIX}*"):
        shutil.rmtree(entry, ignore_errors=True)


def prune(root: Path, keep: int) -> None:
    """Delete all but the newest `keep` complete checkpoints. Only for runs without an agent."""
    assert keep >= 1
    for old in complete(root)[:-keep]:
        shutil.rmtree(old)


def _is_step(name: str) -> bool:
    # str.isdigit alone also accepts other scripts' digits, and superscripts that int() refuses.
    return name.isascii() and name.isdigit()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
