"""What the API needs, handed over by the composition root."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from spotrunner.core.caps import UNCAPPED, Caps
from spotrunner.core.fit import Fit
from spotrunner.core.history import Span
from spotrunner.core.look import Outlook
from spotrunner.core.model import Limits, Pool
from spotrunner.core.policy import Policies
from spotrunner.core.tracked import RegionMarket
from spotrunner.ports import (
    Buckets,
    Clock,
    Heads,
    Mailbox,
    MarketStore,
    Objects,
    PortError,
    Sites,
    Store,
)

MIB = 1 << 20


def to_nobody(_: Sequence[str]) -> Mapping[str, str]:
    """A test of alerts where there is no channel."""
    return {}


class Synced(Protocol):
    """What a read of a region's spot prices brought: rows that came, and those that were new."""

    @property
    def rows(self) -> int: ...
    @property
    def new_rows(self) -> int: ...
    @property
    def trouble(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Deps:
    """`objects` is the home bucket; `outlook` takes regions and types, and gives the market as the
    round sees it; `offered` says by region where types are offered at all, or why EC2 did not tell;
    `wake` asks for a round, `round`
    also waits that many seconds for its end and says whether it came; `encode` makes a
    value of the model to JSON; `status` is what the daemon says of itself.

    Of prices: `types` are those that are always looked at; `tracked` takes regions and types, and
    gives what is known of each region; `known` says of which times the prices of a type in a region
    are in `market`; `sync` takes regions, more types, since when to read, and for how many seconds
    to wait (None: it is still at it).

    `refit` fits the hazards to what we saw, or (True) goes back to the measured ones.

    `caps` bound what all jobs may spend; `channels` are those that alerts can go to, by name, and
    `test_alert` sends one to these now, and says of each what is wrong (an empty text: nothing)."""

    store: Store
    objects: Objects
    buckets: Buckets
    heads: Heads
    mailbox: Mailbox
    outlook: Callable[[Iterable[str], Iterable[str]], Outlook]
    offered: Callable[[Iterable[str], Iterable[str]], Mapping[str, frozenset[Pool] | PortError]]
    policies: Policies
    sites: Sites
    regions: tuple[str, ...]
    limits: Limits
    wake: Callable[[], None]
    round: Callable[[float], bool]
    clock: Clock
    token: str
    encode: Callable[[object], bytes]
    status: Callable[[], Mapping[str, object]]
    market: MarketStore
    types: tuple[str, ...]
    tracked: Callable[[Iterable[str], Iterable[str]], Mapping[str, RegionMarket]]
    known: Callable[[str, str], Sequence[Span]]
    sync: Callable[
        [Collection[str], Iterable[str], dt.datetime, float], Mapping[str, Synced | None]
    ]
    refit: Callable[[bool], Fit]
    max_workdir_bytes: int = 512 * MIB
    caps: Caps = UNCAPPED
    channels: frozenset[str] = frozenset()
    test_alert: Callable[[Sequence[str]], Mapping[str, str]] = to_nobody
    # `s3://bucket/prefix/` of the account's spot data feed, where the settings name one
    data_feed: str | None = None
    # that secrets of a job are encrypted with; None: AWS's own for S3
    kms_key: str | None = None
