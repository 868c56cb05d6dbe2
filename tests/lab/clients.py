"""boto3 clients of a lab, whose every answer is checked against botocore's service model."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any
from xml.etree import ElementTree

import boto3
from botocore.config import Config
from botocore.model import ListShape, OperationModel, Shape, StructureShape

from spotrunner.lab.gate import CONTROL_KEY

START = dt.datetime(2026, 11, 2, 9, 0, tzinfo=dt.timezone.utc)


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: dt.datetime = START) -> None:
        self.at = at

    def now(self) -> dt.datetime:
        return self.at

    def pass_s(self, seconds: float) -> None:
        self.at += dt.timedelta(seconds=seconds)


def client(
    url: str, service: str, region: str = "us-east-1", *, read_timeout_s: float = 10, **options: Any
) -> Any:
    """Without retries, so that a test sees every refusal. `options` may be other keys
    than the control host's."""
    made = boto3.client(
        service,  # type: ignore[call-overload]
        region_name=region,
        endpoint_url=url,
        config=Config(
            read_timeout=read_timeout_s,
            retries={"total_max_attempts": 1, "mode": "standard"},
            signature_version="v4" if service != "s3" else "s3v4",
        ),
        **{"aws_access_key_id": CONTROL_KEY, "aws_secret_access_key": "any", **options},
    )
    if service == "ec2":
        made.meta.events.register("before-parse.ec2", _check)
    return made


def _check(operation_model: OperationModel, response_dict: Any, **_: Any) -> None:
    if response_dict["status_code"] == 200:
        root = ElementTree.fromstring(response_dict["body"])
        shape = operation_model.output_shape
        allowed = {"requestId", "return"} if shape is None else {"requestId"}
        elements = [child for child in root if _tag(child) not in allowed]
        if isinstance(shape, StructureShape):
            _check_members(shape, elements)
        else:
            assert not elements, f"{operation_model.name} answers nothing"


def _check_members(shape: StructureShape, elements: list[ElementTree.Element]) -> None:
    known = {str(m.serialization.get("name", name)): m for name, m in shape.members.items()}
    for element in elements:
        assert _tag(element) in known, f"{shape.name} has no <{_tag(element)}>"
        _check_value(known[_tag(element)], element)
    required = {
        str(shape.members[name].serialization.get("name", name)) for name in shape.required_members
    }
    missing = required - {_tag(element) for element in elements}
    assert not missing, f"{shape.name} needs {missing}"


def _check_value(shape: Shape, element: ElementTree.Element) -> None:
    if isinstance(shape, StructureShape):
        _check_members(shape, list(element))
    elif isinstance(shape, ListShape):
        for item in element:
            assert _tag(item) == shape.member.serialization["name"]
            _check_value(shape.member, item)
    else:
        assert not list(element), f"{shape.name} is no structure"
        enum = getattr(shape, "enum", [])
        assert not enum or element.text in enum, f"{element.text} is none of {shape.name}'s values"


def _tag(element: ElementTree.Element) -> str:
    return re.sub(r"^\{.*\}", "", element.tag)
