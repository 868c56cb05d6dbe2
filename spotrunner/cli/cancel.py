from __future__ import annotations

from spotrunner.cli.jobs import JobsArgument
from spotrunner.cli.options import ApiFileOption, Output, OutputOption


def cancel(
    jobs: JobsArgument, output: OutputOption = Output.TABLE, api_file: ApiFileOption = None
) -> None:
    """Stop jobs for good. The trainer saves first; checkpoints and logs stay in the bucket."""
    from spotrunner.cli.ask import ask

    ask(
        "cancel",
        jobs,
        "{id} is being cancelled; its story: spotrunner explain {id}",
        output,
        api_file,
    )
