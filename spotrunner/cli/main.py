"""The program `spotrunner`: its commands, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from spotrunner.cli.cancel import cancel
from spotrunner.cli.checkpoint import checkpoint
from spotrunner.cli.daemon import daemon
from spotrunner.cli.demo.command import demo
from spotrunner.cli.explain import explain
from spotrunner.cli.failure import Failure, WrongFile
from spotrunner.cli.lab import lab
from spotrunner.cli.logs import logs
from spotrunner.cli.ls import ls
from spotrunner.cli.offers import offers
from spotrunner.cli.panic import panic
from spotrunner.cli.policy import policy
from spotrunner.cli.prices import prices
from spotrunner.cli.reconcile import reconcile
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
_JOBS: tuple[Callable[..., None], ...] = (submit, ls, show, logs, explain, checkpoint, cancel)
_PROGRAMS: tuple[Callable[..., None], ...] = (demo, daemon)
for _command in _JOBS:
    app.command(rich_help_panel="Jobs")(_command)
app.command(rich_help_panel="Market")(offers)
app.command(rich_help_panel="Money")(reconcile)
app.add_typer(prices, name="prices", rich_help_panel="Market")
app.command(rich_help_panel="Market")(simulate)
app.add_typer(policy, name="policy", rich_help_panel="Market")
for _command in _PROGRAMS:
    app.command(rich_help_panel="Programs")(_command)
app.command(rich_help_panel="Break glass")(panic)
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
