from __future__ import annotations

from spotrunner.cli.jobs import JobsArgument
from spotrunner.cli.options import ApiFileOption, Output, OutputOption


def resume(
    jobs: JobsArgument, output: OutputOption = Output.TABLE, api_file: ApiFileOption = None
) -> None:
    """Let jobs go on that `pause` has stopped, from their last checkpoints."""
    from spotrunner.cli.ask import ask

    ask("resume", jobs, "{id} goes on; see: spotrunner show {id}", output, api_file)
