from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spotrunner.cli.failure import Failure, NoDaemon
from spotrunner.cli.jobs import JobArgument, job_path
from spotrunner.cli.options import ApiFileOption, Output, OutputOption

if TYPE_CHECKING:
    from spotrunner.cli.api import Api

POLL_S = 1.0
# A daemon that is started anew is back within this; the job goes on without it meanwhile.
PATIENCE_S = 60.0


def logs(
    job: JobArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job is over (or Ctrl-C).")
    ] = False,
    attempt: Annotated[
        str, typer.Option("--attempt", "-a", help="Only this attempt: its number or id.")
    ] = "",
    output: OutputOption = Output.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """Print what the trainer wrote, attempt by attempt. With -o json: one JSON object a line."""
    from spotrunner.cli.output import say

    source = _Source(api_file, job, attempt, follow)
    printer = _Printer(output)
    try:
        while not source.over:
            page = source.next()
            printer.page(page["chunks"])
            if not (page["more"] or follow):
                break
    except KeyboardInterrupt:
        return
    if not printer.printed:
        say("it has written nothing" + ("" if source.over else " yet; wait for it: add -f"))


class _Source:
    """The pages of a job's log, from the first on."""

    def __init__(self, api_file: Path | None, job: str, attempt: str, follow: bool) -> None:
        from spotrunner.cli.api import find

        self._api_file = api_file
        self._api: Api = find(api_file)
        self._path = job_path(job, "logs")
        self._query = {"attempt": attempt, "watch": int(follow)}
        self._follow = follow
        self._after = ""
        self._more = True
        self.over = False

    def next(self) -> dict[str, Any]:
        """The next page; when following, after a moment if the last one was the end so far."""
        if not self._more:
            _wait(POLL_S)
        page = self._read()
        self._after, self._more, self.over = page["after"], page["more"], page["over"]
        return page

    def _read(self) -> dict[str, Any]:
        left_s = PATIENCE_S if self._follow and self._after else 0.0
        while True:
            try:
                return self._page()
            except NoDaemon as error:
                if left_s <= 0:
                    raise
                self._find_again(error, first=left_s == PATIENCE_S)
            left_s -= POLL_S

    def _page(self) -> dict[str, Any]:
        page: dict[str, Any] = self._api.get(self._path, after=self._after, **self._query)
        return page

    def _find_again(self, error: NoDaemon, first: bool) -> None:
        """It has another port and token after a restart."""
        from spotrunner.cli.api import find
        from spotrunner.cli.output import say

        if first:
            say(f"spotrunner: {error}; waiting for it")
        _wait(POLL_S)
        try:
            self._api = find(self._api_file)
        except Failure:
            return


class _Printer:
    """Text as it comes, with a line where another attempt speaks."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._attempt = ""
        self._at_line_start = True
        self.printed = False

    def page(self, chunks: list[dict[str, str]]) -> None:
        for chunk in chunks:
            self.printed = True
            if self._output is Output.JSON:
                sys.stdout.write(json.dumps(chunk) + "\n")
            else:
                self._text(chunk["attempt"], chunk["text"])
        sys.stdout.flush()

    def _text(self, attempt: str, text: str) -> None:
        if attempt != self._attempt:
            gap = "" if self._at_line_start else "\n"
            sys.stdout.write(f"{gap}==> {attempt} <==\n")
            self._attempt = attempt
        sys.stdout.write(text)
        self._at_line_start = text.endswith("\n")


def _wait(seconds: float) -> None:
    import threading

    threading.Event().wait(seconds)
