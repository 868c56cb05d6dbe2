"""`spotrunner panic`: break glass. Goes straight to EC2, whatever has become of the daemon."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spotrunner.cli.failure import BadInput, Exit, Failure
from spotrunner.cli.options import Output, OutputOption

if TYPE_CHECKING:
    from rich.table import Table

    from spotrunner.adapters.aws.census import Sighting
    from spotrunner.app.fates import Fate, Outcome
    from spotrunner.app.panic import Panic


def panic(
    regions: Annotated[
        list[str] | None,
        typer.Option(
            "--region",
            metavar="REGION",
            help="Only this region; may be repeated. No brake is set then.",
        ),
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Terminate at once, without a checkpoint.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    installation: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only this installation's (default: everyone's)."),
    ] = None,
    endpoint_url: Annotated[
        str | None,
        typer.Option(
            envvar="AWS_ENDPOINT_URL", show_envvar=True, metavar="URL", help="Instead of AWS's own."
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Break glass: end every instance of spotrunner's in the account, without daemon or store.

    Each is told to save first and has five minutes for it; what is left is terminated. A daemon
    that still runs launches nothing afterwards until `spotrunner hold --off`.
    """
    from spotrunner.app.panic import panic as over_aws
    from spotrunner.cli.output import say
    from spotrunner.ports import PortError

    if not (yes or sys.stdin.isatty()):
        raise BadInput("nobody can be asked (stdin is no terminal): add --yes")
    case = over_aws(endpoint_url or None, say)
    try:
        alive = case.look(regions or (), installation)
    except PortError as error:
        raise Failure(str(error)) from error
    _say_found(case, alive)
    may_brake = not regions and bool(case.homes)
    if (alive or may_brake) and not (yes or _sure(alive, now)):
        say("nothing was ended")
        raise typer.Exit(int(Exit.FAILED))
    interrupted = False
    try:
        case.end(now=now, brake=not regions)
    except KeyboardInterrupt:
        interrupted = True
    outcome = case.outcome()
    if output is Output.JSON:
        _print_json(outcome, interrupted)
    else:
        _print(outcome)
    again = _again(regions or (), installation, now)
    for line in (*_warnings(outcome), *_last_words(outcome, bool(regions), interrupted, again)):
        say(line)
    if interrupted or not outcome.done:
        raise typer.Exit(int(Exit.FAILED))


# -- before ------------------------------------------------------------------------------------


def _say_found(case: Panic, alive: Sequence[Sighting]) -> None:
    """What it is about, on stderr: stdout is for what came of it."""
    from spotrunner.cli.output import say

    for region, why in case.silent.items():
        say(f"{region} is not known: {why}")
    if not alive:
        say("no instance of spotrunner's is alive" + (" elsewhere" if case.silent else ""))
        return
    _display(_found(case, alive))


def _found(case: Panic, alive: Sequence[Sighting]) -> Table:
    from spotrunner.cli import words
    from spotrunner.cli.output import table

    now = case.clock.now()
    headers = ["INSTANCE", "REGION", "TYPE", "MARKET", "STATE", "AGE", "ATTEMPT", ""]
    rows = [
        [
            sighting.instance.id,
            sighting.instance.pool.region,
            sighting.instance.pool.instance_type,
            sighting.instance.market.value,
            sighting.state,
            words.duration(max(0.0, (now - sighting.instance.launched_at).total_seconds())),
            _name(sighting),
            "" if sighting.home else "cannot be told to save",
        ]
        for sighting in alive
    ]
    return table(headers, rows, whole=headers[:2])


def _display(found: Table) -> None:
    from rich.console import Console

    from spotrunner.cli.output import PIPE_WIDTH

    width = None if sys.stderr.isatty() else PIPE_WIDTH
    Console(stderr=True, width=width, highlight=False).print(found)


def _sure(alive: Sequence[Sighting], now: bool) -> bool:
    from spotrunner.cli import words

    if not alive:
        question = "Keep daemons from launching anything?"
    else:
        how = "Terminate now, WITHOUT a checkpoint," if now else "Save and end"
        count = words.count(len(alive), "instance")
        question = f"{how} {count}, and what turns up meanwhile?"
    return typer.confirm(question, default=False, err=True)


# -- after -------------------------------------------------------------------------------------


def _print(outcome: Outcome) -> None:
    from spotrunner.cli.output import display, table

    if not outcome.fates:
        return
    headers = ["REGION", "INSTANCE", "ATTEMPT", "HOW", "CHECKPOINT", ""]
    rows = [
        [
            fate.sighting.instance.pool.region,
            fate.sighting.instance.id,
            _name(fate.sighting),
            fate.how.value,
            f"step {fate.step}" if fate.step else None,
            fate.note,
        ]
        for fate in outcome.fates
    ]
    display(table(headers, rows, whole=headers[:2]))


def _print_json(outcome: Outcome, interrupted: bool) -> None:
    from spotrunner.cli.output import print_json

    print_json(
        {
            "instances": [_fate(fate) for fate in outcome.fates],
            "spot_requests": [
                {"region": region, "spot_request": request} for region, request in outcome.cancelled
            ],
            "regions": list(outcome.regions),
            "silent": dict(outcome.silent),
            "brakes": {home: {"set": not why, "why": why} for home, why in outcome.brakes.items()},
            "troubles": list(outcome.troubles),
            "interrupted": interrupted,
            "done": outcome.done and not interrupted,
        }
    )


def _fate(fate: Fate) -> dict[str, Any]:
    instance = fate.sighting.instance
    return {
        "region": instance.pool.region,
        "instance": instance.id,
        "attempt": instance.attempt_id,
        "job": instance.job_id,
        "installation": instance.installation,
        "instance_type": instance.pool.instance_type,
        "market": instance.market.value,
        "launched_at": instance.launched_at.isoformat().replace("+00:00", "Z"),
        "how": fate.how.value,
        "checkpoint_step": fate.step,
        "note": fate.note,
    }


def _warnings(outcome: Outcome) -> list[str]:
    """What was not done, each with its reason."""
    return [
        *(f"{region}: not known what is there: {why}" for region, why in outcome.silent.items()),
        *(f"no brake in {home}: {why}" for home, why in outcome.brakes.items() if why),
        *outcome.troubles,
    ]


def _last_words(outcome: Outcome, partial: bool, interrupted: bool, again: str) -> list[str]:
    from spotrunner.app.fates import How
    from spotrunner.cli import words

    lines = []
    left = [fate for fate in outcome.fates if fate.how is How.ALIVE]
    if left:
        told = ", ".join(fate.sighting.instance.id for fate in left)
        lines.append(f"still alive: {words.count(len(left), 'instance')} ({told})")
    if interrupted and any(fate.told for fate in left):
        lines.append("those that were told to stop go on saving, and end themselves")
    if left or interrupted or not outcome.done:
        lines.append(f"go on with: {again}")
    lines.append(_brake_words(outcome, partial))
    return lines


def _brake_words(outcome: Outcome, partial: bool) -> str:
    """Whether something may be launched again."""
    held = [home for home, why in outcome.brakes.items() if not why]
    if partial:
        return "no brake was set: a daemon that runs may launch there again"
    if not held:
        return "no brake could be set: a daemon that runs may launch again, so stop it"
    which = "" if len(held) == len(outcome.brakes) else f" by the daemon of {', '.join(held)}"
    return f"nothing will be launched{which} until: spotrunner hold --off"


def _again(regions: Sequence[str], installation: str | None, now: bool) -> str:
    command = ["spotrunner", "panic", "--yes"]
    command += ["--now"] if now else []
    for region in regions:
        command += ["--region", region]
    if installation is not None:
        command += ["--installation", installation]
    return shlex.join(command)


def _name(sighting: Sighting) -> str | None:
    return sighting.instance.attempt_id or sighting.instance.job_id
