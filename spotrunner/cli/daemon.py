from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spotrunner.cli.failure import WrongFile


def daemon(
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="The daemon's settings (YAML).")
    ],
) -> None:
    """Run the daemon in the foreground, until Ctrl-C or SIGTERM."""
    from spotrunner.app.daemon import run
    from spotrunner.core.located import BadFile

    try:
        run(config)
    except BadFile as error:
        raise WrongFile(str(error)) from None
