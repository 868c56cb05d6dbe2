"""What ends the demo, sent to this process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from spotrunner.cli.demo.stops import ignore_stops, stops

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """As a terminal's program has them, whatever runs these tests."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_one_stops_and_the_next_ones_do_not_cut_the_cleaning_short(number: int) -> None:
    cleaned = False
    with stops():
        try:
            with pytest.raises(KeyboardInterrupt):
                send(number)
        finally:
            for each in SIGNALS:
                send(each)
            cleaned = True
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_stops_a_cleaning_up_that_nobody_stopped() -> None:
    with stops():
        ignore_stops()
        for each in SIGNALS:
            send(each)


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    with stops():
        send(signal.SIGHUP)
        ignore_stops()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
