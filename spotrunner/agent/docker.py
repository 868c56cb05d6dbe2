"""docker's command line, always with a limit in time: its daemon may be dead, or hang."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spotrunner.agent.runs import Unanswered

# Questions and removals are quick.
TIMEOUT_S = 10.0
# ... whatever is the matter with it: not started yet, dead, or the connection broke
_NOBODY_THERE = ("Cannot connect to the Docker daemon", "error during connect")


@dataclass(frozen=True, kw_only=True)
class Said:
    code: int
    out: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Docker:
    """`config` holds the passwords of registries, and only ours: no image made of this machine has
    them, and a unit of systemd has no home."""

    config: Path

    def __call__(
        self,
        *arguments: str,
        timeout_s: float = TIMEOUT_S,
        given: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Said:
        """`given` is its standard input, `variables` are added to its environment. Raises
        Unanswered where there is no docker, or no answer in time."""
        try:
            done = subprocess.run(
                ["docker", *arguments],
                input=given if given is not None else "",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
                env={**os.environ, "DOCKER_CONFIG": str(self.config), **(variables or {})},
            )
        except subprocess.TimeoutExpired:
            raise Unanswered(f"docker {arguments[0]}: no answer in {timeout_s:.0f} s") from None
        except OSError as error:
            raise Unanswered(f"docker {arguments[0]}: {error.strerror}") from None
        said = Said(code=done.returncode, out=done.stdout, error=done.stderr.strip())
        if said.code != 0 and any(it in said.error for it in _NOBODY_THERE):
            raise Unanswered(said.error[-400:])
        return said
