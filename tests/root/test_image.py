"""payloads/image, really built: on a small base and with a small package, since no hub is asked."""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.root.dockerd import IMAGE as BASE
from tests.root.dockerd import Den, den
from tests.root.rootfs import rootfs

pytestmark = pytest.mark.root

PAYLOAD = Path(__file__).parents[2] / "payloads" / "image"
BUILT = "built:1"
SECRETS = (".env", "sub/.env", "id_rsa", "deploy.pem", ".git/config", "data/part-0", "train.py")


class Index(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""


def lay_wheel(folder: Path, name: str) -> None:
    """A package index with one package of one module."""
    place = folder / "simple" / name
    place.mkdir(parents=True)
    wheel = f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(place / wheel, "w") as packed:
        packed.writestr(f"{name}.py", "said = 'here'\n")
        packed.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        packed.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        packed.writestr(f"{info}/RECORD", "")
    (place / "index.html").write_text(f'<a href="{wheel}">{wheel}</a>')


@contextmanager
def index(daemon: Den, folder: Path) -> Iterator[str]:
    """Its address in the daemon's own network."""
    listener = daemon.within(lambda: socket.create_server(("127.0.0.1", 0)))
    server = http.server.ThreadingHTTPServer(
        listener.getsockname(), partial(Index, directory=str(folder)), bind_and_activate=False
    )
    server.socket.close()
    server.socket = listener
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/simple"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Den]:
    """With the image built in it."""
    folder = tmp_path_factory.mktemp("image")
    for name in ("tiny", "later"):
        lay_wheel(folder, name)
    context = folder / "context"
    shutil.copytree(PAYLOAD, context)
    for name in SECRETS:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text("canary-7f3a")
    with den(folder / "d", rootfs()) as made, index(made, folder) as url:
        build(made, context, BUILT, f"PIP_INDEX_URL={url}", "REQUIREMENTS=tiny==1.0")
        yield made


def build(daemon: Den, context: Path, tag: str, *arguments: str) -> None:
    given = [part for each in (f"BASE={BASE}", *arguments) for part in ("--build-arg", each)]
    done = subprocess.run(
        ["docker", "build", "--network", "host", "--tag", tag, *given, str(context)],
        # The classic builder: Debian's docker.io comes without buildx.
        env={"DOCKER_HOST": daemon.host, "DOCKER_BUILDKIT": "0", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]


def say(daemon: Den, *command: str, image: str = BUILT) -> str:
    return daemon.docker("run", "--rm", "--network", "host", image, *command).stdout.strip()


def test_the_package_is_there_for_the_default_user(daemon: Den) -> None:
    assert say(daemon, "python3", "-c", "import tiny; print(tiny.said, tiny.__file__)") == (
        "here /opt/venv/lib/python3.11/site-packages/tiny.py"
    )
    assert say(daemon, "id", "--user", "--name") == "trainer"
    assert say(daemon, "id", "--user") == "10001"
    assert say(daemon, "pwd") == "/home/trainer"


def test_there_is_no_compiler_no_jupyter_and_no_cache(daemon: Den) -> None:
    looked = "command -v gcc cc make jupyter; ls -A /home/trainer /root/.cache /tmp; true"
    found = say(daemon, "bash", "-c", f"({looked}) 2> /dev/null")
    assert {"gcc", "cc", "jupyter", "pip", "constraints"}.isdisjoint(
        Path(line).name for line in found.splitlines()
    )


def test_what_it_says_of_itself(daemon: Den) -> None:
    (about,) = json.loads(daemon.docker("image", "inspect", BUILT).stdout)
    assert about["Config"]["User"] == "trainer"
    assert about["Config"]["Entrypoint"] is None
    assert about["Config"]["Labels"]["org.opencontainers.image.title"] == "spotrunner trainer"
    environment = dict(each.split("=", 1) for each in about["Config"]["Env"])
    assert environment["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert not [name for name in environment if "INDEX" in name], "a mirror's address is not kept"


def test_a_job_may_install_more_without_rights(daemon: Den, tmp_path: Path) -> None:
    """As spotrunner starts it: its own user, no capabilities, a home that can be written to."""
    lay_wheel(tmp_path, "later")
    with index(daemon, tmp_path) as url:
        installed = f"pip install --quiet --index-url {url} later"
        said = daemon.docker(
            *("run", "--rm", "--network", "host", "--user", "10001:10001", "--cap-drop", "ALL"),
            *("--env", "HOME=/tmp", BUILT, "bash", "-c"),
            f"{installed} && python3 -c 'import later, tiny; print(later.__file__)'",
        ).stdout
    assert said.strip().startswith("/tmp/.local/")


def test_nothing_private_is_sent_to_docker(daemon: Den, tmp_path: Path) -> None:
    """Not even where somebody adds a COPY of everything, or lets folders in."""
    context = tmp_path / "context"
    shutil.copytree(PAYLOAD, context)
    for name in SECRETS:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text("canary-7f3a")
    (context / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY . /context\n")
    build(daemon, context, "copied:1")
    assert say(daemon, "find", "/context", "-type", "f", image="copied:1") == ""
    ignored = context / ".dockerignore"
    ignored.write_text(ignored.read_text().replace("# !requirements.txt", "!train.py\n!sub"))
    build(daemon, context, "copied:2")
    found = say(daemon, "find", "/context", "-type", "f", image="copied:2")
    assert found == "/context/train.py"


def test_the_canary_is_in_no_layer(daemon: Den) -> None:
    saved = subprocess.Popen(
        ["docker", "--host", daemon.host, "save", BUILT], stdout=subprocess.PIPE
    )
    found = subprocess.run(
        ["grep", "--count", "--binary-files=text", "canary-7f3a"],
        stdin=saved.stdout,
        capture_output=True,
        text=True,
        check=False,
    )
    saved.communicate()
    assert found.stdout.strip() == "0"
