"""Every mutant dies by the test that is named for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutants.mutant import Mutant
from tests.mutants.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
# pytest's exit codes; everything else (no such test, an error at import) proves nothing.
PASSED, FAILED = 0, 1
MOST_S = 120
# A mutant has to run: to name what is not there would die by any test.
NONSENSE = re.compile(r"^E +(Name|Syntax|Attribute|Type|UnboundLocal)Error", re.MULTILINE)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and its tests, to be changed at will."""
    root = tmp_path_factory.mktemp("mutants")
    litter = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for folder in ("spotrunner", "tests"):
        shutil.copytree(ROOT / folder, root / folder, ignore=litter)
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


@pytest.fixture
def mutated(copy: Path, mutant: Mutant) -> Iterator[Path]:
    file = copy / "spotrunner" / mutant.file
    original = file.read_text()
    file.write_text(original.replace(mutant.old, mutant.new))
    yield copy
    file.write_text(original)


def run(root: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    # No bytecode: two versions of a file within a second would share it.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=MOST_S,
        check=False,
    )


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_list_fits_the_code(mutant: Mutant) -> None:
    text = (ROOT / "spotrunner" / mutant.file).read_text()
    assert text.count(mutant.old) == 1, "the text to change is not there exactly once"
    file, _, test = mutant.test.partition("::")
    assert f"def {test}(" in (ROOT / "tests" / file).read_text(), "there is no such test"


def test_no_mistake_is_listed_twice() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.slow
def test_the_copy_as_it_is_passes(copy: Path) -> None:
    done = run(copy, *sorted({mutant.test for mutant in MUTANTS}))
    assert done.returncode == PASSED, done.stdout
    where = "import spotrunner.core.model as m; print(m.__file__)"
    told = subprocess.run(
        [sys.executable, "-c", where], cwd=copy, capture_output=True, text=True, check=True
    )
    assert told.stdout.startswith(str(copy)), "the copy is not what is tested"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mutant_dies(mutated: Path, mutant: Mutant) -> None:
    done = run(mutated, mutant.test)
    assert done.returncode == FAILED, f"{mutant.test} does not see it\n{done.stdout}{done.stderr}"
    assert not NONSENSE.search(done.stdout), f"no mistake of sense, only of form\n{done.stdout}"
