from __future__ import annotations

import dataclasses
import subprocess
import sys
from functools import lru_cache

import pytest

from spotrunner.core.hazard import MEASURED
from spotrunner.core.policy import Choice
from spotrunner.core.policy.deadline import Deadline
from spotrunner.core.policy.planner import MOVE_GAIN, Planner
from spotrunner.core.policy.tables import (
    AGES,
    GO_ON_DEMAND,
    GO_SPOT,
    ROWS,
    STAY_ON_DEMAND,
    STAY_SPOT,
    WAIT,
    Table,
    TableKey,
    key_of,
)
from spotrunner.core.sight import Sight
from spotrunner.core.situation import Candidate, Situation
from tests.build import a_pool
from tests.core.situations import (
    CHANGEOVER_S,
    LOOK_S,
    WORK_S,
    a_situation,
    no_on_demand,
    on_demand,
    refused,
    spot,
    up,
)

HERE, BASE = spot(sight=up(3600)), on_demand()
A, B = "spot us-east-1a", "spot us-east-1b"
FAR_S = 20_000.0


class OneTable:
    """The same costs at every time and slack, by way; and the keys that were asked for."""

    def __init__(self, **costs: float) -> None:
        self.keys: list[TableKey] = []
        blocks = [("wait", 2), ("stay", 2), ("leave", 2), ("spot", 1), ("keep", 1)]
        rows = [costs.get(name, 9.0) for name, size in blocks for _ in range(size * AGES)]
        assert len(rows) == ROWS
        self.table_ = Table(
            look_s=180.0,
            looks=(1, 2),
            slacks_s=(0.0, 1.0),
            costs=tuple(cost for _ in range(2) for cost in rows for _ in range(2)),
        )

    def table(self, key: TableKey) -> Table | None:
        self.keys.append(key)
        return self.table_


def where(situation: Situation, **costs: float) -> str:
    return place_of(Planner(OneTable(**costs)).choose(situation))


def place_of(choice: Choice) -> str:
    take = choice.take
    if take is None:
        return "wait"
    return f"{take.offer.market.value} {take.offer.pool.zone}" if take.is_spot else "on-demand"


# -- the cheapest way --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("costs", "candidates", "on", "taken"),
    [
        ({"spot": 1.0}, (spot(), BASE), None, A),
        ({"spot": 1.0, "wait": 1.0, "leave": 1.0}, (spot(), BASE), None, A),
        ({"spot": 1.0, "wait": 0.9}, (spot(), BASE), None, "wait"),
        ({"spot": 1.0, "leave": 0.9}, (spot(), BASE), None, "on-demand"),
        ({"spot": 1.0, "wait": 2.0}, (refused(), BASE), None, "wait"),
        ({"wait": 2.0, "leave": 2.0}, (refused(), BASE), None, "on-demand"),
        # on-demand costs no launch where the job runs on-demand
        ({"spot": 1.0, "stay": 0.9}, (spot(), BASE), BASE, "on-demand"),
        ({"spot": 1.0, "leave": 0.9}, (spot(), BASE), BASE, A),
        ({"keep": 1.0, "leave": 1.0}, (HERE, BASE), HERE, A),
        ({"keep": 1.0, "leave": 0.9}, (HERE, BASE), HERE, "on-demand"),
    ],
)
def test_the_cheapest_way_is_taken(
    costs: dict[str, float], candidates: tuple[Candidate, ...], on: Candidate | None, taken: str
) -> None:
    assert where(a_situation(FAR_S, *candidates, on=on), **costs) == taken


def test_the_guard_comes_before_the_plan() -> None:
    """Whatever the table promises."""
    greedy = {"wait": 0.0, "spot": 0.0, "keep": 0.0}
    assert where(a_situation(LOOK_S - 1, refused(), BASE), **greedy) == "on-demand"
    assert where(a_situation(LOOK_S - 1, HERE, BASE, on=HERE, pending_s=600), **greedy) == (
        "on-demand"
    )
    # No launch on spot that might fail, and no more waiting than the slack bears.
    assert where(a_situation(CHANGEOVER_S - 1, spot(), BASE), spot=0.0) == "on-demand"
    assert where(a_situation(LOOK_S, refused(), BASE), wait=0.0) == "wait"


def test_what_runs_on_demand_stays_in_its_zone() -> None:
    """Another zone's on-demand, at the same price or a lower one, is no reason to launch."""
    here = on_demand()
    elsewhere = dataclasses.replace(
        on_demand(500_000), offer=dataclasses.replace(here.offer, pool=a_pool("us-east-1c"))
    )
    situation = a_situation(FAR_S, elsewhere, here, on=here)
    assert Planner(OneTable(stay=0.0)).choose(situation).take == here


def test_it_moves_for_much_cheaper_work_only() -> None:
    assert MOVE_GAIN == 0.1
    cheap, same = spot("us-east-1b", 143_000, sight=up(9)), spot("us-east-1b", 145_000, sight=up(9))
    assert where(a_situation(FAR_S, cheap, HERE, BASE, on=HERE), keep=1.0) == B
    assert where(a_situation(FAR_S, same, HERE, BASE, on=HERE), keep=1.0) == A


def test_the_costs_are_in_the_reason() -> None:
    tables = OneTable(spot=1.5, wait=2.25, leave=3.0)
    why = Planner(tables).choose(a_situation(FAR_S, spot(), BASE)).why
    assert "3.00 h of on-demand on-demand, 2.25 h of on-demand waiting, 1.50 h" in why


# -- without a table ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "situation",
    [
        a_situation(FAR_S, spot(), BASE),
        a_situation(FAR_S, refused(), BASE),
        a_situation(FAR_S, HERE, BASE, on=HERE),
        a_situation(3600, refused(), BASE),
    ],
)
def test_the_deadline_rule_decides_while_there_is_no_table(situation: Situation) -> None:
    ours, rule = Planner().choose(situation), Deadline().choose(situation)
    assert (ours.take, ours.look_s) == (rule.take, rule.look_s)
    assert ours.why == f"{rule.why} (the plan was not asked: its table is not there yet)"


def test_without_an_estimate_no_table_is_asked_for() -> None:
    tables = OneTable(spot=0.0)
    unknown = a_situation(FAR_S, spot(), BASE, work_s=None, work_left_s=None)
    assert "needs a deadline, an estimate" in Planner(tables).choose(unknown).why
    assert place_of(Planner(tables).choose(a_situation(FAR_S, spot(), no_on_demand()))) == A
    assert tables.keys == []


def test_the_policies_need_no_numpy() -> None:
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "from spotrunner.core.policy.named import policies; import spotrunner.daemon.tables\n"
        "print(*policies())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "planner" in found.stdout.split()


# -- keys --------------------------------------------------------------------------------------


def test_a_key_is_rounded_so_that_looks_share_tables() -> None:
    situation = a_situation(FAR_S, spot(), BASE)
    key = key_of(situation, 0.31)
    later = dataclasses.replace(situation, left_s=(situation.left_s or 0) - 3600)
    assert key == key_of(later, 0.29)
    assert key == TableKey(
        look_s=180.0,
        changeover_s=600.0,
        horizon_s=24 * 3600.0,
        price=pytest.approx(0.3),  # type: ignore[arg-type]
        share_class=0,
        hazards=MEASURED,
    )


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"look_s": 195.0}, "look_s", 195.0),
        ({"look_s": 190.0}, "look_s", 195.0),
        ({"left_s": 1_000_000.0}, "look_s", 1395.0),  # a thousand looks at most
        ({"changeover_s": 181.0}, "changeover_s", 210.0),
        ({"changeover_s": 0.0}, "changeover_s", 30.0),
        ({"left_s": 90_000.0}, "horizon_s", 48 * 3600.0),
        ({"left_s": 1.0}, "horizon_s", 6 * 3600.0),
        ({"together": Sight(share=0.9)}, "share_class", 2),
        ({"together": Sight(share=0.0)}, "share_class", -4),
    ],
)
def test_each_part_of_a_key(changes: dict[str, object], field: str, value: float) -> None:
    situation = dataclasses.replace(a_situation(FAR_S), **changes)  # type: ignore[arg-type]
    assert getattr(key_of(situation, 0.3), field) == value


def test_fitted_hazards_ask_for_their_own_table() -> None:
    worse = dataclasses.replace(MEASURED, lost_weight=-1.0)
    assert key_of(a_situation(FAR_S, hazards=worse), 0.3).hazards == worse


# -- reading a table ---------------------------------------------------------------------------


def test_a_page_is_the_nearest_look_and_between_two_slacks() -> None:
    costs = [look * 100 + row + slack for look in (1, 4) for row in range(ROWS) for slack in (0, 8)]
    table = Table(look_s=60.0, looks=(1, 4), slacks_s=(0.0, 400.0), costs=costs)
    assert table.page(60, 0).cost(3) == 103
    assert table.page(149, 0).cost(3) == 103  # 2.48 looks
    assert table.page(160, 0).cost(3) == 403
    assert table.page(9999, 100).cost(3) == 405
    assert table.page(0, -5).cost(0) == 100
    assert table.page(0, 500).cost(0) == 108


# -- making one --------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def built(price: float = 0.3, share_class: int = 0) -> Table:
    pytest.importorskip("numpy")
    from spotrunner.core.policy.plan_table import build

    return build(
        TableKey(
            look_s=600.0,
            changeover_s=600.0,
            horizon_s=12 * 3600.0,
            price=price,
            share_class=share_class,
            hazards=MEASURED,
        )
    )


LEFT_S = 12 * 3600.0


def test_on_demand_without_slack_costs_what_is_left() -> None:
    page = built().page(LEFT_S, 0)
    assert page.cost(STAY_ON_DEMAND) == pytest.approx(12, rel=0.01)
    assert page.cost(WAIT) > 1e5
    assert page.cost(GO_ON_DEMAND) > 1e5  # a launch takes a changeover that is not there


def test_more_slack_costs_less_and_no_work_nothing() -> None:
    costs = [built().page(LEFT_S, slack_s).cost(WAIT) for slack_s in range(1800, 43_200, 1800)]
    assert costs == sorted(costs, reverse=True)
    assert built().page(LEFT_S, 2 * LEFT_S).cost(WAIT) == 0


def test_older_runs_and_cheaper_and_fuller_markets_are_worth_more() -> None:
    def keeps(table: Table, age: int = 6) -> float:
        return table.page(LEFT_S, 7200).cost(STAY_SPOT + age)

    assert keeps(built(), 9) < keeps(built(), 6) < keeps(built(), 4)
    assert keeps(built(price=0.1)) < keeps(built(price=0.3)) < keeps(built(price=0.8))
    assert keeps(built(share_class=2)) < keeps(built()) < keeps(built(share_class=-2))


def test_spot_dearer_than_on_demand_is_not_launched() -> None:
    page = built(price=1.2).page(LEFT_S, 7200)
    assert page.cost(GO_ON_DEMAND) < page.cost(GO_SPOT + 9)


def test_a_table_decides_as_people_would() -> None:
    class Built:
        def table(self, key: TableKey) -> Table | None:
            return built()

    def decided(slack_s: float, *candidates: Candidate, on: Candidate | None = None) -> str:
        situation = a_situation(slack_s, *candidates, on=on, done_s=WORK_S / 2)
        return place_of(Planner(Built()).choose(situation))

    assert decided(7200, spot(sight=up(20_000)), BASE) == A
    assert decided(7200, HERE, BASE, on=HERE) == A
    assert decided(600, refused(), BASE) == "on-demand"
    assert decided(18_000, refused(), BASE) == "wait"
