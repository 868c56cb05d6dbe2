"""Why a trainer ended as it did, in words of whoever has to change something."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What happened, why it happens, and what to change: a sentence each."""

    what: str
    why: str
    change: str
