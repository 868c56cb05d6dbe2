"""An alert's words."""

from __future__ import annotations

import pytest

from spotrunner.core.alert import Alert, AlertKind, body, subject, text
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
        ({"why": "two\n lines\tand a tab "}, "it happened\ntwo lines and a tab\n0.16 USD\ndo this"),
    ],
)
def test_no_part_is_blank_and_each_is_one_line(parts: dict[str, str], words: str) -> None:
    assert text(an_alert(**parts)) == words


def test_kinds_are_words_for_the_settings() -> None:
    assert all(kind.value == kind.name.lower() for kind in AlertKind)
