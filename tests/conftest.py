"""For every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """A test that sets logging up leaves it pointing at its own captured stream."""
    yield
    structlog.reset_defaults()
