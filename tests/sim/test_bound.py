"""Perfect knowledge pays less than any policy, and as much as it must."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotrunner.core.charges import extras_usd_micros_hour
from spotrunner.core.model import DataSource
from spotrunner.core.policy.named import policies
from spotrunner.core.windows import Window
from spotrunner.sim.bound import bound
from spotrunner.sim.scene import Scene
from tests.build import ON_DEMAND, SPOT
from tests.sim.scenes import PACES, a_bill, a_job_of, a_pool_scene, a_replay, a_scene, hour, scenes

NEARLY = 0.001
# T0 is at noon.
NIGHT = Window(start_min=22 * 60, stop_min=7 * 60, tz="UTC", days=tuple(range(7)))
DATA = DataSource(source="s3://d/", target="d", bytes=100 * 10**9, region="us-east-1")


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


def test_data_are_brought_to_where_they_are_worth_it() -> None:
    """Where they lie spot costs more; 100 GB are 2 USD, which a short job does not get back. No
    time is left over in which a launch could be worth more."""
    scene = a_scene(a_pool_scene("us-east-1a"), a_pool_scene("eu-west-1a", prices=((0, 60_000),)))
    spec = a_job_of(8, data=(DATA,))
    near = bound(spec, scene, PACES, hour(8 + 300 / 3600))
    assert near == pytest.approx(a_bill(8 * 3600 + 300, SPOT), rel=NEARLY)
    far = bound(dataclasses.replace(spec, work_s=48 * 3600), scene, PACES, hour(48 + 300 / 3600))
    extras = extras_usd_micros_hour("eu-west-1", spec.disk_gib)
    moved = a_bill(48 * 3600 + 300, 60_000, extras=extras) + 2_000_000
    assert far == pytest.approx(moved, rel=NEARLY)


def test_a_free_hour_pays_for_its_data_too() -> None:
    scene = a_scene(a_pool_scene("eu-west-1a", shut=[(5, 100)]))
    found = bound(a_job_of(0.75, data=(DATA,)), scene, PACES, hour(6))
    extras = extras_usd_micros_hour("eu-west-1", 100)
    assert found == pytest.approx(a_bill(3000, 0, extras=extras) + 2_000_000, rel=NEARLY)


@pytest.mark.parametrize(("within", "hours"), [(20, 8.9), (44, 17.8), (43.5, 17.8)])
def test_closed_hours_are_no_time_to_train_in(within: float, hours: float) -> None:
    """It opens after 10 hours for 9 of each day, and each night costs a launch."""
    found = bound(a_job_of(hours, window=NIGHT), a_scene(), PACES, hour(within))
    nights = 1 if hours < 9 else 2
    bill = a_bill(hours * 3600 + nights * 300, SPOT)
    assert found == pytest.approx(bill, rel=0.005)
    # A launch, and what a notice at the end may still give, is all that does not fit.
    assert bound(a_job_of(nights * 9, window=NIGHT), a_scene(), PACES, hour(within)) is None


def test_a_window_waits_for_its_own_price() -> None:
    """Spot is cheap while the window is closed."""
    scene = a_scene(a_pool_scene(prices=((0, 50_000), (9, SPOT), (20, 50_000), (33, SPOT))))
    found = bound(a_job_of(8, window=NIGHT), scene, PACES, hour(43))
    assert found == pytest.approx(a_bill(8 * 3600 + 300, SPOT), rel=NEARLY)


@given(
    scene=scenes(),
    hours=st.floats(0.5, 6),
    slack_h=st.floats(0.01, 8),
    changeover_s=st.sampled_from((60, 300, 1200)),
    policy=st.sampled_from(sorted(policies())),
    bid=st.none() | st.integers(60_000, 500_000),
    disk_gib=st.sampled_from((8, 100, 4000)),
    data_gb=st.sampled_from((0, 1, 20)),
)
@settings(max_examples=150, deadline=None)
def test_no_run_that_is_in_time_costs_less(
    scene: Scene,
    hours: float,
    slack_h: float,
    changeover_s: int,
    policy: str,
    bid: int | None,
    disk_gib: int,
    data_gb: int,
) -> None:
    paces = dataclasses.replace(PACES, changeover_s=changeover_s)
    within = hours + changeover_s / 3600 + slack_h
    data = dataclasses.replace(DATA, bytes=data_gb * 10**9)
    spec = a_job_of(hours, within=within, max_price_usd_micros=bid, disk_gib=disk_gib, data=(data,))
    run = a_replay(spec, scene, policy, paces).run()
    if not run.in_time:
        return
    found = bound(spec, scene, paces, hour(within))
    assert found is not None
    assert found <= run.cost_usd_micros


@given(
    scene=scenes(),
    hours=st.floats(0.5, 12),
    start=st.integers(0, 1439),
    open_min=st.integers(30, 1439),
    changeover_s=st.sampled_from((60, 300, 1200)),
    data_gb=st.sampled_from((0, 20)),
)
@settings(max_examples=75, deadline=None)
def test_no_run_in_a_window_costs_less(
    scene: Scene, hours: float, start: int, open_min: int, changeover_s: int, data_gb: int
) -> None:
    paces = dataclasses.replace(PACES, changeover_s=changeover_s)
    window = dataclasses.replace(NIGHT, start_min=start, stop_min=(start + open_min) % 1440)
    data = dataclasses.replace(DATA, bytes=data_gb * 10**9)
    spec = a_job_of(hours, window=window, data=(data,))
    run = a_replay(spec, scene, paces=paces).run()
    if run.finished_at is None:
        return
    found = bound(spec, scene, paces, run.finished_at)
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
