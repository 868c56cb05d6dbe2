"""A real registry on loopback, filled by its own protocol: docker pulls from it as from any."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import requests

from spotrunner.lab.watched import Watched
from tests.lab.waiting import until

_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CHUNK_BYTES = 1 << 20
_START_S = 20.0
_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Registry:
    """`digest` is that of the image that it serves."""

    port: int
    digest: str

    @property
    def image(self) -> str:
        return f"127.0.0.1:{self.port}/trainer:1"


@contextmanager
def serving(rootfs: Path, folder: Path) -> Iterator[Registry]:
    """With one image of that file system."""
    port = _free_port()
    config = folder / "registry.yml"
    config.write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'blobs'}}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    tool = shutil.which("docker-registry", path=f"{os.environ['PATH']}:/usr/bin")
    assert tool is not None, "the tests need docker-registry: apt-get install docker-registry"
    running = Watched(
        [tool, "serve", str(config)], environment={}, log=folder / "registry.log", folder=folder
    )
    try:
        until(lambda: _answers(port), _START_S)
        yield Registry(port=port, digest=_push(f"http://127.0.0.1:{port}/v2/trainer", rootfs))
    finally:
        running.stop(5)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/v2/", timeout=1).status_code == 200
    except requests.ConnectionError:
        return False


def _push(url: str, rootfs: Path) -> str:
    """The digest of the image's manifest."""
    packed, plain_digest = _packed(rootfs)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["bash"], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]},
        "rootfs": {"type": "layers", "diff_ids": [plain_digest]},
        "history": [{"created_by": "tests/root"}],
    }
    text = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": _CONFIG, **_blob(url, text)},
        "layers": [{"mediaType": _LAYER, **_blob(url, packed)}],
    }
    answer = requests.put(
        f"{url}/manifests/1",
        data=json.dumps(manifest),
        headers={"Content-Type": _MANIFEST},
        timeout=_TIMEOUT_S,
    )
    answer.raise_for_status()
    return answer.headers["Docker-Content-Digest"]


def _packed(tar: Path) -> tuple[Path, str]:
    """The gzip file beside it, and the digest of what is in it."""
    packed = tar.with_suffix(".tar.gz")
    if not packed.exists():
        part = packed.with_name(f"{os.getpid()}.part.gz")
        with tar.open("rb") as source, gzip.open(part, "wb", compresslevel=1) as sink:
            shutil.copyfileobj(source, sink, _CHUNK_BYTES)
        part.rename(packed)
    return packed, _digest(tar)


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _blob(url: str, content: Path | bytes) -> dict[str, Any]:
    """Upload it in one piece; how a manifest names it."""
    begun = requests.post(f"{url}/blobs/uploads/", timeout=_TIMEOUT_S)
    begun.raise_for_status()
    if isinstance(content, bytes):
        digest, size = f"sha256:{hashlib.sha256(content).hexdigest()}", len(content)
        _put(begun.headers["Location"], digest, content)
    else:
        digest, size = _digest(content), content.stat().st_size
        with content.open("rb") as source:
            _put(begun.headers["Location"], digest, source)
    return {"digest": digest, "size": size}


def _put(url: str, digest: str, content: bytes | IO[bytes]) -> None:
    answer = requests.put(
        url,
        params={"digest": digest},
        data=content,
        headers={"Content-Type": "application/octet-stream"},
        timeout=_TIMEOUT_S,
    )
    answer.raise_for_status()
