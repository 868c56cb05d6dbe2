"""How far a log has been shipped, kept on the disk for the next agent."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """What is before `offset` is in the bucket, or was dropped. `taking`: how many bytes from there
    on are being written as chunk `n`; an agent that died meanwhile writes the same again.
    `dropped`: how many bytes before `offset` nobody has been told of yet. `freed`: what is before
    it takes no room on the disk any more."""

    offset: int = 0
    n: int = 1
    taking: int = 0
    dropped: int = 0
    freed: int = 0


def read(path: Path) -> Shipped:
    """From the beginning where nothing (readable) is kept."""
    try:
        return Shipped(**{name: int(value) for name, value in json.loads(path.read_text()).items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return Shipped()


def write(path: Path, shipped: Shipped) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(shipped)))
    part.replace(path)
