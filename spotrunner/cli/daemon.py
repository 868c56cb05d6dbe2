from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spotrunner.cli.failure import Failure, WrongFile
from spotrunner.cli.options import Output, OutputOption


def daemon(
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="The daemon's settings (YAML).")
    ],
    output: OutputOption = Output.TABLE,
) -> None:
    """Run the daemon in the foreground, until Ctrl-C or SIGTERM. It logs to stderr: JSON lines
    where that is no terminal, or with -o json."""
    from spotrunner.app.daemon import run
    from spotrunner.core.located import BadFile
    from spotrunner.ports import PortError

    try:
        run(config, log_json=output is Output.JSON)
    except BadFile as error:
        raise WrongFile(str(error)) from None
    except (PortError, OSError) as error:
        raise Failure(f"the daemon cannot work: {error}") from error
