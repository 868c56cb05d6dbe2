"""What a mutant is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """`old` occurs once in `file`; with `new` in its place, `test` must fail. `file` is below
    `spotrunner/`, `test` is a node id below `tests/`."""

    name: str
    file: str
    old: str
    new: str
    test: str
