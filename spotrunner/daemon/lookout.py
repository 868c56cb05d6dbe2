"""The market as a decision sees it: offers, what we saw of their pools ourselves, what others say
of them, and the hazards that all of it is weighed with."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from spotrunner.core.hazard import MEASURED, Hazards
from spotrunner.core.look import Outlook
from spotrunner.core.market import cooling
from spotrunner.core.model import Limits
from spotrunner.core.sight import FORGOTTEN_AFTER, sights
from spotrunner.daemon import memos
from spotrunner.daemon.board import Board
from spotrunner.daemon.hints import Hints, priors
from spotrunner.ports import Clock, MarketStore, Memo, Store, Unavailable

log = structlog.get_logger(__name__)


class FittedHazards:
    """What `policy fit` has left in the store; the measured ones where it has left nothing that can
    be read."""

    def __init__(self, market: MarketStore) -> None:
        self._store = market
        self._memo: Memo | None = None
        self._hazards = MEASURED

    def read(self) -> Hazards:
        """Now; what was read last where the store does not answer."""
        try:
            memo = self._store.memo(memos.HAZARDS.key())
        except Unavailable as error:
            log.warning("not read", what="hazards", error=str(error))
            return self._hazards
        # A damaged memo is spoken of once and not in every round.
        if memo != self._memo:
            said = memos.HAZARDS.parse(memo) if memo else None
            self._memo, self._hazards = memo, said.value if said else MEASURED
        return self._hazards


@dataclass(frozen=True, kw_only=True)
class Lookout:
    """Safe from several threads. `hints` is None where nobody is asked for any."""

    store: Store
    board: Board
    hints: Hints | None
    hazards: FittedHazards
    clock: Clock
    limits: Limits

    def outlook(
        self, regions: Iterable[str], types: Iterable[str], now: dt.datetime | None = None
    ) -> Outlook:
        """For jobs of these types in these regions. Reads prices where they are old, and waits for
        them a bounded time."""
        now, types = now or self.clock.now(), frozenset(types)
        offers = self.board.offers(regions, types)
        markets = self.board.markets()
        scores = self.hints.scores(markets) if self.hints else {}
        bands = self.hints.bands(markets) if self.hints else {}
        refusals = self.store.refusals(now - FORGOTTEN_AFTER)
        return Outlook(
            now=now,
            limits=self.limits,
            offers=offers,
            # The rest only tells of capacity; there may be thousands of them.
            refusals=cooling(refusals, now, self.limits),
            sights=sights(
                self.store.recent_attempts(now - FORGOTTEN_AFTER),
                refusals,
                now,
                fresh_s=self.limits.capacity_cooldown_s,
                priors=priors(scores, bands),
            ),
            scores=scores,
            bands=bands,
            hazards=self.hazards.read(),
        )
