"""Many calls at once, and one that never comes back."""

from __future__ import annotations

import threading

from spotrunner.app.bounded import each
from spotrunner.ports import NotAuthorized


def test_each_has_its_answer_or_its_trouble() -> None:
    def call(number: int) -> int:
        if number == 2:
            raise NotAuthorized("allow it")
        if number == 3:
            raise ZeroDivisionError("by nothing")
        return number * number

    asked = each(call, [1, 2, 3, 4], 10.0)
    assert asked.answers == {1: 1, 4: 16}
    assert asked.troubles == {2: "allow it", 3: "a bug: ZeroDivisionError: by nothing"}


def test_nothing_to_ask() -> None:
    assert each(str, [], 10.0).answers == {}


def test_one_that_hangs_holds_up_no_other() -> None:
    never = threading.Event()

    def call(name: str) -> str:
        if name == "hangs":
            never.wait()
        return name

    try:
        asked = each(call, ["hangs", "answers"], 0.2)
    finally:
        never.set()
    assert asked.answers == {"answers": "answers"}
    assert asked.troubles == {"hangs": "no answer in 0 s"}


def test_more_than_there_are_threads() -> None:
    asked = each(str, range(100), 10.0, threads=3)
    assert asked.answers == {number: str(number) for number in range(100)}
