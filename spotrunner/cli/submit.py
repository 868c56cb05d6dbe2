from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from spotrunner.cli.failure import BadInput, Exit, WrongFile
from spotrunner.cli.options import ApiFileOption, Output, OutputOption

if TYPE_CHECKING:
    from spotrunner.cli.api import Api
    from spotrunner.cli.jobfile import Submission
    from spotrunner.cli.workdir import Packed

# The daemon asks EC2 for the prices when nobody did for a while.
OFFERS_S = 120


def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The job file (YAML).")],
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env", "-e", metavar="NAME=VALUE", help="A value of envs; NAME alone: your shell's."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the job and show its offers; submit nothing.")
    ] = False,
    output: OutputOption = Output.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """Check a job file, show what it can run on and for how much, and submit it."""
    from spotrunner.cli.jobfile import given_envs, read_job
    from spotrunner.core.located import BadFile

    sure = yes or dry_run
    try:
        submission = read_job(file, given_envs(env or []))
    except BadFile as error:
        raise WrongFile(str(error)) from None
    if not (sure or sys.stdin.isatty()):
        raise BadInput("nobody can be asked (stdin is no terminal): add -y, or --dry-run to look")
    with tempfile.TemporaryFile() as archive:
        packed = _packed(submission, archive)
        _submit(submission, packed, archive, sure, dry_run, output, api_file)


def _submit(
    submission: Submission,
    packed: Packed | None,
    archive: IO[bytes],
    sure: bool,
    dry_run: bool,
    output: Output,
    api_file: Path | None,
) -> None:
    from spotrunner.cli.api import Refused, find
    from spotrunner.cli.output import print_json

    api = find(api_file)
    job: dict[str, Any] | None = None
    try:
        answer = api.post("/v1/offers", submission.fields, timeout_s=OFFERS_S)
        if output is Output.TABLE:
            _show(submission, packed, answer)
        if not dry_run and (sure or _proceed()):
            job = _send(api, submission, packed, archive)
    except Refused as error:
        raise WrongFile(str(submission.bad(error.problems))) from None
    if output is Output.JSON:
        workdir = dataclasses.asdict(packed) if packed else None
        told = {key: answer[key] for key in ("offers", "warnings")}
        print_json({"job": job, **told, "workdir": workdir})
    else:
        _say_what_next(job)
    if job is None and not dry_run:
        raise typer.Exit(int(Exit.FAILED))


def _packed(submission: Submission, archive: IO[bytes]) -> Packed | None:
    from spotrunner.cli.output import say
    from spotrunner.cli.workdir import Unpackable, pack

    if submission.workdir is None:
        return None
    if submission.workdir.left_out:
        say(f"left out of the workdir, being no files: {', '.join(submission.workdir.left_out)}")
    try:
        return pack(submission.workdir, archive)
    except Unpackable as error:
        raise BadInput(str(error)) from None


def _proceed() -> bool:
    return typer.confirm("Proceed?", default=True, err=True)


def _send(
    api: Api, submission: Submission, packed: Packed | None, archive: IO[bytes]
) -> dict[str, Any]:
    import json

    fields, files = {"job": json.dumps(submission.fields)}, {}
    if packed is not None:
        archive.seek(0)
        fields["workdir_sha256"] = packed.sha256
        files["workdir"] = ("workdir.tar.gz", archive, "application/gzip")
    job: dict[str, Any] = api.upload("/v1/jobs", fields, files)
    return job


# -- words -------------------------------------------------------------------------------------


def _show(submission: Submission, packed: Packed | None, answer: dict[str, Any]) -> None:
    from spotrunner.cli.api import problems_of
    from spotrunner.cli.output import display, say, table

    offers: list[dict[str, Any]] = answer["offers"]
    headers = ["", "REGION", "ZONE", "TYPE", "MARKET", "$/H", "ON-DEMAND", "SAVED", "LEFT OUT"]
    if not any(offer["left_out"] for offer in offers):
        headers.remove("LEFT OUT")
    rows = [_row(offer)[: len(headers)] for offer in offers]
    numbers, names = ("$/H", "ON-DEMAND", "SAVED"), ("REGION", "ZONE", "TYPE")
    display(table(headers, rows, right=numbers, whole=names))
    chosen = next((offer for offer in offers if offer["chosen"]), None)
    say(f"-> {answer['why']}" if chosen else f"{answer['why']}: the job will wait")
    warnings = submission.lines(problems_of(answer["warnings"]))
    for line in (*_facts(submission, packed, chosen), *warnings):
        say(line)


def _row(offer: dict[str, Any]) -> list[str | None]:
    from spotrunner.cli import words

    price, dear = offer["price_usd_hour"], offer["ondemand_usd_hour"]
    saved = 1 - price / dear if price is not None and dear else None
    return [
        "->" if offer["chosen"] else "",
        offer["region"],
        offer["zone"],
        offer["instance_type"],
        offer["market"],
        words.usd_hour(price),
        words.usd_hour(dear),
        words.percent(saved),
        offer["left_out"] or "",
    ]


def _facts(
    submission: Submission, packed: Packed | None, chosen: dict[str, Any] | None
) -> list[str]:
    from spotrunner.cli import words

    facts = []
    if packed is not None:
        facts.append(
            f"workdir: {words.count(packed.files, 'file')}, {words.size(packed.bytes)} to upload"
        )
    budget = submission.job.budget
    if budget is None:
        facts.append("budget: none, so it may run until it is done (`budget: 5.00` caps it)")
    elif chosen:
        lasts = words.duration(3600 * float(budget) / chosen["price_usd_hour"])
        facts.append(f"budget: {words.usd(float(budget))}, which is {lasts} at this price")
    return facts


def _say_what_next(job: dict[str, Any] | None) -> None:
    from spotrunner.cli.output import say

    if job is None:
        say("nothing was submitted")
        return
    say(
        f"submitted {job['id']}\n"
        f"  follow it:   spotrunner logs -f {job['id']}\n"
        f"  look at it:  spotrunner show {job['id']}\n"
        f"  its story:   spotrunner explain {job['id']}\n"
        f"  stop it:     spotrunner cancel {job['id']}"
    )
