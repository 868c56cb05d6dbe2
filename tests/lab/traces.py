"""What a program has left behind: processes that know of its folder."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes, but this one, that were told of the folder or of anything
    in it. Every process of a lab was: by its arguments, its home or its temporary folder."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            told = [*process.cmdline(), *process.environ().values()]
            if any(str(folder) in each for each in told):
                found.append(
                    f"{process.pid} {process.status()} {' '.join(process.cmdline())[:300]}"
                )
        except (psutil.Error, OSError):
            continue  # gone, a zombie, or another user's
    return found
