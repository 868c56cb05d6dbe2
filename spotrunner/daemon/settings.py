"""The daemon's settings: a YAML file, checked whole, with the line of everything that is wrong."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    create_model,
)

from spotrunner.core import located
from spotrunner.core.caps import UNCAPPED, Caps
from spotrunner.core.catalogue import TYPES, closest_name, region_problem, type_problem
from spotrunner.core.model import Limits
from spotrunner.daemon import settings_alerts, settings_budgets, settings_images
from spotrunner.daemon.settings_alerts import Alerts, AlertsFile
from spotrunner.daemon.settings_budgets import BudgetsFile
from spotrunner.daemon.settings_images import MirrorsFile

# Whose prices are kept before any job asks for them: of each current kind of GPU the cheapest type.
USUAL_TYPES = ("g4dn.xlarge", "g5.xlarge", "g6.xlarge", "g6e.xlarge")
# The public file behind AWS's Spot Instance Advisor page.
ADVISOR_URL = "https://spot-bid-advisor.s3.amazonaws.com/spot-advisor-data.json"


@dataclass(frozen=True, kw_only=True)
class Home:
    """The bucket that holds everything the installation knows, and its region."""

    bucket: str
    region: str


@dataclass(frozen=True, kw_only=True)
class Api:
    """Where the HTTP API listens (port 0: any free one), and the file with its token."""

    host: str
    port: int
    token_file: Path


@dataclass(frozen=True, kw_only=True)
class DataFeed:
    """Where AWS puts the account's Spot Instance data feed, as the subscription names it."""

    bucket: str
    prefix: str = ""

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/" + (f"{self.prefix}/" if self.prefix else "")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the daemon is told at its start. `amis` is region -> type or family -> image id."""

    home: Home
    regions: tuple[str, ...]
    endpoint_url: str | None
    state_dir: Path
    api: Api
    tick_s: float
    prices_every_s: float
    types: tuple[str, ...]
    scores_every_s: float
    advisor_url: str | None  # None: nobody is asked
    instance_profile: str | None
    security_groups: tuple[str, ...]
    amis: Mapping[str, Mapping[str, str]]
    limits: Limits
    data_feed: DataFeed | None = None  # None: `reconcile` has to be told
    alerts: Alerts = field(default_factory=Alerts)
    caps: Caps = UNCAPPED
    # region -> registry and path that is asked first for a job's container image
    image_mirrors: Mapping[str, str] = field(default_factory=dict)
    # that secrets of jobs are encrypted with in the home bucket; None: AWS's own for S3
    kms_key: str | None = None

    @property
    def database(self) -> Path:
        return self.state_dir / "spotrunner.sqlite"

    @property
    def address_file(self) -> Path:
        """Where the daemon writes its API's address and token file for the command line."""
        return self.state_dir / "api.json"


def read_settings(path: Path) -> Settings:
    """Raises located.BadFile with all that is wrong, also when the file cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise located.BadFile(str(path), [located.Problem(message=what)]) from None
    return parse_settings(text, str(path), path.parent)


def parse_settings(text: str, file: str, folder: Path) -> Settings:
    """`file` is named in errors; relative paths of the settings start at `folder`."""
    document = located.read(text, file)
    try:
        checked = SettingsFile.model_validate(document.values, context={"folder": folder})
    except ValidationError as error:
        found = located.located(error.errors(), document, SettingsFile)
        shown = [settings_alerts.without_addresses(problem) for problem in found]
        raise located.BadFile(file, shown) from None
    return _settings(checked, folder)


def _settings(file: SettingsFile, folder: Path) -> Settings:
    state_dir = folder / file.state_dir.expanduser()
    token_file = file.api.token_file
    return Settings(
        home=Home(bucket=file.home.bucket, region=file.home.region),
        regions=file.regions,
        endpoint_url=file.endpoint_url,
        state_dir=state_dir,
        api=Api(
            host=file.api.host,
            port=file.api.port,
            token_file=folder / token_file.expanduser() if token_file else state_dir / "api-token",
        ),
        tick_s=file.tick_s,
        prices_every_s=file.prices_every_s,
        types=file.types,
        scores_every_s=file.scores_every_s,
        advisor_url=file.advisor_url if file.advisor else None,
        instance_profile=file.instance_profile,
        security_groups=file.security_groups,
        amis=file.amis,
        limits=Limits(**file.limits.model_dump()),
        data_feed=_data_feed(file.data_feed),
        alerts=settings_alerts.alerts(file.alerts),
        caps=settings_budgets.caps(file.budgets),
        image_mirrors=settings_images.mirrors(file.image_mirror, file.regions),
        kms_key=file.kms_key,
    )


def _data_feed(file: DataFeedFile | None) -> DataFeed | None:
    return None if file is None else DataFeed(bucket=file.bucket, prefix=file.prefix)


# -- what a value must be ----------------------------------------------------------------------


def _region(value: str) -> str:
    if (problem := region_problem(value)) is not None:
        raise ValueError(problem)
    return value


def _type(value: str) -> str:
    if (problem := type_problem(value)) is not None:
        raise ValueError(problem)
    return value


def _once(values: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}")
    return values


def _bucket(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value):
        raise ValueError(
            f"expected the name of an S3 bucket (3 to 63 of a-z 0-9 . -), found {value!r}"
        )
    return value


def _prefix(value: str) -> str:
    """Of the keys in a bucket, without its last slash."""
    if value.startswith(("/", "s3:")):
        raise ValueError(
            f"expected the prefix that the subscription names, such as spot-feed, found {value!r}"
        )
    return value.rstrip("/")


def _loopback(value: str) -> str:
    if value == "localhost":
        return value
    try:
        if ipaddress.ip_address(value).is_loopback:
            return value
    except ValueError:
        pass
    raise ValueError(
        f"expected a loopback address such as 127.0.0.1, found {value!r}: the API has no TLS;"
        " reach it from elsewhere through ssh -L"
    )


def _url(value: str) -> str:
    if not re.match(r"https?://[^/]", value):
        raise ValueError(f"expected http://HOST:PORT or https://HOST, found {value!r}")
    return value


def _image(value: str) -> str:
    if not re.fullmatch(r"ami-[0-9a-f]{8,17}", value):
        raise ValueError(f"expected an image id such as ami-0123456789abcdef0, found {value!r}")
    return value


def _kms_key(value: str) -> str:
    if not _KMS_KEY.fullmatch(value):
        raise ValueError(
            "expected a key of KMS, such as alias/spotrunner, its id, or the ARN of either, found"
            f" {value!r}"
        )
    return value


_KMS_ID, _KMS_ALIAS = r"(?:mrk-[0-9a-f]{32}|[0-9a-f-]{36})", r"alias/[A-Za-z0-9/_-]+"
_KMS_KEY = re.compile(
    rf"{_KMS_ID}|{_KMS_ALIAS}"
    rf"|arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{{12}}:(?:key/{_KMS_ID}|{_KMS_ALIAS})"
)


def _type_or_family(value: str) -> str:
    families = {kind.family for kind in TYPES.values() if kind.refused is None}
    if value in families:
        return value
    if "." not in value:
        likely = closest_name(value, families)
        raise ValueError(
            f"{value} is no family of GPU instance types"
            + (f"; nearest: {likely}" if likely else f"; known: {', '.join(sorted(families))}")
        )
    return _type(value)


Region = Annotated[str, AfterValidator(_region)]
Type = Annotated[str, AfterValidator(_type)]
Seconds = Annotated[float, Field(gt=0)]
Words = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HomeFile(_Part):
    bucket: Annotated[str, AfterValidator(_bucket)]
    region: Region


class ApiFile(_Part):
    host: Annotated[str, AfterValidator(_loopback)] = "127.0.0.1"
    port: Annotated[StrictInt, Field(ge=0, le=65_535)] = 7420
    token_file: Path | None = None


class DataFeedFile(_Part):
    bucket: Annotated[str, AfterValidator(_bucket)]
    prefix: Annotated[str, AfterValidator(_prefix)] = ""


_LIMITS: dict[str, Any] = {
    limit.name: (Annotated[StrictInt, Field(gt=0)], limit.default)
    for limit in dataclasses.fields(Limits)
}
LimitsFile = create_model("LimitsFile", __base__=_Part, **_LIMITS)


class SettingsFile(_Part):
    """The file as it is written."""

    home: HomeFile
    regions: Annotated[tuple[Region, ...], Field(min_length=1), AfterValidator(_once)]
    endpoint_url: Annotated[str, AfterValidator(_url)] | None = None
    state_dir: Path
    api: ApiFile = ApiFile()
    tick_s: Seconds = 15
    prices_every_s: Seconds = 600
    types: Annotated[tuple[Type, ...], AfterValidator(_once)] = USUAL_TYPES
    scores_every_s: Seconds = 6 * 3600
    advisor: StrictBool = True
    advisor_url: Annotated[str, AfterValidator(_url)] = ADVISOR_URL
    instance_profile: Words | None = "spotrunner-agent"
    security_groups: tuple[Words, ...] = ()
    amis: dict[
        Region,
        dict[
            Annotated[str, AfterValidator(_type_or_family)], Annotated[str, AfterValidator(_image)]
        ],
    ] = {}
    limits: LimitsFile = LimitsFile()
    data_feed: DataFeedFile | None = None
    alerts: AlertsFile = AlertsFile()
    budgets: BudgetsFile = BudgetsFile()
    image_mirror: MirrorsFile = None
    kms_key: Annotated[str, AfterValidator(_kms_key)] | None = None
