"""The program `spotrunner`: its commands, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from spotrunner.cli.bake import bake
from spotrunner.cli.budget import budget
from spotrunner.cli.cancel import cancel
from spotrunner.cli.checkpoint import checkpoint
from spotrunner.cli.daemon import daemon
from spotrunner.cli.demo.command import demo
from spotrunner.cli.explain import explain
from spotrunner.cli.extend import extend
from spotrunner.cli.failure import Failure, WrongFile
from spotrunner.cli.hold import hold
from spotrunner.cli.lab import lab
from spotrunner.cli.logs import logs
from spotrunner.cli.ls import ls
from spotrunner.cli.notify import notify
from spotrunner.cli.offers import offers
from spotrunner.cli.panic import panic
from spotrunner.cli.pause import pause
from spotrunner.cli.policy import policy
from spotrunner.cli.prices import prices
from spotrunner.cli.reconcile import reconcile
from spotrunner.cli.report import report
from spotrunner.cli.resume import resume
from spotrunner.cli.show import show
from spotrunner.cli.simulate import simulate
from spotrunner.cli.submit import submit

app = typer.Typer(
    name="spotrunner",
    help="Trains TensorFlow models on EC2 spot GPUs: cheap, capped, and without losing work.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 the daemon is not running.",
)
_Command = Callable[..., None]
_JOBS: tuple[_Command, ...] = (
    submit,
    ls,
    show,
    logs,
    explain,
    checkpoint,
    pause,
    resume,
    extend,
    cancel,
)
_MONEY: tuple[_Command, ...] = (budget, report, reconcile)
_PROGRAMS: tuple[_Command, ...] = (demo, daemon, hold)
for _command in _JOBS:
    app.command(rich_help_panel="Jobs")(_command)
for _command in _MONEY:
    app.command(rich_help_panel="Money")(_command)
app.command(rich_help_panel="Market")(offers)
app.add_typer(prices, name="prices", rich_help_panel="Market")
app.command(rich_help_panel="Market")(simulate)
app.add_typer(policy, name="policy", rich_help_panel="Market")
for _command in _PROGRAMS:
    app.command(rich_help_panel="Programs")(_command)
app.add_typer(notify, name="notify", rich_help_panel="Programs")
app.command(rich_help_panel="Break glass")(panic)
app.add_typer(bake, name="bake", rich_help_panel="Programs")
app.add_typer(lab, name="lab", rich_help_panel="Programs")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"spotrunner {version('spotrunner')}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code: the words of a failure go to stderr."""
    try:
        app(args=arguments)
    except Failure as failure:
        prefix = "" if isinstance(failure, WrongFile) else "spotrunner: "
        sys.stderr.write(f"{prefix}{failure}\n")
        sys.exit(int(failure.code))
