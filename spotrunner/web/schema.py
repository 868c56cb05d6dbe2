"""A job file as the user writes it: what its keys are, and what each value must be.

The command line checks a file with it before anything is sent, the API what it is sent. Here is
all that a file tells by itself; what is offered, readable and payable only the daemon knows
(web/checks).
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from spotrunner.core.amounts import as_written, to_usd_micros, usd_problem
from spotrunner.core.catalogue import TYPES, closest_name, region_problem, type_problem
from spotrunner.core.located import Problem
from spotrunner.core.model import NO_IMAGE, DataMode, DataSource, JobSpec, Market
from spotrunner.core.names import NOBODY, name_problem
from spotrunner.core.policy.named import policies
from spotrunner.web import nights, pricing
from spotrunner.web import saving as savings
from spotrunner.web.container import root_problem
from spotrunner.web.secrets import NamedSecrets, Secret, SecretFile, clash, refs

# The last of TensorFlow's own images that finds a GPU (tensorflow issues 80538, 94593).
STOCK = "tensorflow/tensorflow"
IMAGE = f"{STOCK}:2.17.0-gpu"
BLIND_VERSIONS = ("2.18", "2.19", "2.20", "2.21")

MAX_TEXT = 64 * 1024
MAX_ENV = 32 * 1024
MAX_ENTRIES = 100
MAX_RETRIES = 100
# EBS's largest gp3 volume
MAX_DISK_GIB = 65_536
# EC2 takes no bid of a tenth of a cent or less.
LEAST_PRICE_USD = Decimal("0.001")
SPEEDS = (1e-6, 1e9)
# The policies of jobs that name none.
BY_DEADLINE, BY_DEFAULT = "deadline", "cheapest"
# Keys that say nothing when they are left out.
OPTIONAL = (
    "work",
    "deadline",
    "policy",
    "max_price",
    "owner",
    "sweep",
    "tz",
    "window",
    "pause_above",
    "pause_after",
    "resume_below",
    "unattended",
    "alerts",
    "on_conflict",
    "checkpoint",
    "stall_after",
)

_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_TARGET = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*/?")
_AMI = re.compile(r"ami-[0-9a-f]{8,17}")
_IMAGE = re.compile(
    r"(?P<repository>(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9][a-z0-9._/-]*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?P<digest>@sha256:[0-9a-f]{64})?"
)


# -- what a value must be ----------------------------------------------------------------------


def _name(value: str) -> str:
    if (problem := name_problem(value)) is not None:
        raise ValueError(problem)
    return value


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("expected some text, found none")
    return _no_nul(value)


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("it has a NUL character, which no environment or command can carry")
    return value


def _type(value: str) -> str:
    if (problem := type_problem(value)) is not None:
        raise ValueError(problem)
    return value


def _region(value: str) -> str:
    if (problem := region_problem(value)) is not None:
        raise ValueError(problem)
    return value


def _some(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("expected at least one")
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}")
    return values


def _image(value: str) -> str:
    if value.lower() == NO_IMAGE:
        return NO_IMAGE
    parts = _IMAGE.fullmatch(value)
    if parts is None:
        raise ValueError(f"expected a container image such as {IMAGE}, found {value!r}")
    if parts["digest"] is None and _floats(parts["tag"]):
        what = f"the tag {parts['tag']}" if parts["tag"] else "an image without a tag"
        raise ValueError(
            f"{what} is another image from one day to the next, so that a resumed run could go on"
            f" with another TensorFlow; pin it: {_pinned(parts['repository'])}"
        )
    return value


def image_problem(value: str) -> str | None:
    """Why this is no image of a container that a job may name; None if it is."""
    if value.lower() == NO_IMAGE:
        return f"expected a container image such as {IMAGE}, found {value!r}"
    try:
        _image(value)
    except ValueError as error:
        return str(error)
    return None


def _floats(tag: str | None) -> bool:
    """`latest-gpu` and `my-latest` float as much as `latest` does, and so do TensorFlow's own
    `nightly…` and `devel…`; `12.3.0-devel` names a version."""
    if tag is None:
        return True
    words = re.split(r"[-_.]", tag.lower())
    return "latest" in words or "nightly" in words or words[0].startswith(("nightly", "devel"))


def _pinned(repository: str) -> str:
    if _is_stock(repository):
        return IMAGE
    return f"{repository}:VERSION or {repository}@sha256:DIGEST, or take {IMAGE}"


def _is_stock(repository: str) -> bool:
    """TensorFlow's own, by each name that Docker Hub has."""
    return repository in (
        STOCK,
        f"docker.io/{STOCK}",
        f"index.docker.io/{STOCK}",
    )


def _env_name(value: str) -> str:
    if not _ENV.fullmatch(value):
        raise ValueError(f"expected a variable's name (A-Z a-z 0-9 _), found {value!r}")
    if value.startswith("SPOTRUNNER_") or value == "TF_CONFIG":
        raise ValueError(f"{value} is set by spotrunner itself: choose another name")
    return value


def _env_value(value: Any) -> Any:
    if value is None:
        raise ValueError("has no value: give it here or with --env NAME=VALUE")
    return value


def _source(value: str) -> str:
    """A prefix ends with a slash, so that `digits` does not mean `digits-old/` too."""
    unknown = _REFERENCE.search(value)
    if unknown is not None:
        raise ValueError(f"{unknown.group()} is no key of envs with a value")
    bucket, prefix = bucket_and_prefix(value)
    if not _BUCKET.fullmatch(bucket) or not prefix or prefix.startswith("/"):
        raise ValueError(f"expected s3://BUCKET/PREFIX/, found {value!r}")
    if not prefix.endswith("/"):
        raise ValueError(f"expected a prefix, which ends with a slash: {value}/")
    return value


def _target(value: str) -> str:
    if not _TARGET.fullmatch(value) or {".", ".."} & set(value.split("/")):
        raise ValueError(f"expected a folder below the data directory, found {value!r}")
    return value.rstrip("/")


def _apart(sources: tuple[Data, ...]) -> tuple[Data, ...]:
    targets = sorted(f"{source.target}/" for source in sources)
    for upper, lower in itertools.pairwise(targets):
        if lower.startswith(upper):
            raise ValueError(
                f"two sources fill one folder: the targets {upper[:-1]} and {lower[:-1]}"
            )
    return sources


def _ami(value: str) -> str:
    if not _AMI.fullmatch(value):
        raise ValueError(f"expected an image id such as ami-0123456789abcdef0, found {value!r}")
    return value


def _budget(value: Decimal) -> Decimal:
    return _usd(value, Decimal(0))


def _price(value: Decimal) -> Decimal:
    return _usd(value, LEAST_PRICE_USD)


def _usd(value: Decimal, more_than: Decimal) -> Decimal:
    if (problem := usd_problem(value, more_than)) is not None:
        raise ValueError(problem)
    return value


def _speed(value: Any) -> Any:
    """A bool is no number here, and 0 or infinity no speed."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not SPEEDS[0] <= value <= SPEEDS[1]:
        raise ValueError(f"expected a number above 0, such as 2.5, found {value!r}")
    return value


def _policy(value: str) -> str:
    names = sorted(policies())
    if value in names:
        return value
    likely = closest_name(value, names)
    hint = f"nearest: {likely}" if likely else f"there are {', '.join(names)}"
    raise ValueError(f"there is no policy {value!r}; {hint}")


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_text)]
Region = Annotated[str, AfterValidator(_region)]
Type = Annotated[str, AfterValidator(_type)]
EnvName = Annotated[str, AfterValidator(_env_name)]
EnvValue = Annotated[
    str, Field(max_length=MAX_ENV), AfterValidator(_no_nul), BeforeValidator(_env_value)
]
Name = Annotated[str, AfterValidator(_name)]
# USD; more than nothing
Budget = Annotated[Decimal, AfterValidator(_budget), BeforeValidator(as_written)]


# -- the file ----------------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Resources(_Part):
    """Where the job may run."""

    instance_types: Annotated[
        tuple[Type, ...], Field(max_length=MAX_ENTRIES), AfterValidator(_some)
    ]
    regions: Annotated[tuple[Region, ...], Field(max_length=MAX_ENTRIES), AfterValidator(_some)]
    use_spot: StrictBool = True
    disk_gib: Annotated[StrictInt, Field(ge=1, le=MAX_DISK_GIB)] = 100


class Data(_Part):
    """A prefix that is copied to the instance before training, or mounted there."""

    source: Annotated[str, AfterValidator(_source)]
    target: Annotated[str, Field(max_length=512), AfterValidator(_target)]
    mode: DataMode = DataMode.COPY


class Sweep(_Part):
    """Jobs of one name share its budget; that of the newest job counts."""

    name: Name
    budget: Budget | None = None


class JobFile(_Part):
    """The file as it is written. `workdir` is a folder of the machine that submits: the command
    line packs it, and the API gets the archive instead."""

    name: Name
    resources: Resources
    image: Annotated[str, Field(max_length=512), AfterValidator(_image)]
    run: Text
    setup: Text | None = None
    workdir: Text | None = None
    data: Annotated[tuple[Data, ...], Field(max_length=MAX_ENTRIES), AfterValidator(_apart)] = ()
    envs: Annotated[dict[EnvName, EnvValue], Field(max_length=MAX_ENTRIES)] = {}
    secrets: Annotated[dict[EnvName, Secret], NamedSecrets] = {}
    # USD; None: until it is done
    budget: Budget | None = None
    retries: Annotated[StrictInt, Field(ge=0, le=MAX_RETRIES)] = 0
    save_signal: StrictBool = True
    as_root: StrictBool = False
    checkpoint: savings.CheckpointFile = savings.CheckpointFile()
    # None: by the trainer's own pace
    stall_after: savings.StallAfter | None = None
    amis: dict[Region, Annotated[str, AfterValidator(_ami)]] = {}
    # How long the training takes on the first of the types: a rough guess is enough.
    work: nights.Duration | None = None
    # By type: useful work a second, against the other types that are named here.
    speeds: Annotated[
        dict[Type, Annotated[float, BeforeValidator(_speed)]], Field(max_length=MAX_ENTRIES)
    ] = {}
    deadline: nights.Deadline | None = None
    policy: Annotated[str, AfterValidator(_policy)] | None = None
    # USD an hour; None: EC2 charges its spot price, up to the on-demand price
    max_price: Annotated[Decimal, AfterValidator(_price), BeforeValidator(as_written)] | None = None
    # None: nobody's; the command line names whoever submits.
    owner: Name | None = None
    sweep: Sweep | None = None
    # What times of day are meant in.
    # None: its window's, else UTC
    tz: nights.Zone | None = None
    window: nights.WindowFile | None = None
    pause_above: pricing.Level | None = None
    pause_after: nights.Duration | None = None
    resume_below: pricing.Level | None = None
    unattended: nights.Unattended | None = None
    alerts: Annotated[tuple[Text, ...], Field(max_length=MAX_ENTRIES), AfterValidator(_some)] = ()
    on_conflict: Literal["cap", "deadline"] | None = None

    @field_validator(*OPTIONAL, mode="before")
    @classmethod
    def _is_given(cls, value: Any) -> Any:
        # A key without a value reads as a wish that was forgotten, and not as "no deadline".
        if value is None:
            raise ValueError("it has no value: give it one, or leave the key out")
        return value

    @field_validator("secrets")
    @classmethod
    def _is_not_in_envs(
        cls, given: dict[str, SecretFile], info: ValidationInfo
    ) -> dict[str, SecretFile]:
        if (problem := clash(given, info.data.get("envs", {}))) is not None:
            raise ValueError(problem)
        return given

    @field_validator("as_root")
    @classmethod
    def _is_contained(cls, as_root: bool, info: ValidationInfo) -> bool:
        if (problem := root_problem(as_root, info.data.get("image"))) is not None:
            raise ValueError(problem)
        return as_root

    @field_validator("checkpoint")
    @classmethod
    def _can_be_asked(
        cls, checkpoint: savings.CheckpointFile, info: ValidationInfo
    ) -> savings.CheckpointFile:
        problem = savings.unasked_problem(checkpoint, info.data.get("save_signal", True))
        if problem is not None:
            raise ValueError(problem)
        return checkpoint

    @field_validator("speeds")
    @classmethod
    def _of_the_job(cls, speeds: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        resources = info.data.get("resources")
        types = resources.instance_types if resources is not None else tuple(speeds)
        strange = [name for name in speeds if name not in types]
        if strange:
            raise ValueError(
                f"{', '.join(strange)} is no type of this job, which has {', '.join(types)}"
            )
        return speeds

    @field_validator("deadline")
    @classmethod
    def _needs_work(cls, deadline: str | None, info: ValidationInfo) -> str | None:
        # A `work` that is wrong is absent here, and has its own sentence.
        if deadline is None or info.data.get("work", "wrong") is not None:
            return deadline
        resources = info.data.get("resources")
        first = resources.instance_types[0] if resources is not None else "the first type"
        raise ValueError(
            f"a deadline needs `work`, how long the training takes on {first}; a rough guess is"
            " enough, since measured progress replaces it: add work: 8h"
        )

    @field_validator("policy")
    @classmethod
    def _needs_deadline(cls, policy: str | None, info: ValidationInfo) -> str | None:
        if policy is None or info.data.get("deadline", "wrong") is not None:
            return policy
        if policies()[policy].needs_deadline:
            raise ValueError(
                f"the policy {policy} needs a deadline: add deadline: 12h, or take cheapest"
            )
        return policy

    @field_validator("max_price")
    @classmethod
    def _is_of_spot(cls, price: Decimal | None, info: ValidationInfo) -> Decimal | None:
        resources = info.data.get("resources")
        if price is not None and resources is not None and not resources.use_spot:
            raise ValueError("it is a bid for spot, and use_spot is false: leave one of them out")
        return price

    @field_validator("pause_after")
    @classmethod
    def _of_a_limit(cls, after: str | None, info: ValidationInfo) -> str | None:
        if after is not None and info.data.get("pause_above", "wrong") is None:
            raise ValueError("it says how long the price is above pause_above: add that as well")
        return after

    @field_validator("resume_below")
    @classmethod
    def _fits_the_limit(cls, resume: str | None, info: ValidationInfo) -> str | None:
        if resume is None or "pause_above" not in info.data:
            return resume
        if (problem := pricing.resume_problem(resume, info.data["pause_above"])) is not None:
            raise ValueError(problem)
        return resume

    @model_validator(mode="before")
    @classmethod
    def _fill_sources(cls, values: Any) -> Any:
        """Put the values of `envs` into `${NAME}` in the sources of data."""
        if not isinstance(values, dict):
            return values
        envs, data = values.get("envs"), values.get("data")
        if not isinstance(envs, dict) or not isinstance(data, (list, tuple)):
            return values
        return {**values, "data": [_filled(entry, envs) for entry in data]}

    @property
    def raises_budget(self) -> bool:
        """The deadline wins over the budget."""
        return self.on_conflict == "deadline"

    @property
    def zone(self) -> str:
        """In which its times of day are meant."""
        return self.tz or (self.window.tz if self.window else None) or nights.UTC

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is allowed and yet hardly meant."""
        return tuple(_warnings(self))


def _filled(entry: Any, envs: dict[Any, Any]) -> Any:
    source = entry.get("source") if isinstance(entry, dict) else None
    if not isinstance(source, str):
        return entry

    def value(found: re.Match[str]) -> str:
        # That a key has no value is said at the key, and once.
        known = envs.get(found.group(1), found.group())
        return known if isinstance(known, str) else "value"

    return {**entry, "source": _REFERENCE.sub(value, source)}


def _warnings(file: JobFile) -> Iterator[Problem]:
    yield from _image_warnings(file)
    if file.deadline is not None and file.policy == BY_DEFAULT:
        yield Problem(
            message=f"the policy {BY_DEFAULT} pays no heed to the deadline",
            key="policy",
            hint=f"take {BY_DEADLINE}, which is the default with one",
        )
    if file.on_conflict is not None and (file.deadline is None or file.budget is None):
        yield Problem(
            message="it says what holds where the budget does not pay for the deadline, and one of"
            " the two is not there",
            key="on_conflict",
        )
    for index, name in enumerate(file.resources.instance_types):
        if TYPES[name].legacy:
            yield Problem(
                message=f"{name} is a type that AWS retires: few zones still have it",
                key=f"resources.instance_types.{index}",
            )


def _image_warnings(file: JobFile) -> Iterator[Problem]:
    parts = _IMAGE.fullmatch(file.image)
    if parts is None or parts["tag"] is None or not _is_stock(parts["repository"]):
        return
    version, gpu, _ = parts["tag"].partition("-gpu")
    if not gpu:
        why = "it is the build without CUDA"
    elif version.startswith(BLIND_VERSIONS):
        why = "it has cuDNN 8, and its TensorFlow needs 9"
    else:
        return
    yield Problem(message=f"{file.image} finds no GPU: {why}", key="image", hint=f"take {IMAGE}")


# -- the spec ----------------------------------------------------------------------------------


def to_spec(file: JobFile, workdir_sha256: str | None, now: dt.datetime) -> JobSpec:
    """What the daemon keeps of a job that is submitted `now`. `workdir_sha256` is the digest of
    the packed workdir."""
    deadline_at = nights.deadline_at(file.deadline, file.zone, now)
    return JobSpec(
        name=file.name,
        run=file.run,
        image=file.image,
        instance_types=file.resources.instance_types,
        regions=file.resources.regions,
        setup=file.setup,
        workdir_sha256=workdir_sha256,
        data=tuple(
            DataSource(source=it.source, target=it.target, mode=it.mode) for it in file.data
        ),
        envs=tuple(file.envs.items()),
        market=Market.SPOT if file.resources.use_spot else Market.ON_DEMAND,
        budget_usd_micros=_micros(file.budget),
        retries=file.retries,
        handles_save_signal=file.save_signal,
        as_root=file.as_root,
        disk_gib=file.resources.disk_gib,
        amis=tuple(file.amis.items()),
        policy=file.policy or (BY_DEADLINE if deadline_at else BY_DEFAULT),
        deadline_at=deadline_at,
        work_s=nights.seconds(file.work),
        speeds=tuple(file.speeds.items()),
        max_price_usd_micros=_micros(file.max_price),
        owner=file.owner or NOBODY,
        sweep=file.sweep.name if file.sweep else "",
        sweep_budget_usd_micros=_micros(file.sweep.budget) if file.sweep else None,
        tz=file.zone,
        window=nights.window(file.window, file.zone),
        price_limit=pricing.price_limit(
            file.pause_above, file.resume_below, nights.seconds(file.pause_after)
        ),
        unattended_s=nights.seconds(file.unattended),
        alerts=file.alerts,
        saving=savings.saving(file.checkpoint, file.save_signal),
        stall_after_s=nights.seconds(file.stall_after),
        secrets=refs(file.secrets),
    )


def _micros(usd: Decimal | None) -> int | None:
    return None if usd is None else to_usd_micros(usd)


def bucket_and_prefix(source: str) -> tuple[str, str]:
    """`bucket` and `prefix/` of `s3://bucket/prefix/`; empty where it is no such thing."""
    if not source.startswith("s3://"):
        return "", ""
    bucket, _, prefix = source[len("s3://") :].partition("/")
    return bucket, prefix
