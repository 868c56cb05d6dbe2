"""For tests with real docker daemons and network namespaces: they need root and what
lab/isolation needs. Elsewhere they are skipped with the reason; where SPOTRUNNER_ROOT_TESTS is
`required` they fail instead, so that nobody takes a run without them for a whole one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from spotrunner.lab.isolation import problem
from tests.root.registry import Registry, serving
from tests.root.rootfs import rootfs


@pytest.fixture(autouse=True, scope="session")
def _can_run() -> None:
    if (missing := problem()) is None:
        return
    if os.environ.get("SPOTRUNNER_ROOT_TESTS") == "required":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def registry(_can_run: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """With an image of Debian and Python, for every test of the session."""
    with serving(rootfs(), tmp_path_factory.mktemp("registry")) as running:
        yield running
