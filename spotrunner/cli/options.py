"""Options that several commands share."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer


class Output(str, enum.Enum):
    TABLE = "table"
    JSON = "json"


class Format(str, enum.Enum):
    """Of a table that people take into a spreadsheet."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="How to print: for people, or JSON.")
]
FormatOption = Annotated[
    Format, typer.Option("--output", "-o", help="How to print: for people, JSON or CSV.")
]
ApiFileOption = Annotated[
    Path | None,
    typer.Option(
        "--api-file",
        envvar="SPOTRUNNER_API_FILE",
        show_envvar=True,
        help="The api.json of the daemon to talk to.",
        rich_help_panel="Connection",
    ),
]
