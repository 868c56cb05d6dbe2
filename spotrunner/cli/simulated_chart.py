"""The chart of a back-test: what each policy cost, and when it was done, run by run."""

from __future__ import annotations

import importlib.util
import random
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spotrunner.cli import words
from spotrunner.sim.backtest import (
    BackTest,
    conclusion,
    on_demand_usd_micros,
    perfect,
    quantile,
    summary,
)

ENDINGS = (".png", ".svg")
_MICROS = 1_000_000
_TITLE_WIDTH = 92
_INK, _PALE = "#1f2933", "#7b8794"
_COLOURS = ("#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e", "#c2255c", "#495057")


def problem(plot: Path) -> str | None:
    """Why nothing can be drawn into this file; None if it can."""
    if plot.suffix.lower() not in ENDINGS:
        return f"--plot {plot}: expected a file that ends with {' or '.join(ENDINGS)}"
    if plot.is_dir():
        return f"--plot {plot} is a folder: name a file in it, such as {plot / 'chart.png'}"
    if not plot.absolute().parent.is_dir():
        return f"--plot {plot}: there is no folder {plot.absolute().parent}"
    if importlib.util.find_spec("matplotlib") is None:
        return "--plot needs matplotlib: pip install 'spotrunner[plots]'"
    return None


def draw(test: BackTest, plot: Path) -> None:
    """Raises OSError where the file cannot be written."""
    from matplotlib.figure import Figure

    names = test.setting.names
    figure = Figure(figsize=(10, 2.5 + 0.58 * len(names)), layout="constrained")
    costs, ends = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    figure.suptitle(_title(test), x=0.01, ha="left", fontsize=11.5, color=_INK, weight="bold")
    _draw_costs(costs, test)
    _draw_ends(ends, test)
    for axes in (costs, ends):
        axes.set_yticks(range(len(names)), [_label(test, name) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.85)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0, labelsize=9)
        axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
        axes.set_axisbelow(True)
    figure.supxlabel(_footnote(test), x=0.01, ha="left", fontsize=8, color=_PALE)
    figure.savefig(plot, dpi=130, facecolor="white")


def _title(test: BackTest) -> str:
    found = conclusion(test, test.setting.names[0])
    return f"{test.setting.spec.name}\n{textwrap.fill(found, _TITLE_WIDTH)}"


def _label(test: BackTest, name: str) -> str:
    found = summary(test, name)
    told = f"{words.usd(found.cost_usd_micros.mean / _MICROS)} on average"
    late = f", {found.missed} of {found.runs} late" if found.missed else ""
    return f"{name}\n{told}{late}"


def _footnote(test: BackTest) -> str:
    history = test.setting.history
    return (
        f"{words.count(len(test.outcomes), 'run')} between {history.start:%Y-%m-%d} and"
        f" {history.end:%Y-%m-%d}, a dot each; the box holds the middle half, its bar is the"
        f" median.\n{history.provenance[0].upper()}{history.provenance[1:]}."
    )


def _draw_costs(axes: Any, test: BackTest) -> None:
    names = test.setting.names
    for row, name in enumerate(names):
        _draw_row(axes, row, [it.cost_usd_micros / _MICROS for it in test.of(name)])
    dear = on_demand_usd_micros(test.setting) / _MICROS
    _draw_line(axes, dear, f"on-demand\n{words.usd(dear)}", "#c92a2a")
    foresight = perfect(test, free_hours=False)
    if foresight is not None:
        least = foresight.mean / _MICROS
        _draw_line(axes, least, f"perfect foresight,\nno free hours {words.usd(least)}", "#2b8a3e")
    most = max([dear, *(it.cost_usd_micros / _MICROS for name in names for it in test.of(name))])
    axes.set_xlim(0, most * 1.2)
    axes.set_title("cost of a run", loc="left", fontsize=10, color=_INK)
    axes.set_xlabel("USD")


def _draw_ends(axes: Any, test: BackTest) -> None:
    names, deadline_s = test.setting.names, test.setting.deadline_s
    ends = [[it.finish_s for it in test.of(name)] for name in names]
    latest_s = max([deadline_s or 0.0, *(end for row in ends for end in row if end is not None)])
    unit_s, unit = (86_400, "days") if latest_s > 4 * 86_400 else (3600, "hours")
    for row, found in enumerate(ends):
        _draw_row(axes, row, [end / unit_s for end in found if end is not None])
    if deadline_s is not None:
        _draw_line(axes, deadline_s / unit_s, f"deadline\n{words.duration(deadline_s)}", "#c92a2a")
    axes.set_xlim(0, max(latest_s, 1.0) / unit_s * 1.15)
    axes.set_title("time until it was done", loc="left", fontsize=10, color=_INK)
    axes.set_xlabel(unit)


def _draw_row(axes: Any, row: int, values: Sequence[float]) -> None:
    """All runs as dots, and a box of the middle half."""
    if not values:
        axes.text(0.02, row, "no run ended", transform=axes.get_yaxis_transform(), color=_PALE)
        return
    colour = _COLOURS[row % len(_COLOURS)]
    dice = random.Random(row)
    heights = [row + dice.uniform(-0.24, 0.24) for _ in values]
    axes.scatter(values, heights, s=9, color=colour, alpha=0.35, linewidths=0)
    ordered = sorted(values)
    least, low, middle, high, most = (quantile(ordered, it) for it in (0, 0.25, 0.5, 0.75, 1))
    axes.plot([least, most], [row, row], color=colour, linewidth=1)
    axes.barh(row, high - low, left=low, height=0.5, color="white", edgecolor=colour, alpha=0.75)
    axes.plot([middle, middle], [row - 0.25, row + 0.25], color=colour, linewidth=3)


def _draw_line(axes: Any, at: float, label: str, colour: str) -> None:
    axes.axvline(at, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate(
        label,
        (at, -0.82),
        xytext=(4, 0),
        textcoords="offset points",
        va="top",
        ha="left",
        fontsize=8,
        color=colour,
        annotation_clip=False,
    )
