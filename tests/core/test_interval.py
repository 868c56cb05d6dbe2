from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core.draft import Draft
from spotrunner.core.interval import UNMEASURED_SAVE_S, coarse, daly_s, save_every_s
from spotrunner.core.model import Limits, Market, Snapshot
from spotrunner.core.saving import Saving
from spotrunner.core.sight import Sight
from spotrunner.core.states import AttemptState
from tests.build import (
    a_job,
    a_pool,
    a_report,
    a_running_snapshot,
    a_spec,
    an_attempt,
    an_offer,
    an_order,
)

LIMITS = Limits()
HOUR_S = 3600.0
AUTO = Saving(auto=True)


def asked(snapshot: Snapshot) -> int | None:
    draft = Draft(snapshot)
    return save_every_s(draft, draft.live()[0])


def a_run(
    saving: Saving = AUTO,
    *,
    age_s: float = HOUR_S,
    share: float = 0.5,
    save_s: float | None = 5.0,
    before: int | None = None,
    market: Market = Market.SPOT,
    **spec: Any,
) -> Snapshot:
    """A job on a pool that has been up for so long."""
    attempt = an_attempt(offer=an_offer(market=market))
    attempt = dataclasses.replace(attempt, order=an_order(attempt, save_every_s=before))
    sight = Sight(up=True, was_up=True, age_s=age_s, share=share)
    return a_running_snapshot(
        attempt=attempt,
        jobs=(a_job(spec=a_spec(saving=saving, **spec)),),
        reports=(a_report(save_s=save_s),),
        sights={a_pool(): sight},
    )


# -- the arithmetic ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("save_s", "life_s", "interval_s"),
    [
        (5.0, 4 * HOUR_S, 374.5),  # sqrt(2 x 5 x 14400) - 5
        (60.0, 4 * HOUR_S, 1254.5),
        (0.1, HOUR_S, 120.0),  # at least
        (0.0, HOUR_S, 120.0),
        (600.0, 100 * HOUR_S, 3600.0),  # at most
    ],
)
def test_young_and_daly(save_s: float, life_s: float, interval_s: float) -> None:
    assert daly_s(save_s, life_s, LIMITS) == pytest.approx(interval_s, abs=0.1)


@given(st.floats(0.5, 60), st.floats(2 * HOUR_S, 48 * HOUR_S))
def test_no_other_interval_loses_less_time(save_s: float, life_s: float) -> None:
    """What an hour loses to saves, and to losses on average half an interval ago."""

    def lost(interval_s: float) -> float:
        return save_s / (interval_s + save_s) + (interval_s / 2 + save_s) / life_s

    best = math.sqrt(2 * save_s * life_s) - save_s
    for other in (0.5, 0.8, 1.25, 2.0):
        assert lost(best) <= lost(best * other) * 1.001


@pytest.mark.parametrize(
    ("seconds", "figure"), [(0.4, 0), (7.4, 7), (123.0, 120), (127.0, 130), (3_549.0, 3500)]
)
def test_two_digits_are_enough(seconds: float, figure: int) -> None:
    assert coarse(seconds) == figure


# -- what is asked for -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("saving", "every_s"),
    [
        (Saving(), None),
        (Saving(every_s=600), 600),
        (AUTO, 250),  # 2 x 5 s, lost 0.549 times an hour: sqrt(65574) - 5
        (Saving(auto=True, every_s=200), 200),
        (Saving(auto=True, every_s=900), 250),
    ],
)
def test_of_both_figures_the_smaller(saving: Saving, every_s: int | None) -> None:
    assert asked(a_run(saving)) == every_s


def test_a_trainer_that_cannot_be_asked_is_not_asked() -> None:
    assert asked(a_run(Saving(auto=True, every_s=600), handles_save_signal=False)) is None


def test_an_old_run_lasts_longer_and_is_saved_less_often() -> None:
    found = [asked(a_run(age_s=hours * HOUR_S)) for hours in (0.2, 1, 3, 17)]
    assert found == sorted(found, key=lambda each: each or 0)
    assert found[0] != found[-1]


def test_a_pool_that_was_seldom_up_is_saved_more_often() -> None:
    seldom, often = asked(a_run(share=0.1)), asked(a_run(share=0.9))
    assert seldom is not None
    assert often is not None
    assert seldom < often


def test_on_demand_is_lost_to_nobody() -> None:
    assert asked(a_run(market=Market.ON_DEMAND)) == LIMITS.most_save_every_s


def test_before_the_first_save_its_cost_is_assumed() -> None:
    assert asked(a_run(save_s=None)) == asked(a_run(save_s=UNMEASURED_SAVE_S))


def test_a_replacement_knows_what_a_save_took_its_predecessor() -> None:
    old, new = an_attempt(1), an_attempt(2)
    snapshot = dataclasses.replace(
        a_run(),
        attempts=(old, new),
        reports={old.id: a_report(old.id, 300, save_s=60.0), new.id: a_report(new.id)},
    )
    draft = Draft(snapshot)
    assert save_every_s(draft, new) == save_every_s(draft, old)


@pytest.mark.parametrize(("before", "after"), [(None, 250), (210, 210), (300, 300), (200, 250)])
def test_a_figure_is_held_until_it_is_off_by_a_fifth(before: int | None, after: int) -> None:
    assert asked(a_run(before=before)) == after


def test_a_pool_that_nobody_has_seen_has_a_figure_too() -> None:
    snapshot = dataclasses.replace(a_run(), sights={})
    assert asked(snapshot) is not None


def test_none_is_asked_of_a_job_one_of_whose_attempts_knew_no_such_signal() -> None:
    snapshot = a_run()
    earlier = an_attempt(1, AttemptState.ENDED, handles_save_signal=False)
    (live,) = snapshot.attempts
    later = dataclasses.replace(live, id=f"{live.job_id}.2", generation=2)
    assert asked(dataclasses.replace(snapshot, attempts=(earlier, later))) is None
    assert asked(snapshot) is not None
