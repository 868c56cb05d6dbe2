from __future__ import annotations

import pytest

from spotrunner.cli import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, None),
        (-3, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h"),
        (3_660, "1h 1m"),
        (86_400, "1d"),
        (90_000, "1d 1h"),
    ],
)
def test_duration(seconds: float | None, text: str | None) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, None), (59, "59s"), (60, "1m"), (250, "4m 10s"), (3599, "59m 59s"), (3_660, "1h 1m")],
)
def test_an_exact_duration_has_the_seconds_of_its_minutes(
    seconds: float | None, text: str | None
) -> None:
    assert words.exact(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, None),
        (0, "$0.00"),
        (0.00421, "$0.0042"),
        (1, "$1.00"),
        (12.345, "$12.35"),
        (-0.78112, "-$0.7811"),
    ],
)
def test_usd(amount: float | None, text: str | None) -> None:
    assert words.usd(amount) == text


@pytest.mark.parametrize(
    ("text", "estimated", "told"),
    [("$1.00", True, "~$1.00"), ("$1.00", False, "$1.00"), (None, True, None)],
)
def test_what_is_estimated_is_marked(text: str | None, estimated: bool, told: str | None) -> None:
    assert words.about(text, estimated) == told


@pytest.mark.parametrize(
    ("step", "total", "text"),
    [
        (None, 5, None),
        (0, 5, "0/5 (0%)"),
        (150, 2300, "150/2300 (6%)"),
        (7, None, "7"),
        (5, 5, "5/5 (100%)"),
    ],
)
def test_progress(step: int | None, total: int | None, text: str | None) -> None:
    assert words.progress(step, total) == text


def test_times_are_told_by_the_daemons_clock() -> None:
    assert words.since("2026-11-21T08:00:00Z", "2026-11-21T08:02:05.25Z") == "2m"
    assert words.since(None, "2026-11-21T08:02:05Z") is None
    assert words.clock("2026-11-21T08:02:05.5Z") == "11-21 08:02:05"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1536, "1.5 KiB"), (3 * 2**20, "3.0 MiB")]
)
def test_size(size: int, text: str) -> None:
    assert words.size(size) == text
