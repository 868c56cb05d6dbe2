from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.faulty_s3 import FaultyS3
from tests.agent.imds_server import ImdsServer
from tests.agent.rented import Account, unpacked
from tests.contracts.conftest import set_keys


@pytest.fixture
def imds_server() -> Iterator[ImdsServer]:
    with ImdsServer() as server:
        yield server


@pytest.fixture(scope="session")
def agent_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent as it lies on an instance."""
    return unpacked(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def faulty_s3() -> Iterator[FaultyS3]:
    with FaultyS3() as server:
        yield server


@pytest.fixture
def account(
    tmp_path: Path, faulty_s3: FaultyS3, agent_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Account]:
    set_keys(monkeypatch)
    account = Account(tmp_path, faulty_s3, agent_folder)
    yield account
    account.close()
