"""How commands name a job to the API."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="The job's id, or its name where one job has it.")
]
JobsArgument = Annotated[
    list[str],
    typer.Argument(metavar="JOB...", help="Ids, or names where one job has it."),
]


def job_path(word: str, call: str = "") -> str:
    """The path of a call of one job; the daemon finds which one `word` means."""
    return f"/v1/jobs/{quote(word, safe='')}" + (f"/{call}" if call else "")
