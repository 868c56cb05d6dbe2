"""What the chart of prices shows, and what it says that it leaves out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from spotrunner.cli import prices_plot

SINCE, NOW = "2026-11-01T00:00:00Z", "2026-11-11T00:00:00Z"
GAP = ("2026-11-04T00:00:00Z", "2026-11-06T00:00:00Z")


def a_pool(zone: str, price: float, kind: str = "g5.xlarge", **changes: Any) -> dict[str, Any]:
    row = {
        "region": zone[:-1],
        "zone": zone,
        "instance_type": kind,
        "price_usd_hour": price,
        "ondemand_usd_hour": 1.006,
        "steps": [[SINCE, NOW, price]],
    }
    return {**row, **changes}


def an_answer(*pools: dict[str, Any], unknown: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"now": NOW, "since": SINCE, "pools": list(pools), "unknown": list(unknown)}


def drawn(answer: dict[str, Any], folder: Path) -> tuple[str, list[str]]:
    """The SVG, whose texts stand in comments, and what was left out."""
    file = folder / "chart.svg"
    left_out = prices_plot.draw(answer, file)
    return file.read_text(), left_out


def test_ten_lines_of_a_type_and_the_names_of_the_others(tmp_path: Path) -> None:
    pools = [a_pool(f"us-east-1{letter}", 0.1 + n / 100) for n, letter in enumerate("abcdefghijkl")]
    text, left_out = drawn(an_answer(*pools), tmp_path)
    assert "<!-- g5.xlarge (A10G), 10 of 12 pools -->" in text
    assert "us-east-1j" in text
    assert "us-east-1k" not in text
    assert left_out == ["g5.xlarge: the 10 cheapest now; not drawn: us-east-1k, us-east-1l"]


def test_four_types_and_the_names_of_the_others(tmp_path: Path) -> None:
    kinds = ("g4dn.xlarge", "g5.xlarge", "g6.xlarge", "g6e.xlarge", "p3.2xlarge", "p5.4xlarge")
    text, left_out = drawn(an_answer(*(a_pool("us-east-1a", 0.5, it) for it in kinds)), tmp_path)
    assert "g6e.xlarge (L40S)" in text
    assert "p3.2xlarge" not in text
    assert left_out == [
        "not drawn: p3.2xlarge, p5.4xlarge; name the types that you want with --type"
    ]


def test_what_was_not_read_is_a_gap_with_its_region(tmp_path: Path) -> None:
    broken = [[SINCE, GAP[0], 0.4], [GAP[1], NOW, 0.5]]
    east = a_pool("us-east-1a", 0.5, steps=broken)
    hole = {"region": "us-east-1", "instance_type": "g5.xlarge", "from": GAP[0], "to": GAP[1]}
    text, left_out = drawn(an_answer(east, a_pool("eu-west-1a", 0.6), unknown=(hole,)), tmp_path)
    assert left_out == []
    assert "<!-- not read: -->" in text
    alone, _ = drawn(an_answer(east, unknown=(hole,)), tmp_path)
    assert "<!-- not read -->" in alone
    (line,) = prices_plot._Chart.of(an_answer(east)).panels[0].lines
    assert [len(run) for run in line.runs] == [2, 2]


def test_a_price_that_changes_is_a_step(tmp_path: Path) -> None:
    steps = [[SINCE, GAP[0], 0.4], [GAP[0], NOW, 0.5]]
    answer = an_answer(a_pool("us-east-1a", 0.5, steps=steps))
    (line,) = prices_plot._Chart.of(answer).panels[0].lines
    ((first, second, third, fourth),) = line.runs
    assert first[1] == second[1] == 0.4
    assert third[1] == fourth[1] == 0.5
    assert second[0] == third[0]


def test_a_pool_without_on_demand_price_is_drawn_all_the_same(tmp_path: Path) -> None:
    text, _ = drawn(an_answer(a_pool("us-east-1a", 0.5, ondemand_usd_hour=None)), tmp_path)
    assert "<!-- cheapest now: 0.5000 in us-east-1a -->" in text
    assert "on-demand" not in text


@pytest.mark.parametrize(
    "wanted", [[0.5] * 10, [0.0, 0.0, 0.9], [0.1, 0.12, 0.5, 0.51, 0.9], [0.3]]
)
def test_labels_stand_apart_and_in_order(wanted: list[float]) -> None:
    heights = [0.06] * len(wanted)
    places = prices_plot._apart(wanted, heights)
    assert all(other - one >= 0.06 - 1e-9 for one, other in pairwise(places))
    assert places[0] >= 0.03 - 1e-9
    if len(wanted) == 1:
        assert places == [pytest.approx(0.3)]
