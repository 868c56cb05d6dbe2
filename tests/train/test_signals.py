"""The requests of signals. That they end a process with code 75 is shown with real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from spotrunner.train.signals import Requests


@pytest.fixture
def requests() -> Iterator[Requests]:
    numbers = (signal.SIGUSR1, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    requests = Requests()
    requests.install()
    yield requests
    for number, action in zip(numbers, before, strict=True):
        signal.signal(number, action)


def test_nothing_is_asked_for_at_first(requests: Requests) -> None:
    assert not requests.save
    assert not requests.stop


def test_sigusr1_asks_for_a_save_only(requests: Requests) -> None:
    signal.raise_signal(signal.SIGUSR1)
    assert requests.save
    assert not requests.stop


FORKING = """
import os, signal
from spotrunner.train.signals import REQUESTS
REQUESTS.install()
REQUESTS.unsaved = True
child = os.fork()
if child == 0:
    signal.raise_signal(signal.SIGTERM)
    os._exit(1)
_, status = os.waitpid(child, 0)
assert not REQUESTS.stop
raise SystemExit(os.waitstatus_to_exitcode(status))
"""


def test_sigterm_ends_a_forked_child_at_once() -> None:
    # In a process of its own: this one may have threads, which a fork does not survive.
    assert subprocess.run([sys.executable, "-c", FORKING], timeout=60).returncode == 75


def test_sigterm_waits_for_the_step_boundary_while_work_is_unsaved(requests: Requests) -> None:
    requests.unsaved = True
    signal.raise_signal(signal.SIGTERM)
    assert requests.stop
