from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.imds_server import ImdsServer


@pytest.fixture
def imds_server() -> Iterator[ImdsServer]:
    with ImdsServer() as server:
        yield server
