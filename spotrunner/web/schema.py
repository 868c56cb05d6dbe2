"""A job file's keys: what each must be, and the JobSpec that it means.

The command line checks a file with this model and adds lines (cli/jobfile); the API checks with the
same model whatever it is sent. What only the daemon can know is checked in web/checks.
"""

from __future__ import annotations

import itertools
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt

from spotrunner.core.catalogue import region_problem, type_problem
from spotrunner.core.model import DataSource, JobSpec, Market

# The newest stock image that was seen to find a GPU.
DEFAULT_IMAGE = "tensorflow/tensorflow:2.17.0-gpu"

MAX_TEXT = 64 * 1024
MAX_ENV = 32 * 1024
MAX_ENTRIES = 100
MAX_BUDGET_USD = 1_000_000
# gp3's largest
MAX_DISK_GIB = 16_384

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SOURCE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)")
_IMAGE = re.compile(
    r"(?P<name>(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9][a-z0-9._/-]*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?P<digest>@sha256:[0-9a-f]{64})?"
)
_AMI = re.compile(r"ami-[0-9a-f]{8,17}")
# Tags whose image is another one next week.
_FLOATING = frozenset({"latest", "nightly", "devel", "stable", "main", "master"})


# -- what a value must be ----------------------------------------------------------------------


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("it has a NUL character, which no environment or command line can carry")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("expected some text, found none")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"expected 1 to 32 of a-z 0-9 -, not beginning or ending with -, found {value!r}"
        )
    return value


def _image(value: str) -> str:
    if value.lower() == "none":
        raise ValueError(
            f"training without a container is not there yet: name an image, such as {DEFAULT_IMAGE}"
        )
    found = _IMAGE.fullmatch(value)
    if found is None:
        raise ValueError(f"expected a container image such as {DEFAULT_IMAGE}, found {value!r}")
    if found["digest"] is None and _floats(found["tag"]):
        tag = f"the tag {found['tag']}" if found["tag"] else "an image without a tag"
        raise ValueError(
            f"{tag} is another image from one day to the next, so that a resumed run could go on"
            f" with another TensorFlow: use {_pinned(found['name'])}"
        )
    return value


def _floats(tag: str | None) -> bool:
    """`latest-gpu` and `my-latest` float as much as `latest` does."""
    return tag is None or bool(_FLOATING.intersection(re.split(r"[-_.]", tag.lower())))


def _pinned(name: str) -> str:
    if name.removeprefix("docker.io/") == "tensorflow/tensorflow":
        return DEFAULT_IMAGE
    return f"a tag of a version, or {name}@sha256:DIGEST"


def _region(value: str) -> str:
    if (problem := region_problem(value)) is not None:
        raise ValueError(problem)
    return value


def _instance_type(value: str) -> str:
    if (problem := type_problem(value)) is not None:
        raise ValueError(problem)
    return value


def _some(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("expected at least one")
    return _once(values)


def _some_once(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("expected at least one, found an empty list")
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}")
    return values


def _env_value(value: Any) -> Any:
    if value is None:
        raise ValueError("has no value: give it here or with --env NAME=VALUE")
    return value


def _source(value: str) -> str:
    """A prefix ends with a slash, so that `digits` does not mean `digits-old/` too."""
    if not _SOURCE.fullmatch(value):
        raise ValueError(f"expected s3://BUCKET/PREFIX/, found {value!r}")
    return value if value.endswith("/") else f"{value}/"


def _target(value: str) -> str:
    parts = value.rstrip("/").split("/")
    if value.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"expected a folder below the data directory, found {value!r}")
    return "/".join(parts)


def _apart(sources: tuple[DataFile, ...]) -> tuple[DataFile, ...]:
    targets = sorted(f"{source.target}/" for source in sources)
    for upper, lower in itertools.pairwise(targets):
        if lower.startswith(upper):
            raise ValueError(
                f"two sources fill one folder: the targets {upper[:-1]} and {lower[:-1]}"
            )
    return sources


def _env_name(value: str) -> str:
    if not _ENV_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no name of an environment variable (A-Z a-z 0-9 _)")
    if value.startswith("SPOTRUNNER_") or value == "TF_CONFIG":
        raise ValueError(f"{value} is set by spotrunner itself: choose another name")
    return value


def _ami(value: str) -> str:
    if not _AMI.fullmatch(value):
        raise ValueError(f"expected an image id such as ami-0123456789abcdef0, found {value!r}")
    return value


Text = Annotated[
    str, Field(max_length=MAX_TEXT), AfterValidator(_not_blank), AfterValidator(_no_nul)
]
Region = Annotated[str, AfterValidator(_region)]


# -- the file ----------------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Resources(_Part):
    """Where the job may run."""

    instance_types: Annotated[
        tuple[Annotated[str, AfterValidator(_instance_type)], ...],
        Field(max_length=MAX_ENTRIES),
        AfterValidator(_some_once),
    ]
    regions: Annotated[
        tuple[Region, ...], Field(max_length=MAX_ENTRIES), AfterValidator(_some_once)
    ]
    use_spot: StrictBool = True
    disk_gib: Annotated[StrictInt, Field(ge=8, le=MAX_DISK_GIB)] = 100


class DataFile(_Part):
    """A prefix that is copied to the instance before training."""

    source: Annotated[str, AfterValidator(_source)]
    target: Annotated[str, Field(max_length=512), AfterValidator(_no_nul), AfterValidator(_target)]


class JobFile(_Part):
    """The file as it is written.

    `workdir` is a folder of the machine that submits; the API takes its archive beside the fields,
    and the path means nothing to it.
    """

    name: Annotated[str, AfterValidator(_name)]
    resources: Resources
    image: Annotated[str, Field(max_length=512), AfterValidator(_image)]
    workdir: str | None = None
    data: Annotated[
        tuple[DataFile, ...], Field(max_length=MAX_ENTRIES), AfterValidator(_apart)
    ] = ()
    setup: Text | None = None
    run: Text
    envs: Annotated[
        dict[
            Annotated[str, AfterValidator(_env_name)],
            Annotated[str, Field(max_length=MAX_ENV), AfterValidator(_no_nul)],
        ],
        Field(max_length=MAX_ENTRIES),
    ] = {}
    # USD; None: until it is done
    budget: (
        Annotated[float, Field(strict=True, gt=0, le=MAX_BUDGET_USD, allow_inf_nan=False)] | None
    ) = None
    retries: Annotated[StrictInt, Field(ge=0, le=100)] = 0
    save_signal: StrictBool = True
    amis: dict[Region, Annotated[str, AfterValidator(_ami)]] = {}

    def spec(self, workdir_sha256: str | None) -> JobSpec:
        """What the file means, its workdir archived under this digest."""
        return JobSpec(
            name=self.name,
            run=self.run,
            image=self.image,
            instance_types=self.resources.instance_types,
            regions=self.resources.regions,
            setup=self.setup,
            workdir_sha256=workdir_sha256,
            data=tuple(DataSource(source=it.source, target=it.target) for it in self.data),
            envs=tuple(self.envs.items()),
            market=Market.SPOT if self.resources.use_spot else Market.ON_DEMAND,
            budget_usd_micros=None if self.budget is None else usd_micros(self.budget),
            retries=self.retries,
            handles_save_signal=self.save_signal,
            disk_gib=self.resources.disk_gib,
            amis=tuple(self.amis.items()),
        )


def usd_micros(usd: float) -> int:
    """At least one: what is positive stays positive."""
    return max(1, round(usd * 1_000_000))
