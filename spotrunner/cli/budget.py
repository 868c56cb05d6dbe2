from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spotrunner.cli.options import ApiFileOption, Output, OutputOption

_HEADERS = ("CAP OF", "IN", "USD", "SPENT", "RESERVED", "LEFT")


def budget(output: OutputOption = Output.TABLE, api_file: ApiFileOption = None) -> None:
    """Show every cap in force, what is left of it, and how the open jobs will fare.

    RESERVED is what instances that run are paid for already and may still come to: spent and
    reserved together never exceed a cap. LEFT is below zero where a cap was lowered too late.
    """
    from spotrunner.cli.api import find
    from spotrunner.cli.output import display, print_json, say, table

    answer = find(api_file).get("/v1/budget")
    if output is Output.JSON:
        print_json(answer)
        return
    if answer["caps"]:
        rows = [_cap(cap) for cap in answer["caps"]]
        display(table(_HEADERS, rows, right=_HEADERS[2:], whole=_HEADERS[:1]))
    if answer["jobs"]:
        blank = [""] if answer["caps"] else []
        headers = ("JOB", "STATE", "SPENT", "FORECAST")
        rows = [_job(job) for job in answer["jobs"]]
        display(*blank, table(headers, rows, right=("SPENT",), whole=("JOB",)))
    for line in _notes(answer):
        say(line)


def _cap(cap: dict[str, Any]) -> list[str | None]:
    from spotrunner.cli import words

    whose = {"installation": "all jobs"}.get(cap["scope"], f"{cap['scope']} {cap['name']}")
    amounts = (cap["cap_usd"], cap["accrued_usd"], cap["reserved_usd"], cap["left_usd"])
    return [whose, cap["day"] or "all", *(words.usd(amount) for amount in amounts)]


def _job(job: dict[str, Any]) -> list[str | None]:
    from spotrunner.cli import words

    cost = words.about(words.usd(job["cost_usd"]), job["estimated"])
    return [job["id"], words.state(job["state"], job["pause"]), cost, job["words"]]


def _notes(answer: dict[str, Any]) -> Iterator[str]:
    if not answer["caps"]:
        yield "no caps: set `budget` in a job file, or `budgets` in the daemon's settings"
    elif any(cap["day"] for cap in answer["caps"]):
        yield f"days are those of {answer['tz']}"
    if not answer["jobs"]:
        yield "no open jobs"
    if any(cap["left_usd"] < 0 for cap in answer["caps"]):
        yield "below zero: so much was spent or paid for before the cap was lowered; no more is"
