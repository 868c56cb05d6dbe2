"""EC2's query protocol, read and written by botocore's own service model.

A parameter that the model does not know is EC2's UnknownParameter. A member of ours that the model
does not know is a bug of ours, and an assertion.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

import botocore.session
from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape
from botocore.utils import parse_timestamp

from spotrunner.sim.values import ApiError

Params = dict[str, Any]

_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"


def ec2_model() -> ServiceModel:
    return botocore.session.Session().get_service_model("ec2")


# -- requests ----------------------------------------------------------------------------------


def read_params(operation: OperationModel, query: Mapping[str, str]) -> Params:
    """The parameters by their names in the API. Raises ApiError: UnknownParameter,
    MissingParameter, InvalidParameterValue."""
    reader = _Reader(query)
    shape = operation.input_shape
    params: Params = reader.structure(shape, "") if isinstance(shape, StructureShape) else {}
    unknown = sorted(set(query) - reader.used - {"Action", "Version"})
    if unknown:
        raise ApiError("UnknownParameter", f"The parameter {unknown[0]} is not recognized")
    for name in shape.required_members if isinstance(shape, StructureShape) else ():
        if name not in params:
            raise ApiError("MissingParameter", f"The request must contain the parameter {name}")
    return params


class _Reader:
    """Reads nested values out of EC2's flat keys (`Filter.1.Value.2`) and notes which it used."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self._query = query
        self._children: dict[str, set[str]] = {}
        self.used: set[str] = set()
        for key in query:
            parts = key.split(".")
            for depth in range(len(parts)):
                self._children.setdefault(".".join(parts[:depth]), set()).add(parts[depth])

    def structure(self, shape: StructureShape, prefix: str) -> Params:
        values: Params = {}
        for member, member_shape in shape.members.items():
            key = _query_name(member_shape, member)
            if key in self._children.get(prefix, ()):
                values[member] = self._value(member_shape, f"{prefix}.{key}" if prefix else key)
        return values

    def _value(self, shape: Shape, key: str) -> Any:
        if isinstance(shape, StructureShape):
            return self.structure(shape, key)
        if isinstance(shape, ListShape):
            numbers = sorted(int(part) for part in self._children.get(key, ()) if part.isdigit())
            return [self._value(shape.member, f"{key}.{number}") for number in numbers]
        if key not in self._query:
            return None
        self.used.add(key)
        return _scalar(shape, key, self._query[key])


def _query_name(shape: Shape, member: str) -> str:
    written = shape.serialization
    if "queryName" in written:
        return str(written["queryName"])
    name = str(written.get("name", member))
    return name[0].upper() + name[1:]


def _scalar(shape: Shape, key: str, text: str) -> Any:
    try:
        value = _PARSERS.get(shape.type_name, str)(text)
    except (ValueError, KeyError, binascii.Error):
        raise _bad_value(key, text) from None
    allowed = getattr(shape, "enum", [])
    # The world itself knows which instance types there are.
    if allowed and shape.name != "InstanceType" and value not in allowed:
        raise _bad_value(key, text)
    return value


def _bad_value(key: str, text: str) -> ApiError:
    return ApiError(
        "InvalidParameterValue", f"Value ({text}) for parameter {key} is invalid for its type"
    )


def _time(text: str) -> dt.datetime:
    when: dt.datetime = parse_timestamp(text)
    return when if when.tzinfo else when.replace(tzinfo=dt.timezone.utc)


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "integer": int,
    "long": int,
    "float": float,
    "double": float,
    "boolean": lambda text: {"true": True, "false": False}[text.lower()],
    "timestamp": _time,
    "blob": lambda text: base64.b64decode(text, validate=True),
}


def paths_of(value: Any, prefix: str = "") -> Iterator[str]:
    """Every leaf of some parameters as `Placement.AvailabilityZone`; lists leave no trace."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths_of(inner, f"{prefix}.{name}" if prefix else name)
    elif isinstance(value, list):
        for inner in value:
            yield from paths_of(inner, prefix)
    else:
        yield prefix


# -- answers -----------------------------------------------------------------------------------


def write_answer(operation: OperationModel, request_id: str, answer: Mapping[str, Any]) -> bytes:
    """The XML of an answer; None values are left out."""
    root = ElementTree.Element(f"{operation.name}Response", xmlns=_NAMESPACE)
    ElementTree.SubElement(root, "requestId").text = request_id
    shape = operation.output_shape
    if isinstance(shape, StructureShape):
        _write_members(root, shape, answer)
    else:
        assert not answer, f"{operation.name} answers nothing"
        ElementTree.SubElement(root, "return").text = "true"
    return _document(root)


def write_error(error: ApiError, request_id: str) -> bytes:
    root = ElementTree.Element("Response")
    inner = ElementTree.SubElement(ElementTree.SubElement(root, "Errors"), "Error")
    ElementTree.SubElement(inner, "Code").text = error.code
    ElementTree.SubElement(inner, "Message").text = error.message
    ElementTree.SubElement(root, "RequestID").text = request_id
    return _document(root)


def _document(root: ElementTree.Element) -> bytes:
    text: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text


def _write_members(
    parent: ElementTree.Element, shape: StructureShape, values: Mapping[str, Any]
) -> None:
    unknown = set(values) - set(shape.members)
    assert not unknown, f"{shape.name} has no {sorted(unknown)}"
    missing = [name for name in shape.required_members if values.get(name) is None]
    assert not missing, f"{shape.name} needs {missing}"
    for member, value in values.items():
        if value is not None:
            inner = shape.members[member]
            _write(parent, inner, str(inner.serialization.get("name", member)), value)


def _write(parent: ElementTree.Element, shape: Shape, name: str, value: Any) -> None:
    if isinstance(shape, ListShape):
        if shape.serialization.get("flattened"):
            target, item = parent, str(shape.member.serialization.get("name", name))
        else:
            target = ElementTree.SubElement(parent, name)
            item = str(shape.member.serialization.get("name", "member"))
        for inner in value:
            _write(target, shape.member, item, inner)
        return
    element = ElementTree.SubElement(parent, name)
    if isinstance(shape, StructureShape):
        _write_members(element, shape, value)
    else:
        element.text = _text(shape, value)


def _text(shape: Shape, value: Any) -> str:
    kind = _TYPES[shape.type_name]
    assert isinstance(value, kind), f"{shape.name} is a {shape.type_name}, not {value!r}"
    allowed = getattr(shape, "enum", [])
    assert not allowed or value in allowed, f"{value!r} is none of {shape.name}'s values"
    if shape.type_name == "boolean":
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        assert value.tzinfo is not None
        moment = value.astimezone(dt.timezone.utc)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
    return str(value)


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
    "boolean": bool,
    "timestamp": dt.datetime,
}
