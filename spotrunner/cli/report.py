from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from spotrunner.cli.options import ApiFileOption, Format, FormatOption
from spotrunner.web.by import By

# What a line of the CSV has beside its key.
_COLUMNS = (
    "attempts",
    "hours",
    "cost_usd",
    "instance_usd",
    "extras_usd",
    "transfer_usd",
    "ondemand_usd",
    "saved_fraction",
    "estimated",
)


def report(
    since: Annotated[
        str,
        typer.Option(metavar="DAY", help="From this day on, such as 2026-11-01, or 7d ago."),
    ] = "7d",
    by: Annotated[By, typer.Option(help="What the lines are summed by.")] = By.JOB,
    output: FormatOption = Format.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """Show what was spent since then, on what, and what it would have been on demand.

    COST is the instances with their DISKS (root disks and public addresses) and what is MOVED
    between regions. What runs counts as far as it has come.
    """
    from spotrunner.cli.api import find
    from spotrunner.cli.ask import options_named
    from spotrunner.cli.output import print_json

    with options_named():
        answer = find(api_file).get("/v1/report", since=since, by=by.value)
    if output is Format.JSON:
        print_json(answer)
    elif output is Format.CSV:
        _write_csv(answer)
    else:
        _print(answer)


# -- what is printed ---------------------------------------------------------------------------

_HEADERS = ("ATTEMPTS", "HOURS", "COST", "DISKS", "MOVED", "ON-DEMAND", "SAVED")


def _print(answer: dict[str, Any]) -> None:
    from spotrunner.cli.output import display, say, table

    if answer["rows"]:
        headers = (answer["by"].upper(), *_HEADERS)
        rows = [_row(row, row["key"] or "-") for row in answer["rows"]]
        total = _row(answer["total"], "in all")
        display(table(headers, [*rows, total], right=_HEADERS, whole=headers[:1]))
    for line in _notes(answer):
        say(line)


def _row(row: dict[str, Any], key: str) -> list[str | None]:
    from spotrunner.cli import words

    return [
        key,
        str(row["attempts"]),
        f"{row['hours']:.1f}",
        words.about(words.usd(row["cost_usd"]), row["estimated"]),
        words.usd(row["extras_usd"]),
        words.usd(row["transfer_usd"]),
        words.usd(row["ondemand_usd"]),
        words.percent(row["saved_fraction"]),
    ]


def _notes(answer: dict[str, Any]) -> Iterator[str]:
    what = "since" if answer["rows"] else "nothing was spent since"
    yield f"{what} {answer['since']} in {answer['tz']}"
    if answer["total"]["estimated"]:
        yield "~ in part estimated, at the dearer case: how an instance ended is not known"


def _write_csv(answer: dict[str, Any]) -> None:
    """One line a key, without their sum; amounts in USD with six decimals."""
    import csv
    import sys

    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow([answer["by"], *_COLUMNS])
    for row in answer["rows"]:
        out.writerow([row["key"], *(_cell(name, row[name]) for name in _COLUMNS)])


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6f}" if isinstance(value, float) else str(value)
