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
        owners = len({job["owner"] for job in jobs}) > 1
        headers = ["JOB", *(["OWNER"] if owners else []), *_HEADERS]
        rows = [_row(job, answer["now"], owners) for job in jobs]
        display(table(headers, rows, right=("COST", "SAVED", "RECOVERIES"), whole=("JOB",)))
        if len(jobs) < answer["total"]:
            others = "" if running else "; those that are not over: --open"
            say(f"the newest {len(jobs)} of {answer['total']} jobs; all of them: --all{others}")


_HEADERS = ("STATE", "STEP", "COST", "SAVED", "RECOVERIES", "LAST CHECKPOINT", "AGE")


def _row(job: dict[str, Any], now: str, owners: bool) -> list[str | None]:
    """With whose it is, where there are several `owners`."""
    from spotrunner.cli import words

    return [
        job["id"],
        *([job["owner"] or None] if owners else []),
        words.state(job["state"], job["pause"] or job["phase"]),
        words.progress(job["step"], job["total_steps"]),
        words.about(words.usd(job["cost_usd"]), job["estimated"]),
        words.percent(job["saved_fraction"]),
        str(job["recoveries"]),
        words.checkpoint(job["committed_step"], job["committed_at"], now),
        words.since(job["submitted_at"], now),
    ]
