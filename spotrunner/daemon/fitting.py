"""`policy fit`: the hazards that rounds weigh with, from all that we saw ourselves."""

from __future__ import annotations

import datetime as dt

from spotrunner.core.fit import Fit, fit
from spotrunner.core.hazard import MEASURED
from spotrunner.core.sight import spells
from spotrunner.daemon import memos
from spotrunner.ports import Clock, MarketStore, Store

EVER = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


def refit(store: Store, market: MarketStore, clock: Clock, reset: bool = False) -> Fit:
    """From all attempts and refusals, drawn to the measured hazards and never to those of an
    earlier fit, so that nothing counts twice. It is kept if anything was seen; `reset` keeps the
    measured ones. The next round decides with them. Raises Unavailable."""
    now = clock.now()
    if reset:
        memos.HAZARDS.write(market, MEASURED, now)
        return Fit(hazards=MEASURED, evidence=())
    fitted = fit(spells(store.recent_attempts(EVER), store.refusals(EVER), now))
    if any(each.hours > 0 or each.events > 0 for each in fitted.evidence):
        memos.HAZARDS.write(market, fitted.hazards, now)
    return fitted
