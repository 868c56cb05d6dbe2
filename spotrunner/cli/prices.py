"""`spotrunner prices …`: what the pools cost now, and have cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from spotrunner.cli.options import ApiFileOption, Output, OutputOption

prices = typer.Typer(
    help="What spot and on-demand cost now, and how that changed.", invoke_without_command=True
)

TypeOption = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="TYPE", help="Only this instance type; may be repeated."),
]
RegionOption = Annotated[
    list[str] | None,
    typer.Option("--region", metavar="REGION", help="Only this region; may be repeated."),
]

# How long the daemon works on `sync`, and a little.
SYNC_S = 260


@prices.callback()
def table(
    context: typer.Context,
    types: TypeOption = None,
    regions: RegionOption = None,
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="Such as 30d, 12h, 2026-10-01 (UTC).")
    ] = "30d",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw them too, into a .png or .svg."),
    ] = None,
    output: OutputOption = Output.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """What every pool costs now, and cost since then: the lowest, mean and highest price.

    The mean counts every price for as long as it held. CHANGE is from the beginning of that time to
    now, SAVED is against on-demand.
    """
    if context.invoked_subcommand is not None:
        return
    from spotrunner.cli.api import find
    from spotrunner.cli.output import print_json

    if plot is not None:
        from spotrunner.cli import prices_plot

        prices_plot.check(plot)
    query = {"type": types or [], "region": regions or [], "since": since}
    with _words_of_options():
        answer = find(api_file).get("/v1/prices", **query, steps=plot is not None)
    if plot is not None:
        _say_drawn(prices_plot.draw(answer, plot), plot)
    if output is Output.JSON:
        print_json(answer)
        return
    _print(answer)


@prices.command()
def sync(
    days: Annotated[int, typer.Option(help="How far back, 1 to 90: EC2 remembers no more.")] = 90,
    types: TypeOption = None,
    regions: RegionOption = None,
    output: OutputOption = Output.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """Read the prices of the last days now, whatever is known of them."""
    from spotrunner.cli.api import find
    from spotrunner.cli.failure import BadInput, Failure
    from spotrunner.cli.output import display, print_json, table

    if not 1 <= days <= 90:
        raise BadInput(f"--days {days}: expected 1 to 90, since EC2 remembers prices for 90 days")
    body = {"days": days, "types": types or [], "regions": regions or []}
    with _words_of_options():
        answer = find(api_file).post("/v1/prices/sync", body, timeout_s=SYNC_S)
    if output is Output.JSON:
        print_json(answer)
    else:
        rows = [_synced(name, told) for name, told in answer["regions"].items()]
        headers = ["REGION", "ROWS NEW", "ROWS KNOWN", "TROUBLE"]
        display(table(headers, rows, right=headers[1:3], whole=headers[:1]))
    silent = [name for name, told in answer["regions"].items() if told and told["trouble"]]
    if silent and len(silent) == len(answer["regions"]):
        raise Failure("no region's prices could be read in full; the daemon goes on trying")


def _synced(region: str, told: dict[str, Any] | None) -> list[str | None]:
    if told is None:
        return [region, None, None, "still reading: it goes on by itself"]
    known = told["rows"] - told["new_rows"]
    return [region, str(told["new_rows"]), str(known), told["trouble"] or None]


@contextlib.contextmanager
def _words_of_options() -> Iterator[None]:
    """What the daemon refuses of a query, by the name of the option that it came from."""
    from spotrunner.cli.api import Refused
    from spotrunner.cli.failure import BadInput

    try:
        yield
    except Refused as refused:
        lines = (f"--{it.key.split('.')[0]}: {it.message}" for it in refused.problems)
        raise BadInput("\n".join(lines)) from None


# -- what is printed ---------------------------------------------------------------------------

_HEADERS = (
    "ZONE",
    "TYPE",
    "NOW",
    "CHANGE",
    "MIN",
    "MEAN",
    "MAX",
    "ON-DEMAND",
    "SAVED",
    "",
)


def _print(answer: dict[str, Any]) -> None:
    from spotrunner.cli.output import display, say, table

    if answer["pools"]:
        rows = [_row(row) for row in answer["pools"]]
        display(table(_HEADERS, rows, right=_HEADERS[2:9], whole=_HEADERS[:2]))
    for line in _notes(answer):
        say(line)


def _row(row: dict[str, Any]) -> list[str | None]:
    from spotrunner.cli import words

    return [
        row["zone"],
        row["instance_type"],
        words.usd_hour(row["price_usd_hour"]),
        _signed(row["change_fraction"]),
        words.usd_hour(row["min_usd_hour"]),
        words.usd_hour(row["mean_usd_hour"]),
        words.usd_hour(row["max_usd_hour"]),
        words.usd_hour(row["ondemand_usd_hour"]),
        words.percent(row["saved_fraction"]),
        "no longer offered" if row["offered"] is False else "",
    ]


def _signed(fraction: float | None) -> str | None:
    if fraction is None:
        return None
    percent = round(100 * fraction)
    return f"{percent:+d}%" if percent else "0%"


def _notes(answer: dict[str, Any]) -> list[str]:
    """How old the prices are, what is missing, and why."""
    from spotrunner.cli import words

    notes = []
    if not answer["pools"]:
        notes.append("no prices yet: the daemon reads them at its first rounds")
    else:
        notes.append(f"USD an hour, since {words.clock(answer['since'])} UTC")
    for name, region in answer["regions"].items():
        age = words.since(region["read_at"], answer["now"])
        told = f"{name}: read {age} ago" if age else f"{name}: not all of it was read yet"
        notes.append(told + (f"; {region['trouble']}" if region["trouble"] else ""))
    notes += [
        f"{hole['region']} {hole['instance_type']}: nothing is known from"
        f" {words.clock(hole['from'])} to {words.clock(hole['to'])} UTC"
        for hole in answer["unknown"]
    ]
    return notes


def _say_drawn(left_out: list[str], plot: Path) -> None:
    from spotrunner.cli.output import say

    say(f"drawn into {plot}")
    for line in left_out:
        say(f"  {line}")
