"""Everything that lies in S3 comes back as it went in, and what is not of its type is told so."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import inspect
import json
import math
import types
import typing

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from spotrunner.adapters import codec
from spotrunner.core import model
from spotrunner.core.caps import Caps, Spent
from spotrunner.core.hazard import MEASURED, Hazards
from spotrunner.core.windows import Window

NOON = dt.datetime(2026, 11, 3, 12, tzinfo=dt.timezone.utc)

# A Snapshot and the money in it live for one round and are never written down; their keys are no
# texts. Hazards are not just any numbers: they have a test of their own.
CLASSES = tuple(
    cls
    for _, cls in inspect.getmembers(model, dataclasses.is_dataclass)
    if isinstance(cls, type) and cls not in (model.Snapshot, Caps, Spent, Hazards)
)

_times = st.datetimes(
    min_value=dt.datetime(1970, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=dt.datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(dt.timezone.utc),
).map(lambda time: time.replace(fold=0))
_LEAVES: dict[object, st.SearchStrategy[object]] = {
    str: st.text(max_size=8),
    int: st.integers(),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    type(None): st.none(),
    dt.datetime: _times,
    Window: st.builds(
        Window,
        start_min=st.integers(0, 1439),
        stop_min=st.integers(0, 1440),
        tz=st.text(max_size=8),
        days=st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
    ),
}


def _values(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Values of a field's type."""
    if kind in _LEAVES:
        return _LEAVES[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(_values(argument) for argument in arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(_values(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*(_values(argument) for argument in arguments))
    if origin is not None:
        # JSON has one kind of number: a free-form one comes back as what it looks like.
        return st.dictionaries(st.text(max_size=4), st.one_of(st.text(max_size=4), st.integers()))
    if issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: _values(hint) for name, hint in hints.items()})


def test_every_value_of_the_core_is_tried() -> None:
    assert {model.Order, model.Report, model.Head, model.Manifest, model.JobSpec} <= set(CLASSES)


@given(data=st.data())
@settings(max_examples=30)
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_what_went_in_comes_back(cls: type[object], data: st.DataObject) -> None:
    value = data.draw(_values(cls))
    back = codec.from_json(cls, codec.to_json(value))
    # By repr, since an enum with a text mixin equals its bare value.
    assert repr(back) == repr(value)


def test_hazards_come_back() -> None:
    hazards = dataclasses.replace(MEASURED, lost_weight=-0.5)
    assert codec.from_json(Hazards, codec.to_json(hazards)) == hazards


def test_times_have_microseconds_and_z() -> None:
    notice = model.Notice(at=NOON, seen_at=NOON.astimezone(dt.timezone(dt.timedelta(hours=8))))
    assert json.loads(codec.to_json(notice)) == {
        "at": "2026-11-03T12:00:00.000000Z",
        "seen_at": "2026-11-03T12:00:00.000000Z",
    }


def test_enums_stand_by_their_values_and_tuples_as_lists() -> None:
    plain = json.loads(codec.to_json(model.DataSource(source="s3://b/p/", target="d")))
    assert plain == {
        "source": "s3://b/p/",
        "target": "d",
        "bytes": None,
        "region": None,
        "mode": "copy",
    }
    report = json.loads(codec.to_json(_a_report(metrics=(("loss", 0.5),))))
    assert codec.from_plain(model.Report, report).phase is model.Phase.TRAIN
    assert report["phase"] == "train"
    assert report["metrics"] == [["loss", 0.5]]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_stays_readable(loss: float) -> None:
    body = codec.to_json(_a_report(metrics=(("loss", loss),)))
    assert b"NaN" not in body
    assert b"Infinity" not in body
    ((_, back),) = codec.from_json(model.Report, body).metrics
    assert back == loss or (math.isnan(back) and math.isnan(loss))


def test_keys_of_a_newer_writer_are_ignored_and_those_of_an_older_one_default() -> None:
    plain = codec.to_plain(_a_report())
    del plain["log_tail"]
    plain["gpu_temperature_c"] = 61
    assert codec.from_plain(model.Report, plain) == _a_report()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"at": "2026-11-03T12:00:00"}, "has no zone"),
        ({"at": 1762171200}, "expected a text, found int @ $.at"),
        ({"phase": "dreaming"}, "'dreaming' is not a valid Phase @ $.phase"),
        ({"rank": "0"}, "expected a whole number, found str @ $.rank"),
        ({"rank": True}, "expected a whole number, found bool @ $.rank"),
        ({"rank": 1.5}, "expected a whole number, found float @ $.rank"),
        ({"log_tail": "a line"}, "expected a list, found str @ $.log_tail"),
        ({"metrics": [["loss"]]}, "Not enough values"),
        ({"metrics": [["loss", "low"]]}, "expected a number, found str @ $.metrics[0][1]"),
        ({"notice": []}, "expected an object, found list @ $.notice"),
    ],
)
def test_what_is_not_of_its_type_is_malformed(change: dict[str, object], says: str) -> None:
    plain = codec.to_plain(_a_report()) | change
    with pytest.raises(codec.Malformed) as caught:
        codec.from_json(model.Report, json.dumps(plain).encode())
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"null", b'"x"', b"7", b"{}"]
)
def test_what_is_no_report_at_all_is_malformed(body: bytes) -> None:
    with pytest.raises(codec.Malformed):
        codec.from_json(model.Report, body)


def test_a_list_is_no_object_even_where_all_keys_have_defaults() -> None:
    with pytest.raises(codec.Malformed):
        codec.from_json(model.Limits, b"[]")


def _a_report(metrics: tuple[tuple[str, float], ...] = ()) -> model.Report:
    return model.Report(
        attempt="digits-7f3a.1",
        box="digits-7f3a.1",
        at=NOON,
        phase=model.Phase.TRAIN,
        metrics=metrics,
    )
