"""How a command ends: exit codes, and failures that say whose fault it is and what to do."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """The exit codes of every command."""

    OK = 0
    FAILED = 1
    BAD_INPUT = 2
    NO_DAEMON = 3


class Failure(Exception):
    """A command cannot do what it was asked. The message is for people, complete with the fix."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code


class BadInput(Failure):
    """The user's input is wrong: nothing was done."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Exit.BAD_INPUT)


class NoDaemon(Failure):
    """Nobody answers at the daemon's address."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the daemon is not running ({why}); start it: spotrunner daemon --config FILE",
            Exit.NO_DAEMON,
        )


class WrongFile(BadInput):
    """A file of the user's is wrong; the message is one `file:line: key: what` line a problem."""
