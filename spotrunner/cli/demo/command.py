from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from spotrunner.cli.failure import Failure
from spotrunner.cli.options import Output, OutputOption


def demo(
    seed: Annotated[int, typer.Option(help="Of the lab's market, and of the training.")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the facts there.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the lab's files there, logs and consoles included."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Train a real model through two interruptions, in a lab on this machine: no AWS account."""
    try:
        found, wrong = _play(seed, keep)
    except ModuleNotFoundError as error:
        raise Failure(f"{error}; install the extras: pip install 'spotrunner[lab,train]'") from None
    except KeyboardInterrupt:
        raise Failure("stopped; nothing is left running") from None
    _print(found, output, json_file)
    if wrong:
        raise Failure("the demo failed: " + "; ".join(wrong))


def _print(found: dict[str, Any], output: Output, json_file: Path | None) -> None:
    import json

    from spotrunner.cli.demo.summary import summary
    from spotrunner.cli.output import print_json

    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=2) + "\n")
    if output is Output.JSON:
        print_json(found)
    else:
        summary(found)


def _play(seed: int, keep: Path | None) -> tuple[dict[str, Any], list[str]]:
    from spotrunner.cli.demo.facts import facts, problems
    from spotrunner.cli.demo.play import Play
    from spotrunner.cli.demo.screen import Screen
    from spotrunner.cli.demo.stage import stage
    from spotrunner.cli.demo.stops import stops

    began = time.monotonic()
    with stops(), Screen() as screen, stage(seed, keep, screen.say) as here:
        play = Play(here, screen, seed)
        play.phases_s["lab, data, daemon"] = time.monotonic() - began
        told = play.perform()
    found = facts(told)
    noticed = [one.attempt for one in told.interruptions if one.notice]
    return found, problems(found, noticed)
