"""What a round has decided: values to write down, and acts to do afterwards, in their order."""

from __future__ import annotations

from dataclasses import dataclass

from spotrunner.core.alert import Alert
from spotrunner.core.model import Attempt, Event, Job, Order, Refusal


@dataclass(frozen=True, kw_only=True)
class PostOrder:
    """Put this order where its agent reads it."""

    order: Order


@dataclass(frozen=True, kw_only=True)
class Terminate:
    """Ask EC2 to end an instance; repeated every round until EC2 says that it has ended."""

    region: str
    instance_id: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Send the attempt's request: for the first time, or again as it was stored."""

    attempt: Attempt
    why: str


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Move the letters of an attempt that has ended to its job."""

    box: str
    job_id: str


Act = PostOrder | Terminate | Launch | Archive


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`jobs` and `attempts` are whole new values. Everything here is written in one transaction
    before the first act, so each act has its intent on record."""

    jobs: tuple[Job, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    events: tuple[Event, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    commands_done: tuple[int, ...] = ()
    alerts: tuple[Alert, ...] = ()
    orders: tuple[PostOrder, ...] = ()
    terminations: tuple[Terminate, ...] = ()
    launches: tuple[Launch, ...] = ()
    archives: tuple[Archive, ...] = ()

    @property
    def acts(self) -> tuple[Act, ...]:
        """Payments and orders of running jobs come first: nothing may starve them."""
        return (*self.orders, *self.terminations, *self.launches, *self.archives)
