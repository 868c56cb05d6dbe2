"""Printing: data to stdout, words to stderr; colours and widths only where a terminal is."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

# Nothing is cut where no terminal sets a width: a file or a pipe takes whole lines.
PIPE_WIDTH = 10_000


def console() -> Console:
    """Of stdout: colours and the width are the terminal's, and none where there is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def display(*parts: RenderableType) -> None:
    """To stdout: folded at the terminal's width, or whole lines where there is none."""
    out = console()
    if out.is_terminal:
        out.print(*parts, sep="\n")
        return
    with out.capture() as captured:
        out.print(*parts, sep="\n")
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def print_json(value: Any) -> None:
    """One JSON value, for programs."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def say(words: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(words + "\n")


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str | None]],
    right: Collection[str] = (),
    whole: Collection[str] = (),
) -> Table:
    """Plain columns, two spaces apart. Headers in `right` are of numbers, which go to the right;
    those in `whole` are of names that people copy, which no terminal is too narrow for; a cell
    that is None is a dash."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        grid.add_column(
            header,
            justify="right" if header in right else "left",
            overflow="fold",
            no_wrap=header in whole or header in right or not sys.stdout.isatty(),
        )
    for row in rows:
        grid.add_row(*(Text("-" if cell is None else cell) for cell in row))
    return grid


def pairs(rows: Iterable[tuple[str, str | None]]) -> Table:
    """`name  value` lines without a header; those without a value are left out."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold", no_wrap=not sys.stdout.isatty())
    for name, value in rows:
        if value:
            grid.add_row(name, Text(value))
    return grid
