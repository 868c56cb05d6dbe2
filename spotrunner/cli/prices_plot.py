"""The chart of `spotrunner prices --plot`: one panel a type, one line a pool, on-demand dashed."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spotrunner.cli import words
from spotrunner.cli.failure import BadInput, Failure
from spotrunner.core.catalogue import TYPES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
# More than these nobody can tell apart: the cheapest are drawn.
MOST_PANELS = 4
MOST_LINES = 10

# Okabe and Ito's colours, which the colour-blind can tell apart: one a region, lighter by zone.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_STYLES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)), (0, (9, 3)))
_INK = "#333333"
_SMALL: dict[str, Any] = {"fontsize": 8, "color": "#888888"}
_WIDTH_INCHES = 11.0
_PANEL_INCHES, _ONLY_PANEL_INCHES = 3.8, 5.4
# The height of a line of the labels at the right edge.
_LINE_INCHES = 0.18


def check(file: Path) -> None:
    """Before anything is read. Raises BadInput, Failure."""
    if file.suffix.lower() not in SUFFIXES:
        raise BadInput(f"--plot {file}: expected a name that ends with .png or .svg")
    if file.is_dir() or not file.parent.is_dir():
        what = "it is a folder" if file.is_dir() else f"there is no folder {file.parent}"
        raise BadInput(f"--plot {file}: {what}")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise BadInput(f"--plot {file}: it cannot be written")
    try:
        import matplotlib  # noqa: F401 - is it there?
    except ModuleNotFoundError as error:
        raise Failure(
            f"this needs the extra `plots` ({error.name} is not installed):"
            " pip install 'spotrunner[plots]'"
        ) from None


def draw(answer: dict[str, Any], file: Path) -> list[str]:
    """Draw the API's answer into the file; what there was no room for, in words. Raises Failure."""
    chart = _Chart.of(answer)
    if not chart.panels:
        raise Failure("there are no prices to draw yet: the daemon reads them at its first rounds")
    figure = _figure(chart)
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror or error}") from None
    return chart.left_out


# -- what is drawn -----------------------------------------------------------------------------

Run = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A pool's price: runs of (time in days, price) between which nothing is known."""

    label: str
    region: str
    runs: tuple[Run, ...]
    last: float


@dataclass(frozen=True, kw_only=True)
class _Panel:
    instance_type: str
    pools: int  # that there are, drawn or not
    lines: tuple[_Line, ...]
    on_demand: tuple[tuple[float, str], ...]  # the price, and whose
    unknown: tuple[tuple[float, float, str], ...]  # from, to, and whose prices


@dataclass(frozen=True, kw_only=True)
class _Chart:
    begin: dt.datetime
    end: dt.datetime
    panels: tuple[_Panel, ...]
    regions: tuple[str, ...]
    left_out: list[str]

    @classmethod
    def of(cls, answer: dict[str, Any]) -> _Chart:
        by_type: dict[str, list[dict[str, Any]]] = {}
        for row in answer["pools"]:
            if row["steps"]:
                by_type.setdefault(row["instance_type"], []).append(row)
        left_out = []
        for name, rows in by_type.items():
            if len(rows) > MOST_LINES:
                zones = ", ".join(row["zone"] for row in rows[MOST_LINES:])
                left_out.append(f"{name}: the {MOST_LINES} cheapest now; not drawn: {zones}")
        if len(by_type) > MOST_PANELS:
            others = ", ".join(list(by_type)[MOST_PANELS:])
            left_out.append(f"not drawn: {others}; name the types that you want with --type")
        panels = [
            _panel(name, rows, answer["unknown"])
            for name, rows in list(by_type.items())[:MOST_PANELS]
        ]
        return cls(
            begin=_instant(answer["since"]),
            end=_instant(answer["now"]),
            panels=tuple(panels),
            regions=tuple(dict.fromkeys(line.region for it in panels for line in it.lines)),
            left_out=left_out,
        )


def _panel(
    instance_type: str, rows: Sequence[dict[str, Any]], unknown: Iterable[dict[str, Any]]
) -> _Panel:
    pools, rows = len(rows), rows[:MOST_LINES]
    on_demand: dict[float, list[str]] = {}
    for row in rows:
        if row["ondemand_usd_hour"] is not None:
            of_price = on_demand.setdefault(row["ondemand_usd_hour"], [])
            if row["region"] not in of_price:
                of_price.append(row["region"])
    return _Panel(
        instance_type=instance_type,
        pools=pools,
        lines=tuple(_line(row) for row in rows),
        on_demand=tuple((price, ", ".join(sorted(of))) for price, of in on_demand.items()),
        unknown=_unknown(
            [hole for hole in unknown if hole["instance_type"] == instance_type],
            {row["region"] for row in rows},
        ),
    )


def _unknown(
    holes: Iterable[dict[str, Any]], regions: Collection[str]
) -> tuple[tuple[float, float, str], ...]:
    by_time: dict[tuple[str, str], set[str]] = {}
    for hole in holes:
        if hole["region"] in regions:
            by_time.setdefault((hole["from"], hole["to"]), set()).add(hole["region"])
    return tuple(
        (_at(begin), _at(end), "" if of == regions else ", ".join(sorted(of)))
        for (begin, end), of in by_time.items()
    )


def _line(row: dict[str, Any]) -> _Line:
    runs: list[list[tuple[float, float]]] = []
    end = None
    for begins, ends, price in row["steps"]:
        if begins != end:
            runs.append([])
        runs[-1] += [(_at(begins), price), (_at(ends), price)]
        end = ends
    return _Line(
        label=row["zone"], region=row["region"], runs=tuple(runs), last=row["price_usd_hour"]
    )


def _instant(text: str) -> dt.datetime:
    at = words.instant(text)
    assert at is not None, text
    return at


def _at(text: str) -> float:
    """In days, as the chart counts them."""
    from matplotlib.dates import date2num

    return float(date2num(_instant(text)))


# -- how it is drawn ---------------------------------------------------------------------------


def _figure(chart: _Chart) -> Figure:
    from matplotlib.figure import Figure

    each = _PANEL_INCHES if len(chart.panels) > 1 else _ONLY_PANEL_INCHES
    height = each * len(chart.panels) + 0.9
    figure = Figure(figsize=(_WIDTH_INCHES, height), facecolor="white")
    axes = figure.subplots(len(chart.panels), 1, sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(
        left=0.07, right=0.79, top=1 - 0.85 / height, bottom=0.5 / height, hspace=0.28
    )
    for ax, panel in zip(axes, chart.panels, strict=True):
        _draw_panel(ax, panel, chart)
    days = f"{chart.begin:%d %b %Y} to {chart.end:%d %b %Y}"
    figure.suptitle(
        f"Spot prices, {days} (UTC)", x=0.07, y=1 - 0.25 / height, ha="left", fontsize=14
    )
    return figure


def _draw_panel(ax: Axes, panel: _Panel, chart: _Chart) -> None:
    from matplotlib.dates import date2num

    dearest = max(price for run in panel.lines for price in _prices(run))
    top = 1.1 * max([dearest, *(price for price, _ in panel.on_demand)])
    labels = []
    for begin, end, _ in panel.unknown:
        ax.axvspan(begin, end, color="#eeeeee", linewidth=0, zorder=0)
    for number, line in enumerate(panel.lines):
        colour = _COLOURS[chart.regions.index(line.region) % len(_COLOURS)]
        before = sum(other.region == line.region for other in panel.lines[:number])
        for run in line.runs:
            ax.plot(
                [at for at, _ in run],
                [price for _, price in run],
                color=colour,
                linestyle=_STYLES[before % len(_STYLES)],
                linewidth=1.6,
                solid_joinstyle="miter",
            )
        labels.append((line.last, f"{line.label}  {line.last:.4f}", colour))
    for price, regions in panel.on_demand:
        ax.axhline(price, color=_INK, linestyle=(0, (7, 4)), linewidth=1.2)
        labels.append((price, f"on-demand  {price:.4f}\n({regions})", _INK))
    _say_unknown(ax, panel, top)
    ax.set_xlim(date2num(chart.begin), date2num(chart.end))
    ax.set_ylim(0, top)
    _dress(ax, panel)
    _label(ax, labels, top)


def _prices(line: _Line) -> Iterable[float]:
    return (price for run in line.runs for _, price in run)


def _say_unknown(ax: Axes, panel: _Panel, top: float) -> None:
    for begin, end, regions in panel.unknown:
        words_of_it = "not read" + (f":\n{regions}" if regions else "")
        ax.text((begin + end) / 2, 0.5 * top, words_of_it, ha="center", va="center", **_SMALL)


def _dress(ax: Axes, panel: _Panel) -> None:
    """Title, axes and grid."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    gpu = TYPES[panel.instance_type].gpu.name
    name = f"{panel.instance_type} ({gpu})"
    if panel.pools > len(panel.lines):
        name += f", {len(panel.lines)} of {panel.pools} pools"
    ax.set_title(name, loc="left", fontsize=11, fontweight="bold")
    ax.set_title(_conclusion(panel), loc="right", fontsize=10, color=_INK)
    ax.set_ylabel("USD an hour", color=_INK)
    locator = AutoDateLocator(tz=dt.timezone.utc, minticks=5, maxticks=10)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=dt.timezone.utc))
    ax.tick_params(labelbottom=True, colors=_INK, labelsize=9)
    ax.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _conclusion(panel: _Panel) -> str:
    cheapest = min(panel.lines, key=lambda line: line.last)
    now = f"cheapest now: {cheapest.last:.4f} in {cheapest.label}"
    if not panel.on_demand:
        return now
    saved = 1 - cheapest.last / min(price for price, _ in panel.on_demand)
    return f"{now}, {100 * saved:.0f}% below on-demand" if saved > 0 else now


def _label(ax: Axes, labels: Sequence[tuple[float, str, str]], top: float) -> None:
    """Each line's name and price now, beside its end; moved apart where they would overlap."""
    wanted = sorted(labels)
    panel_inches = ax.get_position().height * _figure_height(ax)
    heights = [_LINE_INCHES / panel_inches * (1 + text.count("\n")) for _, text, _ in wanted]
    places = _apart([price / top for price, _, _ in wanted], heights)
    for (price, text, colour), place in zip(wanted, places, strict=True):
        ax.annotate(
            text,
            xy=(1.0, price / top),
            xytext=(1.03, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            fontsize=9,
            color=colour,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "alpha": 0.6,
                "relpos": (0, 0.5),
                "shrinkB": 0,
            },
            annotation_clip=False,
        )


def _figure_height(ax: Axes) -> float:
    """In inches."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return float(figure.get_figheight())


def _apart(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Places as near to the wanted ones, which rise, as the labels' heights allow: those that would
    overlap stand together around the middle of where they would be."""
    blocks: list[tuple[float, list[int]]] = []  # the bottom, and who stands on it
    for number in range(len(wanted)):
        block = [number]
        bottom = _bottom(block, wanted, heights)
        while blocks and blocks[-1][0] + sum(heights[it] for it in blocks[-1][1]) > bottom:
            block = [*blocks.pop()[1], *block]
            bottom = _bottom(block, wanted, heights)
        blocks.append((bottom, block))
    places = []
    for bottom, block in blocks:
        for number in block:
            places.append(bottom + heights[number] / 2)
            bottom += heights[number]
    return places


def _bottom(block: Sequence[int], wanted: Sequence[float], heights: Sequence[float]) -> float:
    """Of a stack whose members are on average as high as they want to be; not below the axis."""
    below, wishes = 0.0, 0.0
    for number in block:
        wishes += wanted[number] - below - heights[number] / 2
        below += heights[number]
    return max(0.0, wishes / len(block))
