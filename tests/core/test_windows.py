from __future__ import annotations

import datetime as dt
import json
import math
import zoneinfo
from collections.abc import Iterator

import cattrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotrunner.core.windows import (
    NEVER,
    Window,
    after_open_s,
    clock_min,
    closes_at,
    days_of,
    is_open,
    local_day,
    midnight,
    next_change,
    next_clock,
    open_s,
    opens_at,
    words,
    zone_problem,
)

EVERY_DAY = tuple(range(7))
MON_FRI = tuple(range(5))
MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
TICK = dt.timedelta(microseconds=1)

# Zones that have had no daylight saving for decades, and what their clocks are ahead.
STEADY = {
    "UTC": dt.timedelta(0),
    "Asia/Shanghai": 8 * HOUR,
    "Asia/Kathmandu": 5 * HOUR + 45 * MINUTE,
    "Pacific/Kiritimati": 14 * HOUR,
    "Pacific/Pago_Pago": -11 * HOUR,
}
# When clocks were changed: forward, back, by half an hour, at midnight, by a day.
CHANGES = [
    ("Europe/Berlin", "2021-03-28T01:00"),
    ("Europe/Berlin", "2021-10-31T01:00"),
    ("America/New_York", "2021-03-14T07:00"),
    ("America/New_York", "2021-11-07T06:00"),
    ("Australia/Lord_Howe", "2021-10-02T15:30"),
    ("Australia/Lord_Howe", "2021-04-03T15:00"),
    ("America/Sao_Paulo", "2018-11-04T03:00"),
    ("America/Sao_Paulo", "2018-02-18T02:00"),
    ("Africa/Cairo", "2010-04-29T22:00"),
    ("Asia/Beirut", "2022-03-26T22:00"),
    ("America/Havana", "2021-11-07T05:00"),
    ("America/St_Johns", "2010-11-07T02:31"),
    ("Pacific/Apia", "2011-12-30T10:00"),
]


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.timezone.utc)


def a_window(
    times: str = "22:00-07:00", tz: str = "UTC", days: tuple[int, ...] = EVERY_DAY
) -> Window:
    start, _, stop = times.partition("-")
    return Window(start_min=clock_min(start), stop_min=clock_min(stop, stop=True), tz=tz, days=days)


minutes = st.integers(0, 1439) | st.sampled_from([0, 90, 120, 150, 180, 1380])
weeks = st.sets(st.sampled_from(EVERY_DAY), min_size=1).map(lambda days: tuple(sorted(days)))
# Whole seconds of some years, so that every difference is exact.
instants = st.integers(0, 4 * 366 * 86_400).map(
    lambda s: utc("2020-01-01") + dt.timedelta(seconds=s)
)
zones = st.sampled_from(sorted(STEADY)) | st.sampled_from([zone for zone, _ in CHANGES])


@st.composite
def windows(draw: st.DrawFn, tz: st.SearchStrategy[str] = zones) -> Window:
    stop = draw(minutes | st.just(1440))
    return Window(start_min=draw(minutes), stop_min=stop, tz=draw(tz), days=draw(weeks))


@st.composite
def windows_and_changes(draw: st.DrawFn) -> tuple[Window, dt.datetime]:
    zone, change = draw(st.sampled_from(CHANGES))
    return draw(windows(st.just(zone))), utc(change)


# -- a night -----------------------------------------------------------------------------------


def test_a_night_window_opens_in_the_evening_and_closes_in_the_morning() -> None:
    window = a_window("22:00-07:00", "Asia/Shanghai")
    evening, morning = utc("2026-03-02T14:00"), utc("2026-03-02T23:00")
    assert not is_open(window, evening - TICK)
    assert is_open(window, evening)
    assert is_open(window, morning - TICK)
    assert not is_open(window, morning)
    assert next_change(window, evening - HOUR) == evening
    assert next_change(window, evening) == morning
    assert next_change(window, morning) == evening + DAY


def test_what_is_open_closes_and_what_is_closed_opens() -> None:
    window = a_window("09:00-17:00")
    noon, night = utc("2026-03-02T12:00"), utc("2026-03-02T23:00")
    assert closes_at(window, noon) == utc("2026-03-02T17:00")
    assert opens_at(window, noon) == noon
    assert closes_at(window, night) is None
    assert opens_at(window, night) == utc("2026-03-03T09:00")


def test_fridays_night_runs_into_saturday_and_sundays_does_not_start() -> None:
    window = a_window("22:00-07:00", days=MON_FRI)
    saturday, sunday = utc("2026-03-07"), utc("2026-03-08")
    assert is_open(window, saturday + 6 * HOUR)
    assert not is_open(window, saturday + 7 * HOUR)
    assert not is_open(window, saturday + 23 * HOUR)
    assert not is_open(window, sunday + DAY + 6 * HOUR)  # Monday morning is Sunday's night
    assert next_change(window, saturday + 7 * HOUR) == sunday + DAY + 22 * HOUR


def test_the_day_of_a_window_is_its_zones() -> None:
    """Friday 22:00 in Honolulu is Saturday in UTC."""
    window = a_window("22:00-23:00", "Pacific/Honolulu", days=(4,))
    assert opens_at(window, utc("2026-03-02")) == utc("2026-03-07T08:00")


# -- windows that touch ------------------------------------------------------------------------


@pytest.mark.parametrize("times", ["00:00-24:00", "00:00-00:00", "06:00-06:00"])
@pytest.mark.parametrize("tz", ["UTC", "Europe/Berlin", "Pacific/Apia"])
def test_a_window_of_whole_days_is_always_open(times: str, tz: str) -> None:
    window, now = a_window(times, tz), utc("2011-12-29T12:34:56")
    assert is_open(window, now)
    assert opens_at(window, now) == now
    assert closes_at(window, now) == next_change(window, now) == NEVER
    assert open_s(window, now, now + 400 * DAY) == 400 * 86_400
    assert after_open_s(window, now, 400 * 86_400) == now + 400 * DAY


@pytest.mark.parametrize("times", ["00:00-24:00", "00:00-00:00"])
def test_the_days_of_a_week_end_merge(times: str) -> None:
    window, saturday = a_window(times, days=(5, 6)), utc("2026-03-07")
    assert next_change(window, saturday - HOUR) == saturday
    assert next_change(window, saturday) == saturday + 2 * DAY
    assert closes_at(window, saturday + HOUR) == saturday + 2 * DAY


def test_days_that_merge_over_the_end_of_the_week() -> None:
    window, sunday = a_window("06:00-06:00", days=(0, 6)), utc("2026-03-08")
    assert closes_at(window, sunday + 7 * HOUR) == sunday + 2 * DAY + 6 * HOUR


def test_a_window_that_is_shut_for_a_minute_a_day_shuts() -> None:
    window, day = a_window("00:00-23:59"), utc("2026-03-07")
    assert next_change(window, day) == day + DAY - MINUTE
    assert next_change(window, day + DAY - MINUTE) == day + DAY


def test_a_break_within_the_hour_that_a_date_lacks_is_none() -> None:
    """Shut from 02:15 to 02:45, which Berlin skipped on 28 March."""
    window = a_window("02:45-02:15", "Europe/Berlin")
    assert closes_at(window, utc("2021-03-27T12:00")) == utc("2021-03-29T00:15")


# -- daylight saving ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tz", "times", "date", "opens", "closes"),
    [
        # 28 March 2021, 01:00 UTC: Berlin's clock goes from 02:00 to 03:00
        ("Europe/Berlin", "01:00-05:00", "2021-03-28", "03-28T00:00", "03-28T03:00"),
        ("Europe/Berlin", "02:30-05:00", "2021-03-28", "03-28T01:00", "03-28T03:00"),
        ("Europe/Berlin", "01:00-02:30", "2021-03-28", "03-28T00:00", "03-28T01:00"),
        ("Europe/Berlin", "22:00-07:00", "2021-03-27", "03-27T21:00", "03-28T05:00"),
        ("Europe/Berlin", "22:00-02:30", "2021-03-27", "03-27T21:00", "03-28T01:00"),
        ("Europe/Berlin", "02:30-02:30", "2021-03-27", "03-27T01:30", "03-28T01:00"),
        # 31 October 2021, 01:00 UTC: from 03:00 to 02:00
        ("Europe/Berlin", "02:30-02:45", "2021-10-31", "10-31T00:30", "10-31T00:45"),
        ("Europe/Berlin", "01:00-02:30", "2021-10-31", "10-30T23:00", "10-31T00:30"),
        ("Europe/Berlin", "02:30-03:00", "2021-10-31", "10-31T00:30", "10-31T02:00"),
        ("Europe/Berlin", "02:30-05:00", "2021-10-31", "10-31T00:30", "10-31T04:00"),
        ("Europe/Berlin", "22:00-07:00", "2021-10-30", "10-30T20:00", "10-31T06:00"),
        ("Europe/Berlin", "22:00-02:30", "2021-10-30", "10-30T20:00", "10-31T00:30"),
        # 14 March 2021, 07:00 UTC: from 02:00 to 03:00; 7 November, 06:00 UTC: from 02:00 to 01:00
        ("America/New_York", "22:00-07:00", "2021-03-13", "03-14T03:00", "03-14T11:00"),
        ("America/New_York", "02:30-06:00", "2021-03-14", "03-14T07:00", "03-14T10:00"),
        ("America/New_York", "01:30-01:45", "2021-11-07", "11-07T05:30", "11-07T05:45"),
        ("America/New_York", "01:30-04:00", "2021-11-07", "11-07T05:30", "11-07T09:00"),
        # half an hour: 2 October 2021, 15:30 UTC: from 02:00 to 02:30; 3 April, 15:00 UTC: back
        ("Australia/Lord_Howe", "01:00-03:00", "2021-10-03", "10-02T14:30", "10-02T16:00"),
        ("Australia/Lord_Howe", "02:10-03:00", "2021-10-03", "10-02T15:30", "10-02T16:00"),
        ("Australia/Lord_Howe", "01:40-01:50", "2021-04-04", "04-03T14:40", "04-03T14:50"),
        ("Australia/Lord_Howe", "01:40-02:10", "2021-04-04", "04-03T14:40", "04-03T15:40"),
        # at midnight: 4 November 2018, 03:00 UTC: from 00:00 to 01:00
        ("America/Sao_Paulo", "00:00-24:00", "2018-11-04", "11-04T03:00", "11-05T02:00"),
        ("America/Sao_Paulo", "22:00-00:30", "2018-11-03", "11-04T01:00", "11-04T03:00"),
        ("America/Sao_Paulo", "22:00-24:00", "2018-11-03", "11-04T01:00", "11-04T03:00"),
        ("America/Sao_Paulo", "22:00-00:00", "2018-11-03", "11-04T01:00", "11-04T03:00"),
        # 18 February 2018, 02:00 UTC: from 00:00 to 23:00, so that midnight comes once, and late
        ("America/Sao_Paulo", "22:00-24:00", "2018-02-17", "02-18T00:00", "02-18T03:00"),
        ("America/Sao_Paulo", "23:00-23:30", "2018-02-17", "02-18T01:00", "02-18T01:30"),
        # 29 April 2010, 22:00 UTC, and 26 March 2022, 22:00 UTC: from 00:00 to 01:00
        ("Africa/Cairo", "00:00-06:00", "2010-04-30", "04-29T22:00", "04-30T03:00"),
        ("Asia/Beirut", "23:00-00:30", "2022-03-26", "03-26T21:00", "03-26T22:00"),
        # none
        ("Asia/Shanghai", "22:00-07:00", "2021-03-27", "03-27T14:00", "03-27T23:00"),
        # 30 December 2011, 10:00 UTC: from the 30th 00:00 to the 31st 00:00
        ("Pacific/Apia", "22:00-07:00", "2011-12-29", "12-30T08:00", "12-30T10:00"),
        ("Pacific/Apia", "22:00-07:00", "2011-12-30", "12-30T10:00", "12-30T17:00"),
        ("Pacific/Apia", "09:00-17:00", "2011-12-31", "12-30T19:00", "12-31T03:00"),
    ],
)
def test_a_window_on_the_date_of_a_change(
    tz: str, times: str, date: str, opens: str, closes: str
) -> None:
    window = a_window(times, tz, days=(dt.date.fromisoformat(date).weekday(),))
    begin, end = utc(f"{date[:5]}{opens}"), utc(f"{date[:5]}{closes}")
    assert opens_at(window, utc(date) - 30 * HOUR) == begin
    assert closes_at(window, begin) == end
    assert next_change(window, end) > end + 5 * DAY


@pytest.mark.parametrize(
    ("tz", "times", "date"),
    [
        ("Europe/Berlin", "02:15-02:45", "2021-03-28"),
        ("Europe/Berlin", "02:00-03:00", "2021-03-28"),
        ("Australia/Lord_Howe", "02:10-02:20", "2021-10-03"),
        ("America/Sao_Paulo", "00:15-00:45", "2018-11-04"),
        ("Pacific/Apia", "09:00-17:00", "2011-12-30"),
        ("Pacific/Apia", "00:00-24:00", "2011-12-30"),
    ],
)
def test_a_window_that_the_change_leaves_nothing_of_waits_a_week(
    tz: str, times: str, date: str
) -> None:
    window = a_window(times, tz, days=(dt.date.fromisoformat(date).weekday(),))
    before = utc(date) - 30 * HOUR
    assert opens_at(window, before) > before + 7 * DAY
    assert open_s(window, before, before + 4 * DAY) == 0


@pytest.mark.parametrize(
    ("begin", "days", "hours"),
    [("2021-01-01", 365, 365 * 9), ("2021-03-27T12:00", 1, 8), ("2021-10-30T12:00", 1, 10)],
)
def test_a_spring_night_is_shorter_and_an_autumn_night_is_longer(
    begin: str, days: int, hours: int
) -> None:
    window = a_window("22:00-07:00", "Europe/Berlin")
    assert open_s(window, utc(begin), utc(begin) + days * DAY) == hours * 3600


# -- against a slow definition -----------------------------------------------------------------


def shown_open(window: Window, shown: dt.datetime) -> bool:
    """The window by what a clock shows that is never put back."""
    minute, day = shown.hour * 60 + shown.minute, shown.weekday()
    if window.stop_min > window.start_min:
        return day in window.days and window.start_min <= minute < window.stop_min
    evening = day in window.days and minute >= window.start_min
    return evening or ((day - 1) % 7 in window.days and minute < window.stop_min)


def by_minute(window: Window, change: dt.datetime) -> Iterator[tuple[dt.datetime, bool]]:
    """Two days around a change of the clock. A time counts once, the first time that it or a later
    one is shown: as on a clock that stops instead of going back."""
    zone = zoneinfo.ZoneInfo(window.tz)
    highest = dt.datetime.min  # noqa: DTZ901 - what a clock shows has no zone
    for n in range(-24 * 60, 24 * 60):
        at = change + n * MINUTE
        highest = max(highest, at.astimezone(zone).replace(tzinfo=None))
        yield at, shown_open(window, highest)


@given(window=windows(st.sampled_from(sorted(STEADY))), now=instants)
def test_where_clocks_are_never_changed_a_window_is_what_the_clock_shows(
    window: Window, now: dt.datetime
) -> None:
    shown = (now + STEADY[window.tz]).replace(tzinfo=None)
    assert is_open(window, now) is shown_open(window, shown)


@settings(max_examples=60, deadline=None)
@given(of=windows_and_changes())
def test_around_a_change_a_window_is_what_a_clock_shows_that_never_goes_back(
    of: tuple[Window, dt.datetime],
) -> None:
    window, change = of
    slow = list(by_minute(window, change))
    assert [(at, is_open(window, at)) for at, _ in slow] == slow
    open_minutes = sum(was_open for _, was_open in slow)
    assert open_s(window, change - DAY, change + DAY) == open_minutes * 60


# -- what always holds -------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(window=windows(st.sampled_from(sorted(STEADY))), now=instants)
def test_it_changes_at_the_next_change_and_nowhere_before(window: Window, now: dt.datetime) -> None:
    then, ahead = next_change(window, now), STEADY[window.tz]
    before = is_open(window, now)
    assert then > now
    if then != NEVER:
        assert is_open(window, then) is not before
        assert is_open(window, then - TICK) is before
    at = now
    while at < min(then, now + 8 * DAY):
        assert shown_open(window, (at + ahead).replace(tzinfo=None)) is before
        at += MINUTE


@given(of=windows_and_changes(), offset_s=st.integers(-2 * 86_400, 2 * 86_400))
def test_it_changes_at_the_next_change_also_around_a_change_of_the_clock(
    of: tuple[Window, dt.datetime], offset_s: int
) -> None:
    window, now = of[0], of[1] + dt.timedelta(seconds=offset_s)
    then, before = next_change(window, now), is_open(window, now)
    assert (closes_at(window, now) is None) is not before
    assert (opens_at(window, now) == now) is before
    assert open_s(window, now, min(then, now + DAY)) == (
        (min(then, now + DAY) - now).total_seconds() if before else 0
    )
    if then != NEVER:
        assert is_open(window, then) is not before
        assert is_open(window, then - TICK) is before


@settings(deadline=None)
@given(window=windows(), times=st.tuples(instants, instants, instants).map(sorted))
def test_the_open_time_of_two_spans_is_that_of_both(
    window: Window, times: list[dt.datetime]
) -> None:
    begin, middle, end = times
    parts = open_s(window, begin, middle) + open_s(window, middle, end)
    assert open_s(window, begin, end) == parts
    assert open_s(window, end, begin) == 0
    assert 0 <= parts <= (end - begin).total_seconds()


@settings(deadline=None)
@given(window=windows(), begin=instants, seconds=st.integers(1, 60 * 86_400))
def test_waiting_for_open_time_takes_as_long_as_it_is_open(
    window: Window, begin: dt.datetime, seconds: int
) -> None:
    then = after_open_s(window, begin, seconds)
    if then == NEVER:  # ten years of a few minutes each week
        assert open_s(window, begin, begin + 3653 * DAY) < seconds
    else:
        assert open_s(window, begin, then) == seconds
        assert open_s(window, begin, then - TICK) < seconds


def test_no_open_time_is_waited_for_now_and_too_much_never_comes() -> None:
    window, now = a_window(), utc("2026-03-02T12:00")
    assert after_open_s(window, now, 0) == now
    assert after_open_s(window, now, 1) == now + 10 * HOUR + dt.timedelta(seconds=1)
    assert after_open_s(window, now, 9 * 3600) == utc("2026-03-03T07:00")
    assert after_open_s(window, now, math.inf) == NEVER
    assert after_open_s(window, now, 9 * 365 * 86_400) == NEVER
    assert open_s(window, now, NEVER) == math.inf


# -- clocks and days ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tz", "clock", "now", "then"),
    [
        ("UTC", "07:00", "2026-03-02T06:59", "2026-03-02T07:00"),
        ("UTC", "07:00", "2026-03-02T07:00", "2026-03-03T07:00"),  # strictly after now
        ("Asia/Shanghai", "07:00", "2026-03-02T12:00", "2026-03-02T23:00"),
        ("Pacific/Honolulu", "23:00", "2026-03-02T12:00", "2026-03-03T09:00"),
        ("Europe/Berlin", "07:00", "2021-03-27T12:00", "2021-03-28T05:00"),
        ("Europe/Berlin", "02:30", "2021-03-27T12:00", "2021-03-28T01:00"),  # after the gap
        ("Europe/Berlin", "02:30", "2021-03-28T01:00", "2021-03-29T00:30"),
        ("Europe/Berlin", "02:30", "2021-10-30T12:00", "2021-10-31T00:30"),
        ("Europe/Berlin", "02:30", "2021-10-31T00:30", "2021-10-31T01:30"),  # the second time
        ("Europe/Berlin", "02:30", "2021-10-31T01:30", "2021-11-01T01:30"),
        ("Pacific/Apia", "12:00", "2011-12-30T00:00", "2011-12-30T10:00"),  # the day that was not
        ("Pacific/Apia", "12:00", "2011-12-30T10:00", "2011-12-30T22:00"),
    ],
)
def test_the_next_time_that_a_clock_shows(tz: str, clock: str, now: str, then: str) -> None:
    assert next_clock(clock_min(clock), tz, utc(now)) == utc(then)


@given(tz=zones, minute=st.integers(0, 1439), now=instants)
def test_a_clock_shows_each_minute_within_a_day_or_so(
    tz: str, minute: int, now: dt.datetime
) -> None:
    then = next_clock(minute, tz, now)
    assert now < then <= now + 25 * HOUR
    shown = then.astimezone(zoneinfo.ZoneInfo(tz))
    late = (shown.hour * 60 + shown.minute - minute) % 1440
    assert late <= 60
    assert shown.second == 0


@pytest.mark.parametrize(
    ("tz", "day", "begins"),
    [
        ("UTC", "2026-03-02", "2026-03-02T00:00"),
        ("Asia/Shanghai", "2026-03-02", "2026-03-01T16:00"),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00"),  # at 01:00
        ("America/Sao_Paulo", "2018-11-05", "2018-11-05T02:00"),
        ("America/Sao_Paulo", "2018-02-18", "2018-02-18T03:00"),
        ("America/Havana", "2021-11-07", "2021-11-07T04:00"),  # the first of two
        ("Africa/Cairo", "2010-04-30", "2010-04-29T22:00"),
        ("Asia/Beirut", "2022-03-27", "2022-03-26T22:00"),
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00"),
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00"),
    ],
)
def test_a_day_begins_at_its_first_instant(tz: str, day: str, begins: str) -> None:
    assert midnight(tz, dt.date.fromisoformat(day)) == utc(begins)


@pytest.mark.parametrize(
    ("tz", "at", "day"),
    [
        ("Asia/Shanghai", "2026-03-01T15:59", "2026-03-01"),
        ("Asia/Shanghai", "2026-03-01T16:00", "2026-03-02"),
        ("Pacific/Apia", "2011-12-30T09:59", "2011-12-29"),
        ("Pacific/Apia", "2011-12-30T10:00", "2011-12-31"),
        # The clock struck midnight, and a minute later it was 23:01 again.
        ("America/St_Johns", "2010-11-07T02:29", "2010-11-06"),
        ("America/St_Johns", "2010-11-07T02:31", "2010-11-07"),
    ],
)
def test_an_instant_belongs_to_a_day(tz: str, at: str, day: str) -> None:
    assert local_day(tz, utc(at)) == dt.date.fromisoformat(day)


@given(of=st.sampled_from(CHANGES), offset_s=st.integers(-2 * 86_400, 2 * 86_400))
def test_days_share_no_instant_and_leave_none_out(of: tuple[str, str], offset_s: int) -> None:
    tz, at = of[0], utc(of[1]) + dt.timedelta(seconds=offset_s)
    day = local_day(tz, at)
    assert midnight(tz, day) <= at < midnight(tz, day + DAY)


# -- words to values ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "minute"),
    [("00:00", 0), ("7:05", 425), ("07:05", 425), (" 22:00 ", 1320), ("23:59", 1439)],
)
def test_times_of_day(text: str, minute: int) -> None:
    assert clock_min(text) == clock_min(text, stop=True) == minute


def test_a_day_may_stop_at_24_and_not_start_at_it() -> None:
    assert clock_min("24:00", stop=True) == 1440
    with pytest.raises(ValueError, match='"24:00" is a time to stop at: write "00:00"'):
        clock_min("24:00")


@pytest.mark.parametrize(
    "text",
    ["", "7", "7:5", "22:60", "24:01", "25:00", "-1:00", "1:000", "22:00:00", "10pm", "²2:00"],
)
@pytest.mark.parametrize("stop", [False, True])
def test_what_is_no_time_of_day_is_told_how_to_write_one(text: str, stop: bool) -> None:
    last = "24:00" if stop else "23:59"
    with pytest.raises(ValueError, match=f'write hours and minutes, from "00:00" to "{last}"'):
        clock_min(text, stop=stop)


@pytest.mark.parametrize(
    ("written", "days"),
    [
        (["mon"], (0,)),
        (["mon-fri"], (0, 1, 2, 3, 4)),
        (["fri-mon"], (0, 4, 5, 6)),
        (["sun-sat"], EVERY_DAY),
        (["SAT", "Sunday"], (5, 6)),
        (["Tues", "thurs", "wednesday - Fri"], (1, 2, 3, 4)),
        (["sun", "mon", "sun", "sat-mon"], (0, 5, 6)),
        (["wed-wed"], (2,)),
    ],
)
def test_days_of_the_week(written: list[str], days: tuple[int, ...]) -> None:
    assert days_of(written) == days


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ([], 'no days: write those on which it starts, such as "mon-fri"'),
        (["weds"], '"weds" is no day of the week: write mon, tue, .*did you mean wed?'),
        (["mon-fir"], '"fir" .*did you mean fri?'),
        (["mo"], '"mo" .*did you mean mon?'),
        (["1"], '"1" is no day of the week: write mon, tue, wed, thu, fri, sat, sun, or two'),
        (["mon-"], '"" is no day of the week'),
        (["mon-wed-fri"], '"wed-fri" is no day of the week'),
    ],
)
def test_what_is_no_day_is_told_which_there_are(written: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        days_of(written)


@pytest.mark.parametrize("name", [*STEADY, *(zone for zone, _ in CHANGES), "UTC", "PRC"])
def test_a_zone_that_there_is_has_no_problem(name: str) -> None:
    assert zone_problem(name) is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Asia/Shangai", "did you mean Asia/Shanghai"),
        ("shanghai", "did you mean Asia/Shanghai?"),
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("New York", "did you mean America/New_York?"),
        ("Asia/Beijing", "write one such as Europe/Berlin or Asia/Shanghai"),
        ("UTC+8", "write one such as"),  # not Etc/GMT+8, which is behind
        ("localtime", "write one such as"),  # another on each host
        ("Factory", "write one such as"),
        ("right/UTC", "write one such as"),  # counts leap seconds
        ("", "write one such as"),
        ("Europe", "no time zone that is known here"),
        ("Europe/Berlin/", "did you mean Europe/Berlin"),
        ("/usr/share/zoneinfo/Europe/Berlin", "is a path: write the name of a time zone"),
        ("../Europe/Berlin", "is a path"),
        ("./UTC", "is a path"),
        ("Europe\\Berlin", "is a path"),
        ("Europe/../Europe/Berlin", "no time zone that is known here"),
    ],
)
def test_what_is_no_zone_is_told_the_nearest(name: str, says: str) -> None:
    problem = zone_problem(name)
    assert problem is not None
    assert says in problem
    assert problem.startswith(f'"{name}" is ')


# -- values to words ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "tz", "days", "says"),
    [
        ("22:00-07:00", "Asia/Shanghai", MON_FRI, "22:00-07:00 Asia/Shanghai, mon-fri"),
        ("7:05-24:00", "UTC", EVERY_DAY, "07:05-24:00 UTC"),
        ("00:00-00:00", "UTC", (2,), "00:00-00:00 UTC, wed"),
        ("09:00-17:00", "UTC", (0, 2, 4), "09:00-17:00 UTC, mon, wed, fri"),
        ("09:00-17:00", "UTC", (5, 6), "09:00-17:00 UTC, sat-sun"),
        ("09:00-17:00", "UTC", (0, 2, 4, 5, 6), "09:00-17:00 UTC, wed, fri-mon"),
    ],
)
def test_a_window_in_words(times: str, tz: str, days: tuple[int, ...], says: str) -> None:
    assert words(a_window(times, tz, days)) == says


@given(window=windows())
def test_its_words_are_read_as_the_same_window(window: Window) -> None:
    head, *days = words(window).split(", ")
    times, _, tz = head.partition(" ")
    assert a_window(times, tz, days_of(days) if days else EVERY_DAY) == window


@given(window=windows())
def test_a_window_goes_through_json(window: Window) -> None:
    text = json.dumps(cattrs.unstructure(window))
    assert cattrs.structure(json.loads(text), Window) == window


@pytest.mark.parametrize(
    ("start", "stop", "days"),
    [
        (1440, 0, (0,)),
        (-1, 0, (0,)),
        (0, 1441, (0,)),
        (0, -1, (0,)),
        (0, 1, ()),
        (0, 1, (7,)),
        (0, 1, (1, 0)),
        (0, 1, (0, 0)),
    ],
)
def test_a_window_that_no_job_can_ask_for_is_a_bug(
    start: int, stop: int, days: tuple[int, ...]
) -> None:
    with pytest.raises(AssertionError, match=r"no minute|no days|without days|sorted"):
        Window(start_min=start, stop_min=stop, tz="UTC", days=days)
