"""The keys of a job file that say whose it is, in which hours it runs, and what it waits for."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from pydantic import ValidationError

from spotrunner.core import located
from spotrunner.core.model import JobSpec, PriceLimit
from spotrunner.core.windows import Window
from spotrunner.web.schema import OPTIONAL, JobFile, to_spec
from tests.web.conftest import a_job

# A Saturday; 16:00 in Shanghai.
NOW = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.timezone.utc)

JOB = """\
name: digits
resources: {instance_types: [g4dn.xlarge, g5.xlarge], regions: [us-east-1]}
image: tensorflow/tensorflow:2.17.0-gpu
run: python train.py
"""
EVERY_DAY = (0, 1, 2, 3, 4, 5, 6)


def _file(text: str) -> JobFile:
    """Read, sent as JSON, and read again, as the command line and the daemon do."""
    file = JobFile.model_validate(located.read(JOB + text, "F").values)
    sent = file.model_dump(mode="json", exclude_unset=True)
    assert JobFile.model_validate(sent) == file
    return file


def _spec(text: str) -> JobSpec:
    return to_spec(_file(text), None, NOW)


def _said(text: str) -> list[str]:
    """What is wrong with these lines at the end of a job file; they begin in line 5."""
    document = located.read(JOB + text, "F")
    with pytest.raises(ValidationError) as caught:
        JobFile.model_validate(document.values)
    return located.lines("F", located.located(caught.value.errors(), document, JobFile))


# -- whose it is -------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "owner"), [("", "nobody"), ("owner: alice\n", "alice")])
def test_a_job_has_an_owner(text: str, owner: str) -> None:
    assert _spec(text).owner == owner


@pytest.mark.parametrize(
    ("text", "sweep", "usd_micros"),
    [
        ("", "", None),
        ("sweep: {name: lr-search}\n", "lr-search", None),
        ("sweep: {name: lr-search, budget: 50}\n", "lr-search", 50_000_000),
    ],
)
def test_a_job_may_be_of_a_sweep(text: str, sweep: str, usd_micros: int | None) -> None:
    spec = _spec(text)
    assert (spec.sweep, spec.sweep_budget_usd_micros) == (sweep, usd_micros)


def test_its_alerts_go_where_it_says() -> None:
    assert _spec("").alerts == ()
    assert _spec("alerts: [alice-phone, team]\n").alerts == ("alice-phone", "team")


# -- windows -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("tz: Asia/Shanghai\n", None),
        (
            'window: {start: "22:00", stop: "07:00"}\n',
            Window(start_min=1320, stop_min=420, tz="UTC", days=EVERY_DAY),
        ),
        (
            'tz: Asia/Shanghai\nwindow: {start: "22:00", stop: "7:00", days: [mon-fri]}\n',
            Window(start_min=1320, stop_min=420, tz="Asia/Shanghai", days=(0, 1, 2, 3, 4)),
        ),
        (
            "tz: Asia/Shanghai\n"
            'window: {start: "00:00", stop: "24:00", tz: Europe/Berlin, days: [Sunday, sat]}\n',
            Window(start_min=0, stop_min=1440, tz="Europe/Berlin", days=(5, 6)),
        ),
    ],
)
def test_a_window_is_in_its_own_zone_or_the_jobs(text: str, window: Window | None) -> None:
    assert _spec(text).window == window


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ('deadline: "07:00"\n', (22, 7, 0)),
        ('deadline: "08:01"\n', (21, 8, 1)),
        # the next one, and not this moment
        ('deadline: "8:00"\n', (22, 8, 0)),
        ('deadline: "07:00"\ntz: Asia/Shanghai\n', (21, 23, 0)),
        ('tz: America/New_York\ndeadline: "07:00"\n', (21, 12, 0)),
        # YAML leaves these as they are, since no number begins with a zero
        ("deadline: 07:00\n", (22, 7, 0)),
        # how long it takes has no zone
        ("deadline: 12h\ntz: Asia/Shanghai\n", (21, 20, 0)),
    ],
)
def test_a_deadline_may_be_a_time_of_day(text: str, at: tuple[int, int, int]) -> None:
    day, hour, minute = at
    deadline_at = dt.datetime(2026, 11, day, hour, minute, tzinfo=dt.timezone.utc)
    assert _spec(f"work: 1h\n{text}").deadline_at == deadline_at


# -- what it waits for -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("", None),
        (
            "pause_above: 0.60\n",
            PriceLimit(after_s=600, pause_usd_micros=600_000, resume_usd_micros=570_000),
        ),
        (
            'pause_above: "0.6"\nresume_below: 0.5\npause_after: 90s\n',
            PriceLimit(after_s=90, pause_usd_micros=600_000, resume_usd_micros=500_000),
        ),
        ("pause_above: 40%\n", PriceLimit(after_s=600, pause_share=0.4, resume_share=0.38)),
        (
            "pause_above: 40%\nresume_below: 40 %\n",
            PriceLimit(after_s=600, pause_share=0.4, resume_share=0.4),
        ),
    ],
)
def test_a_price_to_wait_at(text: str, limit: PriceLimit | None) -> None:
    assert _spec(text).price_limit == limit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", None), ("unattended: 30m\n", 1800), ("unattended: 1d\n", 86_400)],
)
def test_how_far_ahead_it_is_paid_for(text: str, seconds: int | None) -> None:
    assert _spec(text).unattended_s == seconds


def test_the_deadline_wins_only_where_the_file_says_so() -> None:
    both = 'work: 1h\ndeadline: "07:00"\nbudget: 5\n'
    assert not _file(both).raises_budget
    assert not _file(f"{both}on_conflict: cap\n").raises_budget
    assert _file(f"{both}on_conflict: deadline\n").raises_budget
    assert _file(f"{both}on_conflict: deadline\n").warnings == ()


@pytest.mark.parametrize("text", ["", "budget: 5\n", "work: 1h\ndeadline: 12h\n"])
def test_a_conflict_takes_two(text: str) -> None:
    (warning,) = _file(f"{text}on_conflict: cap\n").warnings
    assert warning.key == "on_conflict"
    assert warning.message == (
        "it says what holds where the budget does not pay for the deadline, and one of the two is"
        " not there"
    )


# -- what is wrong -----------------------------------------------------------------------------

WINDOW = 'window: {start: "22:00", stop: "07:00", '
UNQUOTED = "without quotes YAML makes 1320 of a time of day: put it in quotes,"
ANY_CLOCK = 'expected a time of day in quotes, such as "22:00", found'
ANY_LEVEL = (
    'expected USD an hour, such as 0.60, or a share of the on-demand price, such as "40%", found'
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "owner: 7\n",
            "F:5: owner: expected text, found 7; put it in quotes",
        ),
        (
            "owner: bob@example\n",
            "F:5: owner: expected 1 to 32 of a-z 0-9 -, starting with a letter, found"
            " 'bob@example'; nearest: bob-example",
        ),
        ("sweep: lr\n", "F:5: sweep: expected `key: value` lines, found 'lr'"),
        (
            "sweep: {name: LR}\n",
            "F:5: sweep.name: expected 1 to 32 of a-z 0-9 -, starting with a letter, found 'LR';"
            " nearest: lr",
        ),
        (
            "sweep: {name: lr, budget: 0}\n",
            "F:5: sweep.budget: expected more than 0 USD, found 0",
        ),
        (
            "sweep: {name: lr, buget: 1}\n",
            "F:5: sweep.buget: unknown key; did you mean budget?",
        ),
        (
            "tz: /etc/localtime\n",
            'F:5: tz: "/etc/localtime" is a path: write the name of a time zone, such as'
            " Europe/Berlin or Asia/Shanghai",
        ),
        ("tz: 8\n", "F:5: tz: expected text, found 8; put it in quotes"),
        (
            'window: "22:00-07:00"\n',
            "F:5: window: expected `key: value` lines, found '22:00-07:00'",
        ),
        ('window: {start: "22:00"}\n', "F:5: window.stop: missing"),
        ('window: {start: 22:00, stop: "07:00"}\n', f'F:5: window.start: {UNQUOTED} "22:00"'),
        (
            'window: {start: "07:00", stop: 24:00}\n',
            f'F:5: window.stop: {UNQUOTED.replace("1320", "1440")} "24:00"',
        ),
        ('window: {start: 22, stop: "07:00"}\n', f"F:5: window.start: {ANY_CLOCK} 22"),
        ('window: {start: true, stop: "07:00"}\n', f"F:5: window.start: {ANY_CLOCK} True"),
        (
            'window: {start: "24:00", stop: "07:00"}\n',
            'F:5: window.start: "24:00" is a time to stop at: write "00:00"',
        ),
        (
            'window: {start: "10pm", stop: "07:00"}\n',
            'F:5: window.start: "10pm" is no time of day: write hours and minutes, from "00:00" to'
            ' "23:59"',
        ),
        (
            'window: {start: "22:00", stop: "22:00"}\n',
            "F:5: window.stop: it starts and stops at 22:00: leave the window out for all day, or"
            ' write "00:00" to "24:00" for whole days',
        ),
        (
            WINDOW + "days: mon-fri}\n",
            "F:5: window.days: expected a list of days, such as [mon-fri] or [sat, sun], found"
            " mon-fri",
        ),
        (
            WINDOW + "days: [1]}\n",
            "F:5: window.days: expected a list of days, such as [mon-fri] or [sat, sun], found [1]",
        ),
        (
            WINDOW + "days: []}\n",
            'F:5: window.days: no days: write those on which it starts, such as "mon-fri" or "sat"',
        ),
        (
            WINDOW + "days: [weekdays]}\n",
            'F:5: window.days: "weekdays" is no day of the week: write mon, tue, wed, thu, fri,'
            " sat, sun, or two with a dash; did you mean wed?",
        ),
        (
            WINDOW + "tz: CEST}\n",
            'F:5: window.tz: "CEST" is no time zone that is known here: ',
        ),
        (WINDOW + "day: [sat]}\n", "F:5: window.day: unknown key; did you mean days?"),
        ("work: 1h\ndeadline: 22:00\n", f'F:6: deadline: {UNQUOTED} "22:00"'),
        (
            'work: 1h\ndeadline: "25:00"\n',
            'F:6: deadline: "25:00" is no time of day: write hours and minutes, from "00:00" to'
            ' "23:59"',
        ),
        (
            'work: 1h\ndeadline: "24:00"\n',
            'F:6: deadline: "24:00" is a time to stop at: write "00:00"',
        ),
        ("pause_above: much\n", f"F:5: pause_above: {ANY_LEVEL} 'much'"),
        ("pause_above: true\n", f"F:5: pause_above: {ANY_LEVEL} True"),
        ("pause_above: .nan\n", f"F:5: pause_above: {ANY_LEVEL} nan"),
        ("pause_above: NaN%\n", f"F:5: pause_above: {ANY_LEVEL} 'NaN%'"),
        ("pause_above: [40%]\n", f"F:5: pause_above: {ANY_LEVEL} ['40%']"),
        ("pause_above: 0\n", "F:5: pause_above: expected more than 0 USD, found 0"),
        (
            "pause_above: 0.1234567\n",
            "F:5: pause_above: expected at most 6 decimals (of a USD), found 0.1234567",
        ),
        ("pause_above: 0%\n", "F:5: pause_above: expected more than 0% and at most 100%, found 0%"),
        (
            "pause_above: 101%\n",
            "F:5: pause_above: expected more than 0% and at most 100%, found 101%",
        ),
        (
            "pause_above: 0.6\npause_after: 10\n",
            "F:6: pause_after: expected a duration such as 8h, 90m or 1h30m, found 10",
        ),
        (
            "pause_after: 10m\n",
            "F:5: pause_after: it says how long the price is above pause_above: add that as well",
        ),
        (
            "resume_below: 30%\n",
            "F:5: resume_below: it says when a job goes on that pause_above has stopped: add"
            " pause_above: 0.60",
        ),
        (
            "pause_above: 40%\nresume_below: 0.3\n",
            "F:6: resume_below: expected the unit of pause_above, which is 40%, found 0.3",
        ),
        (
            "pause_above: 40%\nresume_below: 41%\n",
            "F:6: resume_below: expected at most pause_above, which is 40%, found 41%",
        ),
        # said once, where the cause is
        (
            "pause_above: 0\nresume_below: 30%\npause_after: 5m\n",
            "F:5: pause_above: expected more than 0 USD, found 0",
        ),
        (
            "unattended: 20m\n",
            "F:5: unattended: expected 30m to 24h, found 20m",
        ),
        (
            "unattended: 25h\n",
            "F:5: unattended: expected 30m to 24h, found 25h",
        ),
        (
            "unattended: true\n",
            "F:5: unattended: expected a duration such as 8h, 90m or 1h30m, found True",
        ),
        ("alerts: me\n", "F:5: alerts: expected a list, found 'me'"),
        ("alerts: [me, me]\n", "F:5: alerts: named twice: me"),
        ("alerts: []\n", "F:5: alerts: expected at least one"),
        ("on_conflict: both\n", "F:5: on_conflict: expected 'cap' or 'deadline', found 'both'"),
    ],
)
def test_each_mistake_has_its_sentence(text: str, line: str) -> None:
    (said,) = _said(text)
    assert said.startswith(line)
    assert said == line or line.endswith(": ")


@pytest.mark.parametrize("key", OPTIONAL)
def test_a_key_without_a_value_is_no_wish(key: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        JobFile.model_validate({**a_job(), key: None})
    (error,) = wrong.value.errors()
    assert "it has no value: give it one, or leave the key out" in error["msg"]


@pytest.mark.parametrize("value", [1320, True, ["07:00"], {"at": "07:00"}, 7.5])
def test_the_api_takes_no_other_kind_of_time(value: Any) -> None:
    for changes in (
        {"window": {"start": value, "stop": "07:00"}},
        {"work": "1h", "deadline": value},
    ):
        with pytest.raises(ValidationError):
            JobFile.model_validate(a_job(**changes))


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("", "UTC"),
        ('window: {start: "22:00", stop: "07:00", tz: Asia/Shanghai}', "Asia/Shanghai"),
        (
            'tz: Europe/Berlin\nwindow: {start: "22:00", stop: "07:00", tz: Asia/Shanghai}',
            "Europe/Berlin",
        ),
    ],
)
def test_the_jobs_zone_is_its_own_else_its_windows(text: str, zone: str) -> None:
    assert _spec(text).tz == zone


@pytest.mark.parametrize("key", ["budget", "max_price", "pause_above"])
@pytest.mark.parametrize(
    ("written", "read"), [("1:30", 90), ("010", 8), ("0x10", 16), ("0b11", 3), ("-1:30", -90)]
)
def test_an_amount_that_yaml_reads_otherwise_is_none(key: str, written: str, read: int) -> None:
    said = _said(f"{key}: {written}\n")
    assert any(
        f"{key}: YAML reads {written} as {read}: write the amount with a decimal point" in each
        for each in said
    ), said


def test_plain_amounts_are_what_they_are() -> None:
    assert _spec("budget: 1_000").budget_usd_micros == 1_000_000_000
    assert _spec("budget: +7").budget_usd_micros == 7_000_000
