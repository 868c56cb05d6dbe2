from __future__ import annotations

from typing import Any

from spotrunner.cli.jobs import JobArgument, job_path
from spotrunner.cli.options import ApiFileOption, Output, OutputOption

# Facts whose keys say too little by themselves.
_NAMES = {"replaces": "takes over from"}


def explain(
    job: JobArgument, output: OutputOption = Output.TABLE, api_file: ApiFileOption = None
) -> None:
    """Tell the story of a job: every decision, when it was made and why."""
    from spotrunner.cli.api import find
    from spotrunner.cli.output import display, print_json, say, table

    api = find(api_file)
    events: list[dict[str, Any]] = []
    after, more = 0, True
    while more:
        page = api.get(job_path(job, "events"), after=after)
        events += page["events"]
        after, more = page["after"], page["more"]
    if output is Output.JSON:
        print_json({"events": events, "over": page["over"]})
        return
    headers = ["TIME (UTC)", "WHO", "WHAT", "WHY"]
    display(table(headers, [_row(event) for event in events], whole=headers[:3]))
    if not page["over"]:
        say("it is not over yet")


def _row(event: dict[str, Any]) -> list[str | None]:
    from spotrunner.cli import words

    return [words.clock(event["at"]), event["subject"], event["kind"], _why(event)]


def _why(event: dict[str, Any]) -> str:
    """The reason, and of the facts beside it those that it does not name itself."""
    why = told = str(event["why"])
    facts = []
    for key, value in event["data"].items():
        if value is not None and str(value) not in told:
            facts.append(f"{_NAMES.get(key, key)} {value}")
            told += f" {value}"
    return why + (f" ({', '.join(facts)})" if facts else "")
