"""Commands that only ask the daemon for something: it writes the wish down, a round acts on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from spotrunner.cli.api import Refused, find
from spotrunner.cli.failure import BadInput
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


@contextlib.contextmanager
def options_named(**names: str) -> Iterator[None]:
    """What the daemon refuses, by the name of the option that it came from; `names` are of keys
    that have another."""
    try:
        yield
    except Refused as refused:
        lines = []
        for it in refused.problems:
            key = it.key.split(".")[0]
            option = f"--{names.get(key, key)}: " if key else ""
            lines.append(option + it.message + (f"; {it.hint}" if it.hint else ""))
        raise BadInput("\n".join(lines)) from None
