"""For tests with real docker daemons and network namespaces: they need root and some packages
(.ci/run has the list). Elsewhere they are skipped with the reason; where SPOTRUNNER_ROOT_TESTS is
`required` they fail instead, so that nobody takes a run without them for a whole one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotrunner.lab.isolation import problem
from tests.root.ground import Ground, isolated
from tests.root.registry import Registry, serving
from tests.root.rootfs import rootfs


@pytest.fixture(autouse=True, scope="session")
def _can_run() -> None:
    missing = problem() or _missing_tools()
    if missing is None:
        return
    if os.environ.get("SPOTRUNNER_ROOT_TESTS") == "required":
        pytest.fail(missing)
    pytest.skip(missing)


def _missing_tools() -> str | None:
    """What the tests need beside the lab: an image, and a place to pull it from."""
    missing = [tool for tool in ("docker-registry", "mmdebstrap") if shutil.which(tool) is None]
    return f"not installed: apt-get install {' '.join(missing)}" if missing else None


@pytest.fixture(scope="session")
def registry(_can_run: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """With an image of Debian and Python, for every test of the session."""
    with serving(rootfs(), tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def ground(registry: Registry) -> Iterator[Ground]:
    """An isolated lab with a daemon, for the jobs of one file."""
    # Without an image a trainer is a user of this machine, who must be able to go there.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with isolated(Path(folder), registry) as made:
            yield made
