from __future__ import annotations

from spotrunner.cli.jobs import JobsArgument
from spotrunner.cli.options import ApiFileOption, Output, OutputOption


def checkpoint(
    jobs: JobsArgument, output: OutputOption = Output.TABLE, api_file: ApiFileOption = None
) -> None:
    """Save and commit a checkpoint now; training goes on."""
    from spotrunner.cli.ask import ask

    ask(
        "checkpoint",
        jobs,
        "{id} saves at its next step; see: spotrunner show {id}",
        output,
        api_file,
    )
