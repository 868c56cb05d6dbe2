"""The control groups of an isolated instance's containers, which no namespace takes with it."""

from __future__ import annotations

import contextlib
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")


def group_of(mark: str) -> str:
    """The group of an instance, by its mark: one name, since a folder above it would stay."""
    return f"spotrunner-{mark.replace('/', '-')}"


def remove_groups(prefix: str) -> list[Path]:
    """Remove the groups whose name begins so, and what is in them; those that would not go."""
    for group in groups(prefix):
        inner = [path for path in group.rglob("*") if path.is_dir()]
        for path in sorted([group, *inner], key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):  # in use, or gone meanwhile
                path.rmdir()
    return groups(prefix)


def groups(prefix: str) -> list[Path]:
    """In the one hierarchy of version 2, or in each of version 1."""
    return [*_MOUNT.glob(f"{prefix}*"), *_MOUNT.glob(f"*/{prefix}*")]
