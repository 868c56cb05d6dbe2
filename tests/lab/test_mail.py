"""What the lab reads from the letters between daemon and agents before it lets time pass."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import pytest

from spotrunner.core.model import Phase
from spotrunner.lab.endpoint.server import LabEndpoint
from spotrunner.lab.mail import Mail
from spotrunner.sim.setups import plain_setup
from spotrunner.sim.values import LIGHT
from spotrunner.sim.world import World
from tests.lab.clients import START, HandClock, client

BUCKET, NAME = "home", "digits-7f3a.1"


def after(minutes: float) -> dt.datetime:
    return START + dt.timedelta(minutes=minutes)


class Letters:
    """Of one attempt, which trains and is paid for half an hour."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3
        self.mail = Mail(s3, BUCKET)
        self.order()
        self.report()

    def order(self, **changes: Any) -> None:
        told = {"n": 3, "verb": "run", "paid_until": after(30).isoformat(), **changes}
        self._put(f"mail/orders/{NAME}.json", told)

    def report(self, **changes: Any) -> None:
        said = {"at": START, "phase": "train", "first_step_at": START, "order_n": 3, **changes}
        self._put(f"mail/reports/{NAME}/0.json", said)

    def _put(self, key: str, letter: Any) -> None:
        self._s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(letter, default=str).encode())

    def is_behind(self, minute: float = 0, timer: dt.datetime | None = None) -> bool:
        return bool(self.mail.behind({NAME: timer}, after(minute)))


@pytest.fixture
def letters() -> Iterator[Letters]:
    world = World(plain_setup(START, manners=LIGHT), seed=5)
    with LabEndpoint(world, HandClock(), console=lambda _: b"") as endpoint:
        s3 = client(endpoint.url, "s3")
        s3.create_bucket(Bucket=BUCKET)
        yield Letters(s3)


def test_who_trains_and_has_read_its_order_is_not_waited_for(letters: Letters) -> None:
    assert not letters.is_behind()
    assert not letters.is_behind(timer=after(29))
    assert letters.is_behind(timer=after(15)), "its timer is still that of an older order"
    letters.order(n=4)
    assert letters.is_behind()


@pytest.mark.parametrize("phase", Phase)
def test_who_starts_or_ends_needs_real_time(letters: Letters, phase: Phase) -> None:
    letters.report(phase=phase.value)
    waits = phase in (Phase.READY, Phase.TRAIN, Phase.IDLE)
    assert letters.is_behind() is not waits


def test_a_first_step_and_an_ordered_stop_are_waited_for(letters: Letters) -> None:
    letters.report(first_step_at=None)
    assert letters.is_behind()
    letters.report()
    letters.order(verb="stop")
    assert letters.is_behind()
    letters.report(phase="idle")
    assert not letters.is_behind(), "EC2 has announced to take it: it waits for that"


def test_whoever_is_at_its_end_is_waited_for(letters: Letters) -> None:
    (at,) = letters.mail.stops({NAME: None})
    assert after(29) < at < after(29.5)
    (by_timer,) = letters.mail.stops({NAME: after(20)})
    assert after(19) < by_timer < after(19.5)
    assert not letters.is_behind(29)
    assert letters.is_behind(29.5)


def test_an_attempt_without_letters_is_over(letters: Letters) -> None:
    timers: dict[str, dt.datetime | None] = {"digits-7f3a.2": None}
    assert letters.mail.behind(timers, START) == letters.mail.stops(timers) == ()
