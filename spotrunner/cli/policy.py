"""`spotrunner policy …`: what policies know of EC2."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from spotrunner.cli.options import ApiFileOption, Output, OutputOption

policy = typer.Typer(help="What the policies know of EC2.", no_args_is_help=True)

_WHAT = {"lost": "RUNS LOST AT AGE", "regained": "OUTAGES OVER AT AGE"}


@policy.callback()
def _policy() -> None:
    """A group, though it has one command so far."""


@policy.command()
def fit(
    reset: Annotated[
        bool, typer.Option("--reset", help="Back to what was measured on published traces.")
    ] = False,
    output: OutputOption = Output.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """Fit how long spot capacity lasts, and stays away, to your own launches so far.

    Policies weigh pools with these rates from the next round on. Few launches say little: each rate
    is drawn to what was measured on published traces. Repeat it now and then.
    """
    from spotrunner.cli.api import find
    from spotrunner.cli.output import display, print_json, say, table

    answer = find(api_file).post("/v1/policy/fit", {"reset": reset})
    if output is Output.JSON:
        print_json(answer)
    elif reset:
        say("the policies weigh with the measured rates again")
    elif not answer["changed"]:
        say("nothing was seen yet: no spot launch, no refusal; nothing was changed")
    else:
        headers = ["", "HOURS SEEN", "EVENTS", "AN HOUR BEFORE", "AN HOUR NOW"]
        for what, title in _WHAT.items():
            rows = [_row(each) for each in answer["evidence"] if each["what"] == what]
            display(table([title, *headers[1:]], rows, right=headers[1:]))
        say("the policies weigh with these rates from the next round on")


def _row(each: dict[str, Any]) -> list[str | None]:
    from spotrunner.cli import words

    begin, end = words.duration(each["from_s"]), words.duration(each["to_s"])
    return [
        f"{begin} to {end}" if end else f"{begin} and more",
        f"{each['hours']:.1f}",
        str(each["events"]),
        f"{each['old_an_hour']:.3f}",
        f"{each['new_an_hour']:.3f}",
    ]
