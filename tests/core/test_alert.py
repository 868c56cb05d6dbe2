"""An alert's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core.alert import (
    LONGEST_TITLE,
    LONGEST_WHY,
    Alert,
    AlertKind,
    body,
    cut,
    subject,
    text,
)
from tests.build import T0


def an_alert(**parts: str) -> Alert:
    words = {"title": "it happened", "why": "because", "cost": "0.16 USD", "command": "do this"}
    words.update(parts)
    return Alert(
        key="paused/digits-7f3a/1",
        at=T0,
        kind=AlertKind.PAUSED,
        job_id="digits-7f3a",
        owner="alice",
        channels=(),
        **words,
    )


def test_a_text_has_four_lines() -> None:
    assert text(an_alert()) == "it happened\nbecause\n0.16 USD\ndo this"
    assert subject(an_alert()) == "it happened"
    assert body(an_alert()) == "because\n0.16 USD\ndo this"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"cost": ""}, "it happened\nbecause\ndo this"),
        ({"why": " \n ", "cost": "", "command": ""}, "it happened"),
        ({"why": "a line\tand a tab "}, "it happened\na line and a tab\n0.16 USD\ndo this"),
        ({"title": "two\nlines", "why": ""}, "two lines\n0.16 USD\ndo this"),
    ],
)
def test_no_part_is_blank_and_all_but_why_is_one_line(parts: dict[str, str], words: str) -> None:
    assert text(an_alert(**parts)) == words


def test_kinds_are_words_for_the_settings() -> None:
    assert all(kind.value == kind.name.lower() for kind in AlertKind)


LOG = [f"Epoch {n}/50" for n in range(50)]


def test_of_a_long_log_the_first_and_the_last_lines_are_told_each_as_a_line() -> None:
    why = "\n".join(["exit code 1", *LOG, "", "OOM when allocating tensor"])
    told = body(an_alert(why=why, cost="", command=""))
    assert told.splitlines() == ["exit code 1", "…", *LOG[-4:], "OOM when allocating tensor"]


def test_a_short_log_is_told_whole() -> None:
    why = "\n".join(["exit code 1", *LOG[:5]])
    assert body(an_alert(why=why, cost="", command="")) == why


def test_long_lines_lose_their_beginning_but_not_the_error() -> None:
    lines = ["the trainer failed", *("x" * 400 for _ in range(5)), "ValueError: no such layer"]
    told = body(an_alert(why="\n".join(lines), cost="", command=""))
    assert len(told) == LONGEST_WHY - 1
    first, second, *_, last = told.splitlines()
    assert (first, second[:2], last) == ("the trainer failed", "…x", "ValueError: no such layer")


def test_what_is_cut_says_so() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"
    assert subject(an_alert(title="x" * 300)) == "x" * 199 + "…"
    assert body(an_alert(why="x" * 900, cost="", command="")) == "x" * 799 + "…"


@given(title=st.text(), why=st.text(min_size=500))
def test_no_alert_is_longer_than_services_take(title: str, why: str) -> None:
    alert = an_alert(title=title, why=why, cost="", command="")
    assert len(subject(alert)) <= LONGEST_TITLE
    assert "\n" not in subject(alert)
    assert len(body(alert)) <= LONGEST_WHY
