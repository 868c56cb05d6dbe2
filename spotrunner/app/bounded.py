"""Many calls at once, none of which can hold the others up, or the end of the program.

The threads are daemons: one that hangs where nothing bounds it (a resolver, a proxy) is left
behind, with its answer counted as none.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from spotrunner.ports import PortError

T = TypeVar("T", bound=Hashable)
R = TypeVar("R")

# S3 and EC2 take this many connections of one client without making new ones each time.
THREADS = 16


@dataclass(frozen=True, kw_only=True)
class Asked(Generic[T, R]):
    """Each of what was asked is in one of the two; `troubles` has the reason in words."""

    answers: Mapping[T, R]
    troubles: Mapping[T, str]


def each(
    call: Callable[[T], R], values: Iterable[T], timeout_s: float, threads: int = THREADS
) -> Asked[T, R]:
    """Call for each value. One that has no answer `timeout_s` after the first call was made may
    still have its effect."""
    waiting = dict.fromkeys(values)
    todo: queue.SimpleQueue[T] = queue.SimpleQueue()
    for value in waiting:
        todo.put(value)
    done: queue.SimpleQueue[tuple[T, R | _Trouble]] = queue.SimpleQueue()
    give_up_at = time.monotonic() + timeout_s
    for _ in range(min(threads, len(waiting))):
        threading.Thread(target=_work, args=(call, todo, done, give_up_at), daemon=True).start()
    answers: dict[T, R] = {}
    troubles: dict[T, str] = {}
    while waiting and (left_s := give_up_at - time.monotonic()) > 0:
        try:
            value, answer = done.get(timeout=left_s)
        except queue.Empty:
            break
        del waiting[value]
        if isinstance(answer, _Trouble):
            troubles[value] = answer.words
        else:
            answers[value] = answer
    troubles |= dict.fromkeys(waiting, f"no answer in {timeout_s:.0f} s")
    return Asked(answers=answers, troubles=troubles)


@dataclass(frozen=True)
class _Trouble:
    words: str


def _work(
    call: Callable[[T], R],
    todo: queue.SimpleQueue[T],
    done: queue.SimpleQueue[tuple[T, R | _Trouble]],
    give_up_at: float,
) -> None:
    while time.monotonic() < give_up_at:
        try:
            value = todo.get_nowait()
        except queue.Empty:
            return
        try:
            done.put((value, call(value)))
        except PortError as error:
            done.put((value, _Trouble(str(error) or type(error).__name__)))
        except Exception as error:  # noqa: BLE001 - a bug in one call keeps no other from its end
            done.put((value, _Trouble(f"a bug: {type(error).__name__}: {error}")))
