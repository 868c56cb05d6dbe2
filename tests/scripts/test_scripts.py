"""The scripts of a clone: what `setup` installs again and what not, and that they can be started
from anywhere. The Python of `.venv` only writes down what it is asked, so nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_S = 60

PYTHON = """\
#!/bin/sh
if [ "$1" = -c ]; then echo 3.12.0; exit 0; fi
[ "$2 $3" = "pip --version" ] && exit 0
echo "$*" >> "$PIP_LOG"
exit "${PIP_EXIT:-0}"
"""
SPOTRUNNER = '#!/bin/sh\necho "spotrunner $*"\n'
# Whether this machine has uv must not matter: here it always fails, so that pip is next.
UV = "#!/bin/sh\nexit 1\n"


@dataclass(frozen=True, kw_only=True)
class Clone:
    """A clone with a `.venv` of stand-ins; `elsewhere` is another folder of the machine."""

    folder: Path
    elsewhere: Path

    def run(
        self, script: str, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "scripts" / script), *arguments],
            cwd=self.elsewhere,
            env={
                "PATH": f"{self.elsewhere}:{os.environ['PATH']}",
                # It makes `cd` go elsewhere and print where: a script has to be above that.
                "CDPATH": str(self.folder.parent),
                "PIP_LOG": str(self.elsewhere / "pip.log"),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=MOST_S,
            check=False,
        )

    def setup(self, *extras: str) -> str:
        """What it says."""
        done = self.run("setup", *extras)
        assert done.returncode == 0, done.stderr
        return done.stderr

    @property
    def installs(self) -> list[str]:
        """What pip was asked to install, in order."""
        log = self.elsewhere / "pip.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.split()[-1] for line in lines]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    made = Clone(folder=tmp_path / "a clone", elsewhere=tmp_path / "elsewhere")
    shutil.copytree(ROOT / "scripts", made.folder / "scripts")
    shutil.copy(ROOT / "pyproject.toml", made.folder)
    made.elsewhere.mkdir()
    for path, text in (
        (made.folder / ".venv" / "bin" / "python", PYTHON),
        (made.folder / ".venv" / "bin" / "spotrunner", SPOTRUNNER),
        (made.elsewhere / "uv", UV),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return made


ALREADY = "setup: .venv has everything already\n"


def test_what_is_installed_is_used_again(clone: Clone) -> None:
    clone.setup("lab", "train")
    assert clone.installs == [".[lab,train]"]
    assert clone.setup("train", "lab") == ALREADY
    assert clone.setup("lab") == ALREADY
    assert clone.setup() == ALREADY
    assert clone.installs == [".[lab,train]"]


def test_another_extra_is_added_to_those_that_are_there(clone: Clone) -> None:
    clone.setup("lab", "train")
    clone.setup("dev")
    assert clone.installs[1:] == [".[dev,lab,train]"]
    assert clone.setup("dev", "lab", "train") == ALREADY


def test_without_extras_the_package_alone_is_installed(clone: Clone) -> None:
    clone.setup()
    assert clone.installs == ["."]
    assert clone.setup() == ALREADY


def test_another_pyproject_is_another_install(clone: Clone) -> None:
    clone.setup("lab")
    with (clone.folder / "pyproject.toml").open("a") as file:
        file.write("\n# changed\n")
    clone.setup("lab")
    assert clone.installs == [".[lab]", ".[lab]"]


def test_a_clone_that_was_moved_is_installed_again(clone: Clone) -> None:
    """Its programs name the old folder."""
    clone.setup("lab")
    moved = Clone(folder=clone.folder.with_name("moved"), elsewhere=clone.elsewhere)
    clone.folder.rename(moved.folder)
    moved.setup("lab")
    assert clone.installs == [".[lab]", ".[lab]"]


def test_an_install_that_broke_off_counts_for_nothing(clone: Clone) -> None:
    clone.setup("lab")
    assert clone.run("setup", "train", PIP_EXIT="1").returncode == 1
    clone.setup("lab")
    assert clone.installs == [".[lab]", ".[lab,train]", ".[lab]"]


def test_the_demo_starts_from_any_folder_and_hands_its_options_on(clone: Clone) -> None:
    done = clone.run("demo", "--help")
    assert (done.returncode, done.stdout) == (0, "spotrunner demo --help\n")
    assert clone.installs == [".[lab,train]"]


def test_the_checks_refuse_what_they_do_not_know(clone: Clone) -> None:
    done = clone.run("test", "--nonsense")
    assert (done.returncode, done.stderr) == (2, "usage: scripts/test [--fast]\n")
    assert clone.installs == []


def test_what_needs_docker_is_run_or_said_not_to_be(clone: Clone) -> None:
    """The stand-in for Python answers every question, also whether docker is missing."""
    for tool in ("ruff", "mypy", "lint-imports"):
        (clone.folder / ".venv" / "bin" / tool).symlink_to("/bin/true")
    said = clone.run("test").stdout.splitlines()
    assert not [line for line in said if "-m root" in line]
    assert said[-1].startswith("not run: the tests with docker daemons")
    said = clone.run("test", SPOTRUNNER_ROOT_TESTS="required").stdout.splitlines()
    assert said[-1] == "== python -m pytest -q -m root -n 2 --dist loadfile"
