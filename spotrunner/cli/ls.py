from __future__ import annotations

from typing import Annotated, Any

import typer

from spotrunner.cli.options import ApiFileOption, Output, OutputOption


def ls(
    running: Annotated[bool, typer.Option("--open", help="Only those that are not over.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Also those beyond the newest 200.")] = False,
    output: OutputOption = Output.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """List the jobs, newest first: state, progress, cost and what was saved against on-demand."""
    from spotrunner.cli.api import find
    from spotrunner.cli.output import display, print_json, say, table

    answer = find(api_file).get("/v1/jobs", open=running, all=every)
    jobs = answer["jobs"]
    if output is Output.JSON:
        print_json(answer)
    elif not jobs:
        say("no open jobs" if running else "no jobs yet; submit one: spotrunner submit FILE")
    else:
        headers = ["JOB", "STATE", "STEP", "COST", "SAVED", "RECOVERIES", "LAST CHECKPOINT", "AGE"]
        rows = [_row(job, answer["now"]) for job in jobs]
        display(table(headers, rows, right=("COST", "SAVED", "RECOVERIES"), whole=("JOB",)))
        if len(jobs) < answer["total"]:
            others = "" if running else "; those that are not over: --open"
            say(f"the newest {len(jobs)} of {answer['total']} jobs; all of them: --all{others}")


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
