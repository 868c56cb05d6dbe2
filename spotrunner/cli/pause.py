from __future__ import annotations

from spotrunner.cli.jobs import JobsArgument
from spotrunner.cli.options import ApiFileOption, Output, OutputOption


def pause(
    jobs: JobsArgument, output: OutputOption = Output.TABLE, api_file: ApiFileOption = None
) -> None:
    """Let jobs stand still until they are resumed: they save, and their instances end."""
    from spotrunner.cli.ask import ask

    ask("pause", jobs, "{id} saves and stops; to go on: spotrunner resume {id}", output, api_file)
