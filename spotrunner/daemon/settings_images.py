"""The part of the settings that says where container images come from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

from spotrunner.core.catalogue import region_problem

# A registry (a host, perhaps with a port) and perhaps a path below it: no scheme, tag or digest.
_MIRROR = re.compile(r"[a-z0-9.-]+(?::\d{1,5})?(?:/[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)?")
_ACCOUNT_AND_PATH = "123456789012.dkr.ecr.{region}.amazonaws.com/docker-hub"


def _mirrors(value: object) -> object:
    """One for all regions, in which `{region}` stands for each, or one by region."""
    if isinstance(value, str):
        _check(value)
    elif isinstance(value, Mapping):
        for region, mirror in value.items():
            if (problem := region_problem(str(region))) is not None:
                raise ValueError(problem)
            if not isinstance(mirror, str) or "{region}" in mirror:
                raise ValueError(
                    f"expected a registry and a path for {region}, such as"
                    f" {_ACCOUNT_AND_PATH.format(region=region)}, found {mirror!r}"
                )
            _check(mirror)
    elif value is not None:
        raise ValueError(
            f"expected a registry and a path, such as {_ACCOUNT_AND_PATH}, or one by region, found"
            f" {value!r}"
        )
    return value


def _check(mirror: str) -> None:
    """Raises ValueError. Every image that a job names is looked for below it."""
    if "://" in mirror:
        scheme, _, rest = mirror.partition("://")
        raise ValueError(f"expected {rest}, without {scheme}://")
    if not _MIRROR.fullmatch(mirror.replace("{region}", "region")):
        raise ValueError(
            f"expected a registry and a path without a tag, such as {_ACCOUNT_AND_PATH}, found"
            f" {mirror!r}"
        )
    host, _, _ = mirror.partition("/")
    if "." not in host and ":" not in host and host != "localhost":
        raise ValueError(
            f"docker would take {mirror} for a repository of Docker Hub: begin with the registry's"
            f" host, such as {_ACCOUNT_AND_PATH}"
        )


MirrorsFile = Annotated[Any, BeforeValidator(_mirrors)]


def mirrors(file: Any, regions: Sequence[str]) -> Mapping[str, str]:
    """Region -> registry and path."""
    if file is None:
        return {}
    if isinstance(file, str):
        return {region: file.replace("{region}", region) for region in regions}
    return dict(file)
