from __future__ import annotations

import dataclasses
import sys
import tempfile
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from spotrunner.cli.failure import BadInput, Exit, WrongFile
from spotrunner.cli.offers import (
    AllowLateOption,
    EnvOption,
    FileArgument,
    asked,
    late,
    narrow,
    read,
    verdict,
)
from spotrunner.cli.options import ApiFileOption, Output, OutputOption

if TYPE_CHECKING:
    from spotrunner.cli.api import Api
    from spotrunner.cli.jobfile import Submission
    from spotrunner.cli.workdir import Packed

# More of them are for `spotrunner offers`.
OFFERS_SHOWN = 12


def submit(
    file: FileArgument,
    env: EnvOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the job and show its offers; submit nothing.")
    ] = False,
    allow_late: AllowLateOption = False,
    output: OutputOption = Output.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """Check a job file, show what it can run on and for how much, and submit it."""
    from spotrunner.cli.api import find
    from spotrunner.cli.output import print_json

    sure = yes or dry_run
    submission = read(file, env)
    if not (sure or sys.stdin.isatty()):
        raise BadInput("nobody can be asked (stdin is no terminal): add -y, or --dry-run to look")
    with tempfile.TemporaryFile() as archive:
        packed = _packed(submission, archive)
        api = find(api_file)
        answer = asked(api, submission, allow_late)
        if output is Output.TABLE:
            _show(submission, packed, answer)
        job: dict[str, Any] | None = None
        if not dry_run and (sure or _proceed()):
            job = _send(api, submission, packed, archive, allow_late)
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
    api: Api, submission: Submission, packed: Packed | None, archive: IO[bytes], allow_late: bool
) -> dict[str, Any]:
    import json

    from spotrunner.cli.api import Refused

    fields, files = {"job": json.dumps(submission.fields)}, {}
    if submission.secret_values:
        fields["secrets"] = json.dumps(submission.secret_values)
    if packed is not None:
        archive.seek(0)
        fields["workdir_sha256"] = packed.sha256
        files["workdir"] = ("workdir.tar.gz", archive, "application/gzip")
    try:
        job: dict[str, Any] = api.upload(late("/v1/jobs", allow_late), fields, files)
    except Refused as error:
        raise WrongFile(str(submission.bad(error.problems))) from None
    return job


# -- words -------------------------------------------------------------------------------------


def _show(submission: Submission, packed: Packed | None, answer: dict[str, Any]) -> None:
    from spotrunner.cli.api import problems_of
    from spotrunner.cli.output import display, say

    display(narrow(answer, OFFERS_SHOWN))
    more = len(answer["offers"]) - OFFERS_SHOWN
    if more > 0:
        say(f"and {more} more: spotrunner offers {submission.file}")
    say(verdict(answer))
    chosen = next((offer for offer in answer["offers"] if offer["chosen"]), None)
    warnings = submission.lines(problems_of(answer["warnings"]))
    for line in (*_facts(packed, answer["budget_usd"], chosen), *warnings):
        say(line)


def _facts(
    packed: Packed | None, budget_usd: float | None, chosen: dict[str, Any] | None
) -> list[str]:
    """`budget_usd` is the one that it is submitted with (`on_conflict: deadline` may raise it)."""
    from spotrunner.cli import words

    facts = []
    if packed is not None:
        facts.append(
            f"workdir: {words.count(packed.files, 'file')}, {words.size(packed.bytes)} to upload"
        )
    if budget_usd is None:
        facts.append("budget: none, so it may run until it is done (`budget: 5.00` caps it)")
    elif chosen:
        usd_hour = chosen["price_usd_hour"] + chosen["extras_usd_hour"]
        lasts = words.duration(3600 * budget_usd / usd_hour)
        facts.append(
            f"budget: {words.usd(budget_usd)}, which is {lasts} at this price, its disk and its"
            " address included"
        )
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
