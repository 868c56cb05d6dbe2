"""The ledger against AWS's own data feed (core/datafeed), instance by instance. Micro-dollars.

Compared is the instance alone: the feed knows neither disks, addresses and transfer nor on-demand.
An hour that the feed may still bring is awaited and compared with nothing. What differs is first
held against what is known to make a difference (the digits that the feed prints, the seconds before
an instance runs, the other reading of AWS's texts, an end that nobody saw); what is left, nothing
explains, and it is added up whichever way it goes: two errors must not hide each other.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from spotrunner.core.catalogue import type_problem
from spotrunner.core.datafeed import Row
from spotrunner.core.model import Attempt, Market, Pool, Quote
from spotrunner.core.money import HOUR_S, instance_cost, price_at, seconds_between, usd

CENT_USD_MICROS = 10_000
# Files come about once an hour, some of them hours late.
LATE = dt.timedelta(days=1)
# The ledger counts from EC2's launch time, EC2 charges from `running`.
START_S = 120
_HOUR = dt.timedelta(hours=1)
_CLOCK = dt.timedelta(seconds=5)  # how far a row's time may lie before the hour's


class Reading(str, enum.Enum):
    """Which of AWS's two texts (core/money.billed_price) an instance-hour was charged by."""

    HOUR_START = "hour-start"  # the price at the start of the instance-hour holds for all of it
    IN_EFFECT = "in-effect"  # each second at the price in effect
    SAME = "same"  # the price did not change in it, so both come to the same
    NEITHER = "neither"
    UNKNOWN = "unknown"  # nobody read the prices of that time


class Standing(str, enum.Enum):
    AGREES = "agrees"
    EXPLAINED = "explained"
    DIFFERS = "differs"
    AWAITED = "awaited"  # not yet in the feed
    BEFORE = "before the feed"  # older than the feed's first file
    FEED_ONLY = "not in the ledger"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One instance. `left_out_usd_micros` is the ledger's for hours that are not compared: not yet
    in the feed, or before it. `difference_usd_micros` is the feed less the rest of the ledger, and
    `unexplained_usd_micros` its size where nothing explains it, else 0. `readings` has one for each
    compared hour that the feed has."""

    instance_id: str
    instance_type: str
    attempt: str | None
    feed_usd_micros: int
    ledger_usd_micros: int
    left_out_usd_micros: int
    difference_usd_micros: int
    unexplained_usd_micros: int
    standing: Standing
    why: str
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """Sums are over `instances`. `covered_usd_micros` is the part of the ledger that the feed has
    rows for. Not compared at all: what ran on demand, and what was booked for attempts whose
    instance nobody ever saw (`unseen`)."""

    instances: tuple[Compared, ...]
    covered_usd_micros: int
    on_demand_usd_micros: int
    unseen_usd_micros: int

    def _sum(self, name: str) -> int:
        return sum(getattr(each, name) for each in self.instances)

    @property
    def feed_usd_micros(self) -> int:
        return self._sum("feed_usd_micros")

    @property
    def ledger_usd_micros(self) -> int:
        return self._sum("ledger_usd_micros")

    @property
    def left_out_usd_micros(self) -> int:
        return self._sum("left_out_usd_micros")

    @property
    def difference_usd_micros(self) -> int:
        return self._sum("difference_usd_micros")

    @property
    def unexplained_usd_micros(self) -> int:
        return self._sum("unexplained_usd_micros")

    @property
    def covered_fraction(self) -> float | None:
        """None where the ledger has nothing to cover."""
        ledger = self.ledger_usd_micros
        return self.covered_usd_micros / ledger if ledger else None

    @property
    def readings(self) -> Mapping[Reading, int]:
        """How many instance-hours were charged by each."""
        return Counter(reading for each in self.instances for reading in each.readings)

    @property
    def is_right(self) -> bool:
        """Nothing above a cent is left unexplained."""
        return self.unexplained_usd_micros <= CENT_USD_MICROS

    @property
    def findings(self) -> tuple[str, ...]:
        """What a person should know, a sentence each."""
        return (*_findings(self),)


def compare(
    rows: Sequence[Row],
    attempts: Sequence[Attempt],
    now: dt.datetime,
    *,
    since: dt.datetime | None = None,
    quotes: Mapping[Pool, Sequence[Quote]] | None = None,
    feed_begin: dt.datetime | None = None,
    whole_until: dt.datetime | None = None,
) -> Reconciliation:
    """`rows` of the feed, each once, against the `attempts` that lived at `since` or later.

    `quotes` are the spot prices as we read them, for the readings. The feed has its first file at
    `feed_begin`, and is whole up to `whole_until` (None: but for the last day, since files come
    late).
    """
    whole_until = min(whole_until or now, now - LATE)
    spot = [it for it in attempts if it.offer.market is Market.SPOT]
    seen = [it for it in spot if it.instance_id is not None and it.launched_at is not None]
    ours = {it.instance_id for it in seen}
    by_instance: dict[str, list[Row]] = {}
    for row in rows:
        if row.instance_id in ours or since is None or row.at >= since:
            by_instance.setdefault(row.instance_id, []).append(row)
    lives = [
        _life(it, by_instance.get(it.instance_id or "", ()), now, feed_begin, whole_until)
        for it in seen
    ]
    strange = [_strange(id_, found) for id_, found in by_instance.items() if id_ not in ours]
    return Reconciliation(
        instances=(*(_compared(life, quotes or {}) for life in lives), *strange),
        covered_usd_micros=sum(hour.ledger_usd_micros for life in lives for hour in life.covered),
        on_demand_usd_micros=sum(
            instance_cost(it, now) for it in attempts if it.offer.market is Market.ON_DEMAND
        ),
        unseen_usd_micros=sum(it.cost_usd_micros or 0 for it in spot if it.launched_at is None),
    )


def _strange(instance_id: str, rows: Sequence[Row]) -> Compared:
    """An instance that the ledger does not know. The feed is the whole account's, and other people
    may use spot in it: but a type that we launch may be a lost one of ours."""
    total, instance_type = sum(row.charge_usd_micros for row in rows), rows[0].instance_type
    when = f"from {rows[0].at:%Y-%m-%d %H:%M} UTC on"
    is_ours = type_problem(instance_type) is None
    if is_ours:
        why = f"a {instance_type} that this ledger knows nothing of, {when}"
    else:
        why = f"not ours: spotrunner launches no {instance_type}"
    return Compared(
        instance_id=instance_id,
        instance_type=instance_type,
        attempt=None,
        feed_usd_micros=total,
        ledger_usd_micros=0,
        left_out_usd_micros=0,
        difference_usd_micros=total,
        unexplained_usd_micros=total if is_ours else 0,
        standing=Standing.FEED_ONLY if is_ours else Standing.EXPLAINED,
        why=why,
    )


# -- the hours of an instance ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Hour:
    """An instance-hour, or the part of it that the instance lived; `end` is None while it runs.
    `booked` is the ledger's price of it where it is known."""

    start: dt.datetime
    end: dt.datetime | None
    ledger_usd_micros: int
    booked_usd_micros_hour: int | None
    rows: tuple[Row, ...]

    @property
    def feed_usd_micros(self) -> int:
        return sum(row.charge_usd_micros for row in self.rows)

    @property
    def coarse_usd_micros(self) -> int:
        return sum(row.coarse_usd_micros for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class _Life:
    """An attempt with its hours: those that can be compared, and those that cannot."""

    attempt: Attempt
    compared: tuple[_Hour, ...]
    left_out: tuple[_Hour, ...]
    is_early: bool  # nothing can be compared, since the feed is younger

    @property
    def covered(self) -> tuple[_Hour, ...]:
        return tuple(hour for hour in self.compared if hour.rows)

    @property
    def feed_usd_micros(self) -> int:
        return sum(hour.feed_usd_micros for hour in self.compared)

    @property
    def ledger_usd_micros(self) -> int:
        return sum(hour.ledger_usd_micros for hour in self.compared)

    @property
    def difference_usd_micros(self) -> int:
        return self.feed_usd_micros - self.ledger_usd_micros

    @property
    def coarse_usd_micros(self) -> int:
        """How far equal bills may be apart: the feed's last digits, and our rounding up."""
        return 1 + sum(hour.coarse_usd_micros for hour in self.compared)

    @property
    def dearest_usd_micros_hour(self) -> int:
        """Of the feed's prices; 0 without any."""
        rows = (row for hour in self.compared for row in hour.rows)
        return max((row.market_usd_micros_hour for row in rows), default=0)


def _life(
    attempt: Attempt,
    rows: Sequence[Row],
    now: dt.datetime,
    feed_begin: dt.datetime | None,
    whole_until: dt.datetime,
) -> _Life:
    def is_early(hour: _Hour) -> bool:
        return feed_begin is not None and hour.start < feed_begin

    def is_compared(hour: _Hour) -> bool:
        if hour.end is None:
            return False
        return bool(hour.rows) or (hour.end <= whole_until and not is_early(hour))

    hours = tuple(_hours(attempt, now, rows))
    return _Life(
        attempt=attempt,
        compared=tuple(hour for hour in hours if is_compared(hour)),
        left_out=tuple(hour for hour in hours if not is_compared(hour)),
        is_early=is_early(hours[-1]),
    )


def _hours(attempt: Attempt, now: dt.datetime, rows: Sequence[Row]) -> Iterator[_Hour]:
    """Those of the ledger, and after its end those that only the feed has."""
    begin = attempt.launched_at
    assert begin is not None
    end = max(begin, attempt.ended_at or now)
    by_hour: dict[int, list[Row]] = {}
    for row in rows:
        by_hour.setdefault(max(0, (row.at + _CLOCK - begin) // _HOUR), []).append(row)
    lived = max(1, -(-seconds_between(begin, end) // HOUR_S))
    known = attempt.hour_prices_usd_micros
    booked = 0
    for index in range(max(lived, 1 + max(by_hour, default=0))):
        start = begin + index * _HOUR
        until = max(start, min(start + _HOUR, end))
        so_far = instance_cost(attempt, until)
        runs = attempt.ended_at is None and start + _HOUR > now
        yield _Hour(
            start=start,
            end=None if runs else until,
            ledger_usd_micros=so_far - booked,
            booked_usd_micros_hour=known[index] if index < min(lived, len(known)) else None,
            rows=tuple(by_hour.get(index, ())),
        )
        booked = so_far


# -- the verdict -------------------------------------------------------------------------------


def _compared(life: _Life, quotes: Mapping[Pool, Sequence[Quote]]) -> Compared:
    attempt = life.attempt
    charges = [_charges(hour, attempt.offer.pool, quotes) for hour in life.covered]
    standing, why = _verdict(life, charges)
    left_out = sum(hour.ledger_usd_micros for hour in life.left_out)
    is_unexplained = standing is Standing.DIFFERS
    return Compared(
        instance_id=attempt.instance_id or "",
        instance_type=attempt.offer.pool.instance_type,
        attempt=attempt.id,
        feed_usd_micros=life.feed_usd_micros,
        ledger_usd_micros=life.ledger_usd_micros + left_out,
        left_out_usd_micros=left_out,
        difference_usd_micros=life.difference_usd_micros,
        unexplained_usd_micros=abs(life.difference_usd_micros) if is_unexplained else 0,
        standing=standing,
        why=why,
        readings=tuple(charge.reading for charge in charges),
    )


def _verdict(life: _Life, charges: Sequence[_Charges]) -> tuple[Standing, str]:
    """The standing, with a sentence where there is something to say."""
    if not life.compared:
        if life.is_early:
            return Standing.BEFORE, "older than the feed's first file"
        return Standing.AWAITED, "not yet in the feed: its files may come a day late"
    if life.attempt.free:
        return _first_hour(life)
    if abs(life.difference_usd_micros) <= life.coarse_usd_micros:
        return Standing.AGREES, ""
    known = _by_reading(life, charges) or _by_estimate(life) or _by_start(life)
    return (Standing.EXPLAINED, known) if known else (Standing.DIFFERS, _told(life))


def _first_hour(life: _Life) -> tuple[Standing, str]:
    if life.feed_usd_micros == 0:
        return Standing.AGREES, "free: EC2 took it in its first hour, and the feed charges nothing"
    return Standing.DIFFERS, "the ledger has it free, since EC2 took it in its first hour"


def _by_reading(life: _Life, charges: Sequence[_Charges]) -> str:
    """Hours whose price in effect is not known, or that the feed lacks, count as the ledger's."""
    if all(charge.reading is not Reading.IN_EFFECT for charge in charges):
        return ""
    extra = sum(
        charge.in_effect_usd_micros - hour.ledger_usd_micros
        for hour, charge in zip(life.covered, charges, strict=True)
        if charge.in_effect_usd_micros is not None
    )
    off = abs(life.difference_usd_micros - extra)
    if off > life.coarse_usd_micros + _start_usd_micros(life.dearest_usd_micros_hour):
        return ""
    return "charged by the second at the price in effect; the ledger books each hour's first price"


def _by_estimate(life: _Life) -> str:
    if not life.attempt.estimated or life.difference_usd_micros > 0:
        return ""
    return "marked estimated: EC2 did not tell when or how it ended, so the dearer case was booked"


def _by_start(life: _Life) -> str:
    less, price = -life.difference_usd_micros, life.dearest_usd_micros_hour
    if less <= 0 or life.feed_usd_micros == 0 or less > _start_usd_micros(price):
        return ""
    return (
        f"charged for {less * HOUR_S // price} s less: EC2 counts from when the instance runs, the"
        " ledger from its launch"
    )


def _start_usd_micros(price_usd_micros_hour: int) -> int:
    return -(-price_usd_micros_hour * START_S // HOUR_S)


def _told(life: _Life) -> str:
    """What differs, as far as it shows."""
    told = [_missing(life), _prices(life), _after_the_end(life)]
    return "; ".join(each for each in told if each) or _seconds(life)


def _missing(life: _Life) -> str:
    bare = sum(1 for hour in life.compared if not hour.rows)
    if not bare:
        return ""
    return f"the feed has nothing for {bare} of its {_count(len(life.compared), 'hour')}"


def _prices(life: _Life) -> str:
    for hour in life.covered:
        booked, row = hour.booked_usd_micros_hour, hour.rows[0]
        if booked is None or abs(row.market_usd_micros_hour - booked) <= row.coarse_usd_micros:
            continue
        return (
            f"the feed's price at {row.at:%Y-%m-%d %H:%M} UTC is"
            f" {usd(row.market_usd_micros_hour)} an hour, the ledger's {usd(booked)}"
        )
    return ""


def _after_the_end(life: _Life) -> str:
    end = life.attempt.ended_at
    after = [hour for hour in life.covered if end is not None and hour.start >= end]
    if not after:
        return ""
    return f"the feed charges {usd(sum(hour.feed_usd_micros for hour in after))} after its end"


def _seconds(life: _Life) -> str:
    if life.feed_usd_micros == 0:
        return "the feed charges nothing, as for what EC2 takes in its first hour"
    off = life.difference_usd_micros
    seconds = abs(off) * HOUR_S // max(1, life.dearest_usd_micros_hour)
    return f"the feed charges for some {seconds} s {'more' if off > 0 else 'less'}"


# -- which of AWS's texts ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Charges:
    """How an hour was charged, and what it comes to at the price in effect (None: not known)."""

    reading: Reading
    in_effect_usd_micros: int | None


def _charges(hour: _Hour, pool: Pool, quotes: Mapping[Pool, Sequence[Quote]]) -> _Charges:
    prices = tuple(_prices_in(hour, pool, quotes))
    assert hour.end is not None
    if not prices:
        # Two prices in one hour's rows tell it even so.
        is_split = len({row.market_usd_micros_hour for row in hour.rows}) > 1
        reading = Reading.IN_EFFECT if is_split else Reading.UNKNOWN
        return _Charges(reading=reading, in_effect_usd_micros=None)
    ends = (*(at for at, _ in prices[1:]), hour.end)
    in_effect = sum(
        seconds_between(at, end) * price for (at, price), end in zip(prices, ends, strict=True)
    )
    at_start = seconds_between(hour.start, hour.end) * prices[0][1]
    reading = _reading(hour, prices, at_start // HOUR_S, in_effect // HOUR_S)
    return _Charges(reading=reading, in_effect_usd_micros=in_effect // HOUR_S)


def _prices_in(
    hour: _Hour, pool: Pool, quotes: Mapping[Pool, Sequence[Quote]]
) -> Iterator[tuple[dt.datetime, int]]:
    """The price at the hour's start and every change in it; nothing where the first is unknown."""
    first = price_at(quotes, pool, hour.start)
    if first is None or hour.end is None:
        return
    yield hour.start, first
    for quote in quotes.get(pool, ()):
        if hour.start < quote.at < hour.end:
            yield quote.at, quote.price_usd_micros_hour


def _reading(
    hour: _Hour, prices: Sequence[tuple[dt.datetime, int]], at_start: int, in_effect: int
) -> Reading:
    """EC2's hours begin a little after ours: that moves a change of price inside the hour, and in
    an hour that was not lived to its end it also takes seconds away."""
    found = [price for _, price in prices]
    is_whole = hour.end == hour.start + _HOUR
    moved = max(found) - min(found) if is_whole else max(found)
    doubt = hour.coarse_usd_micros + 1 + _start_usd_micros(moved)
    if len(set(found)) == 1 or abs(at_start - in_effect) <= 2 * doubt:
        return Reading.SAME
    if abs(hour.feed_usd_micros - at_start) <= doubt:
        return Reading.HOUR_START
    if abs(hour.feed_usd_micros - in_effect) <= doubt:
        return Reading.IN_EFFECT
    return Reading.NEITHER


# -- in words ----------------------------------------------------------------------------------


def _findings(found: Reconciliation) -> Iterator[str]:
    for each in found.instances:
        if each.standing is Standing.DIFFERS:
            ledger = usd(each.ledger_usd_micros - each.left_out_usd_micros)
            yield (
                f"{each.attempt} ({each.instance_id}): the feed has {usd(each.feed_usd_micros)},"
                f" the ledger {ledger}: {each.why}"
            )
        elif each.standing is Standing.FEED_ONLY:
            yield (
                f"{each.instance_id}: the feed has {usd(each.feed_usd_micros)} for {each.why}:"
                " another installation's, somebody else's in this account, or one of ours that was"
                " lost; CloudTrail says who launched it"
            )
    yield from _asides(found)


def _asides(found: Reconciliation) -> Iterator[str]:
    known = [each for each in found.instances if each.standing is Standing.EXPLAINED]
    if known:
        off = usd(sum(each.difference_usd_micros for each in known))
        yield f"{_count(len(known), 'instance')} with a difference that is explained: {off} in all"
    if found.left_out_usd_micros:
        yield (
            f"{usd(found.left_out_usd_micros)} of the ledger are not compared: not yet in the feed,"
            " whose files may come a day late, or older than its first file"
        )
    if found.on_demand_usd_micros:
        yield f"{usd(found.on_demand_usd_micros)} on demand are in no spot data feed"
    if found.unseen_usd_micros:
        yield (
            f"{usd(found.unseen_usd_micros)} are booked for attempts whose instance nobody ever saw"
        )
    yield _texts(found.readings)


def _texts(readings: Mapping[Reading, int]) -> str:
    start, in_effect = readings.get(Reading.HOUR_START, 0), readings.get(Reading.IN_EFFECT, 0)
    if neither := readings.get(Reading.NEITHER, 0):
        return (
            f"AWS charged {_count(neither, 'instance-hour')} neither at the first price nor at the"
            f" price in effect (and {start} at the first, {in_effect} at that in effect)"
        )
    if start and in_effect:
        return (
            f"AWS charged {_count(start, 'instance-hour')} at the first price and {in_effect} at"
            " the price in effect: both of its texts"
        )
    if start:
        return (
            "AWS charges the price at the start of an instance-hour for all of it"
            f" ({_count(start, 'hour')} in which it changed): so does the ledger"
        )
    if in_effect:
        return (
            f"AWS charges the price in effect, by the second ({_count(in_effect, 'hour')} in which"
            " it changed): the ledger books the price at the start of each instance-hour"
        )
    return "no price changed inside an instance-hour: the feed tells nothing of AWS's two texts"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
