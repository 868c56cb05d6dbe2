"""As whom a trainer runs: a user of our own without rights, or root where its job says so."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

# Nobody's on the images that we know; the group has the same number.
UID = 10001


def ids(*, as_root: bool) -> tuple[int, int]:
    """User and group. An agent that is not root itself can give its files to nobody."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    return (0, 0) if as_root else (UID, UID)


def hand_over(folders: Iterable[Path], uid: int, gid: int) -> None:
    """Make all that lies there the trainer's; links are changed themselves, and not followed."""
    if os.geteuid() != 0:
        return
    for folder in folders:
        os.lchown(folder, uid, gid)
        for parent, names, files in os.walk(folder):
            for name in (*names, *files):
                os.lchown(os.path.join(parent, name), uid, gid)
