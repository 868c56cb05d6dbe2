"""A stand-in for setpriv: on an emulated instance all belongs to the lab's own user."""

from __future__ import annotations

import os
import sys

_WITH_VALUE = frozenset({"--reuid", "--regid"})
_FLAGS = frozenset({"--clear-groups", "--no-new-privs"})


def main(_lab: str, *arguments: str) -> int:
    """Becomes the program that follows the options."""
    left = list(arguments)
    while left and left[0].startswith("-"):
        option = left.pop(0)
        if option in _WITH_VALUE and left:
            left.pop(0)
        elif option not in _FLAGS:
            print(f"setpriv: the lab knows no {option}", file=sys.stderr)
            return 1
    if not left:
        print("setpriv: No program specified", file=sys.stderr)
        return 1
    try:
        os.execvp(left[0], left)
    except OSError as error:
        print(f"setpriv: failed to execute {left[0]}: {error.strerror}", file=sys.stderr)
    return 127
