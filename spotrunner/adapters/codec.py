"""Frozen dataclasses to JSON and back: the form of everything that lies in S3.

Datetimes are ISO 8601 in UTC with microseconds and `Z`, enums stand by their values, tuples as
lists. Keys that the reader does not know are ignored (a newer writer), missing ones take their
defaults. Nothing is coerced: a number where a text belongs is malformed. Numbers that JSON does
not have (a loss that went to NaN) are the texts "nan", "inf" and "-inf".
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_origin

import cattrs
from cattrs.gen import make_dict_structure_fn
from cattrs.strategies import configure_union_passthrough

T = TypeVar("T")
Hook = Callable[[Any, Any], Any]


class Malformed(ValueError):
    """This is not JSON of the wanted type; the text says what is wrong where."""


def to_json(value: object) -> bytes:
    """A dataclass as compact JSON in ASCII, its keys in the order of the fields."""
    return json.dumps(to_plain(value), separators=(",", ":"), allow_nan=False).encode("ascii")


def from_json(cls: type[T], body: bytes) -> T:
    """A `cls` from its JSON. Raises Malformed."""
    try:
        plain = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from error
    return from_plain(cls, plain)


def to_plain(value: object) -> Any:
    """A dataclass as what JSON knows: dicts, lists, texts, numbers, None."""
    return _converter.unstructure(value)


def from_plain(cls: type[T], plain: object) -> T:
    """A `cls` from what `to_plain` made. Raises Malformed."""
    try:
        return _converter.structure(plain, cls)
    except (cattrs.BaseValidationError, ValueError, TypeError) as error:
        wrong = "; ".join(cattrs.transform_error(error, format_exception=_said))
        raise Malformed(f"not a {cls.__name__}: {wrong}") from error


def _said(error: BaseException, _: type | None) -> str:
    return f"required key {error} is missing" if isinstance(error, KeyError) else str(error)


# -- leaves ------------------------------------------------------------------------------------


def _time_to_text(value: dt.datetime) -> str:
    assert value.tzinfo is not None, "a time without a zone"
    utc = value.astimezone(dt.timezone.utc)
    return utc.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _time(value: Any, _: Any) -> dt.datetime:
    # Python 3.10 does not read the Z.
    time = dt.datetime.fromisoformat(_text(value, str).replace("Z", "+00:00"))
    if time.tzinfo is None:
        raise ValueError(f"the time {value} has no zone")
    return time.astimezone(dt.timezone.utc)


def _text(value: Any, wanted: type[str]) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {type(value).__name__}")
    # cattrs sends the enums here, too: all of ours are texts as well.
    return value if wanted is str else wanted(value)


def _bool(value: Any, _: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, found {type(value).__name__}")
    return value


def _int(value: Any, _: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected a whole number, found {type(value).__name__}")
    return value


def _float_to_plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _float(value: Any, _: Any) -> float:
    if value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected a number, found {type(value).__name__}")
    return float(value)


# -- containers --------------------------------------------------------------------------------


def _is_dataclass(cls: Any) -> bool:
    return isinstance(cls, type) and dataclasses.is_dataclass(cls)


def _object_hook(cls: Any, converter: cattrs.Converter) -> Hook:
    structure = make_dict_structure_fn(cls, converter)

    def checked(value: Any, wanted: Any) -> Any:
        # Else a list would pass for an object in which every key is missing.
        if not isinstance(value, Mapping):
            raise TypeError(f"expected an object, found {type(value).__name__}")
        return structure(value, wanted)

    return checked


def _is_tuple(cls: Any) -> bool:
    return get_origin(cls) is tuple


def _list_hook(structure: Hook) -> Hook:
    def checked(value: Any, wanted: Any) -> Any:
        # Else a text would pass for a list of its letters.
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"expected a list, found {type(value).__name__}")
        return structure(value, wanted)

    return checked


def _new_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_unstructure_hook(dt.datetime, _time_to_text)
    converter.register_unstructure_hook(float, _float_to_plain)
    leaves: Mapping[type, Hook] = {
        dt.datetime: _time,
        str: _text,
        bool: _bool,
        int: _int,
        float: _float,
    }
    for leaf, hook in leaves.items():
        converter.register_structure_hook(leaf, hook)
    configure_union_passthrough(str | int | float | None, converter)
    converter.register_structure_hook_factory(_is_dataclass, _object_hook)
    structure_tuple = converter.get_structure_hook(tuple[str, ...])
    converter.register_structure_hook_func(_is_tuple, _list_hook(structure_tuple))
    return converter


_converter = _new_converter()
