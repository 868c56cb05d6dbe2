"""What is asked of EC2, of what it costs, and of registries of container images; and the time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from spotrunner.core.baked import Need
from spotrunner.core.model import Instance, LaunchRequest, Pool, Quote

# -- clock -------------------------------------------------------------------------------------


class Clock(Protocol):
    """The time all decisions use: S3's, as its answers' `Date` headers tell it, carried on by the
    monotonic clock between two answers; the machine's own wall clock only before the first."""

    def now(self) -> dt.datetime:
        """Aware UTC."""
        ...


# -- cloud -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Launched:
    instance_id: str
    at: dt.datetime


class Cloud(Protocol):
    """EC2 over several regions. Listings lag and page; absence proves nothing."""

    def launch(self, request: LaunchRequest) -> Launched:
        """Send one RunInstances request as it stands. The same request again returns the same
        instance. Raises LaunchRefused, Throttled (not launched), OutcomeUnknown, TokenMismatch,
        NotAuthorized, Misconfigured."""
        ...

    def instances(self, region: str, installation: str) -> tuple[Instance, ...]:
        """All instances with this installation's tag, ended ones for as long as EC2 lists them.
        Raises Unavailable, Throttled, NotAuthorized."""
        ...

    def by_token(self, region: str, client_token: str) -> tuple[Instance, ...]:
        """Instances launched with this token, whatever their tags; empty may be lag."""
        ...

    def by_id(self, region: str, instance_id: str) -> Instance:
        """One instance. Raises NotFound when EC2 knows no such id (also shortly after a launch)."""
        ...

    def terminate(self, region: str, instance_ids: Sequence[str]) -> None:
        """Ask EC2 to end them; returning is not yet their end. Ids that EC2 does not know are
        no error. Raises Unavailable, Throttled, NotAuthorized."""
        ...


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a launch in a region needs to name: the account's set-up, looked up and kept a while."""

    region: str
    subnets: Mapping[str, str]  # zone -> subnet id
    security_group_ids: tuple[str, ...]
    instance_profile: str | None


@dataclass(frozen=True, kw_only=True)
class Image:
    """A machine image. `root_device` is the name of its root disk: a disk that is asked for by
    another name is a second one, and the root keeps the image's size. One that was `baked` has the
    container's image on it."""

    id: str
    root_device: str
    baked: bool = False


class Sites(Protocol):
    def site(self, region: str) -> Site:
        """Raises Unavailable, NotAuthorized, Misconfigured (no subnet, named group missing)."""
        ...

    def image(
        self, region: str, instance_type: str, named: str | None = None, need: Need | None = None
    ) -> Image:
        """The machine image for the type's GPU, or the one whose id a job has `named`; where nobody
        has named one, the newest baked one that has what is needed. Raises Unavailable,
        NotAuthorized, Misconfigured (none for the type, with what to set; no such image in the
        region)."""
        ...


class Prices(Protocol):
    """What is sold where, and for how much. Prices are Linux/UNIX, USD."""

    def offered(self, region: str, instance_types: Sequence[str]) -> frozenset[Pool]:
        """The pools in which EC2 offers these types at all."""
        ...

    def quotes(
        self, region: str, instance_types: Sequence[str], since: dt.datetime
    ) -> tuple[Quote, ...]:
        """Spot quotes in force at `since` and after, oldest first. Raises Unavailable."""
        ...

    def on_demand(self, region: str, instance_types: Sequence[str]) -> Mapping[str, int]:
        """Micro-dollars an hour by type; a type without a price is absent. Raises Unavailable."""
        ...

    def zones(self, region: str) -> Mapping[str, str]:
        """The region's zones: this account's name -> the id that means the same everywhere
        (`us-east-1a` -> `use1-az4`). Raises Unavailable."""
        ...

    def scores(
        self, regions: Sequence[str], instance_types: Sequence[str]
    ) -> Mapping[tuple[str, str], int]:
        """EC2's spot placement scores, 1 (unlikely) to 10, by (region, zone id), for one instance
        of any of these types: at least three, or EC2 scores everything low. EC2 limits how many
        different questions a day may be asked. Raises Unavailable, NotAuthorized."""
        ...


@dataclass(frozen=True, kw_only=True)
class Advice:
    """AWS's Spot Advisor on a type in a region: what spot saves against on-demand (a fraction), and
    how often it was interrupted in the past month: 0 (under 5 %), 1 (5-10 %), 2 (10-15 %),
    3 (15-20 %), 4 (over 20 %). By region and not by zone, and a month old: a prior, no forecast."""

    saved_fraction: float
    band: int


@dataclass(frozen=True, kw_only=True)
class AdvisorPage:
    """The advisor's file, by (region, instance type); `etag` names this version of it."""

    etag: str
    advice: Mapping[tuple[str, str], Advice]


class Advisor(Protocol):
    def read(self, etag: str | None) -> AdvisorPage | None:
        """None when the file still has this etag. Raises Unavailable, also for a file that cannot
        be read as what it was."""
        ...


# -- registries --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RegistryLogin:
    """For `docker login`."""

    user: str
    password: str = field(repr=False)
    expires_at: dt.datetime


class Registries(Protocol):
    """Passwords of the account's own registries of container images."""

    def login(self, region: str) -> RegistryLogin:
        """Valid for hours. Raises NotAuthorized with what to grant, and Unavailable."""
        ...
