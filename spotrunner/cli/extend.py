from __future__ import annotations

from typing import Annotated, Any

import typer

from spotrunner.cli.jobs import JobArgument, job_path
from spotrunner.cli.options import ApiFileOption, Output, OutputOption


def extend(
    job: JobArgument,
    budget: Annotated[
        str | None,
        typer.Option(metavar="USD", help="What it may cost in all, with what it has cost already."),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Such as 12h from now, 07:00, 2026-11-22T18:00Z."),
    ] = None,
    output: OutputOption = Output.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """Give a job another budget, another deadline, or both; less than before is possible too.

    A job that its budget has paused goes on. A time of day is one of the job's zone.
    """
    from spotrunner.cli.api import find
    from spotrunner.cli.ask import options_named
    from spotrunner.cli.failure import BadInput
    from spotrunner.cli.output import print_json

    if budget is None and deadline is None:
        raise BadInput("nothing is to be changed: add --budget USD, --deadline WHEN or both")
    wanted = {"budget": budget, "deadline": deadline}
    body = {name: value for name, value in wanted.items() if value is not None}
    with options_named():
        answer = find(api_file).post(job_path(job, "extend"), body)
    if output is Output.JSON:
        print_json(answer)
    else:
        _say(answer, body)


def _say(answer: dict[str, Any], body: dict[str, str]) -> None:
    from spotrunner.cli import words
    from spotrunner.cli.output import say

    told = []
    if "budget" in body:
        told.append(f"its budget is {words.usd(answer['budget_usd'])}")
    if "deadline" in body:
        told.append(f"its deadline is {words.clock(answer['deadline_at'])} UTC")
    say(f"{answer['id']}: {', '.join(told)}; see: spotrunner show {answer['id']}")
    for it in answer["warnings"]:
        say(f"--{it['key']}: {it['message']}" + (f"; {it['hint']}" if it["hint"] else ""))
