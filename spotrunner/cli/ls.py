from __future__ import annotations

from typing import Annotated, Any

import typer

from spotrunner.cli.options import ApiFileOption, Output, OutputOption


def ls(
    running: Annotated[bool, typer.Option("--open", help="Only those that are not over.")] = False,
    output: OutputOption = Output.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """List the jobs: state, progress, cost and what was saved against on-demand."""
    from spotrunner.cli.api import find
    from spotrunner.cli.output import display, print_json, say, table

    answer = find(api_file).get("/v1/jobs")
    jobs = [job for job in answer["jobs"] if not (running and job["over"])]
    if output is Output.JSON:
        print_json({**answer, "jobs": jobs})
    elif not jobs:
        say("no open jobs" if running else "no jobs yet; submit one: spotrunner submit FILE")
    else:
        headers = ["JOB", "STATE", "STEP", "COST", "SAVED", "RECOVERIES", "LAST CHECKPOINT", "AGE"]
        rows = [_row(job, answer["now"]) for job in jobs]
        display(table(headers, rows, right=("COST", "SAVED", "RECOVERIES"), whole=("JOB",)))


def _row(job: dict[str, Any], now: str) -> list[str | None]:
    from spotrunner.cli import words

    return [
        job["id"],
        words.state(job["state"], job["pause"] or job["phase"]),
        words.progress(job["step"], job["total_steps"]),
        words.usd(job["cost_usd"]),
        words.percent(job["saved_fraction"]),
        str(job["recoveries"]),
        words.checkpoint(job["committed_step"], job["committed_at"], now),
        words.since(job["submitted_at"], now),
    ]
