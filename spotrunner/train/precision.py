"""Which number format the layers compute in, by what the GPUs have in hardware."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU by its name and compute capability (major, minor), e.g. Tesla T4 and (7, 5)."""

    name: str
    capability: tuple[int, int]


def choose(asked: str, devices: Sequence[Device]) -> str:
    """The Keras dtype policy for `asked`, which is "auto" or the policy itself.

    bfloat16 needs no loss scaling but only Ampere (8.0) and later have it in hardware; Volta and
    Turing (7.x) have float16. The oldest GPU decides, since all of them run the same graph.
    """
    if asked != "auto":
        if asked not in POLICIES:
            raise ValueError(f"precision is 'auto' or one of {', '.join(POLICIES)}, not {asked!r}")
        return asked
    oldest = min((device.capability for device in devices), default=(0, 0))
    if oldest >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if oldest >= (7, 0) else "float32"


def describe(policy: str, asked: str, devices: Sequence[Device]) -> str:
    """One line for the log: what was chosen, and from what."""
    why = "chosen for" if asked == "auto" else "asked for on"
    names = ", ".join(
        f"{device.name} (compute capability {device.capability[0]}.{device.capability[1]})"
        for device in devices
    )
    return f"precision {policy}, {why} {names or 'CPU'}"
