"""The agent's archive, unpacked and run where nothing else is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from spotrunner.app import archive

# Without rclone, which a later version brings.
MAX_BYTES = 5_000_000
FOREIGN = ("sqlalchemy", "pydantic", "fastapi", "typer", "yaml", "moto", "tensorflow")

IMPORT = """
import sys
import spotrunner.app.agent
from spotrunner.adapters.aws.session import Aws
Aws(endpoint_url="http://127.0.0.1:9").s3("eu-central-1")
print("python", *sys.version_info[:2])
print("modules", *sorted(name for name in sys.modules if "." not in name))
print("files", *sorted({m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)}))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    archive.build(folder / "agent.tar.gz")
    with tarfile.open(folder / "agent.tar.gz") as tar:
        tar.extractall(folder / "home", filter="data")
    return folder


def pythons() -> list[str]:
    """This Python and every other from 3.10 on that can be found and works."""
    found = {sys.version_info[:2]: sys.executable}
    places = os.environ["PATH"].split(":")
    versions = Path("~/.pyenv/versions").expanduser()
    if versions.is_dir():
        places += [str(entry / "bin") for entry in versions.iterdir()]
    for minor in range(10, 20):
        for place in places:
            path = shutil.which(f"python3.{minor}", path=place)
            if path is not None and _works(path):
                found.setdefault((3, minor), path)
    return [found[version] for version in sorted(found)]


def _works(python: str) -> bool:
    done = subprocess.run([python, "-ISc", "import ssl"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("python", pythons(), ids=lambda path: Path(path).name)
def test_runs_with_nothing_but_itself(built: Path, python: str) -> None:
    home = built / "home"
    done = subprocess.run(
        [python, "-sS", "-c", IMPORT],
        env={"PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    assert set(FOREIGN).isdisjoint(said["modules"].split())
    ours = [file for file in said["files"].split() if "site-packages" in file]
    assert ours == []
    assert str(home / "boto3" / "__init__.py") in said["files"].split()


def test_is_small_and_pure_python(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = (built / "agent.tar.gz").stat().st_size
    with capsys.disabled():
        print(f" [the agent's archive: {size / 1e6:.2f} MB]", end="")
    assert size <= MAX_BYTES
    with tarfile.open(built / "agent.tar.gz") as tar:
        names = tar.getnames()
    assert not [name for name in names if name.endswith((".so", ".pyc", ".pyd"))]
    assert "spotrunner/agent/inside.sh" in names
    assert "spotrunner/train/loop.py" in names
    assert not [name for name in names if re.match(r"spotrunner/(sim|lab|daemon|web|cli)/", name)]


def test_the_same_files_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    digest = archive.build(tmp_path / "again.tar.gz")
    assert (tmp_path / "again.tar.gz").read_bytes() == (built / "agent.tar.gz").read_bytes()
    assert re.fullmatch("[0-9a-f]{64}", digest)
