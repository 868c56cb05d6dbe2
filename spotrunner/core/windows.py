"""When a job may run: a window of the day in a zone, and the other times that a zone's clock tells.

Daylight saving. A clock time that a date does not have (spring) happens at the first instant after
the gap; one that it has twice (autumn) counts the first time. So a window opens at the first of the
two and closes at the first after that: when in doubt it stops spending earlier. A window that
becomes empty by that is not open on that date. A date that a zone skipped is one long gap.

All instants are aware UTC. A question steps by day and not by minute: a year takes milliseconds.
"""

from __future__ import annotations

import bisect
import datetime as dt
import difflib
import functools
import math
import zoneinfo
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# For what does not come.
NEVER = dt.datetime.max.replace(tzinfo=dt.timezone.utc)

_DAY_MIN = 24 * 60
_ONE_DAY = dt.timedelta(days=1)
# A forecast beyond this is none: the search for it stops here.
_FAR = dt.timedelta(days=3653)
# Instants that are remembered: some years of a window, or some weeks of many.
_REMEMBERED = 4096

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SHORT = 3  # the letters of a day's name that tell it
# The system's database lists them, but the first is another zone on each host, the second is none.
_NO_ZONES = frozenset({"localtime", "Factory"})
_SUCH_ZONES = "Europe/Berlin or Asia/Shanghai"


@dataclass(frozen=True, kw_only=True)
class Window:
    """Minutes after midnight, and the days on which it starts (0 is Monday), sorted. A stop at or
    before the start is on the next day; a stop at 1440 is this day's end."""

    start_min: int
    stop_min: int
    tz: str
    days: tuple[int, ...]

    def __post_init__(self) -> None:
        assert 0 <= self.start_min < _DAY_MIN, f"no minute of a day: {self.start_min}"
        assert 0 <= self.stop_min <= _DAY_MIN, f"no minute of a day: {self.stop_min}"
        assert self.days, "a window without days never opens"
        assert set(self.days) <= set(range(7)), f"no days of a week: {self.days}"
        assert list(self.days) == sorted(set(self.days)), f"days are sorted: {self.days}"

    @property
    def always(self) -> bool:
        """Every day's end is the next day's begin."""
        return len(self.days) == len(_DAYS) and self.start_min == self.stop_min % _DAY_MIN


# -- open and closed ---------------------------------------------------------------------------


def is_open(window: Window, now: dt.datetime) -> bool:
    opens, _ = next(_openings(window, now))
    return opens <= now


def next_change(window: Window, now: dt.datetime) -> dt.datetime:
    """The first instant after `now` at which `is_open` is another; NEVER, which is dt.datetime.max
    in UTC, for a window that is always open."""
    return closes_at(window, now) or opens_at(window, now)


def closes_at(window: Window, now: dt.datetime) -> dt.datetime | None:
    """None while it is closed, NEVER where it is always open. Where one day's window ends as the
    next begins, they are one."""
    if window.always:
        return NEVER
    end = None
    for opens, closes in _openings(window, now):
        if opens > (end or now):
            break
        end = closes
    return end


def opens_at(window: Window, now: dt.datetime) -> dt.datetime:
    """`now` itself while it is open."""
    opens, _ = next(_openings(window, now))
    return max(opens, now)


def open_s(window: Window, begin: dt.datetime, end: dt.datetime) -> float:
    """The seconds of [begin, end) in which it is open; infinite up to NEVER, 0 if `end` is not
    after `begin`."""
    if end <= begin:
        return 0.0
    if end == NEVER:
        return math.inf
    total = dt.timedelta()
    for opens, closes in _openings(window, begin):
        if opens >= end:
            break
        total += min(closes, end) - max(opens, begin)
    return total.total_seconds()


def after_open_s(window: Window, begin: dt.datetime, open_s: float) -> dt.datetime:
    """The first instant by which the window has been open for so many seconds since `begin`; NEVER
    if it does not come within some ten years."""
    assert open_s >= 0, f"no time to wait for: {open_s}"
    if open_s == 0 or open_s > _FAR.total_seconds():
        return NEVER if open_s else begin
    left = dt.timedelta(seconds=open_s)
    for opens, closes in _openings(window, begin):
        start = max(opens, begin)
        if left <= closes - start:
            return start + left
        if closes - begin > _FAR:
            break
        left -= closes - start
    return NEVER


def _openings(window: Window, since: dt.datetime) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """Each day's, oldest first, from the one that ends after `since` on; they touch where a day's
    ends as the next begins, and never overlap. Endless."""
    # What started two days ago ended yesterday by the clock, since none is longer than a day.
    day = _shown(window.tz, since).date() - _ONE_DAY
    until_min = window.stop_min + (_DAY_MIN if window.stop_min <= window.start_min else 0)
    while True:
        if day.weekday() in window.days:
            opens = _first(window.tz, day, window.start_min)
            closes = _first(window.tz, day, until_min)
            if closes > max(opens, since):
                yield opens, closes
        day += _ONE_DAY


# -- clocks and days ---------------------------------------------------------------------------


def next_clock(minute: int, tz: str, now: dt.datetime) -> dt.datetime:
    """The first instant after `now` at which the zone's clock shows this minute of the day: on a
    date that has it twice, also the second time."""
    assert 0 <= minute < _DAY_MIN, f"no minute of a day: {minute}"
    day = _shown(tz, now).date() - _ONE_DAY
    while True:
        for at in (_first(tz, day, minute), _at(tz, day, minute, fold=1)):
            if at > now:
                return at
        day += _ONE_DAY


def midnight(tz: str, day: dt.date) -> dt.datetime:
    """When this day begins there: its first instant where it has no 00:00, the first 00:00 where it
    has two. A skipped date begins as the next does, and so has no length."""
    return _first(tz, day, 0)


def local_day(tz: str, at: dt.datetime) -> dt.date:
    """The day that the instant belongs to: the one with midnight(day) <= at < midnight(day + 1).

    That is the date on the zone's clock, but where the clock is put back over midnight after it
    has struck (St. John's until 2011): then the new day has begun, and it goes on.
    """
    shown = _shown(tz, at).date()
    tomorrow = shown + _ONE_DAY
    return tomorrow if midnight(tz, tomorrow) <= at else shown


@functools.lru_cache(_REMEMBERED)
def _first(tz: str, day: dt.date, minute: int) -> dt.datetime:
    """When the zone's clock first shows so many minutes after 00:00 of this date (1440 and more are
    on the next); the end of the gap where it shows them never. Grows with the date and the minute,
    so that spans between two of them never overlap."""
    shown = _clock(day, minute)
    at = _at(tz, day, minute, fold=0)
    if _shown(tz, at) == shown:
        return at
    # A gap: fold 1 tells an instant before it, fold 0 one after it (PEP 495). Its end is between.
    before = _at(tz, day, minute, fold=1)
    seconds = range(int((at - before).total_seconds()) + 1)
    after_s = bisect.bisect_left(
        seconds, True, key=lambda s: _shown(tz, before + dt.timedelta(seconds=s)) >= shown
    )
    return before + dt.timedelta(seconds=after_s)


def _at(tz: str, day: dt.date, minute: int, *, fold: int) -> dt.datetime:
    local = _clock(day, minute).replace(tzinfo=zoneinfo.ZoneInfo(tz), fold=fold)
    return local.astimezone(dt.timezone.utc)


def _clock(day: dt.date, minute: int) -> dt.datetime:
    """What a clock shows, without a zone."""
    return dt.datetime.combine(day, dt.time()) + dt.timedelta(minutes=minute)


def _shown(tz: str, at: dt.datetime) -> dt.datetime:
    """What the zone's clock shows at an instant."""
    return at.astimezone(zoneinfo.ZoneInfo(tz)).replace(tzinfo=None)


# -- words to values ---------------------------------------------------------------------------


def clock_min(text: str, *, stop: bool = False) -> int:
    """Minutes after midnight of "22:00" or "7:05"; of "24:00" only as a stop. Raises ValueError."""
    hours, _, minutes = text.strip().partition(":")
    digits = hours + minutes
    if len(hours) in (1, 2) and len(minutes) == 2 and digits.isascii() and digits.isdigit():
        minute = int(hours) * 60 + int(minutes)
        if int(minutes) < 60 and (minute < _DAY_MIN or (stop and minute == _DAY_MIN)):
            return minute
        if minute == _DAY_MIN:
            raise ValueError('"24:00" is a time to stop at: write "00:00"')
    last = "24:00" if stop else "23:59"
    raise ValueError(
        f'"{text}" is no time of day: write hours and minutes, from "00:00" to "{last}"'
    )


def days_of(words: Sequence[str]) -> tuple[int, ...]:
    """Days of the week, 0 is Monday, of words such as "sat", "Monday" and "fri-mon", which goes
    over Sunday. Raises ValueError."""
    days: set[int] = set()
    for word in words:
        first, dash, last = word.partition("-")
        begin = _day_of(first)
        end = _day_of(last) if dash else begin
        days.update((begin + n) % 7 for n in range((end - begin) % 7 + 1))
    if not days:
        raise ValueError('no days: write those on which it starts, such as "mon-fri" or "sat"')
    return tuple(sorted(days))


def _day_of(word: str) -> int:
    word = word.strip().lower()
    for day, name in enumerate(_DAYS):
        if len(word) >= _SHORT and name.startswith(word):
            return day
    close = difflib.get_close_matches(word, [*_DAYS, *(name[:_SHORT] for name in _DAYS)], 1)
    hint = f"; did you mean {close[0][:_SHORT]}?" if close else ""
    known = ", ".join(name[:_SHORT] for name in _DAYS)
    raise ValueError(f'"{word}" is no day of the week: write {known}, or two with a dash{hint}')


def zone_problem(name: str) -> str | None:
    """Why this is no time zone, with what to write; None if it is one. Paths are none, nor is what
    each host has its own of."""
    if name in _zones():
        return None
    if name.startswith(("/", ".", "~")) or "\\" in name:
        return f'"{name}" is a path: write the name of a time zone, such as {_SUCH_ZONES}'
    likely = _likely_zones(name)
    hint = f"did you mean {' or '.join(likely)}?" if likely else f"write one such as {_SUCH_ZONES}"
    return f'"{name}" is no time zone that is known here: {hint}'


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) - _NO_ZONES


def _likely_zones(name: str) -> list[str]:
    """By the whole name or by its city alone. Nothing is made of "UTC+8": the names that resemble
    it are other zones (Etc/GMT+8 is eight hours behind)."""
    if any(letter.isdigit() for letter in name):
        return []
    by_word: dict[str, str] = {}
    for zone in sorted(_zones()):
        by_word[zone.lower()] = zone
        by_word.setdefault(zone.rpartition("/")[2].lower(), zone)
    word = name.strip().lower().replace(" ", "_")
    close = difflib.get_close_matches(word, by_word, 3, 0.75)
    return [by_word[word]] if word in by_word else list(dict.fromkeys(by_word[c] for c in close))


# -- values to words ---------------------------------------------------------------------------


def words(window: Window) -> str:
    """For people: "22:00-07:00 Asia/Shanghai, mon-fri"; every day needs no word."""
    times = f"{_clock_word(window.start_min)}-{_clock_word(window.stop_min)} {window.tz}"
    return ", ".join([times, *_day_words(window.days)])


def _clock_word(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _day_words(days: Sequence[int]) -> Iterator[str]:
    """Each run of days as one word, also a run over Sunday; none for a whole week."""
    for begin in days:
        if (begin - 1) % 7 not in days:
            end = begin
            while (end + 1) % 7 in days:
                end = (end + 1) % 7
            first, last = _DAYS[begin][:_SHORT], _DAYS[end][:_SHORT]
            yield first if begin == end else f"{first}-{last}"
