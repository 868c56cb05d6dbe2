"""Finding and ending processes by a mark in their environment, also those that left their session.

Only processes that carry the lab's own mark are ever touched.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

import psutil

# A process that forks while it is killed needs another look; one that cannot die is given up.
_ROUNDS = 250
_PAUSE_S = 0.02


def marked(mark: str, fits: Callable[[str], bool]) -> list[psutil.Process]:
    """All processes but this one whose environment has the mark with a value that fits."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            value = process.environ().get(mark)
        except (psutil.Error, OSError):
            continue  # gone, a zombie, or another user's
        if value is not None and fits(value):
            found.append(process)
    return found


def kill_until_none(find: Callable[[], Iterable[psutil.Process]]) -> bool:
    """SIGKILL what is found until nothing is; False if something would not die."""
    for _ in range(_ROUNDS):
        alive = [process for process in find() if _is_alive(process)]
        if not alive:
            return True
        for process in alive:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        pause(_PAUSE_S)
    return False


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pause(seconds: float) -> None:
    """For polling of real processes, which no clock of ours can advance."""
    threading.Event().wait(seconds)
