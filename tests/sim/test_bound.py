"""Perfect knowledge pays less than any policy, and as much as it must."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotrunner.core.policy.named import policies
from spotrunner.sim.bound import bound
from spotrunner.sim.scene import Scene
from tests.build import ON_DEMAND, SPOT
from tests.sim.scenes import PACES, a_bill, a_job_of, a_pool_scene, a_replay, a_scene, hour, scenes

NEARLY = 0.001


def test_where_nothing_happens_it_is_what_the_job_costs() -> None:
    found = bound(a_job_of(8), a_scene(), PACES, hour(24))
    assert found is not None
    assert found == pytest.approx(a_bill(8 * 3600 + 300, SPOT), rel=NEARLY)


def test_without_spot_it_is_on_demand() -> None:
    scene = a_scene(a_pool_scene(shut=[(0, 100)]))
    found = bound(a_job_of(8, within=10), scene, PACES, hour(10))
    assert found == pytest.approx(a_bill(8 * 3600 + 300, ON_DEMAND), rel=NEARLY)


def test_it_waits_for_a_price_that_falls() -> None:
    scene = a_scene(a_pool_scene(prices=((0, 300_000), (6, 100_000))))
    late = bound(a_job_of(2), scene, PACES, hour(24))
    assert late == pytest.approx(a_bill(2 * 3600 + 300, 100_000), rel=NEARLY)
    soon = bound(a_job_of(2), scene, PACES, hour(3))
    assert soon == pytest.approx(a_bill(2 * 3600 + 300, 300_000), rel=NEARLY)


def test_the_last_hour_before_an_interruption_is_free() -> None:
    scene = a_scene(a_pool_scene(shut=[(5, 100)]))
    spec = a_job_of(0.75)
    free = bound(spec, scene, PACES, hour(6))
    assert free == pytest.approx(a_bill(2700 + 300, 0), rel=NEARLY)
    paid = bound(spec, scene, PACES, hour(6), free_hours=False)
    assert paid == pytest.approx(a_bill(2700 + 300, SPOT), rel=NEARLY)


def test_a_deadline_that_nobody_meets_has_no_bound() -> None:
    assert bound(a_job_of(8), a_scene(), PACES, hour(8)) is None
    assert bound(a_job_of(8), a_scene(), PACES, hour(8.1)) is not None


def test_a_bid_closes_what_is_dearer() -> None:
    scene = a_scene(a_pool_scene(prices=((0, 250_000),)))
    found = bound(a_job_of(2, max_price_usd_micros=200_000), scene, PACES, hour(24))
    assert found == pytest.approx(a_bill(2 * 3600 + 300, ON_DEMAND), rel=NEARLY)


@given(
    scene=scenes(),
    hours=st.floats(0.5, 6),
    slack_h=st.floats(0.01, 8),
    changeover_s=st.sampled_from((60, 300, 1200)),
    policy=st.sampled_from(sorted(policies())),
    bid=st.none() | st.integers(60_000, 500_000),
)
@settings(max_examples=100, deadline=None)
def test_no_run_that_is_in_time_costs_less(
    scene: Scene, hours: float, slack_h: float, changeover_s: int, policy: str, bid: int | None
) -> None:
    paces = dataclasses.replace(PACES, changeover_s=changeover_s)
    within = hours + changeover_s / 3600 + slack_h
    spec = a_job_of(hours, within=within, max_price_usd_micros=bid)
    run = a_replay(spec, scene, policy, paces).run()
    if not run.in_time:
        return
    found = bound(spec, scene, paces, hour(within))
    assert found is not None
    assert found <= run.cost_usd_micros


@given(scene=scenes(), hours=st.floats(0.5, 6))
@settings(max_examples=50, deadline=None)
def test_without_a_deadline_it_is_below_whoever_ends_as_soon(scene: Scene, hours: float) -> None:
    spec = a_job_of(hours)
    run = a_replay(spec, scene).run()
    assert run.finished_at is not None
    found = bound(spec, scene, PACES, run.finished_at)
    assert found is not None
    assert found <= run.cost_usd_micros
