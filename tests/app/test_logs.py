"""No log shows what was registered as a secret: not in values, not in exceptions, not from a
library."""

from __future__ import annotations

import io
import json
import logging
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from spotrunner.app import logs

TOKEN = "Sup3rS3cretToken"
URL = f"json://127.0.0.1:9/{TOKEN}"


@dataclass(frozen=True)
class Careless:
    """Its repr shows all it has."""

    url: str


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Where the logs of a program go. The root's handlers are put back: they are pytest's."""
    stream = io.StringIO()
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    logs.configure(stream, as_json=True)
    logs.redacting([URL])
    yield stream
    root.handlers = before


def last(out: io.StringIO) -> Any:
    return json.loads(out.getvalue().splitlines()[-1])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (URL, "***"),
        (f"POST /{TOKEN} failed", "POST *** failed"),
        ({"to": [URL, {"also": TOKEN}], TOKEN: 1}, {"to": ["***", {"also": "***"}], "***": 1}),
        ((TOKEN, 5), ["***", 5]),
        (Careless(URL), "Careless(url='***')"),
        (ValueError(TOKEN), "ValueError('***')"),
        (TOKEN.encode(), "b'***'"),
        (None, None),
        (True, True),
        (1.5, 1.5),
        ("nothing secret", "nothing secret"),
    ],
)
def test_values_of_every_shape_are_cleaned(out: io.StringIO, value: Any, shown: Any) -> None:
    structlog.get_logger().info("sent", what=value)
    assert last(out)["what"] == shown


def test_the_event_itself_and_what_is_bound_are_cleaned(out: io.StringIO) -> None:
    structlog.get_logger().bind(channel=URL).info(f"sent to {URL}")
    assert (last(out)["event"], last(out)["channel"]) == ("sent to ***", "***")


def test_a_logger_that_was_bound_before_knows_later_secrets(out: io.StringIO) -> None:
    bound = structlog.get_logger().bind(channel="me")
    logs.redacting(["another-secret-99"])
    bound.info("another-secret-99", other=TOKEN)
    assert (last(out)["event"], last(out)["other"]) == ("***", "***")


def test_an_exception_is_told_without_it(out: io.StringIO) -> None:
    try:
        raise ConnectionError(f"Max retries exceeded with url: /{TOKEN}")
    except ConnectionError:
        structlog.get_logger().exception("not sent")
    assert "Max retries exceeded with url: ***" in last(out)["exception"]
    assert TOKEN not in out.getvalue()


def test_what_a_library_says_is_cleaned_too(out: io.StringIO) -> None:
    try:
        raise ConnectionError(f"no way to {URL}")
    except ConnectionError:
        logging.getLogger("some.library").exception("while posting to %s", URL)
    assert "some.library: while posting to ***" in out.getvalue()
    assert "ConnectionError: no way to ***" in out.getvalue()
    assert TOKEN not in out.getvalue()


def test_values_with_the_name_of_a_secret_are_never_shown(out: io.StringIO) -> None:
    structlog.get_logger().info("started", api_token="x")
    assert last(out)["api_token"] == "[redacted]"


def test_a_process_that_knows_secrets_leaves_no_core_dump() -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        logs.without_core_dumps()
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
