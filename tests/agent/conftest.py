from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.agent.imds_server import ImdsServer

if TYPE_CHECKING:
    from tests.agent.faulty_s3 import FaultyS3
    from tests.agent.rented import Account


@pytest.fixture
def imds_server() -> Iterator[ImdsServer]:
    with ImdsServer() as server:
        yield server


# -- machines that are rented: what they take to import, the quick tests need not wait for


@pytest.fixture(scope="session")
def agent_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent as it lies on an instance."""
    from tests.agent.rented import unpacked

    return unpacked(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def faulty_s3() -> Iterator[FaultyS3]:
    from tests.agent.faulty_s3 import FaultyS3

    with FaultyS3() as server:
        yield server


@pytest.fixture
def account(
    tmp_path: Path, faulty_s3: FaultyS3, agent_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Account]:
    from tests.agent.rented import Account
    from tests.contracts.conftest import set_keys

    set_keys(monkeypatch)
    account = Account(tmp_path, faulty_s3, agent_folder)
    yield account
    account.close()
