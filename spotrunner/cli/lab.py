"""`spotrunner lab …`: the whole spot market on this machine, to play with."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spotrunner.cli.failure import BadInput, Failure
from spotrunner.cli.options import Output, OutputOption

if TYPE_CHECKING:
    from spotrunner.lab.process import RunningLab

lab = typer.Typer(
    help="Keep a lab running: the spot market and its instances, emulated on this machine.",
    no_args_is_help=True,
)

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        envvar="SPOTRUNNER_LAB",
        show_envvar=True,
        help="The lab's folder (default: ~/.local/state/spotrunner/lab).",
    ),
]


@lab.command()
def up(
    seed: Annotated[int, typer.Option(help="Of prices, capacity and interruptions.")] = 1,
    port: Annotated[int, typer.Option(help="Of the emulated AWS; 0: any free one.")] = 0,
    reclaims: Annotated[
        bool, typer.Option("--reclaims", help="EC2 takes instances back by itself, too.")
    ] = False,
    isolated: Annotated[
        bool,
        typer.Option(
            "--isolated",
            help="Instances with networks and docker daemons of their own; needs root and docker.",
        ),
    ] = False,
    reach: Annotated[
        list[int] | None,
        typer.Option(
            "--reach",
            metavar="PORT",
            min=1,
            max=65_535,
            help="A port of 127.0.0.1 that isolated instances reach too, such as a registry's;"
            " may be repeated.",
        ),
    ] = None,
    folder: FolderOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Start a lab, which stays until `lab down`, and say how to work in it."""
    from spotrunner.cli.output import print_json, say

    if reach and not isolated:
        raise BadInput("--reach is for --isolated: other instances reach what this machine reaches")
    with _words_of_the_lab():
        from spotrunner.lab import process

        running = process.up(
            _folder(folder),
            seed=seed,
            port=port,
            reclaims=reclaims,
            isolated=isolated,
            reach=reach or (),
        )
    if output is Output.JSON:
        print_json(_facts(running))
        return
    where = "" if folder is None else f" --dir {shlex.quote(str(running.paths.folder))}"
    settings = shlex.quote(str(running.paths.settings))
    say(
        f"the lab is up at {running.url} (seed {running.seed}), in {running.paths.folder}\n"
        f'  work in it:      eval "$(spotrunner lab env{where})"\n'
        f"  start a daemon:  spotrunner daemon --config {settings}\n"
        f"  then, elsewhere: spotrunner submit FILE; spotrunner ls\n"
        f"  let time pass:   spotrunner lab skip 8h{where}\n"
        f"  end it:          spotrunner lab down{where}"
    )


@lab.command()
def down(folder: FolderOption = None, output: OutputOption = Output.TABLE) -> None:
    """End the lab and every process of its instances."""
    from spotrunner.cli.output import print_json, say

    with _words_of_the_lab():
        from spotrunner.lab import process

        ended = process.down(_folder(folder))
    if output is Output.JSON:
        print_json({"ended": ended})
    else:
        say("the lab is down" if ended else f"no lab runs in {_folder(folder)}")


@lab.command()
def status(folder: FolderOption = None, output: OutputOption = Output.TABLE) -> None:
    """The lab's time, and its instances as EC2 knows them."""
    from spotrunner.cli import words
    from spotrunner.cli.output import display, pairs, print_json, say, table

    with _words_of_the_lab():
        running = _running(folder)
        found = running.status()
    if output is Output.JSON:
        print_json({**_facts(running), **found})
        return
    display(
        pairs(
            [
                ("url", running.url),
                ("folder", str(running.paths.folder)),
                ("time", f"{words.clock(found['now'])} UTC"),
                ("ahead by", words.duration(found["offset_s"])),
                ("regions", ", ".join(found["regions"])),
            ]
        )
    )
    if not found["instances"]:
        say("no instances")
        return
    headers = ["INSTANCE", "ZONE", "TYPE", "MARKET", "STATE", "LAUNCHED", "ATTEMPT"]
    display(table(headers, [_instance(row) for row in found["instances"]], whole=headers))


@lab.command()
def interrupt(
    instance: Annotated[str, typer.Argument(metavar="INSTANCE", help="Its id: i-…")],
    no_notice: Annotated[
        bool, typer.Option("--no-notice", help="It dies now, without the two minutes.")
    ] = False,
    folder: FolderOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let EC2 take an instance back, with its two-minute notice or without."""
    from spotrunner.cli.output import print_json, say

    with _words_of_the_lab():
        _running(folder).interrupt(instance, notice=not no_notice)
    if output is Output.JSON:
        print_json({"instance": instance, "notice": not no_notice})
    else:
        say(f"{instance} is gone" if no_notice else f"{instance} goes in two minutes")


@lab.command()
def skip(
    duration: Annotated[str, typer.Argument(metavar="DURATION", help="Such as 8h, 90m, 1h30m.")],
    folder: FolderOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let time pass at once; the daemon has a round at every hop on the way."""
    from spotrunner.cli import words
    from spotrunner.cli.output import print_json, say

    ahead_s = words.seconds(duration)
    if ahead_s is None:
        raise BadInput(f"{duration} is no duration: write 8h, 90m, 45s, 1d or 1h30m")
    with _words_of_the_lab():
        skipped = _running(folder).skip(ahead_s)
    if output is Output.JSON:
        print_json(skipped)
        return
    say(f"it is now {words.clock(skipped['now'])} UTC ({skipped['hops']} hops)")
    for agent in skipped["late"]:
        say(f"  {agent} has not followed")


@lab.command()
def price(
    instance_type: Annotated[str, typer.Argument(metavar="TYPE", help="Such as g4dn.xlarge.")],
    usd: Annotated[str | None, typer.Argument(metavar="USD", help="An hour, such as 0.35.")] = None,
    usual: Annotated[
        bool, typer.Option("--usual", help="What it would have been now if nobody had set it.")
    ] = False,
    zones: Annotated[
        list[str] | None,
        typer.Option("--zone", metavar="ZONE", help="Only there; may be repeated."),
    ] = None,
    folder: FolderOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Set the spot price of a type, from now on until it is set again.

    Who runs pays it from its next hour on; the daemon reads prices every ten minutes.
    """
    from spotrunner.cli import words
    from spotrunner.cli.output import display, print_json, table

    if (usd is None) is not usual:
        raise BadInput("give either a price, such as 0.35 (USD an hour), or --usual")
    usd_hour = None if usd is None else _usd_hour(usd)
    with _words_of_the_lab():
        moved = _running(folder).price(instance_type, usd_hour, zones or ())
    if output is Output.JSON:
        print_json(moved)
        return
    prices = ("was_usd_hour", "price_usd_hour", "ondemand_usd_hour")
    rows = [[row["zone"], *(words.usd_hour(row[key]) for key in prices)] for row in moved["pools"]]
    headers = ["ZONE", "WAS", "$/H", "ON-DEMAND"]
    display(table(headers, rows, right=headers[1:], whole=headers[:1]))


@lab.command()
def env(folder: FolderOption = None, output: OutputOption = Output.TABLE) -> None:
    """Print what a shell needs to work in the lab: eval "$(spotrunner lab env)"."""
    from spotrunner.cli.output import print_json

    with _words_of_the_lab():
        from spotrunner.lab.settings import control_environment

        running = _running(folder)
    ours = {
        "SPOTRUNNER_API_FILE": str(running.paths.api_file),
        "SPOTRUNNER_LAB": str(running.paths.folder),
    }
    # AWS_ENDPOINT_URL is for the aws command: spotrunner's daemon has it in its settings.
    wanted = {**control_environment(ours), "AWS_ENDPOINT_URL": running.url}
    foreign = [name for name in os.environ if name.startswith("AWS_") and name not in wanted]
    if output is Output.JSON:
        print_json({"set": wanted, "unset": foreign})
        return
    for name in foreign:
        typer.echo(f"unset {name}")
    for name, value in wanted.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


# -- parts -------------------------------------------------------------------------------------


def _folder(given: Path | None) -> Path:
    from spotrunner.cli.api import default_api_file

    return given or default_api_file().parent / "lab"


def _running(folder: Path | None) -> RunningLab:
    from spotrunner.lab import process

    return process.find(_folder(folder))


def _usd_hour(text: str) -> float:
    from decimal import Decimal, InvalidOperation

    from spotrunner.core.amounts import usd_problem

    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise BadInput(f"{text} is no price: write USD an hour, such as 0.35") from None
    if problem := usd_problem(amount):
        raise BadInput(f"USD: {problem}")
    return float(amount)


@contextlib.contextmanager
def _words_of_the_lab() -> Iterator[None]:
    """The lab's own errors, and those of an installation without its extra, as failures."""
    try:
        from spotrunner.lab.process import LabError, WrongAsked
    except ModuleNotFoundError as error:
        raise missing_extra("lab", error) from None
    try:
        yield
    except WrongAsked as error:
        raise BadInput(str(error)) from None
    except LabError as error:
        raise Failure(str(error)) from None


def missing_extra(extra: str, error: ModuleNotFoundError) -> Failure:
    return Failure(
        f"this needs the extra `{extra}` ({error.name} is not installed):"
        f" pip install 'spotrunner[{extra}]'"
    )


def _facts(running: RunningLab) -> dict[str, Any]:
    return {
        "url": running.url,
        "folder": str(running.paths.folder),
        "seed": running.seed,
        "settings": str(running.paths.settings),
        "api_file": str(running.paths.api_file),
    }


def _instance(row: dict[str, Any]) -> list[str | None]:
    from spotrunner.cli import words

    return [
        row["id"],
        row["zone"],
        row["instance_type"],
        row["market"],
        row["state"],
        words.clock(row["launched_at"]),
        row["attempt"],
    ]
