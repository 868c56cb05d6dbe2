"""What systemd knows of its transient units, in files of the instance's folder."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotrunner.lab.shims.machine import Machine, read_json, write_json

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|sec|min|m|h|)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "sec": 1.0, "": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, kw_only=True)
class Unit:
    folder: Path

    @classmethod
    def named(cls, machine: Machine, name: str) -> Unit:
        return cls(folder=machine.lab / "units" / name.removesuffix(".service"))

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def spec(self) -> dict[str, Any]:
        return read_json(self.folder / "spec.json")

    @property
    def state(self) -> dict[str, Any]:
        return read_json(self.folder / "state.json")

    def write(self, spec: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "told").unlink(missing_ok=True)
        (self.folder / "state.json").unlink(missing_ok=True)
        write_json(self.folder / "spec.json", spec)

    def note(self, **state: Any) -> None:
        write_json(self.folder / "state.json", {**self.state, **state})

    @property
    def remains(self) -> bool:
        """It has ended, and systemd knows it until it is told to forget (RemainAfterExit)."""
        ended = not self.active and "exit_code" in self.state
        return ended and bool(self.spec.get("remains")) and not self.state.get("forgotten")

    @property
    def active(self) -> bool:
        """Whether its runner lives."""
        runner = self.state.get("runner")
        if runner is None or not self.state.get("active"):
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(runner, 0)
            return True
        return False


def span_s(text: str) -> float:
    """systemd's time spans: `5`, `100ms`, `1min 30s`. Raises ValueError."""
    parts = _SPAN.findall(text)
    if not parts or _SPAN.sub("", text).strip():
        raise ValueError(f"Failed to parse time span: {text}")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)
