"""`spotrunner notify …`: the channels that alerts go over."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from spotrunner.cli.options import ApiFileOption, Output, OutputOption

notify = typer.Typer(help="The channels that alerts go over.", no_args_is_help=True)

# The daemon waits half a minute for the slowest of them.
TEST_S = 60


@notify.callback()
def _notify() -> None:
    """A group, though it has one command so far."""


@notify.command("test")
def try_channels(
    channels: Annotated[
        list[str] | None,
        typer.Option(
            "--channel", metavar="NAME", help="Only this one of the settings; may be repeated."
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """Send a message over every channel now, and say which of them took it."""
    from spotrunner.cli.api import find
    from spotrunner.cli.ask import options_named
    from spotrunner.cli.failure import Failure
    from spotrunner.cli.output import display, print_json, table

    with options_named(channels="channel"):
        api = find(api_file)
        answer = api.post("/v1/notify/test", {"channels": channels or []}, timeout_s=TEST_S)
    if output is Output.JSON:
        print_json(answer)
    else:
        rows = [_row(told) for told in answer["channels"]]
        display(table(("CHANNEL", "TOLD"), rows, whole=("CHANNEL",)))
    silent = [told["channel"] for told in answer["channels"] if not told["ok"]]
    if silent:
        raise Failure(
            f"nobody was told over {', '.join(silent)}: see `alerts` in the daemon's settings"
        )


def _row(told: dict[str, Any]) -> list[str | None]:
    return [told["channel"], "yes" if told["ok"] else told["error"]]
