"""Commands that only ask the daemon for something: it writes the wish down, a round acts on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spotrunner.cli.api import find
from spotrunner.cli.jobs import job_path
from spotrunner.cli.options import Output
from spotrunner.cli.output import print_json, say


def ask(
    verb: str, words: Sequence[str], promise: str, output: Output, api_file: Path | None
) -> None:
    """Every name is looked up before anything is asked, so that a typing error changes nothing."""
    api = find(api_file)
    ids = [api.get(job_path(word))["job"]["id"] for word in words]
    answers = []
    for job_id in dict.fromkeys(ids):
        answers.append(api.post(job_path(job_id, verb)))
        if output is Output.TABLE:
            say(promise.format(id=job_id))
    if output is Output.JSON:
        print_json({"asked": answers})
