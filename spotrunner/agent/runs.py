"""What runs a trainer on this machine, as the agent sees it: docker, or systemd alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from spotrunner.core.model import JobSpec


class Unanswered(Exception):
    """Whoever runs the trainer gives no answer now: nothing is known of it."""


class NotStarted(Exception):
    """This machine did not start the trainer; another one may."""


class Unstartable(Exception):
    """No machine would start the trainer as it is. `code` as a shell has it."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a start needs to know. `secrets` are variables that no command line may show."""

    spec: JobSpec
    image: str
    environment: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    gpus: bool = False
    # workers of a gang reach each other through the machine's own network
    gang: bool = False


@dataclass(frozen=True, kw_only=True)
class State:
    """`pid` is its first process as this machine numbers it, while it runs; `code` its exit code
    as a shell has it, once it has ended."""

    pid: int | None = None
    code: int | None = None
    oom_killed: bool = False


class Runs(Protocol):
    """One trainer under one name. Every method ends in bounded time. `ends_with_first`: whether
    all of it dies with its first process."""

    @property
    def ends_with_first(self) -> bool: ...

    def start(self, launch: Launch) -> None:
        """Raises NotStarted, Unstartable, or OSError for the disk. What an earlier agent left
        under the name ends first."""
        ...

    def state(self) -> State | None:
        """None where there is nothing of the name. Raises Unanswered."""
        ...

    def signal(self, name: str) -> bool:
        """To the first process; SIGKILL to all. False where nobody took it."""
        ...

    def last_words(self) -> str:
        """What was said beside the trainer's own log, once it has ended; often nothing."""
        ...

    def remove(self) -> None:
        """Forget it, running or not. Never raises."""
        ...
