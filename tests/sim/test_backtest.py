"""Many runs: when they begin, what comes of them, and that processes change nothing."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from typing import Any

import pytest

from spotrunner.core.hazard import MEASURED, Hazards
from spotrunner.core.model import DataSource, JobSpec
from spotrunner.core.policy import Choice
from spotrunner.core.policy.cheapest import Cheapest
from spotrunner.core.situation import Situation
from spotrunner.core.windows import Window
from spotrunner.sim import backtest
from spotrunner.sim.backtest import (
    Setting,
    Spread,
    conclusion,
    on_demand_late_s,
    on_demand_usd_micros,
    perfect,
    spread,
    summary,
)
from spotrunner.sim.history import BadHistory, Gap
from spotrunner.sim.lifetimes import Paces
from spotrunner.sim.steps import Steps
from tests.build import ON_DEMAND, SPOT, T0
from tests.sim.scenes import a_bill, a_history, a_job_of, a_pool_history, hour

SPEC = a_job_of(4)
NIGHT = Window(start_min=22 * 60, stop_min=7 * 60, tz="UTC", days=tuple(range(7)))


def a_setting(spec: JobSpec = SPEC, **changes: Any) -> Setting:
    fields: dict[str, Any] = {
        "spec": spec,
        "history": a_history(),
        "names": ("cheapest", "on_demand"),
        "runs": 6,
    }
    return Setting(**{**fields, **changes})


# -- starts ------------------------------------------------------------------------------------


def test_runs_are_spread_from_the_beginning_to_where_the_last_one_fits() -> None:
    starts = spread(a_setting(deadline_s=86_400.0, runs=5))
    assert starts[0] == T0
    assert starts[-1] == hour(19 * 24)
    assert {later - start for start, later in itertools.pairwise(starts)} == {
        dt.timedelta(hours=19 * 6)
    }


def test_no_run_starts_in_a_gap() -> None:
    gap = Gap(begin=hour(24), end=hour(15 * 24))
    history = a_history(a_pool_history(gaps=(gap,)))
    starts = spread(a_setting(history=history, runs=50))
    assert not any(gap.begin < start < gap.end for start in starts)
    assert any(start <= gap.begin for start in starts)
    assert any(start >= gap.end for start in starts)


def test_a_past_that_is_all_gaps_is_refused() -> None:
    gap = Gap(begin=T0 - dt.timedelta(hours=1), end=hour(480))
    with pytest.raises(BadHistory, match="has gaps wherever a run could start"):
        spread(a_setting(history=a_history(a_pool_history(gaps=(gap,)))))


def test_a_past_that_is_shorter_than_the_job_is_refused() -> None:
    with pytest.raises(BadHistory) as raised:
        spread(a_setting(history=a_history(days=0.1)))
    assert str(raised.value) == (
        "a made-up past has 2.4 h of history, and the job takes 4.1 h at least: give it more"
        " history, or less work"
    )


def test_a_past_that_one_run_fills_is_warned_of() -> None:
    setting = a_setting(history=a_history(days=0.25))
    assert set(spread(setting)) == {T0}
    assert "all runs start at its beginning" in (backtest.too_short(setting) or "")
    assert backtest.too_short(a_setting()) is None


def test_a_job_of_the_nights_needs_more_past_than_its_work() -> None:
    """It begins at noon, and 12 hours of work are the first night and 3 hours of the second."""
    nightly = a_setting(a_job_of(12, window=NIGHT), history=a_history(days=1.5))
    with pytest.raises(BadHistory, match=r"has 36\.0 h of history, and the job takes 37\.1 h at"):
        spread(nightly)
    assert spread(dataclasses.replace(nightly, history=a_history(days=1.6)))
    late_starts = spread(dataclasses.replace(nightly, history=a_history(days=20)))
    assert late_starts[-1] < hour(24 * 18)


# -- results -----------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_test_and_another_one_does_not() -> None:
    one, two = (backtest.run(a_setting(), processes=1) for _ in range(2))
    other = backtest.run(a_setting(seed=2), processes=1)
    assert one.outcomes == two.outcomes
    assert one.of("cheapest") != other.of("cheapest")


@pytest.mark.slow
def test_two_processes_find_what_one_finds() -> None:
    setting = a_setting(runs=12, names=("cheapest", "planner"), deadline_s=40_000.0)
    two, one = (backtest.run(setting, processes=count) for count in (2, 1))
    assert two.outcomes == one.outcomes


def test_every_policy_meets_the_same_weather() -> None:
    test = backtest.run(a_setting(names=("cheapest", "greedy")), processes=1)
    starts = {name: [run.start for run in test.of(name)] for name in ("cheapest", "greedy")}
    assert starts["cheapest"] == starts["greedy"]


def test_progress_is_told_run_by_run() -> None:
    heard: list[int] = []
    backtest.run(a_setting(), processes=1, progress=heard.append)
    assert heard == [1, 2, 3, 4, 5, 6]


def test_who_stops_it_gets_what_is_done() -> None:
    def stop_at_three(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    setting = a_setting()
    test = backtest.run(setting, processes=1, progress=stop_at_three)
    assert not test.is_whole
    assert len(test.outcomes) == 3
    assert set(test.outcomes) < set(backtest.run(setting, processes=1).outcomes)


def test_a_summary_by_hand() -> None:
    open_always = a_pool_history(capacity=Steps([(T0, True)]))
    setting = a_setting(history=a_history(open_always), deadline_s=40_000.0)
    test = backtest.run(setting, processes=1)
    found = summary(test, "cheapest")
    cost, dear = (a_bill(4 * 3600 + 300, price) for price in (SPOT, ON_DEMAND))
    assert found.cost_usd_micros == Spread(mean=cost, p10=cost, p50=cost, p90=cost)
    assert found.finish_s == Spread(mean=14_700, p10=14_700, p50=14_700, p90=14_700)
    assert found.saved_fraction == pytest.approx(1 - cost / dear)
    assert (found.missed, found.unfinished, found.on_demand_share) == (0, 0, 0)
    assert conclusion(test, "cheapest") == (
        "cheapest would have cost 0.7191 USD (p90 0.7191 USD), 68% below on-demand, in time in 6 of"
        " 6 runs"
    )
    foresight = perfect(test, free_hours=False)
    assert foresight is not None
    assert foresight.mean == pytest.approx(cost, rel=0.001)


def test_what_is_late_and_what_never_ended_is_counted() -> None:
    shut = a_history(a_pool_history(capacity=Steps([(T0, False)])), days=1)
    setting = a_setting(history=shut, deadline_s=40_000.0, names=("cheapest",), runs=2)
    test = backtest.run(setting, processes=1)
    found = summary(test, "cheapest")
    assert (found.missed, found.unfinished) == (2, 2)
    assert found.finish_s is None
    assert found.why_unfinished
    assert found.saved_fraction is None
    assert conclusion(test, "cheapest") == (
        "cheapest did not end in 2 of 2 runs and would have cost 0.0000 USD (p90 0.0000 USD), in"
        " time in 0 of 2 runs"
    )


def test_what_never_ended_saved_nothing() -> None:
    # Open for the first run only: what the second one did not do is no saving.
    open_once = a_pool_history(capacity=Steps([(T0, True), (hour(6), False)]))
    setting = a_setting(history=a_history(open_once, days=2), names=("cheapest",), runs=2)
    test = backtest.run(setting, processes=1)
    found = summary(test, "cheapest")
    cost, dear = (a_bill(4 * 3600 + 300, price) for price in (SPOT, ON_DEMAND))
    assert found.unfinished == 1
    assert found.saved_fraction == pytest.approx(1 - cost / dear)
    assert conclusion(test, "cheapest").startswith("cheapest did not end in 1 of 2 runs and would")
    assert "68% below on-demand where it ended, done in 1 of 2 runs" in conclusion(test, "cheapest")


def test_a_cap_that_ends_it_is_told_as_the_reason() -> None:
    spec = dataclasses.replace(SPEC, budget_usd_micros=400_000)
    setting = a_setting(spec, names=("cheapest",), runs=2, history=a_history(days=5))
    found = summary(backtest.run(setting, processes=1), "cheapest")
    assert found.unfinished == 2
    assert found.why_unfinished.startswith("the budget of 0.4000 USD has ")
    assert found.saved_fraction is None
    assert 0 < found.cost_usd_micros.mean <= 400_000


# -- what it is measured against ---------------------------------------------------------------


def test_on_demand_pays_for_its_disk_its_address_and_its_data() -> None:
    """1 TiB is 0.114 USD an hour there, and the data come from another region."""
    far = DataSource(source="s3://d/", target="d", bytes=10**9, region="us-west-2")
    setting = a_setting(dataclasses.replace(SPEC, disk_gib=1024, data=(far,)))
    extras = 5_000 + 113_778
    dear = a_bill(4 * 3600 + 300, ON_DEMAND, extras=extras) + 20_000
    assert on_demand_usd_micros(setting) == dear


def test_on_demand_is_cheapest_where_all_of_it_is() -> None:
    """By its price us-east-1 is cheaper, and the data are in eu-west-1."""
    near = DataSource(source="s3://d/", target="d", bytes=10**12, region="eu-west-1")
    dearer = a_pool_history("eu-west-1a", on_demand_usd_micros_hour=ON_DEMAND + 50_000)
    setting = a_setting(
        dataclasses.replace(SPEC, data=(near,)), history=a_history(a_pool_history(), dearer)
    )
    extras = 5_000 + 12_223
    assert on_demand_usd_micros(setting) == a_bill(14_700, ON_DEMAND + 50_000, extras=extras)


@pytest.mark.parametrize(
    ("hours", "deadline_h", "late_h"),
    [(8, 19, -0.9), (9, 19, 15.1 + 1 / 15), (12, 37, 1 / 6)],
)
def test_how_late_on_demand_is_in_a_window(hours: float, deadline_h: float, late_h: float) -> None:
    """From noon on: the first night opens after 10 hours, the second after 34; 5 minutes of each
    are a launch's."""
    setting = a_setting(
        a_job_of(hours, window=NIGHT),
        history=a_history(a_pool_history(), days=2),
        deadline_s=deadline_h * 3600,
        runs=1,
    )
    (late_s,) = on_demand_late_s(setting)
    assert late_s == pytest.approx(late_h * 3600, abs=70)


def test_policies_plan_with_the_changeover_that_is_modelled() -> None:
    paces = dataclasses.replace(Paces(), changeover_s=700.0)
    assert a_setting(paces=paces).planning.changeover_s == 700


def test_policies_weigh_capacity_with_the_hazards_of_the_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: set[Hazards] = set()

    class Noting(Cheapest):
        def choose(self, situation: Situation) -> Choice:
            seen.add(situation.hazards)
            return super().choose(situation)

    monkeypatch.setattr(backtest, "policies", lambda _tables: {"cheapest": Noting()})
    fitted = dataclasses.replace(MEASURED, lost_weight=-0.5)
    setting = a_setting(names=("cheapest",), runs=1)
    backtest.run(setting, processes=1)
    assert seen == {MEASURED}
    seen.clear()
    backtest.run(dataclasses.replace(setting, hazards=fitted), processes=1)
    assert seen == {fitted}


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1.0], Spread(mean=1, p10=1, p50=1, p90=1)),
        ([3.0, 1.0, 2.0], Spread(mean=2, p10=1.2, p50=2, p90=2.8)),
    ],
)
def test_a_spread_by_hand(values: list[float], found: Spread) -> None:
    spread_ = Spread.of(values)
    assert spread_ is not None
    assert dataclasses.astuple(spread_) == pytest.approx(dataclasses.astuple(found))
    assert Spread.of([]) is None
