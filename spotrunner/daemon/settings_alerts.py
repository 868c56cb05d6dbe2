"""The settings' section `alerts`: over which channels who is told what.

A channel's address is a secret, and people put secrets in wrong places: no error says any of it.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    ValidationInfo,
    model_validator,
)
from typing_extensions import Self

from spotrunner.core.alert import Alert, AlertKind
from spotrunner.core.catalogue import closest_name
from spotrunner.core.located import Problem
from spotrunner.core.windows import clock_min


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One of the two: an address that Apprise knows, which is a secret, or the ARN of a topic of
    SNS."""

    url: str | None = field(default=None, repr=False)
    topic: str | None = None


@dataclass(frozen=True, kw_only=True)
class Alerts:
    """Who is told what, when, and where. `summary_min` is minutes after midnight."""

    channels: Mapping[str, Channel] = field(default_factory=dict)
    default: tuple[str, ...] = ()
    owners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    percents: tuple[int, ...] = (50, 80, 100)
    summary_min: int | None = 8 * 60
    without: frozenset[AlertKind] = frozenset()

    @property
    def urls(self) -> Mapping[str, str]:
        """By channel; secrets."""
        return {name: it.url for name, it in self.channels.items() if it.url is not None}

    @property
    def topics(self) -> Mapping[str, str]:
        """By channel."""
        return {name: it.topic for name, it in self.channels.items() if it.topic is not None}

    def channels_of(self, alert: Alert) -> tuple[str, ...]:
        """Where it goes: its own channels, as far as the settings (still) have them, else its
        owner's, else the default ones; nowhere, if it is of a kind that nobody wants."""
        if alert.kind in self.without:
            return ()
        named = tuple(name for name in dict.fromkeys(alert.channels) if name in self.channels)
        return named or self.owners.get(alert.owner, self.default)


# -- what a value must be ----------------------------------------------------------------------


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,39}", value):
        raise ValueError(f"expected a name of at most 40 of a-z 0-9 . _ -, found {value!r}")
    return value


def _address(value: str) -> str:
    if not _is_known(value):
        raise ValueError(
            "this is no address that Apprise knows (it is not shown: it is a secret); one begins"
            " for example with slack, dingtalk, feishu, wecombot, mailto or json, and ://"
        )
    return value


def _is_known(url: str) -> bool:
    # Here, since half a second is a long time for every command that never sees an address.
    try:
        import apprise
    except ModuleNotFoundError:
        raise ValueError(
            "an address needs the extra `alerts`, which is not installed:"
            " pip install 'spotrunner[alerts]'; a topic (sns) needs nothing"
        ) from None

    # It logs what it does not know.
    log = logging.getLogger("apprise")
    log.propagate = False
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    return apprise.Apprise.instantiate(url) is not None


def _address_in(value: str, info: ValidationInfo) -> str:
    path = (info.context or {})["folder"] / Path(value).expanduser()
    try:
        address = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ValueError(f"{path} cannot be read: {what}") from None
    if not address or len(address.splitlines()) > 1:
        raise ValueError(f"expected one address, alone on one line, in {path}")
    return _address(address)


def _topic(value: str) -> str:
    if value.endswith(".fifo"):
        raise ValueError("alerts need a standard topic: a FIFO topic has no e-mail, SMS or HTTP")
    if not re.fullmatch(r"arn:aws:sns:[a-z]{2}(-[a-z]+)+-\d:\d{12}:[A-Za-z0-9_-]{1,256}", value):
        raise ValueError(f"expected arn:aws:sns:REGION:ACCOUNT:TOPIC, found {value!r}")
    return value


def _channel(value: str, info: ValidationInfo) -> str:
    channels = info.data.get("channels")
    if channels is None or value in channels:  # None: they have problems of their own
        return value
    likely = closest_name(value, channels)
    known = f"; nearest: {likely}" if likely else f"; there are: {', '.join(channels)}"
    raise ValueError(f"no channel is called {value}" + (known if channels else ""))


def _kind(value: Any) -> AlertKind:
    kinds = [kind.value for kind in AlertKind]
    if isinstance(value, str) and value in kinds:
        return AlertKind(value)
    likely = closest_name(str(value), kinds)
    known = f"nearest: {likely}" if likely else f"there are: {', '.join(kinds)}"
    raise ValueError(f"no kind of alert is called {value}; {known}")


def _ascending(values: tuple[int, ...]) -> tuple[int, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError(f"expected each once, in ascending order, found {list(values)}")
    return values


def _off(value: Any) -> Any:
    """YAML reads `off` as false."""
    return "off" if value is False else value


def _time_or_off(value: str) -> str:
    if value != "off":
        clock_min(value)
    return value


ChannelName = Annotated[str, AfterValidator(_channel)]


# -- the section as it is written --------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChannelFile(_Part):
    """`url_file` holds the address after it was read."""

    url: Annotated[str, AfterValidator(_address)] | None = Field(default=None, repr=False)
    url_file: Annotated[str, AfterValidator(_address_in)] | None = Field(default=None, repr=False)
    sns: Annotated[str, AfterValidator(_topic)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(each is not None for each in (self.url, self.url_file, self.sns)) != 1:
            raise ValueError("expected one of url, url_file and sns")
        return self


class AlertsFile(_Part):
    channels: dict[Annotated[str, AfterValidator(_name)], ChannelFile] = {}
    default: tuple[ChannelName, ...] | None = None
    owners: dict[str, tuple[ChannelName, ...]] = {}
    at: Annotated[
        tuple[Annotated[StrictInt, Field(ge=1, le=100)], ...], AfterValidator(_ascending)
    ] = (50, 80, 100)
    summary: Annotated[str, BeforeValidator(_off), AfterValidator(_time_or_off)] = "08:00"
    without: tuple[Annotated[AlertKind, BeforeValidator(_kind)], ...] = ()

    @model_validator(mode="after")
    def _has_a_default(self) -> Self:
        if self.channels and self.default is None:
            some = ", ".join(self.channels)
            raise ValueError(
                f"say where the alerts go whose owner has no channels: default: [{some}]"
            )
        return self


def alerts(file: AlertsFile) -> Alerts:
    return Alerts(
        channels={
            name: Channel(url=it.url or it.url_file, topic=it.sns)
            for name, it in file.channels.items()
        },
        default=file.default or (),
        owners=file.owners,
        percents=file.at,
        summary_min=None if file.summary == "off" else clock_min(file.summary),
        without=frozenset(file.without),
    )


def without_addresses(problem: Problem) -> Problem:
    """A problem of this section, shown without the addresses that stood where they do not belong;
    any other as it is."""
    if not problem.key.startswith("alerts"):
        return problem
    return dataclasses.replace(problem, message=_hidden(problem.message), key=_hidden(problem.key))


def _hidden(text: str) -> str:
    # To the end: nobody knows where somebody's address ends.
    return re.sub(r"([\w+.-]+://).+", r"\1***", text, flags=re.DOTALL)
