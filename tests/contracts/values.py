"""Values for a store: each with its id first, the rest with defaults, and any value of a type; and
a leader for it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import types
import typing
from typing import Any

import hypothesis.strategies as st

from spotrunner.core.alert import Alert, AlertKind
from spotrunner.core.model import (
    Attempt,
    Event,
    Job,
    JobSpec,
    Market,
    Offer,
    Pool,
    Refusal,
    Refused,
)
from spotrunner.core.states import AttemptState, JobState
from spotrunner.core.windows import Window
from spotrunner.ports import Store, ZoneQuote

T0 = dt.datetime(2026, 11, 1, 12, 0, tzinfo=dt.timezone.utc)
POOL = Pool(region="us-east-1", zone="us-east-1a", instance_type="g4dn.xlarge")


def at(seconds: float) -> dt.datetime:
    """So long after T0."""
    return T0 + dt.timedelta(seconds=seconds)


def a_spec(**changes: Any) -> JobSpec:
    spec = JobSpec(
        name="digits",
        run="python train.py",
        image="tensorflow/tensorflow:2.17.0-gpu",
        instance_types=("g4dn.xlarge",),
        regions=("us-east-1",),
    )
    return dataclasses.replace(spec, **changes)


def a_job(id: str = "digits-aaaa", **changes: Any) -> Job:
    job = Job(id=id, spec=a_spec(), state=JobState.QUEUED, submitted_at=T0)
    return dataclasses.replace(job, **changes)


def an_offer(pool: Pool = POOL, market: Market = Market.SPOT, **changes: Any) -> Offer:
    offer = Offer(
        pool=pool,
        market=market,
        price_usd_micros_hour=200_000 if market is Market.SPOT else 526_000,
        dearest_usd_micros_hour=526_000,
    )
    return dataclasses.replace(offer, **changes)


def an_attempt(job_id: str = "digits-aaaa", generation: int = 1, **changes: Any) -> Attempt:
    attempt = Attempt(
        id=f"{job_id}.{generation}",
        job_id=job_id,
        generation=generation,
        state=AttemptState.PENDING,
        offer=an_offer(),
        intent_at=T0,
        paid_until=at(1800),
        first_paid_s=1800,
    )
    return dataclasses.replace(attempt, **changes)


def an_event(job_id: str = "digits-aaaa", **changes: Any) -> Event:
    event = Event(at=T0, job_id=job_id, subject=job_id, kind="waiting", why="no offer")
    return dataclasses.replace(event, **changes)


def a_refusal(**changes: Any) -> Refusal:
    refusal = Refusal(pool=POOL, market=Market.SPOT, at=T0, meaning=Refused.CAPACITY)
    return dataclasses.replace(refusal, **changes)


def an_alert(key: str = "paused digits-aaaa 1", **changes: Any) -> Alert:
    alert = Alert(
        key=key,
        at=T0,
        kind=AlertKind.PAUSED,
        job_id="digits-aaaa",
        owner="alice",
        channels=(),
        title="digits-aaaa is paused",
        why="the price is above 0.60 USD/h",
        cost="0.40 USD so far",
        command="spotrunner resume digits-aaaa",
    )
    return dataclasses.replace(alert, **changes)


def a_zone_quote(seconds: float = 0, **changes: Any) -> ZoneQuote:
    """At `seconds` after T0."""
    quote = ZoneQuote(
        region="us-east-1",
        zone_id="use1-az4",
        instance_type="g4dn.xlarge",
        at=at(seconds),
        price_usd_micros_hour=200_000,
    )
    return dataclasses.replace(quote, **changes)


def led(store: Store, *jobs: Job) -> int:
    """The epoch of a new leader over a store with these jobs."""
    for job in jobs:
        store.add_job(job, ())
    return store.lead("test")


# -- any value of a type -----------------------------------------------------------------------

_TIMES = st.integers(min_value=0, max_value=10**16).map(
    lambda micros: (
        dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(microseconds=micros)
    )
)
_LEAVES: dict[object, st.SearchStrategy[Any]] = {
    str: st.text(max_size=8),
    int: st.integers(min_value=-(2**63), max_value=2**63 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    type(None): st.none(),
    dt.datetime: _TIMES,
    # Its numbers are not just any.
    Window: st.builds(
        Window,
        start_min=st.integers(0, 1439),
        stop_min=st.integers(0, 1440),
        tz=st.sampled_from(["UTC", "Asia/Shanghai"]),
        days=st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
    ),
}


def any_of(kind: Any, /, **fixed: Any) -> st.SearchStrategy[Any]:
    """Values of a type of core/model, with `fixed` fields of a dataclass."""
    if kind in _LEAVES:
        return _LEAVES[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([any_of(argument) for argument in arguments])
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(any_of(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*(any_of(argument) for argument in arguments))
    if origin is not None:
        return st.dictionaries(*(any_of(argument) for argument in arguments), max_size=2)
    if issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    hints = typing.get_type_hints(kind)
    fields = {name: any_of(hint) for name, hint in hints.items() if name not in fixed}
    return st.builds(kind, **fields, **{name: st.just(value) for name, value in fixed.items()})
