"""Which number format the layers compute in, and which devices there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU by its name and compute capability (major, minor), e.g. Tesla T4 and (7, 5)."""

    name: str
    capability: tuple[int, int]


def prepare_gpus() -> list[Device]:
    """Let every GPU's memory grow with need, and say what they are; an empty list on a CPU.

    Raises RuntimeError when TensorFlow has already taken the devices.
    """
    devices = []
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
        details = tf.config.experimental.get_device_details(gpu)
        devices.append(
            Device(
                name=details.get("device_name", "unknown GPU"),
                capability=details.get("compute_capability", (0, 0)),
            )
        )
    return devices


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


def apply(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
