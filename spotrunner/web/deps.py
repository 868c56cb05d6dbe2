"""What the API needs, handed over by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from spotrunner.core.model import Limits, Offer, Pool
from spotrunner.core.policy import Policies
from spotrunner.ports import Buckets, Clock, Heads, Mailbox, Objects, PortError, Sites, Store

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Deps:
    """`objects` is the home bucket; `offers` takes regions and types, `offered` too: it says by
    region where they are offered at all, or why EC2 did not tell; `wake` asks for a round, `round`
    also waits that many seconds for its end and says whether it came; `encode` makes a
    value of the model to JSON; `status` is what the daemon says of itself."""

    store: Store
    objects: Objects
    buckets: Buckets
    heads: Heads
    mailbox: Mailbox
    offers: Callable[[Iterable[str], Iterable[str]], tuple[Offer, ...]]
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
    max_workdir_bytes: int = 512 * MIB
