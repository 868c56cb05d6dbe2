"""What a round is told of the market: offers, what we saw, what others say, and the hazards."""

from __future__ import annotations

import dataclasses

from structlog.testing import capture_logs

from spotrunner.core.hazard import MEASURED
from spotrunner.core.model import Market, Pool, Refused, Snapshot
from spotrunner.core.sight import PRIOR_SHARE
from spotrunner.daemon import memos
from spotrunner.ports import Memo
from tests.daemon.tale import Tale

A, B = (Pool(region="us-east-1", zone=f"us-east-1{it}", instance_type="g4dn.xlarge") for it in "ab")
FASTER = dataclasses.replace(MEASURED, lost_an_hour=tuple(2 * it for it in MEASURED.lost_an_hour))


def snapshot(tale: Tale) -> Snapshot:
    assert tale._reconciler is not None
    return tale._reconciler._observer.snapshot(1)


def test_a_round_sees_what_runs_and_what_was_refused() -> None:
    tale = Tale()
    tale.world.refuse(A, Market.SPOT, Refused.CAPACITY)
    tale.run(120)
    told = snapshot(tale)
    assert told.sights[A].up is False
    assert told.sights[B].up is True
    assert told.sights[B].age_s > 60
    assert told.sights[A].share < told.sights[B].share


def test_a_round_has_scores_and_they_are_where_a_sight_begins() -> None:
    tale = Tale()
    tale.run(60)
    told = snapshot(tale)
    assert told.scores[B] == 10
    assert told.bands == {}
    assert told.sights[B].share > PRIOR_SHARE


def test_what_policy_fit_left_is_what_rounds_weigh_with() -> None:
    tale = Tale()
    assert snapshot(tale).hazards == MEASURED
    memos.HAZARDS.write(tale.market, FASTER, tale.clock.now())
    assert snapshot(tale).hazards == FASTER
    tale.kill_daemon()
    tale.start_daemon()
    assert snapshot(tale).hazards == FASTER


def test_a_damaged_memo_of_hazards_is_spoken_of_once_and_left_aside() -> None:
    tale = Tale()
    tale.market.remember(Memo(key=memos.HAZARDS.key(), at=tale.clock.now(), body='{"lost": -1}'))
    with capture_logs() as logs:
        assert snapshot(tale).hazards == MEASURED
        assert snapshot(tale).hazards == MEASURED
    assert [it["key"] for it in logs if "damaged" in it["event"]] == ["hazards"]
