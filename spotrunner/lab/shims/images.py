"""Images of the emulated docker: only their names, which have to be pinned."""

from __future__ import annotations

import hashlib
import re

from spotrunner.lab.shims.errors import WrongUse
from spotrunner.lab.shims.machine import Machine, read_json, write_json

_NAME = re.compile(
    r"(?P<name>[a-z0-9]+(?:[._:/-]+[a-z0-9]+)*?)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_FLOATING = ("latest", "nightly", "devel", "stable", "edge", "main")


def pull(machine: Machine, image: str) -> None:
    """Raises WrongUse for what cannot be pulled, and for an image that is another one tomorrow."""
    found = _NAME.fullmatch(image)
    if found is None:
        raise WrongUse("invalid reference format")
    tag, digest = found["tag"], found["digest"]
    floats = tag is None or any(word in tag for word in _FLOATING) or not re.search(r"\d", tag)
    if digest is None and floats:
        raise WrongUse(f"{image} is not pinned: name a version's tag or a digest")
    path = machine.lab / "images.json"
    pulled = read_json(path)
    write_json(path, {**pulled, image: True})


def tag(machine: Machine, image: str, name: str) -> None:
    """It is there under this name, too. Raises WrongUse."""
    if digest(machine, image) is None:
        raise WrongUse(f"Error response from daemon: No such image: {image}")
    if "@" in name or _NAME.fullmatch(name) is None:
        raise WrongUse(f'Error parsing reference: "{name}" is not a valid repository/tag')
    path = machine.lab / "images.json"
    write_json(path, {**read_json(path), name: True})


def digest(machine: Machine, image: str) -> str | None:
    """What a registry would call it by; None for what was never pulled here."""
    if image not in read_json(machine.lab / "images.json"):
        return None
    found = _NAME.fullmatch(image)
    named = found["digest"] if found is not None else None
    return named or f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"


def repository(image: str) -> str:
    """Its name without tag and digest."""
    found = _NAME.fullmatch(image)
    return found["name"] if found is not None else image
