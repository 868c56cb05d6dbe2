"""Where a lab keeps what, below the folder that it was given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HOME_BUCKET = "spotrunner-lab-home"
HOME_REGION = "us-east-1"
INSTANCE_PROFILE = "spotrunner-agent"


@dataclass(frozen=True, kw_only=True)
class LabPaths:
    folder: Path

    @property
    def lab_file(self) -> Path:
        """Who runs the lab, and where it listens."""
        return self.folder / "lab.json"

    @property
    def token_file(self) -> Path:
        return self.folder / "lab-token"

    @property
    def log(self) -> Path:
        return self.folder / "lab.log"

    @property
    def settings(self) -> Path:
        """Of the daemon that works in this lab."""
        return self.folder / "daemon.yaml"

    @property
    def state(self) -> Path:
        """The daemon's."""
        return self.folder / "daemon"

    @property
    def api_file(self) -> Path:
        """Where the daemon writes its API's address."""
        return self.state / "api.json"
